"""The package's front: lazy, sorted, complete."""

import subprocess
import sys

import nops_diagnostics
import pytest

METRICS_FIRST = """
import sys
import nops_diagnostics

assert not {"torch", "matplotlib"} & sys.modules.keys()
for name in nops_diagnostics.__all__:
    if name != "Report" and not name.startswith("plot_"):
        getattr(nops_diagnostics, name)

import torch

field = torch.ones(2, 3, 1, 4, 4)
assert nops_diagnostics.mse(field, field) == 0
nops_diagnostics.lead_errors(field, field, bootstrap=2)
nops_diagnostics.read_series([{"event": "train", "step": 0, "raw": 1.0}], kind="train", key="raw")
assert "matplotlib" not in sys.modules
nops_diagnostics.plot_rollout
assert "matplotlib" in sys.modules
"""


def test_names_are_sorted_and_load():
    assert nops_diagnostics.__all__ == sorted(nops_diagnostics.__all__)
    for name in nops_diagnostics.__all__:
        assert getattr(nops_diagnostics, name).__name__ == name
    assert set(nops_diagnostics.__all__) <= set(dir(nops_diagnostics))
    assert set(nops_diagnostics._MODULES) == set(nops_diagnostics.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'mze'"):
        nops_diagnostics.mze  # noqa: B018


def test_all_names_can_be_imported_at_once():
    names: dict[str, object] = {}
    exec("from nops_diagnostics import *", names)
    assert set(nops_diagnostics.__all__) <= set(names)


def test_the_relative_error_is_that_of_the_losses():
    import nops_losses

    assert nops_diagnostics.relative_l2 is nops_losses.relative_l2


def test_metrics_do_not_import_matplotlib():
    found = subprocess.run(
        [sys.executable, "-c", METRICS_FIRST], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
