"""No room for a checkpoint: the run says so, and loses nothing."""

import resource
import subprocess
from functools import partial
from pathlib import Path

import pytest
from nops_train import load_checkpoint

pytestmark = pytest.mark.fault


def limit_file_size(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def check_full(runs, ended, reason):
    assert ended.code == 2, ended.text
    (message,) = [line for line in ended.text.splitlines() if "cannot be written" in line]
    assert reason in message
    assert "Traceback" not in ended.text
    return message


@pytest.mark.parametrize("saved", [0, 1])
def test_files_may_not_grow(runs, ends_equal, saved):
    """Less than a checkpoint may be written, more than a log: at the first save, and after some."""
    if saved:
        fault = {"at": "validation", "do": "kill", "calls": [4]}
        assert runs.train(faults=[fault]).code == -9
    runs.fresh = True
    ended = runs.train(preexec_fn=partial(limit_file_size, 100_000))
    message = check_full(runs, ended, "File too large")
    assert "/checkpoints/" in message
    assert runs.summary()["status"] == "failed"
    assert list(runs.checkpoints.glob(".*.tmp")) == []
    if saved:
        load_checkpoint(runs.newest())
    ends_equal(runs)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.5 MiB: room for three of the run's checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(runs, small_disk, ends_equal):
    (runs.folder / "runs").symlink_to(small_disk)
    message = check_full(runs, runs.train(), "No space left on device")
    assert str(Path("checkpoints")) in message
    newest = runs.newest()
    load_checkpoint(newest)
    command = ["mount", "-o", "remount,size=64m", str(small_disk)]
    subprocess.run(command, check=True)
    assert f"Resuming from checkpoint: {newest.name}" in ends_equal(runs).text
