"""SIGTERM and SIGINT: the step in hand is ended, everything saved, and the run goes on from there."""

import json
import os
import signal
import time

import pytest
from nops_train import CheckpointFolder

pytestmark = pytest.mark.fault

CODES = {"term": 143, "int": 130}
PLACES = (
    {"at": "step", "do": "term", "calls": [6]},
    {"at": "validation", "do": "int", "calls": [3]},
    {"at": "save", "do": "term", "calls": [2]},
    {"at": "step", "do": "int", "calls": [3]},
)


def test_stopped_in_each_place(runs, ends_equal):
    for fault in PLACES:
        ended = runs.train(faults=[fault])
        assert (ended.code, ended.strikes) == (CODES[fault["do"]], 1), (fault, ended.text)
        assert "Traceback" not in ended.text
        assert "the same command continues" in ended.text
        assert runs.summary()["status"] == "interrupted"
        note = runs.sessions()[-1]
        assert note["event"] == "interrupted"
        assert note["signal"] == f"SIG{fault['do'].upper()}"
        newest = CheckpointFolder(runs.checkpoints).entries[runs.newest().name]
        position = (newest.epoch, newest.batch, newest.step)
        assert position == (note["epoch"], note["batch"], note["step"])  # nothing is lost
    ends_equal(runs)


def test_from_a_signal_to_a_checkpoint_at_most_the_step_in_hand(runs):
    """The step in which the signal comes is the last: it is in the log and in the checkpoint."""
    fault = {"at": "backward", "do": "term", "calls": [5]}
    ended = runs.train("--train.save_every=100", faults=[fault])
    assert ended.code == 143, ended.text
    events = [json.loads(line) for line in (runs.run / "events.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "train"]
    note = runs.sessions()[-1]
    assert note["step"] == steps[-1] + 1
    assert runs.newest().name == f"step_{note['step']}.pt"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_with_workers(runs, ends_equal, number):
    """As a terminal or a batch system sends it: the workers that read data get it too."""
    runs.fresh = True  # its workers take the signal as those of a user's run do
    runs.start("--train.num_workers=2")
    runs.wait_for(lambda: (runs.run / "events.jsonl").exists() and _steps(runs) > 3)
    started = time.monotonic()
    os.killpg(runs.process.pid, number)
    ended = runs.end()
    assert ended.code == 128 + number, ended.text
    assert time.monotonic() - started < 20
    assert "Traceback" not in ended.text
    ends_equal(runs, aside="train.num_workers")


def _steps(runs):
    return (runs.run / "events.jsonl").read_text().count('"event": "train"')
