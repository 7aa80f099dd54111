"""Nothing here is saved and restored; what ever is belongs under the contract suite."""

import nops_diagnostics
from nops_testing.contract import stateful_classes


def test_no_class_has_a_state():
    assert stateful_classes(nops_diagnostics) == set()
