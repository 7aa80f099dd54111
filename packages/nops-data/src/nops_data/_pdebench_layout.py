"""What one PDEBench file holds, and the checks that make it readable as trajectories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from nops_data._boundary import Sides
from nops_data._errors import layout_error
from nops_data._hdf5 import get_dataset, open_hdf5
from nops_data._pdebench_facts import read_parameters, read_sides
from nops_data._pdebench_tasks import KNOWN_DATASETS, PDETask

_EVEN = 1e-3  # relative spread of time steps that float32 storage explains


@dataclass(frozen=True, kw_only=True)
class PDEFile:
    """All of a file but its field values.

    Attributes:
        path: The file.
        shape: Grid points along each axis.
        num_trajectories: Samples or groups.
        times: Time of every frame [T] float64; one zero where the task is steady.
        groups: Name of each trajectory's group; empty for arrays over all samples.
        coordinates: Along each axis, float64.
        boundary: Kind at both ends of each axis.
        parameters: Values in the task's order.
    """

    path: str
    shape: tuple[int, ...]
    num_trajectories: int
    times: np.ndarray = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    coordinates: tuple[np.ndarray, ...] = field(repr=False)
    boundary: tuple[Sides, ...]
    parameters: tuple[float, ...]


def read_pde_file(
    path: Path | str,
    task: PDETask,
    *,
    parameters: Mapping[str, float],
    boundary: str | tuple[str | Sides, ...] | None,
) -> PDEFile:
    """Read and check everything in a file but its field values.

    Raises:
        LayoutError: Naming file, dataset, found and expected.
    """
    with open_hdf5(path) as file:
        read = _read_groups if task.group_channels else _read_arrays
        shape, count, times, groups, coordinates = read(file, task)
        return PDEFile(
            path=str(path),
            shape=shape,
            num_trajectories=count,
            times=_even(file, times),
            groups=groups,
            coordinates=coordinates,
            boundary=read_sides(str(path), task, boundary),
            parameters=read_parameters(file, task, parameters),
        )


_Parts = tuple[tuple[int, ...], int, np.ndarray, tuple[str, ...], tuple[np.ndarray, ...]]


def _read_arrays(file: h5py.File, task: PDETask) -> _Parts:
    own = {array.dataset for array in task.arrays}
    groups = {name for name in map(str, file) if name.isdigit()}
    _refuse_others(file, task, sorted((KNOWN_DATASETS | groups) & set(file) - own))
    first = task.arrays[0]
    item = _values(file, first.dataset)
    if item.ndim != 2 + len(task.dims):
        raise _shape(item, f"(sample, time, {', '.join(task.dims)})", task)
    count, frames, *grid = item.shape
    if task.steady and frames != 1:
        raise _shape(item, f"one frame, (sample, 1, {', '.join(task.dims)})", task)
    for array in task.arrays[1:]:
        other = _values(file, array.dataset)
        expected = (count, *([frames] if array.time_varying else []), *grid)
        if other.shape != expected:
            raise _shape(other, f"{expected} as '/{first.dataset}' has it", task)
    coordinates = tuple(
        _axis(file, f"{dim}-coordinate", size, task)
        for dim, size in zip(task.dims, grid, strict=True)
    )
    times = np.zeros(1) if task.steady else _times(file, "t-coordinate", frames, task)
    return tuple(grid), count, times, (), coordinates


def _read_groups(file: h5py.File, task: PDETask) -> _Parts:
    names = tuple(sorted(name for name in map(str, file) if name.isdigit()))
    _refuse_others(file, task, sorted(set(file) - set(names)))
    if not names:
        raise layout_error(
            file.filename,
            "file",
            found="no group",
            expected=f"groups /0000, /0001, … for task {task.name!r}",
        )
    first: _Parts | None = None
    for name in names:
        parts = _read_group(file, name, task)
        first = first or parts
        _check_same(file, name, names[0], parts, first)
    assert first is not None
    return first[0], len(names), first[2], names, first[4]


def _read_group(file: h5py.File, name: str, task: PDETask) -> _Parts:
    if not isinstance(file[name], h5py.Group):
        raise layout_error(file.filename, f"'/{name}'", found="a dataset", expected="a group")
    item = _values(file, f"{name}/data")
    names = ", ".join(task.dims)
    if item.ndim != 2 + len(task.dims) or item.shape[-1] != len(task.group_channels):
        raise _shape(item, f"(time, {names}, {len(task.group_channels)})", task)
    frames, *grid, _ = item.shape
    coordinates = tuple(
        _axis(file, f"{name}/grid/{dim}", size, task)
        for dim, size in zip(task.dims, grid, strict=True)
    )
    times = _times(file, f"{name}/grid/t", frames, task)
    return tuple(grid), 1, times, (name,), coordinates


def _check_same(file: h5py.File, name: str, first: str, found: _Parts, expected: _Parts) -> None:
    if found[0] != expected[0] or len(found[2]) != len(expected[2]):
        raise layout_error(
            file.filename,
            f"'/{name}/data'",
            found=f"{len(found[2])} frames of {found[0]}",
            expected=f"{len(expected[2])} frames of {expected[0]} as in '/{first}'",
        )
    pairs = zip((found[2], *found[4]), (expected[2], *expected[4]), strict=True)
    if not all(np.array_equal(a, b) for a, b in pairs):
        raise layout_error(
            file.filename,
            f"'/{name}/grid'",
            found="other coordinates or times",
            expected=f"those of '/{first}/grid'",
        )


def _refuse_others(file: h5py.File, task: PDETask, others: list[str]) -> None:
    if others:
        raise layout_error(
            file.filename,
            "file",
            found=f"also {others}",
            expected=f"the layout of task {task.name!r} alone; name the task the file is of",
        )


def _values(file: h5py.File, name: str) -> h5py.Dataset:
    item = get_dataset(file, name)
    if item.dtype.kind != "f":
        where = f"dataset '{item.name}'"
        raise layout_error(file.filename, where, found=item.dtype, expected="real numbers")
    if 0 in item.shape:
        where = f"dataset '{item.name}'"
        raise layout_error(
            file.filename, where, found=f"shape {item.shape}", expected="at least one value"
        )
    return item


def _axis(file: h5py.File, name: str, size: int, task: PDETask) -> np.ndarray:
    item = _values(file, name)
    if item.shape != (size,):
        raise _shape(item, f"({size},), one value per grid point", task)
    return _finite(item, item[()].astype(np.float64))


def _times(file: h5py.File, name: str, frames: int, task: PDETask) -> np.ndarray:
    item = _values(file, name)
    if item.ndim != 1 or len(item) not in (frames, frames + 1):
        raise _shape(item, f"({frames},) or ({frames + 1},), as there are {frames} frames", task)
    return _finite(item, item[:frames].astype(np.float64))


def _finite(item: h5py.Dataset, values: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise layout_error(
            item.file.filename,
            f"dataset '{item.name}'",
            found=f"{values[bad[0]]} at {bad[0]}",
            expected="finite values",
        )
    return values


def _even(file: h5py.File, times: np.ndarray) -> np.ndarray:
    steps = np.diff(times)
    if len(steps) and not (steps.min() > 0 and np.ptp(steps) <= _EVEN * steps.mean()):
        raise layout_error(
            file.filename,
            "times",
            found=f"steps from {steps.min():g} to {steps.max():g}",
            expected="one time step above 0",
        )
    return times


def _shape(item: h5py.Dataset, expected: str, task: PDETask) -> Exception:
    return layout_error(
        item.file.filename,
        f"dataset '{item.name}'",
        found=f"shape {item.shape}",
        expected=f"{expected} (task {task.name!r})",
    )
