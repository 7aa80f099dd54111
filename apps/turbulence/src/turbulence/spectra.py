"""Spectra of data, or of a run's rollouts beside the truth: figures, and tables in CSV."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from matplotlib.figure import Figure
from nops_data import WellReader
from nops_diagnostics import plot_anisotropic_spectra, plot_spectra
from nops_losses import anisotropic_spectrum, energy_spectrum
from nops_train import InputError, Invocation, RunFolder
from torch import Tensor

from turbulence.comparison import load_scored
from turbulence.data_fields import domain_of, fields_named
from turbulence.evaluation import Window

FRAMES = 64  # per trajectory at most, evenly spread
WINDOWS = get_args(Window)
QUANTILES = (0.05, 0.95)
Lengths = tuple[float, ...]


def write_spectra(call: Invocation) -> None:
    """E(k), its marginals and the anisotropy of each path given, with all of them in one figure."""
    fields: dict[str, Tensor] = {}
    lengths: Lengths | None = None
    window = call.options["window"]
    if window not in WINDOWS:
        raise InputError(f"--window: expected one of {', '.join(WINDOWS)}, found {window}")
    for path in call.folders:
        found, extent = read_fields(path, call.options["fields"].split(","), window=window)
        if lengths is not None and not torch.allclose(torch.tensor(lengths), torch.tensor(extent)):
            raise InputError(f"{path}: a domain of {extent}, the others have {lengths}")
        lengths = extent
        for name, field in found.items():
            key = name if len(call.folders) == 1 or name == "truth" else f"{path.name} {name}"
            fields.setdefault(key, field)
    assert lengths is not None
    folder = Path(call.options["out"])
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lengths": lengths, "window": window}
    for path in (
        *write_tables(fields, folder, **options),
        *write_figures(fields, folder, **options),
    ):
        print(path)


def read_fields(
    path: Path, wanted: list[str], *, window: str = "none"
) -> tuple[dict[str, Tensor], Lengths]:
    """Fields `[sample, time, channel, height, width]` by name, in the data's units, and lengths.

    Args:
        path: An evaluated run, a data set's folder (its test split), or one of its HDF5 files.
        wanted: Names of the fields; of a run those that it was trained on.
        window: That their spectra will be taken with.

    Raises:
        InputError: If it is none of these, or its boundaries are not periodic and there is no
            window.
    """
    if (path / "config.yaml").is_file():
        held = load_scored(RunFolder.at(path)).evaluation
        if held.window != "none" and window == "none":
            raise InputError(f"{path}: not periodic; --window hann (or tukey) draws its spectra")
        return {"truth": held.target, "rollout": held.pred}, held.lengths
    is_file = path.is_file()
    folder = path.parents[2] if is_file and len(path.parents) > 2 else path
    split = path.parent.name if is_file else "test"
    if split not in ("train", "valid", "test") or not (folder / "data" / split).is_dir():
        raise InputError(
            f"{path}: expected a run, a folder with data/test/*.hdf5, or one of those files"
        )
    reader = WellReader(folder, split=split)
    reader = WellReader(folder, split=split, fields=fields_named(reader, tuple(wanted)))
    domain = domain_of(folder, reader)
    if not all(domain.periodic) and window == "none":
        raise InputError(
            f"{path}: not periodic along axis {domain.periodic.index(False)}, where a Fourier "
            "transform sees a jump; --window hann (or tukey) draws its spectra"
        )
    return {path.stem if is_file else path.name: _frames(reader, path)}, domain.lengths


def _frames(reader: WellReader, path: Path) -> Tensor:
    """Frames of all trajectories of the folder, or of the one file."""
    paths = [Path(layout.path) for layout in reader.layouts for _ in range(layout.num_trajectories)]
    chosen = [i for i, found in enumerate(paths) if path.is_dir() or found.name == path.name]
    steps = range(0, reader.num_frames, max(1, reader.num_frames // FRAMES))
    return torch.stack([reader.read(i, stop=reader.num_frames)[list(steps)] for i in chosen])


def write_tables(
    fields: Mapping[str, Tensor], folder: Path, *, lengths: Lengths, window: Window
) -> list[Path]:
    """`spectra.csv`: E(k) with quantiles and the anisotropy; `marginals.csv`: E(k_i) of each axis."""
    shells, marginals = [], []
    detrend = "none" if window == "none" else "mean"
    options: dict[str, Any] = {"lengths": lengths, "window": window, "detrend": detrend}
    for name, field in fields.items():
        frames = field.flatten(0, 1).double()
        k, energy = energy_spectrum(frames, **options)
        found = anisotropic_spectrum(frames, **options)
        low, high = torch.quantile(energy, torch.tensor(QUANTILES).double(), dim=0)
        assert found.ratio is not None
        columns = (k, energy.mean(0), low, high, found.ratio.mean(0))
        shells += [[name, *(float(c[i]) for c in columns)] for i in range(len(k))]
        for axis, (waves, energies) in enumerate(
            zip(found.wavenumbers, found.energies, strict=True), start=1
        ):
            mean = energies.mean(0)
            marginals += [[name, axis, float(waves[i]), float(mean[i])] for i in range(len(waves))]
    heads = (
        ("field", "k", "energy", "energy_p5", "energy_p95", "anisotropy"),
        ("field", "axis", "k", "energy"),
    )
    written = []
    for stem, head, rows in zip(("spectra", "marginals"), heads, (shells, marginals), strict=True):
        written.append(folder / f"{stem}.csv")
        with written[-1].open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    return written


def write_figures(
    fields: Mapping[str, Tensor], folder: Path, *, lengths: Lengths, window: Window
) -> list[Path]:
    """`spectra.png`, `spectra_compensated.png` and `anisotropy.png`."""
    shapes = {tuple(field.shape) for field in fields.values()}
    if len(shapes) > 1:
        raise InputError(f"these fields cannot share a figure: their shapes are {sorted(shapes)}")
    options: dict[str, Any] = {"lengths": lengths, "window": window}
    figures: dict[str, Figure] = {
        "spectra": plot_spectra(fields, **options),
        "spectra_compensated": plot_spectra(fields, compensate=5 / 3, **options),
        "anisotropy": plot_anisotropic_spectra(fields, **options),
    }
    written = []
    for stem, figure in figures.items():
        written.append(folder / f"{stem}.png")
        figure.savefig(written[-1], dpi=200)
    return written
