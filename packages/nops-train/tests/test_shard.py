"""A model in parts on two ranks (`train.shard`), against the same on one."""

import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_testing.ranks import run_ranks
from nops_train import load_checkpoint, read_events
from nops_train._checkpoint_weights import read_weights

SCRIPT = Path(__file__).with_name("shard_cases.py")
ALONE = ("fit", "begun")
TOGETHER = (
    *ALONE,
    *("ended", "again", "early", "uneven", "half", "poisoned", "unread", "refused", "imported"),
)

pytestmark = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="fully_shard on a CPU came with torch 2.7"
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a case came to on one of two ranks, or on a single process (rank None)."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(SCRIPT.parent)
    alone = runpy.run_path(str(SCRIPT))
    for case in ALONE:
        torch.save(alone[case](one), one / f"{case}_0.pt")
    shutil.copytree(one / "toy" / "begun", two / "toy" / "lent")
    run_ranks(SCRIPT, [two, *TOGETHER])
    shutil.copytree(two / "toy" / "begun", one / "toy" / "lent")
    alone["ended"](one)
    monkeypatch.undo()

    def outcome(case: str, rank: int | None) -> Any:
        folder = one if rank is None else two
        return torch.load(folder / f"{case}_{rank or 0}.pt", weights_only=True)

    def state(run: str, *, at: Path = two) -> Any:
        return load_checkpoint(at / "toy" / run / "checkpoints")

    outcome.state = state
    outcome.one, outcome.two = one, two
    return outcome


