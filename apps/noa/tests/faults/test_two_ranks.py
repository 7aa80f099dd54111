"""Two ranks under `torchrun` (gloo): killed anywhere they end equal; a bad value on one skips both."""

import json
import os
import random
import signal
import sys
import time

import pytest
import torch
from nops_train import load_checkpoint

pytestmark = pytest.mark.fault

TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
KILLS = 5


@pytest.fixture(scope="module")
def two(make_runs):
    """`Runs` whose command is started on two ranks."""

    def make(folder):
        runs = make_runs(folder)
        runs.fresh = True
        runs.program = [sys.executable, *TORCHRUN, "-m", "noa"]
        runs.faulty_program = [sys.executable, *TORCHRUN, str(runs.launcher)]
        return runs

    return make


@pytest.fixture(scope="module")
def whole_of_two(two, tmp_path_factory):
    runs = two(tmp_path_factory.mktemp("two"))
    ended = runs.train()
    assert ended.code == 0, ended.text
    return runs


def test_both_ranks_killed_at_random_moments(two, whole_of_two, equal_runs, tmp_path):
    moments, runs = random.Random(2), two(tmp_path / "struck")
    for _ in range(KILLS):
        before = len(runs.sessions())
        runs.start()
        runs.wait_for(lambda before=before: len(runs.sessions()) > before)
        time.sleep(moments.uniform(0, whole_of_two.summary()["seconds"] / 2))
        os.killpg(runs.process.pid, signal.SIGKILL)
        assert runs.end().code == -signal.SIGKILL
    ended = runs.train()
    assert ended.code == 0, ended.text
    equal_runs(whole_of_two.run, runs.run)


def test_two_ranks_take_the_first_step_of_one(whole, whole_of_two):
    """Half a batch on each of two ranks: the loss and the gradient's norm are those of one rank."""
    first = []
    for runs in (whole, whole_of_two):
        lines = (runs.run / "events.jsonl").read_text().splitlines()
        first.append(next(e for e in map(json.loads, lines) if e["event"] == "train"))
    for key in ("loss", "gradient_norm"):
        assert first[1][key] == pytest.approx(first[0][key], rel=1e-5), key
    assert first[1]["raw"] == pytest.approx(first[0]["raw"], rel=1e-5)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_torchrun_starts_a_failed_group_again(two, whole_of_two, equal_runs, tmp_path, resume):
    runs = two(tmp_path / "struck")
    runs.faulty_program[-1:-1] = ["--max-restarts=1"]
    kill = {"at": "step", "do": "kill", "calls": [11], "rank": 1, "attempt": 0}
    ended = runs.train(f"--resume={resume}", faults=[kill])
    assert ended.code == 0, ended.text
    assert ended.strikes == 1
    assert [note["event"] for note in runs.sessions()].count("resumed") == 1
    equal_runs(whole_of_two.run, runs.run)


@pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="fully_shard on a CPU came with torch 2.7"
)
def test_a_model_in_parts_outlives_a_rank_and_ends_close_to_a_whole_one(
    two, whole_of_two, tmp_path
):
    runs = two(tmp_path / "struck")
    runs.faulty_program[-1:-1] = ["--max-restarts=1"]
    kill = {"at": "step", "do": "kill", "calls": [11], "rank": 1, "attempt": 0}
    ended = runs.train("--train.shard=true", faults=[kill])
    assert ended.code == 0, ended.text
    assert ended.strikes == 1
    assert "Memory forecast" in ended.text
    found, expected = (load_checkpoint(r.checkpoints)["model"] for r in (runs, whole_of_two))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    best = [r.summary()["best"]["value"] for r in (runs, whole_of_two)]
    assert best[0] == pytest.approx(best[1], rel=1e-3)
    assert runs.summary()["metrics"].keys() == whole_of_two.summary()["metrics"].keys()
    assert (runs.run / "report.html").is_file()


@pytest.mark.parametrize(
    ("at", "do", "calls"),
    [("step", "nan_input", 4), ("step", "nan_loss", 4), ("backward", "inf_gradient", 3)],
)
def test_a_bad_value_on_one_rank_skips_the_step_on_both(two, tmp_path, at, do, calls):
    runs = two(tmp_path / "struck")
    ended = runs.train(faults=[{"at": at, "do": do, "calls": [calls], "rank": 1}])
    assert ended.code == 0, ended.text
    assert ended.strikes == 1
    lines = (runs.run / "events.jsonl").read_text().splitlines()
    (skipped,) = [e for e in map(json.loads, lines) if e["event"] == "skipped"]
    assert (skipped["epoch"], skipped["batch"]) == (0, 2)
    assert runs.summary()["skipped"] == 1
    assert runs.summary()["steps"] == 8 * 3 - 1


def test_a_streak_on_one_rank_stops_both(two, tmp_path):
    runs = two(tmp_path / "struck")
    streak = {"at": "step", "do": "nan_loss", "calls": list(range(8, 100)), "rank": 1}
    ended = runs.train("--train.max_skipped_in_row=3", faults=[streak])
    assert ended.code != 0
    assert "exitcode  : 3" in ended.text  # as torchrun tells it
    assert runs.summary()["status"] == "diverged"
