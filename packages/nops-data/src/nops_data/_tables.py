"""Measurements as tables: CSV files with a row per sample, and the JSON and npy files beside them."""

import csv
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from nops_data._errors import LayoutError, layout_error

LARGEST_STEP = 1.5  # of the median step; a longer one ends a sequence
STATION_KEYS = ("xE", "yN")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file with a line of column names, read as text.

    Attributes:
        path: The file.
        columns: Their names, in order.
        cells: Text of each column, a value per row.
    """

    path: Path
    columns: tuple[str, ...]
    cells: Mapping[str, list[str]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.cells[self.columns[0]])

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Some columns as numbers, `[row, column]` float64; no row is left out.

        Raises:
            LayoutError: If a column is missing, or a cell of it is no finite number: with the
                column, how many rows, and the first of them (the header is row 1).
        """
        self._check(names)
        found = [self._column(name) for name in names]
        return np.stack(found, 1) if found else np.zeros((len(self), 0))

    def texts(self, name: str) -> list[str]:
        """A column as it stands.

        Raises:
            LayoutError: If there is none of that name.
        """
        self._check([name])
        return self.cells[name]

    def _check(self, names: Sequence[str]) -> None:
        if missing := [name for name in names if name not in self.cells]:
            known = ", ".join(self.columns)
            raise layout_error(self.path, "header", found=known, expected=f"columns {missing}")

    def _column(self, name: str) -> np.ndarray:
        values = np.array([_number(cell) for cell in self.cells[name]])
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            cell = self.cells[name][bad[0]]
            where = f"column {name!r}, {len(bad)} of {len(self)} rows, first row {bad[0] + 2}"
            raise layout_error(self.path, where, found=repr(cell), expected="finite numbers")
        return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def read_table(path: Path | str) -> Table:
    """A CSV file whose first line names its columns.

    Args:
        path: The CSV file.

    Returns:
        The table; its methods read columns as numbers or texts.

    Raises:
        LayoutError: If it cannot be read, a name is there twice, a row has another length, or
            there is no row.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(f"{path}: cannot be read as a table: {error}") from error
    names = tuple(cell.strip() for cell in rows[0]) if rows else ()
    if not names or len(set(names)) < len(names):
        found = ", ".join(names) or "nothing"
        raise layout_error(path, "row 1", found=found, expected="column names, each once")
    lines = [line for line in rows[1:] if line]
    if not lines:
        raise layout_error(path, "rows", found="none", expected="at least one")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(names):
            where = f"row {number}"
            raise layout_error(path, where, found=f"{len(line)} values", expected=len(names))
    cells = {
        name: list(column) for name, column in zip(names, zip(*lines, strict=True), strict=True)
    }
    return Table(path=path, columns=names, cells=cells)


def read_json(path: Path | str) -> dict[str, Any]:
    """A JSON object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        LayoutError: If the file cannot be read or holds something else.
    """
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LayoutError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(held, dict):
        raise layout_error(path, "file", found=type(held).__name__, expected="a JSON object")
    return held


def read_ranges(
    path: Path | str, *, names: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    """Ranges of parameters by name, from `{"d": {"min": 2, "max": 20}, …}`.

    Args:
        path: The JSON file.
        names: Those that it has to hold, all and no others; None takes any.

    Returns:
        (min, max) by name, in the unit of the file.

    Raises:
        LayoutError: If a range is no pair of finite numbers with min < max, or the names differ.
    """
    held = read_json(path)
    _check_names(path, held, held if names is None else names)
    return {name: _range(path, name, held[name]) for name in (names or held)}


def _range(path: Path | str, name: str, entry: Any) -> tuple[float, float]:
    ends: list[Any] = [entry.get(key) for key in ("min", "max")] if isinstance(entry, dict) else []
    if len(ends) != 2 or not all(_is_finite(end) for end in ends) or not ends[0] < ends[1]:
        raise layout_error(path, name, found=entry, expected="min < max, two numbers")
    return float(ends[0]), float(ends[1])


def read_stations(path: Path | str) -> dict[str, tuple[float, float]]:
    """Stations by name, (east, north) in km, from `{"AV06": {"xE": 10.7, "yN": 0.5}, …}`.

    Args:
        path: The JSON file.

    Returns:
        (east, north) in km by name, in the order of the file.

    Raises:
        LayoutError: If there is none, or a position is no pair of finite numbers.
    """
    held = read_json(path)
    if not held:
        raise layout_error(path, "stations", found="none", expected="at least one")
    return {name: _position(path, name, entry) for name, entry in held.items()}


def _position(path: Path | str, name: str, entry: Any) -> tuple[float, float]:
    found: list[Any] = [entry.get(key) for key in STATION_KEYS] if isinstance(entry, dict) else []
    if len(found) != 2 or not all(_is_finite(value) for value in found):
        raise layout_error(path, name, found=entry, expected="numbers xE and yN, km")
    return float(found[0]), float(found[1])


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_names(path: Path | str, found: Iterable[str], expected: Iterable[str]) -> None:
    there, wanted = list(found), list(expected)
    missing, extra = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    if missing or extra:
        said = f"missing {missing or 'none'}, unknown {extra or 'none'}"
        raise layout_error(path, "names", found=said, expected=", ".join(wanted))


def read_vector(path: Path | str, *, width: int, positive: bool = False) -> np.ndarray:
    """A vector of an npy file, float64 `[width]`.

    Args:
        path: The npy file.
        width: Number of values.
        positive: Whether each has to be above 0.

    Returns:
        The values, float64 `[width]`.

    Raises:
        LayoutError: If it has another shape, or a value is not finite or, if `positive`, not
            above 0: with how many, and the first of them.
    """
    try:
        values = np.load(path, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise LayoutError(f"{path}: cannot be read as an array: {error}") from error
    if values.shape != (width,):
        raise layout_error(path, "shape", found=values.shape, expected=(width,))
    good = np.isfinite(values) & (values > 0 if positive else True)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        expected = "positive numbers" if positive else "finite numbers"
        where = f"{int((~good).sum())} of {width} values, first at {first}"
        raise layout_error(path, where, found=values[first], expected=expected)
    return values


def read_days(table: Table, *, column: str = "date") -> np.ndarray:
    """Dates as whole days `[row]`, from texts such as `2009.07.30` or `2009-07-30`.

    Args:
        table: With the dates as texts.
        column: Where they are.

    Returns:
        Days, int64, of which 0001-01-01 is number 1; steps are what counts.

    Raises:
        LayoutError: If there is no such column, or a text is no date.
    """
    days = []
    for number, text in enumerate(table.texts(column), start=2):
        try:
            days.append(date.fromisoformat(text.strip().replace(".", "-")).toordinal())
        except ValueError as error:
            where = f"row {number}, column {column!r}"
            raise layout_error(
                table.path, where, found=repr(text), expected="year.month.day"
            ) from error
    return np.array(days, dtype=np.int64)


def unbroken(days: Sequence[int] | np.ndarray) -> list[range]:
    """Stretches of rows that follow each other in time.

    A stretch ends at a step above 1.5 times the median positive one, and where time repeats or
    runs backwards. Rows are never joined by their date.

    Args:
        days: Time of each row, in order of the rows, any unit.

    Returns:
        Ranges of row numbers, in order; together they are all rows.
    """
    steps = np.diff(np.asarray(days, dtype=np.float64))
    ahead = steps[steps > 0]
    longest = LARGEST_STEP * float(np.median(ahead)) if len(ahead) else 0.0
    breaks = np.flatnonzero((steps <= 0) | (steps > longest)) + 1
    edges = [0, *breaks.tolist(), len(steps) + 1]
    return [range(first, stop) for first, stop in itertools.pairwise(edges)]
