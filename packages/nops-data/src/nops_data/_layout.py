"""What one file of the_well's layout holds, and the checks that make it readable.

Reading is as lenient as the writers in use need (a missing `time_varying` on `dimensions/time`,
one name where a list belongs, a constant axis stored with length 1 or left out); `check_well`
is as strict as the_well's own checker and loader together.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from nops_data._boundary import Sides, read_boundary
from nops_data._errors import layout_error
from nops_data._hdf5 import get_attribute, get_dataset, get_flag, get_group, get_names, open_hdf5
from nops_data._provenance import Provenance, read_provenance

GROUPS = ("t0_fields", "t1_fields", "t2_fields")


@dataclass(frozen=True, kw_only=True)
class Field:
    """One dataset of a field: scalar (order 0), vector (1) or tensor (2).

    Attributes:
        name: Name in the file.
        order: Number of trailing component axes, each of length `n_spatial_dims`.
        sample_varying: Whether a sample axis leads.
        time_varying: Whether a time axis follows.
        dim_varying: Per spatial axis, whether the field depends on it.
        channels: Channel names, row-major: `u`; `v_x`, `v_y`; `S_xx`, `S_xy`, ….
    """

    name: str
    order: int
    sample_varying: bool
    time_varying: bool
    dim_varying: tuple[bool, ...]
    channels: tuple[str, ...]

    @property
    def dataset(self) -> str:
        """Path of the dataset in the file."""
        return f"/{GROUPS[self.order]}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """One dataset of `/scalars`."""

    name: str
    sample_varying: bool
    time_varying: bool


@dataclass(frozen=True, kw_only=True)
class FileLayout:
    """All of a file but its field values."""

    path: str
    dataset_name: str
    grid_type: str
    spatial_dims: tuple[str, ...]
    shape: tuple[int, ...]
    boundary: tuple[Sides, ...]
    num_trajectories: int
    num_frames: int
    fields: tuple[Field, ...]  # time-varying ones first, then constants
    scalars: tuple[Scalar, ...]
    coordinates: tuple[np.ndarray, ...] = field(repr=False)  # of the first sample
    times: np.ndarray = field(repr=False)  # [T] or [B, T]
    parameters: np.ndarray = field(repr=False)  # [B, P] float64
    provenance: Provenance | None = field(repr=False)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the scalars that do not change in time."""
        return tuple(scalar.name for scalar in self.scalars if not scalar.time_varying)


def read_layout(path: Path | str) -> FileLayout:
    """Read and check everything in a file but its field values.

    Raises:
        LayoutError: At the first thing that would make the file unreadable as trajectories.
    """
    with open_hdf5(path) as file:
        return _read(file)


def _read(file: h5py.File) -> FileLayout:
    count = _count(file, "n_trajectories")
    dimensions = get_group(file, "dimensions")
    names = get_names(dimensions, "spatial_dims")
    _check_dims(file, names)
    axes = [_axis(file, name, count) for name in names]
    times = _times(file, count)
    sizes = tuple(axis.shape[-1] for axis in axes)
    fields = _fields(file, names, (count, times.shape[-1], *sizes))
    scalars = _scalars(file, count, times.shape[-1])
    parameters = [_per_sample(file, s, count) for s in scalars if not s.time_varying]
    provenance = read_provenance(file, count)
    if provenance is not None and provenance.theta is not None:
        _check_width(file, provenance.theta.shape[1], len(parameters))
    return FileLayout(
        path=str(file.filename),
        dataset_name=str(get_attribute(file, "dataset_name", expected="a name")),
        grid_type=str(file.attrs.get("grid_type", "cartesian")),
        spatial_dims=names,
        shape=sizes,
        boundary=read_boundary(file, names),
        num_trajectories=count,
        num_frames=times.shape[-1],
        fields=fields,
        scalars=scalars,
        coordinates=tuple(axis if axis.ndim == 1 else axis[0] for axis in axes),
        times=times,
        parameters=np.stack(parameters, axis=1) if parameters else np.zeros((count, 0)),
        provenance=provenance,
    )


def _count(file: h5py.File, name: str) -> int:
    expected = "a positive integer (the_well's layout; groups " + ", ".join(_ROOT_GROUPS) + ")"
    if name not in file.attrs:
        found = f"nothing, in a file that holds {sorted(file) or 'nothing'}"
        raise layout_error(
            file.filename, f"root attribute '{name}'", found=found, expected=expected
        )
    value = np.asarray(file.attrs[name])
    if value.size != 1 or value.dtype.kind not in "iu" or value.item() < 1:
        raise layout_error(
            file.filename, f"root attribute '{name}'", found=value, expected=expected
        )
    return int(value.item())


_ROOT_GROUPS = ("dimensions", "boundary_conditions", "scalars", *GROUPS)


def _check_dims(file: h5py.File, names: tuple[str, ...]) -> None:
    found = _count(file, "n_spatial_dims")
    if found != len(names):
        where = "attribute 'spatial_dims' of '/dimensions'"
        raise layout_error(
            file.filename, where, found=f"{len(names)} names {names}", expected=f"{found} names"
        )


def _axis(file: h5py.File, name: str, count: int) -> np.ndarray:
    item = get_dataset(file, f"dimensions/{name}")
    if get_flag(item, "time_varying", default=False):
        raise layout_error(
            file.filename, f"'{item.name}'", found="time_varying", expected="a fixed grid"
        )
    lead = (count,) if get_flag(item, "sample_varying", default=False) else ()
    _check_kind(item)
    if item.ndim != len(lead) + 1 or item.shape[: len(lead)] != lead:
        raise _shape_error(item, "(sample, point)" if lead else "(point)", (*lead, "any"))
    return item[()]


