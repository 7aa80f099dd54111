"""Two processes with unequal shares of the validation hold equal weights."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch.distributed as dist
from nops_testing.ranks import run_ranks

SCRIPT = Path(__file__).with_name("two_processes.py")
VALUES = Path(__file__).with_name("two_processes_values.py")

needs_gloo = pytest.mark.skipif(not dist.is_gloo_available(), reason="torch has no gloo here")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_both(path, folder):
    """What the two processes wrote."""
    run_ranks(path, [folder])
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@needs_gloo
def test_both_hold_the_weights_of_one(tmp_path):
    script = load(SCRIPT)
    first, second = run_both(SCRIPT, tmp_path)
    assert first == second == script.trace(lambda values: float(values.mean()))
    assert first[-1]["spectrumError"] > 0.1
    # Each on its own share would have moved at other epochs.
    alone = [script.trace(lambda v, s=share: float(v[s].mean())) for share in script.SHARES]
    assert first not in alone


@needs_gloo
def test_both_hold_the_weights_of_one_that_follows_losses(tmp_path):
    script = load(VALUES)
    first, second = run_both(VALUES, tmp_path)
    assert first == second
    assert first.keys() == script.SCHEMES.keys()
    for name, make in script.SCHEMES.items():
        whole = script.trace(make, lambda values: float(values.sum() / len(values)))
        # The sums of two shares are rounded in another order than the sum of all.
        for together, one in zip(first[name], whole, strict=True):
            assert together == pytest.approx(one, rel=1e-9)
        assert first[name][-1] != first[name][0], name
        alone = [script.trace(make, lambda v, s=s: float(v[s].mean())) for s in script.SHARES]
        assert all(one[-1] != pytest.approx(first[name][-1], rel=1e-3) for one in alone), name
