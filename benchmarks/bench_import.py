"""What one waits for before anything happens: an import, a help text, an error, the first progress.

Every import and every command is that of a fresh process with compiled files at hand. These bars alone are seconds, since it
is a person who waits.
"""

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from _harness import Claim, compare, record

# Processes started here keep what they compile: only the first of them waits for that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

APPS = ("noa", "turbulence", "upt_inverse", "phys_smpl", "pinn_weighting")
PACKAGES = ("nops_losses", "nops_schedules", "nops_diagnostics", "nops_train", "nops_data")
CALLS = {"--help": 0, "train --help": 0, "train --no-such-key 1": 2}
REPEAT, TRAINED = 7, 3
IMPORT_BAR, ANSWER_BAR, PROGRESS_BAR = 0.05, 1.0, 10.0
IMPORTS = """
import importlib
import sys
import time

start = time.perf_counter()
import torch

middle = time.perf_counter()
importlib.import_module(sys.argv[1])
print(middle - start, time.perf_counter() - middle)
"""


def import_seconds(package: str) -> tuple[float, float]:
    """Medians over fresh processes: of importing torch, and of importing the package after it."""
    command = [sys.executable, "-c", IMPORTS, package]
    outputs = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for _ in range(REPEAT + 1)
    ]
    pairs = [tuple(map(float, output.split())) for output in outputs[1:]]  # the first compiles
    torch_alone, beyond = zip(*pairs, strict=True)
    return statistics.median(torch_alone), statistics.median(beyond)


def call(app: str, words: str, code: int) -> Callable[[], None]:
    """A command from start to end, which must leave with `code` and say something."""

    def run() -> None:
        command = [sys.executable, "-m", app, *words.split()]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == code, found
        assert found.stdout or found.stderr

    return run


def progress_seconds(app: str) -> float:
    """From `train` in an empty folder, where data are made first, to what a terminal shows first."""
    screen, terminal = pty.openpty()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", app, "train"],
            cwd=folder,
            env=os.environ | {"TERM": "xterm"},
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)  # so that reading ends with the process
        try:
            os.read(screen, 1)
            return time.perf_counter() - start
        finally:
            process.kill()
            process.wait()
            os.close(screen)


def claims_of(
    losses: float, answers: dict[str, dict[str, float]], progress: dict[str, float]
) -> Iterator[Claim]:
    """Every figure beside its bar, in seconds."""
    yield Claim(
        claim="import nops_losses, beyond torch's own, s",
        value=losses,
        bar=IMPORT_BAR,
        kind="at_most",
    )
    for app, seconds in answers.items():
        yield Claim(
            claim=f"{app}, the slowest of {', '.join(CALLS)}, s",
            value=max(seconds.values()),
            bar=ANSWER_BAR,
            kind="at_most",
        )
    for app, seconds in progress.items():
        yield Claim(
            claim=f"{app} train, first progress, s",
            value=seconds,
            bar=PROGRESS_BAR,
            kind="at_most",
        )


def main() -> None:
    """Measure and record."""
    imports = {package: import_seconds(package) for package in PACKAGES}
    answers = {
        app: compare(
            {words: call(app, words, code) for words, code in CALLS.items()}, repeat=REPEAT
        )
        for app in APPS
    }
    progress = {
        app: statistics.median(progress_seconds(app) for _ in range(TRAINED)) for app in APPS
    }
    details = {
        "seconds of torch": statistics.median(torch_alone for torch_alone, _ in imports.values()),
        "seconds beyond torch": {package: beyond for package, (_, beyond) in imports.items()},
        "seconds of answers": answers,
    }
    record("import", list(claims_of(imports["nops_losses"][1], answers, progress)), details)


if __name__ == "__main__":
    main()
