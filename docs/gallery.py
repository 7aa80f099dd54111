"""The figures of the docs, from each program's default run: `uv run nox -s gallery` draws them anew.

The programs are trained in a temporary folder of runs, or in `--runs DIR`: what is interrupted there goes on, and what is
finished is evaluated and drawn again. Figures are replaced when all runs are through.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent
FIGURES = DOCS / "figures"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture of a run's report.

    Attributes:
        program: Which is trained.
        plot: Stem of the file in the run's `plots/`.
        preset: That the run starts from, and is named after.
    """

    program: str
    plot: str
    preset: str = "default"

    @property
    def run(self) -> tuple[str, str]:
        """Program and preset: figures that share them share the run."""
        return self.program, self.preset

    def file(self, runs: Path) -> Path:
        """Where the report of the run leaves it."""
        return runs / self.program / self.preset / "plots" / f"{self.plot}.png"


GALLERY = {
    "noa_rollout.png": Figure(program="noa", plot="rollout_0"),
    "phys_smpl_recovery.png": Figure(program="phys-smpl", plot="recovery"),
    "pinn_weighting_solution.png": Figure(program="pinn-weighting", plot="solution"),
    "turbulence_spectra.png": Figure(program="turbulence", plot="spectra_compensated"),
    "upt_inverse_profiles.png": Figure(program="upt-inverse", plot="profiles"),
}


def main(words: Sequence[str] | None = None) -> None:
    """Train, then replace the figures, and say which of them changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=Path, help="folder of runs, kept; a temporary one if left out"
    )
    given = parser.parse_args(words).runs
    with tempfile.TemporaryDirectory() as temporary:
        runs = Path(temporary) if given is None else given.resolve()
        for program, preset in dict.fromkeys(figure.run for figure in GALLERY.values()):
            train(program, preset, runs=runs)
        for name, picture in read_plots(runs).items():
            print(f"{name}: {'changed' if replace(FIGURES / name, picture) else 'as before'}")


def train(program: str, preset: str, *, runs: Path) -> None:
    """One run, from data to report; data are made, or found, in the clone's `data/`."""
    module = program.replace("-", "_")
    command = [sys.executable, "-m", module, "train", "--preset", preset, "--runs", str(runs)]
    if subprocess.run(command, cwd=DOCS.parent, check=False).returncode:
        sys.exit(f"{' '.join(command[1:])} failed: the figures are left as they were.")


def read_plots(runs: Path) -> dict[str, bytes]:
    """Every figure of the gallery, by name; all are there, or the program ends."""
    files = {name: figure.file(runs) for name, figure in GALLERY.items()}
    for name, file in files.items():
        if not file.is_file():
            there = ", ".join(sorted(path.name for path in file.parent.glob("*.png"))) or "nothing"
            sys.exit(f"{name}: no {file}; there is {there}. The figures are left as they were.")
    return {name: file.read_bytes() for name, file in files.items()}


def replace(figure: Path, picture: bytes) -> bool:
    """Write a picture; whether another one was there, or none."""
    changed = not figure.exists() or figure.read_bytes() != picture
    figure.write_bytes(picture)
    return changed


if __name__ == "__main__":
    main()
