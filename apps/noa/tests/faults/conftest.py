"""Real `noa` processes: started, struck, started again, and compared with one that nothing struck."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from nops_testing.forks import Forked, preload
from nops_train import CheckpointFolder

preload("noa.training", "noa.report", "torch._dynamo")  # the last comes with the first optimizer

LAUNCHER = Path(__file__).with_name("launcher.py")
BEST = "best_model.pt"
NOA = Path(sys.executable).with_name("noa")
TIMEOUT = 240  # seconds; an undisturbed run takes about ten on an idle machine
# 8 epochs of 3 steps: long enough for several kills, each at another place.
SETTINGS = ("--train.epochs=8", "--train.save_every=2", "--train.log_every=1")


Faults = Sequence[dict[str, Any]]
"""Faults to be planted in a process; see `launcher.py`."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code, negative where a signal ended it.
        text: Standard output and standard error, in the order of writing.
        strikes: Times that planted faults struck.
    """

    code: int
    text: str
    strikes: int


class Runs:
    """A folder of runs, and processes of the one command that trains in it.

    Args:
        folder: Working folder, made if need be; the run is `runs/noa/default` in it.
        words: The command's words.

    Attributes:
        fresh: Whether it starts in a new interpreter, as a user's does; forked from one that has all its imports if
            not.
        process: The latest process.
        program: What the words are given to.
        faulty_program: The same with faults planted in it.
    """

    def __init__(self, folder: Path, *, words: list[str]) -> None:
        self.folder, self.words, self.fresh = folder, words, False
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str] | Forked | None = None
        self.launcher = LAUNCHER
        self.program = [str(NOA)]  # as users start it
        self.faulty_program = [sys.executable, str(LAUNCHER)]

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "runs/noa/default"

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.run / "checkpoints"

    def train(self, *more: str, faults: Faults = (), **options: Any) -> Ended:
        """Run the command to its end; words given again replace those of before."""
        self.start(*more, faults=faults, **options)
        return self.end()

    def start(self, *more: str, faults: Faults = (), **options: Any) -> None:
        """Start the command, as it is or with faults planted in it; `options` are those of `subprocess.Popen`."""
        given = {word.split("=")[0] for word in more}
        words = ["train", *(w for w in self.words if w.split("=")[0] not in given), *more]
        program = self.faulty_program if faults else self.program
        (self.folder / "strikes").unlink(missing_ok=True)
        (self.folder / "output").write_text("")
        if self.fresh:
            self.process = self._start_fresh([*program, *words], faults, **options)
        else:
            assert not options, options
            self.process = Forked(
                program[-1],
                words,
                cwd=self.folder,
                env=self._environment(faults),
                output=self.folder / "output",
            )

    def _start_fresh(
        self, command: list[str], faults: Faults, **options: Any
    ) -> subprocess.Popen[str]:
        with open(self.folder / "output", "a") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment(faults),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
                **options,
            )

    def end(self) -> Ended:
        """Wait for the process; one that hangs is killed, with all of its own, and fails the test."""
        assert self.process is not None
        try:
            code = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(f"no end within {TIMEOUT} s:\n{self.output()}")
        return Ended(code=code, text=self.output(), strikes=len(self._lines("strikes")))

    def output(self) -> str:
        """What the process has said so far."""
        return (self.folder / "output").read_text(errors="replace")

    def wait_for(self, done: Callable[[], Any]) -> Any:
        """What `done` returns when it first is true; the process must not end before."""
        assert self.process is not None
        limit = time.monotonic() + TIMEOUT
        while not (found := done()):
            if self.process.poll() is not None or time.monotonic() > limit:
                pytest.fail(f"waited in vain:\n{self.output()}")
            time.sleep(0.002)
        return found

    def sessions(self) -> list[dict[str, Any]]:
        """The notes of `sessions.jsonl`, whole lines only."""
        lines = self._lines("runs/noa/default/sessions.jsonl")
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def summary(self) -> dict[str, Any]:
        """The run's `summary.json`."""
        return json.loads((self.run / "summary.json").read_text())

    def newest(self) -> Path:
        """The newest checkpoint that counts, under its periodic name."""
        names = [name for name in CheckpointFolder(self.checkpoints).entries if name != BEST]
        return self.checkpoints / names[-1]

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines(keepends=True) if path.exists() else []

    def _environment(self, faults: Faults) -> dict[str, str]:
        mine = {
            "OMP_NUM_THREADS": "1",
            "NOA_FAULT_LOG": str(self.folder / "strikes"),
        }
        if faults:
            mine["NOA_FAULTS"] = json.dumps(faults)
        outer = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return {**outer, **mine}


@pytest.fixture(scope="session")
def make_runs(data_folder: Path, tiny_run: list[str]) -> Callable[..., Runs]:
    """`Runs` in a folder, of the tiny command on the generated data."""
    given = {word.split("=")[0] for word in SETTINGS}
    tiny = [word for word in tiny_run if word.split("=")[0] not in given]

    def make(folder: Path, *, data: Path = data_folder) -> Runs:
        return Runs(folder, words=[f"--data={data}", *tiny, *SETTINGS])

    return make


@pytest.fixture(scope="session")
def whole(make_runs: Callable[..., Runs], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The run that nothing struck, as a user starts it: forked ones have to equal it."""
    runs = make_runs(tmp_path_factory.mktemp("whole"))
    runs.fresh = True
    ended = runs.train()
    assert ended.code == 0, ended.text
    return runs


@pytest.fixture
def runs(make_runs: Callable[..., Runs], tmp_path: Path) -> Iterator[Runs]:
    """An empty folder of runs; no process of it outlives the test."""
    made = make_runs(tmp_path / "struck")
    yield made
    if made.process is not None and made.process.poll() is None:
        os.killpg(made.process.pid, signal.SIGKILL)
        made.process.wait()


@pytest.fixture
def copied_data(data_folder: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may damage."""
    return Path(shutil.copytree(data_folder, tmp_path / "copy"))


@pytest.fixture(scope="session")
def begun(
    make_runs: Callable[..., Runs], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Runs]:
    """Copies of one run that was killed in its fourth epoch, after five checkpoints."""
    first = make_runs(tmp_path_factory.mktemp("begun"))
    ended = first.train(faults=[{"at": "step", "do": "kill", "calls": [12]}])
    assert (ended.code, first.newest().name) == (-signal.SIGKILL, "step_10.pt"), ended.text

    def copy(folder: Path, **options: Any) -> Runs:
        made = make_runs(folder, **options)
        shutil.copytree(first.run, made.run)
        _link_best(made.checkpoints)
        return made

    return copy


def _link_best(folder: Path) -> None:
    """One file of two names again, which the copying made two: damage to one is damage to both."""
    entries = CheckpointFolder(folder).entries
    for name, entry in entries.items():
        if name != BEST and entry.sha256 == entries[BEST].sha256:
            (folder / BEST).unlink()
            (folder / BEST).hardlink_to(folder / name)


@pytest.fixture
def ends_equal(whole: Runs, equal_runs: Callable[..., None]) -> Callable[..., Ended]:
    """Repeats the command, and asserts that the run equals `whole`, the config's `aside` aside."""

    def check(runs: Runs, *words: str, aside: str = "") -> Ended:
        ended = runs.train(*words)
        assert ended.code == 0, ended.text
        equal_runs(whole.run, runs.run, aside=aside)
        return ended

    return check
