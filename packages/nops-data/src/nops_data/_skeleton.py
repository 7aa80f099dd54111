"""Creating files in the_well's layout: everything but the field values, room for those reserved.

What is written satisfies both the_well's checker and its loader: full arrays only, both flags on
every dataset (`time_varying` true on `dimensions/time`), all six groups, boundary masks that are
set at the ends they describe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from nops_data._boundary import Sides
from nops_data._hdf5 import LIBVER
from nops_data._layout import GROUPS

RESERVED = (
    "dataset_name",
    "grid_type",
    "n_spatial_dims",
    "n_trajectories",
    "simulation_parameters",
)
MAX_TRAJECTORIES = (
    8192  # per file: root attributes repeat each parameter, HDF5 limits them to 64 KiB
)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One spatial axis: name, coordinates, kind of boundary at its low and high end."""

    name: str
    coordinates: np.ndarray
    sides: Sides


@dataclass(frozen=True, kw_only=True)
class NewField:
    """A field to make room for; constant ones have no time axis."""

    name: str
    order: int = 0
    time_varying: bool = True


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """All that is known of a file before its field values are."""

    dataset_name: str
    axes: tuple[Axis, ...]
    times: np.ndarray
    num_trajectories: int
    fields: tuple[NewField, ...]
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> [B]
    grid_type: str = "cartesian"
    chunk_frames: int = 16
    compression: str | None = None


def make_axes(
    names: Sequence[str], shape: Sequence[int], *, sides: Sequence[Sides], lengths: Sequence[float]
) -> tuple[Axis, ...]:
    """Uniform axes from 0 on: N points L/N apart if periodic, else with a point at both ends.

    Raises:
        ValueError: If there are not as many lengths as axes, or one is not positive.
    """
    if len(lengths) != len(names) or not all(length > 0 for length in lengths):
        raise ValueError(f"lengths: found {lengths}, expected {len(names)} positive numbers")
    axes = []
    for name, size, pair, length in zip(names, shape, sides, lengths, strict=True):
        periodic = pair[0] == "periodic"
        points = np.linspace(0.0, length, size, endpoint=not periodic, dtype=np.float64)
        axes.append(Axis(name=name, coordinates=points.astype(np.float32), sides=pair))
    return tuple(axes)


def create_file(path: Path, spec: FileSpec) -> h5py.File:
    """Create the file, with every field's bytes reserved on disk, and leave it open.

    Nothing but raw data changes afterwards, so a writer that is killed leaves a readable file.

    Raises:
        ValueError: If a name is used twice or reserved, or there are too many trajectories.
    """
    _check(spec)
    file = h5py.File(path, "w", libver=LIBVER)
    try:
        _write_root(file, spec)
        _write_dimensions(file, spec)
        _write_boundary(file, spec.axes)
        _write_scalars(file, spec)
        for order in range(len(GROUPS)):
            _reserve_fields(file, spec, order)
    except BaseException:
        file.close()
        raise
    return file


def _check(spec: FileSpec) -> None:
    names = [item.name for item in spec.fields]
    if len(set(names)) != len(names):
        raise ValueError(f"fields: found {names}, expected different names")
    reserved = sorted(set(spec.parameters) & set(RESERVED))
    if reserved:
        raise ValueError(f"parameters: found {reserved}, expected names other than {RESERVED}")
    if not 1 <= spec.num_trajectories <= MAX_TRAJECTORIES:
        raise ValueError(
            f"trajectories: found {spec.num_trajectories}, expected 1 to {MAX_TRAJECTORIES} a file"
        )


def _write_root(file: h5py.File, spec: FileSpec) -> None:
    file.attrs["dataset_name"] = spec.dataset_name
    file.attrs["grid_type"] = spec.grid_type
    file.attrs["n_spatial_dims"] = len(spec.axes)
    file.attrs["n_trajectories"] = spec.num_trajectories
    _set_names(file, "simulation_parameters", spec.parameters)
    for name, values in spec.parameters.items():
        file.attrs[name] = values.astype(np.float32)


def _set_names(item: h5py.Group, key: str, names: Sequence[str] | Mapping[str, object]) -> None:
    item.attrs[key] = np.array(list(names), dtype=h5py.string_dtype())


def _set_flags(item: h5py.Group | h5py.Dataset, *, sample: bool, time: bool) -> None:
    item.attrs["sample_varying"] = sample
    item.attrs["time_varying"] = time


def _write_dimensions(file: h5py.File, spec: FileSpec) -> None:
    group = file.create_group("dimensions")
    _set_names(group, "spatial_dims", [axis.name for axis in spec.axes])
    time = group.create_dataset("time", data=spec.times.astype(np.float32))
    _set_flags(time, sample=False, time=True)
    for axis in spec.axes:
        item = group.create_dataset(axis.name, data=axis.coordinates.astype(np.float32))
        _set_flags(item, sample=False, time=False)


def _write_boundary(file: h5py.File, axes: Sequence[Axis]) -> None:
    conditions = file.create_group("boundary_conditions")
    for axis in axes:
        for kind in dict.fromkeys(axis.sides):
            group = conditions.create_group(f"{axis.name}_{kind}")
            _set_names(group, "associated_dims", [axis.name])
            _set_names(group, "associated_fields", [])
            group.attrs["bc_type"] = kind.upper()
            _set_flags(group, sample=False, time=False)
            mask = np.zeros(len(axis.coordinates), dtype=bool)
            mask[0], mask[-1] = axis.sides[0] == kind, axis.sides[1] == kind
            group.create_dataset("mask", data=mask)


def _write_scalars(file: h5py.File, spec: FileSpec) -> None:
    group = file.create_group("scalars")
    _set_names(group, "field_names", spec.parameters)
    for name, values in spec.parameters.items():
        item = group.create_dataset(name, data=values.astype(np.float32))
        _set_flags(item, sample=True, time=False)


def _reserve_fields(file: h5py.File, spec: FileSpec, order: int) -> None:
    group = file.create_group(GROUPS[order])
    fields = [item for item in spec.fields if item.order == order]
    _set_names(group, "field_names", [item.name for item in fields])
    grid = tuple(len(axis.coordinates) for axis in spec.axes)
    tail = grid + (len(spec.axes),) * order
    for item in fields:
        frames = (len(spec.times),) if item.time_varying else ()
        chunk = tuple(min(spec.chunk_frames, n) for n in frames)
        dataset = group.create_dataset(
            item.name,
            shape=(spec.num_trajectories, *frames, *tail),
            dtype=np.float32,
            chunks=(1, *chunk, *tail),
            compression=spec.compression,
            dcpl=_reserve_at_once() if spec.compression is None else None,
        )
        _set_flags(dataset, sample=True, time=item.time_varying)
        dataset.attrs["dim_varying"] = np.ones(len(grid), dtype=bool)
        if order == 2:
            dataset.attrs["symmetric"] = False
            dataset.attrs["antisymmetric"] = False


def _reserve_at_once() -> h5py.h5p.PropDCID:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return properties