def assert_close(found: Any, expected: Any, **tolerance: Any) -> None:
    """Equal structures, tensors and numbers to `tolerance`."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key], **tolerance)
    elif isinstance(expected, (torch.Tensor, float)):
        torch.testing.assert_close(found, expected, **tolerance)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b, **tolerance)
    else:
        assert found == expected


def assert_same_training(found: Any, expected: Any, *, rtol: float = 1e-5) -> None:
    for part in ("model", "ema", "optimizer", "weighting"):
        assert_close(found[part], expected[part], rtol=rtol, atol=1e-6)
    assert found["position"] == expected["position"]


def test_two_ranks_with_a_part_each_equal_one(shards):
    alone, first, second = (shards("fit", rank) for rank in (None, 0, 1))
    assert first["step"] == alone["step"] == 12
    assert first["units"] == ["", "blocks.0", "blocks.1"]  # 2 and 3 share a weight
    assert alone["units"] == []
    assert_close(first["metrics"], alone["metrics"], rtol=1e-5, atol=0.0)
    assert first["metrics"] == second["metrics"]
    assert_same_training(shards.state("fit"), shards.state("fit", at=shards.one))
    logs = [list(read_events(f / "toy" / "fit")) for f in (shards.two, shards.one)]
    assert [e["event"] for e in logs[0]] == [e["event"] for e in logs[1]]
    norms = [[e["gradient_norm"] for e in log if e["event"] == "train"] for log in logs]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert max(norms[0]) > 0.5  # some were clipped


def test_each_rank_holds_its_rows_alone(shards):
    whole = shards("fit", None)["held"]
    held = [shards("fit", rank)["held"] for rank in (0, 1)]
    assert sum(held) == whole
    assert max(held) < 0.7 * whole


def test_a_file_of_two_ranks_goes_on_on_one_and_the_other_way(shards):
    for rank in (None, 0, 1):
        assert shards("begun", rank)["signal"] == 15
        assert shards("begun", rank)["step"] == 7
    expected = shards.state("fit", at=shards.one)
    for folder, ranks in ((shards.one, 1), (shards.two, 2)):
        found = shards.state("lent", at=folder)
        assert len(found["rng"]) == ranks
        assert_same_training(found, expected)


def test_the_same_ranks_go_on_exactly(shards):
    found, whole = shards.state("again"), shards.state("fit")
    for part in ("model", "ema", "optimizer", "weighting"):
        assert_close(found[part], whole[part], rtol=0.0, atol=0.0)


def test_a_checkpoint_before_the_first_step_counts_no_step(shards):
    assert shards("early", 0)["stopped"] == shards("early", 1)["stopped"] == 0
    found, whole = shards.state("early"), shards.state("fit")
    for part in ("model", "ema", "optimizer", "weighting"):
        assert_close(found[part], whole[part], rtol=0.0, atol=0.0)


def test_the_file_is_an_ordinary_one(shards):
    found, alone = (shards.state("fit", at=folder) for folder in (shards.two, shards.one))
    assert list(found["model"]) == list(alone["model"])
    assert list(found["optimizer"]["state"]) == list(alone["optimizer"]["state"])
    tied = [found["model"][f"blocks.{i}.weight"].data_ptr() for i in (2, 3)]
    assert tied[0] == tied[1]
    expected = shards.state("fit")["ema"]["average"]["blocks.2.weight"]
    weights = read_weights(shards.two / "toy" / "fit" / "checkpoints" / "epoch_3.pt").tensors
    assert torch.equal(weights["blocks.2.weight"], expected)
    assert torch.equal(weights["blocks.3.weight"], expected)


def test_shares_of_unlike_length_and_an_optimizer_of_the_app(shards):
    for rank in (0, 1):
        found = shards("uneven", rank)
        assert_close(found["shard"]["metrics"], found["plain"]["metrics"], rtol=1e-5, atol=0.0)
    expected, start = shards.state("uneven_False"), shards.state("fit")
    assert_same_training(shards.state("uneven_True"), expected)
    assert [g["lr"] for g in expected["optimizer"]["param_groups"]] == [0.05, 0.01]
    assert not torch.equal(expected["model"]["first.weight"], start["model"]["first.weight"])


def test_frozen_parameters_and_start_weights(shards):
    start, found = (
        read_weights(shards.two / "toy" / "fit").tensors,
        shards.state("uneven_True")["model"],
    )
    assert torch.equal(found["blocks.1.weight"], start["blocks.1.weight"])
    assert not torch.equal(found["blocks.0.weight"], start["blocks.0.weight"])


def test_pictures_are_shown_by_rank_0(shards):
    first, second = (shards("uneven", rank) for rank in (0, 1))
    assert len(first["plain"]["names"]) == 2
    assert first["shard"]["names"] == first["plain"]["names"]
    assert second["shard"]["names"] == []


def test_half_precision(shards):
    found = shards("half", 0)
    assert found["shard"] == pytest.approx(found["plain"], rel=1e-2)


def test_bad_values_on_one_rank_skip_the_step_on_both(shards):
    first, second = shards("poisoned", 0), shards("poisoned", 1)
    assert first["skipped"] == second["skipped"] == 2
    assert first["step"] == second["step"] == 6
    state = shards.state("poisoned")
    assert all(bool(v.isfinite().all()) for v in state["model"].values())
    events = [e for e in read_events(shards.two / "toy" / "poisoned") if e["event"] == "skipped"]
    assert [e["epoch"] * 4 + e["batch"] for e in events] == [2, 5]
    assert [e["terms"] for e in events] == [["fit"], []]
    assert events[1]["parameter"] == "first.weight"


def test_a_rank_that_cannot_read_ends_both_with_a_whole_checkpoint(shards):
    assert shards("unread", 1)["ended"] == "OSError: the disk is gone"
    assert shards("unread", 0)["ended"] == "PeerFailed: rank 1 could not read its share of a batch"
    state = shards.state("unread")
    assert state["position"]["step"] == 5
    assert len(state["rng"]) == 2
    assert state["model"]["first.weight"].shape == (5, 3)


REFUSED = {
    "detached": "InertTermError: size reaches no trainable parameter: it has no graph",
    "flat": "InertTermError: size reaches no trainable parameter: its gradient is zero for all",
    "silent": "InertTermError: size is enabled but was not computed: the task returned ['fit']",
    "outside": "InputError: train.shard: a parameter was used outside of a forward pass",
    "mixed": "InputError: train.shard: a parameter was used outside of a forward pass",
    "balancing": "InputError: train.shard: Balancing balances gradients",
    "scalar": "InputError: train.shard: gain is a scalar",
    "double": "InputError: train.shard needs trained parameters of one type; first.weight is float32, last",
    "complex": "InputError: train.shard: phase is complex",
    "foreign": "InputError: train.shard: the optimizer holds parameters that are not the model's",
    "used": "InputError: train.shard: the optimizer has a state already",
    "few": "InputError: train.shard: the source gives rank 1 no batch",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_the_start_on_both(shards, case):
    for rank in (0, 1):
        assert shards("refused", rank)[case].startswith(REFUSED[case])


def test_a_checkpoint_of_another_program_is_refused(shards):
    said = "train.shard: a checkpoint of another program cannot be gone on from in parts"
    assert shards("imported", 0)["ended"].startswith(f"InputError: {said}")
    assert shards("imported", 1)["ended"].startswith(
        f"PeerFailed: rank 0 stopped: InputError: {said}"
    )
