"""Several ranks of one script: `python -m nops_testing.ranks SIZE SCRIPT WORDS…`.

As `torchrun --standalone --nproc-per-node=SIZE SCRIPT WORDS…`, without its agent and its restarts.
What the script imports is imported once, and the ranks are forked from there: with torch, that is
most of the time of a small case.
"""

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

LIMIT = 270  # seconds until a rank that hangs is ended: before the test that waits for it


def run_ranks(script: Path, words: Sequence[str | Path], *, cwd: Path | None = None) -> None:
    """Run a script as two ranks, each with one thread.

    Raises:
        AssertionError: If one of them fails, with what they said.
    """
    outer = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    ended = subprocess.run(
        [sys.executable, "-m", "nops_testing.ranks", "2", script, *words],
        cwd=cwd,
        env={**outer, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def part(folder: Path) -> NoReturn:
    """End a rank once the others have come so far too, without taking the process group down.

    Up to torch 2.6 the end of a group holds Python's lock while it waits for a thread of gloo, which may need that
    lock to let go of a tensor of the last message: both then wait for ever.

    Args:
        folder: Where the ranks meet; empty of earlier meetings.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    (folder / f"{rank}.done").touch()
    while not all((folder / f"{other}.done").exists() for other in range(size)):
        time.sleep(0.01)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> int:
    """Fork the ranks.

    Returns:
        The exit status of the first that failed, the others being killed then, or 0.
    """
    size, script = int(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script)  # its imports
    os.environ |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    children = set()
    for rank in range(size):
        if not (child := os.fork()):
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            signal.alarm(LIMIT)
            runpy.run_path(script, run_name="__main__")
            return 0
        children.add(child)
    return _wait(children)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait(children: set[int]) -> int:
    while children:
        child, status = os.wait()
        children.remove(child)
        if status:
            for other in children:
                os.kill(other, signal.SIGKILL)
            return abs(os.waitstatus_to_exitcode(status))
    return 0


if __name__ == "__main__":
    sys.exit(main())
