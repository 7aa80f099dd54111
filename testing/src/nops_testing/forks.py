"""Scripts in processes of their own, forked from one that has imported what they need.

As `subprocess.Popen([sys.executable, SCRIPT, WORDS…])`, without the seconds that its imports take. What a process is to others is the same: a session of its own, signals, exit codes.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import TimeoutExpired
from typing import final

__all__ = ["Forked", "preload"]

_context = multiprocessing.get_context("forkserver")


def preload(*modules: str) -> None:
    """Name what is imported once, before the first process is forked."""
    _context.set_forkserver_preload(list(modules))


@final
class Forked:
    """A running script, with what tests use of `subprocess.Popen`.

    Attributes:
        pid: Of the process, its session and its group.
    """

    def __init__(
        self, script: str, words: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: Path
    ) -> None:
        """Start it.

        Args:
            script: Path of a Python file, run as `__main__`.
            words: Its arguments.
            cwd: Working folder.
            env: The whole environment.
            output: File that takes standard output and standard error, at its end.
        """
        self._script = script
        self._process = _context.Process(
            target=_run, args=(script, list(words), cwd, dict(env), output)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative where a signal ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: If it still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            assert timeout is not None
            raise TimeoutExpired(self._script, timeout)
        return code

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()


def _run(script: str, words: list[str], cwd: Path, env: dict[str, str], output: Path) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(file, standard)
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")
