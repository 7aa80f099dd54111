"""What remembers anything between calls comes back from its state; nothing else has one."""

import nops_diagnostics
import pytest
import torch
from nops_diagnostics import FeatureExtractor
from nops_testing.contract import STEPS, check_round_trip, stateful_classes


class Features:
    """Fitted anew at every second step, to clips of that step."""

    def __init__(self) -> None:
        self.state = FeatureExtractor(families=("summary",))

    def advance(self, step: int) -> None:
        if step % 2 == 0:
            generator = torch.Generator().manual_seed(step)
            self.state.fit(torch.randn(4, 4, 1, 8, 8, generator=generator).cumsum(1))

    def observe(self):
        if not self.state.state_dict()["fit"]:
            return None
        clip = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(99))
        return list(self.state.names), self.state(clip), self.state.fingerprint


CASES = {"FeatureExtractor": Features}


def test_every_class_with_a_state_has_a_case():
    assert stateful_classes(nops_diagnostics) == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cut", range(STEPS + 1))
def test_round_trip(name, cut):
    check_round_trip(CASES[name], cut=cut)
