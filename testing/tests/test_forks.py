"""A forked script is a process as any other."""

import os
import signal
from pathlib import Path
from subprocess import TimeoutExpired

import pytest
from nops_testing.forks import Forked

SCRIPT = """
import os, sys, time
print(__name__, sys.argv[1:], os.getcwd(), os.environ["GIVEN"], "HOME" in os.environ, flush=True)
print(os.getpid() == os.getsid(0), file=sys.stderr, flush=True)
if sys.argv[1] == "wait":
    time.sleep(100)
if sys.argv[1] == "raise":
    raise RuntimeError("as planned")
sys.exit(3)
"""


def start(folder: Path, word: str) -> Forked:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return Forked(str(script), [word], cwd=folder, env={"GIVEN": "1"}, output=folder / "said")


def test_it_has_its_words_folder_environment_and_session(tmp_path: Path) -> None:
    process = start(tmp_path, "end")
    assert process.wait(60) == 3
    assert process.poll() == 3
    expected = f"__main__ ['end'] {tmp_path} 1 False\nTrue\n"
    assert (tmp_path / "said").read_text() == expected


def test_an_exception_is_told_and_ends_it_with_1(tmp_path: Path) -> None:
    process = start(tmp_path, "raise")
    assert process.wait(60) == 1
    assert "RuntimeError: as planned" in (tmp_path / "said").read_text()


def test_it_is_waited_for_and_killed(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    with pytest.raises(TimeoutExpired):
        process.wait(0.01)
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
