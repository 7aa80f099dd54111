"""Writing arrays as files in the_well's layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nops_data._boundary import as_sides
from nops_data._errors import layout_error
from nops_data._finite import first_nonfinite
from nops_data._hdf5 import PARTIAL, SPLITS, as_numpy, get_dataset, publish
from nops_data._layout import GROUPS
from nops_data._provenance import GROUP
from nops_data._skeleton import Axis, FileSpec, NewField, create_file, make_axes


class WellWriter:
    """Writes trajectories to `<folder>/data/<split>/<dataset_name>_<split>_<number>.hdf5`.

    Args:
        folder: The data set's folder; made when missing.
        dataset_name: Name stored in every file, and start of the file names.
        spatial_dims: Names of the spatial axes, in the arrays' order.
        boundary: "periodic", "wall" or "open": one for all axes, one per axis, or a pair
            (low end, high end) per axis.
        lengths: Extent of the domain along each axis, in any unit of length; 1 by default.
        grid_type: "cartesian" or "spherical", stored as it is.
        chunk_frames: Frames per HDF5 chunk, `(1, chunk_frames, *grid)`: best the length of the
            windows that will be read. Longer ones take several chunks, much shorter ones are
            read no faster.
        compression: An h5py filter such as "gzip"; none by default, which is the fast way.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        dataset_name: str,
        spatial_dims: Sequence[str] = ("x", "y"),
        boundary: str | Sequence[str | tuple[str, str]] = "periodic",
        lengths: Sequence[float] | None = None,
        grid_type: str = "cartesian",
        chunk_frames: int = 16,
        compression: str | None = None,
    ) -> None:
        if chunk_frames < 1:
            raise ValueError(f"chunk_frames: found {chunk_frames}, expected at least 1")
        self.folder = Path(folder)
        self.dataset_name = dataset_name
        self.spatial_dims = tuple(spatial_dims)
        self._sides = as_sides(boundary, num_dims=len(self.spatial_dims))
        self._lengths = tuple(lengths or (1.0,) * len(self.spatial_dims))
        self._grid_type = grid_type
        self._chunk_frames = chunk_frames
        self._compression = compression

    def write(
        self,
        split: str,
        fields: Mapping[str, Any],
        times: Any,
        *,
        parameters: Mapping[str, Any] | None = None,
        theta_unit: Any | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write one file of trajectories; calls add files to the split.

        Args:
            split: "train", "valid" or "test".
            fields: Name to float32 array or tensor (sample, time, *grid): a scalar field; with
                one more axis of length D = number of spatial axes, a vector field; with two, a
                tensor field.
            times: Time of each frame (time), any unit, stored as float32.
            parameters: Name to one value per sample (sample), any unit, stored as float32.
            theta_unit: (sample, parameter): the same parameters mapped to [0, 1], in the order of
                `parameters`; readers prefer it.
            constants: Like `fields`, without the time axis.

        Returns:
            The path of the new file. It appears under its name only when complete.

        Raises:
            ValueError: If a shape, type or name does not fit; nothing is written then.
            LayoutError: If a value is not finite, naming sample, step and grid point.
        """
        arrays = {name: as_numpy(values) for name, values in fields.items()}
        still = {name: as_numpy(values) for name, values in (constants or {}).items()}
        spec = self._spec(arrays, np.asarray(as_numpy(times)), parameters or {}, still)
        if split not in SPLITS:
            raise ValueError(f"split: found {split!r}, expected one of {SPLITS}")
        theta = None if theta_unit is None else _theta(theta_unit, spec)
        path = self._next_path(split)
        for item in spec.fields:
            _check_finite(path, item, {**arrays, **still}[item.name])
        temporary = path.with_name(path.name + PARTIAL)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with create_file(temporary, spec) as file:
            for item in spec.fields:
                values = {**arrays, **still}[item.name]
                get_dataset(file, f"{GROUPS[item.order]}/{item.name}")[...] = values
            if theta is not None:
                file.create_group(GROUP).create_dataset("theta_unit", data=theta)
        publish(temporary, path)
        return path

    def axes(self, grid: Sequence[int]) -> tuple[Axis, ...]:
        """The spatial axes of a file with this many points along each."""
        return make_axes(self.spatial_dims, grid, sides=self._sides, lengths=self._lengths)

    def _spec(
        self,
        fields: dict[str, np.ndarray],
        times: np.ndarray,
        parameters: Mapping[str, Any],
        constants: dict[str, np.ndarray],
    ) -> FileSpec:
        if times.ndim != 1 or not len(times):
            raise ValueError(f"times: found shape {times.shape}, expected (time)")
        samples, grid = _sizes(fields, len(self.spatial_dims))
        axes = self.axes(grid)
        lead = (samples, *times.shape, *grid)
        moving = [
            NewField(name=name, order=_order(name, values, lead=lead, num_dims=len(grid)))
            for name, values in fields.items()
        ]
        lead = (samples, *grid)
        still = [
            NewField(
                name=name,
                order=_order(name, values, lead=lead, num_dims=len(grid)),
                time_varying=False,
            )
            for name, values in constants.items()
        ]
        return FileSpec(
            dataset_name=self.dataset_name,
            axes=axes,
            times=times,
            num_trajectories=samples,
            fields=(*moving, *still),
            parameters={k: _per_sample(k, v, samples) for k, v in parameters.items()},
            grid_type=self._grid_type,
            chunk_frames=self._chunk_frames,
            compression=self._compression,
        )

    def _next_path(self, split: str) -> Path:
        place = self.folder / "data" / split
        number = 0
        while (path := shard_path(place, self.dataset_name, number)).exists():
            number += 1
        return path


def _sizes(fields: dict[str, np.ndarray], num_dims: int) -> tuple[int, tuple[int, ...]]:
    """Number of samples and grid of the first field."""
    if not fields:
        raise ValueError("fields: found none, expected at least one")
    name, values = next(iter(fields.items()))
    if values.ndim < 2 + num_dims:
        raise ValueError(
            f"field '{name}': found shape {values.shape}, expected (sample, time) and "
            f"{num_dims} spatial axes"
        )
    return len(values), values.shape[2 : 2 + num_dims]


def shard_path(place: Path, dataset_name: str, number: int) -> Path:
    """Path of a numbered file of a split's folder; five digits keep the order of the numbers."""
    return place / f"{dataset_name}_{place.name}_{number:05d}.hdf5"


def _order(name: str, values: np.ndarray, *, lead: tuple[int, ...], num_dims: int) -> int:
    """Tensor order of an array whose leading axes must be `lead`."""
    order = values.ndim - len(lead)
    if order not in (0, 1, 2) or values.shape != lead + (num_dims,) * order:
        raise ValueError(
            f"field '{name}': found shape {values.shape}, expected {lead}, with up to two more "
            f"axes of length {num_dims} for a vector or tensor"
        )
    if values.dtype != np.float32:
        raise ValueError(f"field '{name}': found dtype {values.dtype}, expected float32")
    return order


def _per_sample(name: str, values: Any, samples: int) -> np.ndarray:
    array = np.asarray(as_numpy(values), dtype=np.float64)
    if array.shape != (samples,) or not np.isfinite(array).all():
        raise ValueError(
            f"parameter '{name}': found shape {array.shape}, "
            f"{int((~np.isfinite(array)).sum())} not finite, expected ({samples},), all finite"
        )
    return array


def _theta(theta: Any, spec: FileSpec) -> np.ndarray:
    array = np.asarray(as_numpy(theta), dtype=np.float64)
    expected = (spec.num_trajectories, len(spec.parameters))
    if array.shape != expected:
        raise ValueError(f"theta_unit: found shape {array.shape}, expected {expected}")
    if not ((array >= 0) & (array <= 1)).all():
        sample, column = np.argwhere(~((array >= 0) & (array <= 1)))[0].tolist()
        found = f"{array[sample, column]} for sample {sample}, parameter {column}"
        raise ValueError(f"theta_unit: found {found}, expected values in [0, 1]")
    return array


def _check_finite(path: Path, item: NewField, values: np.ndarray) -> None:
    bad = first_nonfinite(torch.from_numpy(np.ascontiguousarray(values)))
    if bad is not None:
        step = f"step {bad[1]}, " if item.time_varying else ""
        place = list(bad[2 if item.time_varying else 1 :])
        raise layout_error(
            path,
            f"field '{item.name}', sample {bad[0]}, {step}grid point {place}",
            found=values[bad],
            expected="a finite value (nothing was written)",
        )
