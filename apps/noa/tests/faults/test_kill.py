"""SIGKILL at any moment: the same command again ends like a run that nothing struck, bit for bit."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from nops_train import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.fault

RUNS, KILLS = 3, 4  # at random moments; with those at the places below twenty in all
PLACED = (
    {"at": "replacing", "calls": [1]},  # the configuration is written, not yet in its place
    {"at": "writing", "calls": [1]},  # half of a checkpoint is in its temporary file
    {"at": "renamed", "calls": [2]},  # a checkpoint is in place, its manifest is not
    {"at": "validation", "calls": [5]},
    {"at": "epoch", "calls": [1]},  # everything is counted on, nothing is saved
    {"at": "best", "calls": [1]},
    {"at": "event", "calls": [9]},  # half a line is in the log
    {"at": "evaluation", "calls": [1]},
)


@pytest.fixture(scope="module")
def seconds(make_runs, whole, equal_runs, tmp_path_factory):
    """How long an undisturbed run trains that is started as those to be killed are."""
    runs = make_runs(tmp_path_factory.mktemp("forked"))
    ended = runs.train()
    assert ended.code == 0, ended.text
    equal_runs(whole.run, runs.run)
    return runs.summary()["seconds"]


@pytest.mark.parametrize("number", range(RUNS))
def test_killed_at_random_moments(runs, seconds, ends_equal, number):
    moments = random.Random(number)
    for _ in range(KILLS):
        before = len(runs.sessions())
        runs.start()
        runs.wait_for(lambda before=before: len(runs.sessions()) > before)
        time.sleep(moments.uniform(0, seconds / 2))
        runs.process.kill()
        assert runs.end().code == -signal.SIGKILL
    ended = ends_equal(runs)
    assert "Resuming from checkpoint" in ended.text


def test_killed_in_each_critical_place(runs, ends_equal):
    for fault in PLACED:
        ended = runs.train(faults=[{"do": "kill", **fault}])
        assert (ended.code, ended.strikes) == (-signal.SIGKILL, 1), (fault, ended.text)
        if fault["at"] == "writing":
            (part,) = runs.checkpoints.glob(".*.tmp")
            assert part.stat().st_size > 0
    ends_equal(runs)


def test_the_comparison_can_fail(whole, equal_runs, tmp_path):
    for name, old, new in (
        ("events.jsonl", '"loss": ', '"loss": 1'),
        ("summary.json", '"skipped": 0', '"skipped": 1'),
        ("config.yaml", "seed: 0", "seed: 1"),
    ):
        copy = Path(shutil.copytree(whole.run, tmp_path / name))
        equal_runs(whole.run, copy)
        text = (copy / name).read_text()
        (copy / name).write_text(text.replace(old, new, 1))
        with pytest.raises(AssertionError):
            equal_runs(whole.run, copy)
    state = load_checkpoint(copy / "checkpoints/epoch_8.pt")
    first = next(iter(state["model"].values())).view(-1)
    first[0] = torch.nextafter(first[0], torch.tensor(9.0))  # the last bit of one weight
    save_checkpoint(copy / "checkpoints/epoch_8.pt", state)
    shutil.copy(whole.run / name, copy / name)
    with pytest.raises(AssertionError):
        equal_runs(whole.run, copy)
