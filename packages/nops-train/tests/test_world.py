"""Two ranks, started as `torchrun` does it, against one."""

import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_testing.ranks import run_ranks
from nops_train import InputError, World, join_world, load_checkpoint, read_events
from nops_train._engine_shard import shard_model

SCRIPT = Path(__file__).with_name("world_cases.py")
ALONE = ("fit", "order")
TOGETHER = (
    *ALONE,
    *(
        "norm",
        "poisoned",
        "poisoned_later",
        "diverged",
        "stopped",
        "unread",
        "refused",
        "gradients",
    ),
)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What case came to on one of two ranks, or on a single process (rank None)."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    alone = runpy.run_path(str(SCRIPT))
    for case in ALONE:
        torch.save(alone[case](one), one / f"{case}_0.pt")
    run_ranks(SCRIPT, [two, *TOGETHER])

    def outcome(case: str, rank: int | None) -> Any:
        folder = one if rank is None else two
        return torch.load(folder / f"{case}_{rank or 0}.pt", weights_only=True)

    outcome.folder = two / "toy"
    return outcome


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def test_two_ranks_equal_one(ranks):
    alone, first, second = (ranks("fit", rank) for rank in (None, 0, 1))
    assert same(first, second)
    assert first["step"] == alone["step"] == 20
    for name, expected in alone["model"].items():
        torch.testing.assert_close(first["model"][name], expected, rtol=1e-5, atol=1e-7)
        if name in first["average"]["average"]:
            found, wanted = (x["average"]["average"][name] for x in (first, alone))
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
    assert first["weighting"]["mean"] == pytest.approx(alone["weighting"]["mean"], rel=1e-5)
    assert first["metrics"]["nmse"] == pytest.approx(alone["metrics"]["nmse"], rel=1e-5)


def test_ranks_share_the_batches_of_one(ranks):
    whole = ranks("order", None)["batches"]
    shares = zip(*(ranks("order", rank)["batches"] for rank in (0, 1)), strict=True)
    assert [first + second for first, second in shares] == whole
    assert len(whole[0]) == 6
    assert len(whole[2]) == 4


def test_rank_0_alone_writes_and_all_generators_are_kept(ranks):
    folder = ranks.folder / "fit"
    steps = [e["step"] for e in read_events(folder) if e["event"] == "train"]
    assert steps == list(range(20))
    assert len(load_checkpoint(folder / "checkpoints")["rng"]) == 2


def test_running_statistics_are_those_of_rank_0(ranks):
    first, second = ranks("norm", 0), ranks("norm", 1)
    assert same(first, second)
    assert first["model"]["norm.running_mean"].abs().sum() > 0


def test_bad_values_on_one_rank_skip_the_step_on_both(ranks):
    first, second = ranks("poisoned", 0), ranks("poisoned", 1)
    assert first["skipped"] == second["skipped"] == 3
    assert first["step"] == second["step"] == 5
    assert same(first["model"], second["model"])
    assert all(bool(v.isfinite().all()) for v in first["model"].values())
    events = [e for e in read_events(ranks.folder / "poisoned") if e["event"] == "skipped"]
    assert [e["epoch"] * 4 + e["batch"] for e in events] == [2, 5, 7]
    assert [e["terms"] for e in events] == [["fit"], ["fit"], []]
    assert events[2]["parameter"] == "first.weight"


def test_both_ranks_skip_it_where_neither_looks(ranks):
    first, second = ranks("poisoned_later", 0), ranks("poisoned_later", 1)
    assert first["skipped"] == second["skipped"] == 3
    assert first["step"] == second["step"] == 5
    assert same(first["model"], second["model"])
    assert same(first["average"], second["average"])
    assert all(bool(v.isfinite().all()) for v in first["model"].values())
    assert first["model"]["norm.num_batches_tracked"] == 10  # two windows each
    events = [e for e in read_events(ranks.folder / "poisoned_later") if e["event"] == "skipped"]
    assert [e["epoch"] * 4 + e["batch"] for e in events] == [2, 5, 7]
    assert [e["terms"] for e in events] == [["fit"], ["fit"], []]


def test_bad_values_in_a_row_stop_both(ranks):
    for rank in (0, 1):
        found = ranks("diverged", rank)
        assert found["ended"].startswith("stopped: 3 non-finite steps in a row")
        assert (found["step"], found["skipped"]) == (0, 3)


def test_a_signal_to_one_rank_stops_both_and_they_go_on_exactly(ranks):
    for rank in (0, 1):
        found = ranks("stopped", rank)
        assert found["signal"] == 15
        assert found["stopped_at"] == 7
        whole = found.pop("whole")
        assert found["step"] == 20
        assert same({name: found[name] for name in whole}, whole)


def test_a_rank_that_cannot_read_ends_both_with_a_checkpoint(ranks):
    assert ranks("unread", 1)["ended"] == "OSError: the disk is gone"
    assert ranks("unread", 0)["ended"] == ("PeerFailed: rank 1 could not read its share of a batch")
    state = load_checkpoint(ranks.folder / "unread" / "checkpoints")
    assert state["position"]["step"] == 5


def test_what_rank_0_refuses_ends_the_others(ranks):
    assert ranks("refused", 0)["ended"].startswith("InputError: ")
    assert ranks("refused", 1)["ended"].startswith("PeerFailed: rank 0 stopped: InputError: ")


def test_gradients_are_summed_where_any_rank_has_one(ranks):
    for rank in (0, 1):
        found = ranks("gradients", rank)
        assert found["shared"].tolist() == [3.0] * 3
        assert found["double"].tolist() == [21.0] * 2
        assert found["lonely"].tolist() == [1.0] * 3
        assert found["idle"] is None
        assert found["main"] == 0


def test_a_single_process_agrees_with_itself():
    world = World()
    found = world.agree(signal=0, samples=3, failed=False)
    assert (found.signal, found.samples, found.failed) == (0, 3, ())
    assert world.agree(signal=15, samples=0, failed=True).failed == (0,)
    assert world.gather("x") == ["x"]
    assert world.from_main(lambda: 2) == 2
    assert world.sum(torch.tensor([math.pi])).item() == pytest.approx(math.pi)


def test_a_half_set_environment_is_refused(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    join_world.cache_clear()
    with pytest.raises(InputError, match="RANK, MASTER_ADDR, MASTER_PORT: start several"):
        join_world()
    monkeypatch.delenv("WORLD_SIZE")
    assert join_world() == World()


def test_parts_on_the_cpu_of_an_older_torch_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu.Stream, "record_event", raising=False)
    with pytest.raises(InputError, match=r"train\.shard on a CPU needs torch 2\.7 or newer, found"):
        shard_model(torch.nn.Linear(1, 1), None, device=torch.device("cpu"), world=World())
