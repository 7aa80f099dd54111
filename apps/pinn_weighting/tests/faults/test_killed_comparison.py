"""A comparison that is killed leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLED = """
import multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
from pinn_weighting.comparison import begin_worker

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=begin_worker)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.fault
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_comparison(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert process.wait(60) == -signal.SIGKILL
    limit = time.monotonic() + 20
    while exists(worker) and time.monotonic() < limit:
        time.sleep(0.05)
    if exists(worker):
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker outlives its comparison")


def exists(process: int) -> bool:
    """Whether it still runs: one that ended and is not yet collected does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