def _times(file: h5py.File, count: int) -> np.ndarray:
    item = get_dataset(file, "dimensions/time")
    lead = (count,) if get_flag(item, "sample_varying", default=False) else ()
    _check_kind(item)
    if item.ndim != len(lead) + 1 or item.shape[: len(lead)] != lead or item.shape[-1] < 1:
        raise _shape_error(item, "(sample, time)" if lead else "(time)", (*lead, "any"))
    return item[()].astype(np.float32)


def _check_kind(item: h5py.Dataset) -> None:
    if item.dtype.kind not in "fiu":
        where = f"dataset '{item.name}'"
        raise layout_error(item.file.filename, where, found=item.dtype, expected="real numbers")


def _shape_error(item: h5py.Dataset, axes: str, expected: object) -> Exception:
    where = f"dataset '{item.name}'"
    found = f"shape {item.shape}"
    return layout_error(item.file.filename, where, found=found, expected=f"{axes} = {expected}")


def _fields(file: h5py.File, dims: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[Field, ...]:
    fields = []
    for order, group_name in enumerate(GROUPS):
        if group_name in file:
            group = get_group(file, group_name)
            fields += [
                _field(file, name, order, dims, sizes) for name in get_names(group, "field_names")
            ]
    if not any(item.time_varying for item in fields):
        found = f"{[item.name for item in fields]}, none of which varies in time"
        raise layout_error(
            file.filename, "fields", found=found, expected="at least one field over time"
        )
    return tuple(sorted(fields, key=lambda item: not item.time_varying))


def _field(
    file: h5py.File, name: str, order: int, dims: tuple[str, ...], sizes: tuple[int, ...]
) -> Field:
    item = get_dataset(file, f"{GROUPS[order]}/{name}")
    suffixes = ["".join(combination) for combination in itertools.product(dims, repeat=order)]
    layout = Field(
        name=name,
        order=order,
        sample_varying=get_flag(item, "sample_varying"),
        time_varying=get_flag(item, "time_varying"),
        dim_varying=_dim_varying(item, len(dims)),
        channels=tuple(f"{name}_{suffix}" if suffix else name for suffix in suffixes),
    )
    if item.dtype.kind != "f" or item.dtype.itemsize != 4:
        where = f"dataset '{item.name}'"
        raise layout_error(file.filename, where, found=f"dtype {item.dtype}", expected="float32")
    _check_field_shape(item, layout, dims, sizes)
    return layout


def _dim_varying(item: h5py.Dataset, num_dims: int) -> tuple[bool, ...]:
    value = np.asarray(get_attribute(item, "dim_varying", expected="one boolean per axis"))
    flags = np.ravel(value)
    if flags.shape != (num_dims,) or flags.dtype.kind not in "biu":
        where = f"attribute 'dim_varying' of '{item.name}'"
        raise layout_error(item.file.filename, where, found=value, expected=f"{num_dims} booleans")
    return tuple(bool(flag) for flag in flags)


def _check_field_shape(
    item: h5py.Dataset, layout: Field, dims: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    count, frames, *grid = sizes
    lead = [("sample", count)] * layout.sample_varying + [("time", frames)] * layout.time_varying
    tail = [("component", len(dims))] * layout.order
    axes = list(zip(dims, grid, layout.dim_varying, strict=True))
    absent = lead + [(dim, size) for dim, size, varies in axes if varies] + tail
    kept = lead + [(dim, size if varies else 1) for dim, size, varies in axes] + tail
    if item.shape not in (tuple(n for _, n in absent), tuple(n for _, n in kept)):
        names = "(" + ", ".join(name for name, _ in absent) + ")"
        raise _shape_error(item, names, tuple(size for _, size in absent))


def _scalars(file: h5py.File, count: int, frames: int) -> tuple[Scalar, ...]:
    if "scalars" not in file:
        return ()
    names = get_names(get_group(file, "scalars"), "field_names")
    return tuple(_scalar(file, name, count, frames) for name in names)


def _scalar(file: h5py.File, name: str, count: int, frames: int) -> Scalar:
    item = get_dataset(file, f"scalars/{name}")
    sample, time = get_flag(item, "sample_varying"), get_flag(item, "time_varying")
    expected = (count,) * sample + (frames,) * time
    _check_kind(item)
    if item.shape != expected and not (item.shape == (1,) and not expected):
        raise _shape_error(item, str(("sample",) * sample + ("time",) * time), expected)
    if not np.isfinite(item[()]).all():
        where = f"dataset '{item.name}'"
        bad = np.argwhere(~np.isfinite(np.atleast_1d(item[()])))[0].tolist()
        raise layout_error(
            file.filename, where, found=f"a non-finite value at {bad}", expected="finite values"
        )
    return Scalar(name=name, sample_varying=sample, time_varying=time)


def _per_sample(file: h5py.File, scalar: Scalar, count: int) -> np.ndarray:
    values = get_dataset(file, f"scalars/{scalar.name}")[()]
    if scalar.sample_varying:
        return np.asarray(values, dtype=np.float64)
    return np.full(count, np.asarray(values, dtype=np.float64).item())


def _check_width(file: h5py.File, found: int, expected: int) -> None:
    if found != expected:
        raise layout_error(
            file.filename,
            "dataset '/nops/theta_unit'",
            found=f"{found} columns",
            expected=f"{expected}, one per scalar that is constant in time",
        )
