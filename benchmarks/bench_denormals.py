"""Training with numbers below the smallest normal one as 0, as the apps' own processes do, and without.

The same twelve epochs of `noa train`, twice each way, in turns. A process that runs its own words flushes such
numbers; one that hands words over to `main` keeps the processor's arithmetic. The figure is the time of the
last epoch: the network makes such numbers only once it has learnt something.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _harness import Claim, record
from nops_train import read_events

EPOCHS, TURNS, BAR = 12, 2, 1.05
WAYS = {
    "flushed": ["-m", "noa"],
    "kept": ["-c", "import sys; from noa.cli import main; sys.exit(main(sys.argv[1:]))"],
}


def epochs_of(way: str, turn: int, folder: str) -> list[tuple[float, float]]:
    """Seconds and loss of each epoch of one run."""
    name = f"{way}-{turn}"
    words = ["train", "--name", name, "--train.epochs", str(EPOCHS), "--train.progress", "none"]
    call = [sys.executable, *WAYS[way], *words]
    subprocess.run(call, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    events = read_events(Path(folder) / "runs" / "noa" / name / "events.jsonl")
    return [(e["seconds"], e["loss"]) for e in events if e["event"] == "epoch"]


def main() -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            (way, turn): epochs_of(way, turn, folder)
            for turn, way in itertools.product(range(TURNS), WAYS)
        }
    seconds = {
        way: [
            statistics.median(runs[way, turn][epoch][0] for turn in range(TURNS))
            for epoch in range(EPOCHS)
        ]
        for way in WAYS
    }
    ways = [[loss for _, loss in runs[way, 0]] for way in WAYS]
    apart = max(abs(a - b) / b for a, b in zip(*ways, strict=True))
    claim = Claim(
        claim=f"seconds of epoch {EPOCHS} of noa, flushed over kept",
        value=seconds["flushed"][-1] / seconds["kept"][-1],
        bar=BAR,
        kind="at_most",
    )
    details = {"seconds of each epoch": seconds, "largest relative difference of a loss": apart}
    record("denormals", [claim], details)


if __name__ == "__main__":
    main()
