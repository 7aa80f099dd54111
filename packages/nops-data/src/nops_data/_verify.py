"""Verifying generated files against their own sums, and against the solver."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from nops_data._errors import LayoutError
from nops_data._generate import Solve, solved, unfinished
from nops_data._hdf5 import SPLITS, get_dataset, get_group, get_integer, list_hdf5, open_hdf5
from nops_data._layout import FileLayout, read_layout
from nops_data._plan import Request, make_request
from nops_data._provenance import GROUP, SEEDS
from nops_data._reader import check_shards
from nops_data._shard_file import checksum, read_trajectory


@dataclass(kw_only=True)
class Verification:
    """What `verify` found.

    Attributes:
        num_checked: Trajectories whose SHA-256 was recomputed.
        num_replayed: Trajectories computed again.
        max_difference: Largest difference of a replay, relative to the largest value of the
            stored trajectory.
        problems: One sentence each, naming file, sample, found and expected.
    """

    num_checked: int = 0
    num_replayed: int = 0
    max_difference: float = 0.0
    problems: list[str] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raise the first problem, with the number of the others, if there is any.

        Raises:
            LayoutError: If there is a problem.
        """
        if self.problems:
            rest = len(self.problems) - 1
            raise LayoutError(self.problems[0] + (f" ({rest} more problems)" if rest else ""))


def verify(
    folder: Path | str,
    *,
    replay: Solve | None = None,
    num_replays: int | None = 4,
    batch_size: int = 1,
    rtol: float = 1e-5,
) -> Verification:
    """Recompute the SHA-256 of every generated trajectory, and some trajectories themselves.

    A sum guards the file, not the arithmetic of another machine: replays are compared with a
    tolerance.

    Args:
        folder: A folder that `generate` filled.
        replay: What `generate` was given as `solve`; no replays when None.
        num_replays: Trajectories to replay per split, spread evenly; all when None.
        batch_size: Trajectories per request.
        rtol: Largest difference allowed, relative to the largest magnitude of the trajectory.

    Returns:
        The counts, and one sentence per problem: a damaged or unfinished file, a missing shard,
        a wrong sum, a replay that differs or is not finite.
    """
    report = Verification()
    if not any(list_hdf5(Path(folder) / "data" / split) for split in SPLITS):
        report.problems.append(f"{folder}: found no HDF5 file in data/*, expected generated files.")
    for path in unfinished(folder):
        report.problems.append(f"{path}: found an unfinished file; generate again to complete it.")
    for split in SPLITS:
        layouts = _readable(list_hdf5(Path(folder) / "data" / split), report)
        for layout in layouts:
            _check_sums(layout, report)
        if replay is not None:
            for layout, rows in _spread(layouts, num_replays):
                _replay(layout, rows, replay, batch_size, rtol, report)
    return report


def _readable(paths: Sequence[Path], report: Verification) -> list[FileLayout]:
    layouts = []
    for path in paths:
        try:
            layouts.append(read_layout(path))
        except LayoutError as error:
            report.problems.append(str(error))
    if len(layouts) == len(paths) and layouts:
        try:
            check_shards(layouts)
        except LayoutError as error:
            report.problems.append(str(error))
    return layouts


def _channels(layout: FileLayout) -> tuple[str, ...]:
    return tuple(field.name for field in layout.fields)


def _check_sums(layout: FileLayout, report: Verification) -> None:
    with open_hdf5(layout.path) as file:
        if f"{GROUP}/sha256" not in file:
            report.problems.append(
                f"{layout.path}: found no '/{GROUP}/sha256', expected a generated file."
            )
            return
        sums = get_dataset(file, f"{GROUP}/sha256")[()]
        for row, stored in enumerate(sums):
            report.num_checked += 1
            try:
                found = checksum(read_trajectory(file, _channels(layout), row))
            except OSError as error:
                found = f"unreadable bytes ({error})"
            if found != stored.decode():
                report.problems.append(
                    f"{layout.path}: sample {row}: found SHA-256 {found}, expected "
                    f"{stored.decode()}."
                )


def _spread(
    layouts: Sequence[FileLayout], num_replays: int | None
) -> list[tuple[FileLayout, list[int]]]:
    """Rows per file of `num_replays` trajectories, evenly over a split."""
    places = [(k, row) for k, item in enumerate(layouts) for row in range(item.num_trajectories)]
    if num_replays is not None and places:
        count = min(num_replays, len(places))
        places = [places[i * len(places) // count] for i in range(count)]
    return [
        (layout, [row for k, row in places if k == number]) for number, layout in enumerate(layouts)
    ]


def _replay(
    layout: FileLayout,
    rows: Sequence[int],
    replay: Solve,
    batch_size: int,
    rtol: float,
    report: Verification,
) -> None:
    with open_hdf5(layout.path) as file:
        if any(f"{GROUP}/{name}" not in file for name in (*SEEDS, "theta_unit", "sha256")):
            return  # said by the check of the sums
        for first in range(0, len(rows), batch_size):
            _replay_batch(file, layout, rows[first : first + batch_size], replay, rtol, report)


def _replay_batch(
    file: h5py.File,
    layout: FileLayout,
    rows: Sequence[int],
    replay: Solve,
    rtol: float,
    report: Verification,
) -> None:
    channels = _channels(layout)
    stored = np.stack([read_trajectory(file, channels, row) for row in rows])
    try:
        values, _ = solved(replay, _request(file, rows), shape=stored.shape[1:], channels=channels)
    except LayoutError as error:
        report.problems.append(f"{layout.path}: replay: {error}")
        return
    for row, found, expected in zip(rows, values, stored, strict=True):
        report.num_replayed += 1
        difference = relative_difference(found, expected)
        report.max_difference = max(report.max_difference, difference)
        if not difference <= rtol:
            report.problems.append(
                f"{layout.path}: sample {row}: found a replay that differs by {difference:.3g} of "
                f"the largest value, expected at most {rtol:g}."
            )


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest magnitude expected; 0 where both are 0."""
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    scale = float(np.abs(expected).max())
    if difference == 0.0:
        return 0.0
    return difference / scale if scale else float("inf")


def _request(file: h5py.File, rows: Sequence[int]) -> Request:
    names = (*SEEDS, "theta_unit")
    columns = {name: get_dataset(file, f"{GROUP}/{name}")[()][list(rows)] for name in names}
    group = get_group(file, GROUP)
    first = get_integer(group, "first_index")
    request = make_request(str(group.attrs["split"]), 0, slice(0, len(rows)), columns)
    index = tuple(first + row for row in rows)
    return Request(**{**vars(request), "index": index})
