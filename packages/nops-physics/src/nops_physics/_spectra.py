"""Optical constants of leaves, from a file or from an installed `prosail`; none are shipped."""

import importlib
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

FIRST_NM, LAST_NM = 400, 2500
# constituent -> column of the file; brown pigments in relative units, masses per area in g/cm^2
COLUMNS = {
    "cab": "sac_chl",
    "car": "sac_car",
    "anth": "sac_ant",
    "cbrown": "sac_brown",
    "cw": "sac_ewt",
    "cm": "sac_lma",
    "prot": "sac_prot",
    "cbc": "sac_cbc",
}
PEER_COLUMNS = {
    "cab": "kab",
    "car": "kcar",
    "anth": "kant",
    "cbrown": "kbrown",
    "cw": "kw",
    "cm": "km",
}
LEAF_MASSES = ("cm", "prot", "cbc")
ADVICE = (
    "leaf models need optical constants, which are not shipped: give a file (--spectra FILE; "
    "dataSpec_PRO_v2.txt of jbferet/prospect, MIT) or install nops-physics[prosail] (GPLv3)"
)


class SpectraNotFound(ValueError):  # noqa: N818  (reads as the message does)
    """No optical constants: no file was named and `prosail` is not installed."""


@dataclass(frozen=True, kw_only=True)
class Spectra:
    """Optical constants of leaf constituents, one value per nm from 400 to 2500, float64.

    Attributes:
        source: Where they come from: a path, or `prosail`.
        refractive_index: `[wavelength]`.
        absorption: Specific absorption `[wavelength]` per constituent: `cab`, `car`, `anth` in
            cm^2/ug, `cbrown` dimensionless, `cw` in 1/cm, `cm` and, in a file, `prot` and `cbc`
            in cm^2/g.
    """

    source: str
    refractive_index: Tensor = field(repr=False)
    absorption: dict[str, Tensor] = field(repr=False)


def interpolate_nm(values: Tensor, wavelengths: Tensor) -> Tensor:
    """Values `[..., 2101]` at 400, 401 ... 2500 nm, straight between whole nm."""
    place = wavelengths - FIRST_NM
    left = place.floor().clamp(0, LAST_NM - FIRST_NM - 1).long()
    part = place - left
    return values[..., left] * (1 - part) + values[..., left + 1] * part


def all_wavelengths() -> Tensor:
    """400, 401 ... 2500 nm, float64."""
    return torch.arange(FIRST_NM, LAST_NM + 1, dtype=torch.float64)


def load_spectra(path: str | Path | None = None) -> Spectra:
    """The optical constants of a file, else those of an installed `prosail`.

    A file is a table of columns split by white space or commas under the header `lambda nrefrac
    sac_chl sac_car sac_ant sac_brown sac_ewt sac_lma`, with `sac_prot sac_cbc` for PROSPECT-PRO,
    one row per nm from 400 to 2500. `prosail` has no proteins; only its constants are read.

    Args:
        path: The file, or None for `prosail`.

    Returns:
        The constants, one row per nm.

    Raises:
        SpectraNotFound: If no file is named and `prosail` is not installed.
        ValueError: If the file is not such a table, with its name, row, column and what was
            expected.
    """
    return _from_peer() if path is None else _from_file(Path(path))


def _from_file(path: Path) -> Spectra:
    table = read_table(path, first="lambda")
    check_whole_nm(table["lambda"], path, every=True)
    masses = ("cm",) if "sac_prot" not in table and "sac_cbc" not in table else ("prot", "cbc")
    needed = ["nrefrac", *(c for n, c in COLUMNS.items() if n in masses or n not in LEAF_MASSES)]
    if missing := [column for column in needed if column not in table]:
        raise ValueError(f"{path}: column {missing[0]!r} is missing, found {', '.join(table)}")
    found = {name: table[column] for name, column in COLUMNS.items() if column in table}
    return Spectra(source=str(path), refractive_index=table["nrefrac"], absorption=found)


def _from_peer() -> Spectra:
    try:
        peer = importlib.import_module("prosail")
    except ImportError as error:
        raise SpectraNotFound(ADVICE) from error
    constants = peer.spectral_lib.prospectd
    columns = {name: getattr(constants, column) for name, column in PEER_COLUMNS.items()}
    return Spectra(
        source="prosail",
        refractive_index=torch.tensor(constants.nr, dtype=torch.float64),
        absorption={n: torch.tensor(c, dtype=torch.float64) for n, c in columns.items()},
    )


def read_table(path: Path, *, first: str) -> dict[str, Tensor]:
    """A table of numbers under one line of names, split by white space or commas, by column.

    Args:
        path: The file.
        first: Name of the first column.

    Raises:
        ValueError: If there is no such file, the header does not begin with `first`, or a cell is
            no finite number; with the file, row (the header is row 1) and column.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
    names = _cells(lines[0]) if lines else []
    if names[:1] != [first] or len(set(names)) != len(names):
        raise ValueError(
            f"{path}: row 1 needs column names, each once, beginning with {first!r}, "
            f"found {' '.join(names)[:80]!r}"
        )
    rows = [_row(path, i, line, names) for i, line in enumerate(lines[1:], start=2) if line.strip()]
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(names))
    return dict(zip(names, columns.unbind(-1), strict=True))


def _cells(line: str) -> list[str]:
    return line.replace(",", " ").split()


def _row(path: Path, number: int, line: str, names: list[str]) -> list[float]:
    cells = _cells(line)
    if len(cells) != len(names):
        raise ValueError(f"{path}: row {number} has {len(cells)} values, expected {len(names)}")
    return [_number(path, number, *pair) for pair in zip(names, cells, strict=True)]


def _number(path: Path, row: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{path}: row {row}, column {column!r} is {cell!r}, expected a finite number"
        )
    return value


def check_whole_nm(wavelengths: Tensor, path: Path, *, every: bool) -> None:
    """Refuse a first column that does not rise by 1 nm per row (from 400 to 2500 if `every`)."""
    start = FIRST_NM if every or not len(wavelengths) else round(wavelengths[0].item())
    wanted = torch.arange(start, start + len(wavelengths), dtype=torch.float64)
    wrong = (wavelengths != wanted).nonzero()
    if len(wrong):
        at = int(wrong[0].item())
        raise ValueError(
            f"{path}: row {at + 2}, column 1 is {wavelengths[at].item():g} nm, expected "
            f"{wanted[at].item():g}: one row per nm"
        )
    if every and len(wavelengths) != LAST_NM - FIRST_NM + 1:
        raise ValueError(
            f"{path}: row {len(wavelengths) + 1} is the last of {len(wavelengths)} wavelengths, "
            f"expected {FIRST_NM} to {LAST_NM} nm"
        )
