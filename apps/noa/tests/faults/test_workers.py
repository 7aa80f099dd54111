"""Processes that read data: one that raises or dies ends the run with a checkpoint, not a hang."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault

WORKERS = "--train.num_workers=2"


@pytest.fixture
def runs(runs):
    runs.fresh = True  # so that a process with a parent is one that reads data
    return runs


@pytest.mark.parametrize(
    ("do", "said"),
    [("raise", "RuntimeError: the planted fault"), ("kill", "worker .* exited unexpectedly")],
)
def test_a_worker_that_fails(runs, ends_equal, do, said):
    fault = {"at": "reading", "do": do, "in_worker": True, "epoch": 3, "calls": [1]}
    started = time.monotonic()
    ended = runs.train(WORKERS, faults=[fault])
    assert ended.code == 1, ended.text
    assert ended.strikes > 0
    assert time.monotonic() - started < 120
    assert "Traceback" in ended.text
    assert re.search(said, ended.text)
    if do == "raise":
        assert "In a data worker:" in ended.text
    assert runs.summary()["status"] == "failed"
    assert runs.summary()["epochs"] == 3
    assert (
        f"Resuming from checkpoint: {runs.newest().name}"
        in ends_equal(runs, WORKERS, aside="train.num_workers").text
    )


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_run_leaves_no_worker_behind(runs):
    runs.start(WORKERS)
    log = runs.run / "events.jsonl"
    runs.wait_for(lambda: log.exists() and log.read_text().count('"train"') > 3)
    session = runs.process.pid  # of the process and of all that it started
    assert len(members(session)) > 1
    runs.process.kill()
    assert runs.end().code == -signal.SIGKILL
    limit = time.monotonic() + 30
    while (left := members(session)) and time.monotonic() < limit:
        time.sleep(0.1)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert left == []


def members(session):
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(") ")[2].split()[:4]
        except OSError:
            continue  # it has just ended
        if int(number) == session and state != "Z":
            found.append(int(path.parent.name))
    return found
