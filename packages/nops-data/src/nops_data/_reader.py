"""Reading trajectories from a folder in the_well's layout."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from nops_data._boundary import Sides
from nops_data._errors import LayoutError, layout_error
from nops_data._finite import first_nonfinite
from nops_data._frames import OpenFile
from nops_data._hdf5 import SPLITS, get_dataset, list_hdf5, open_hdf5, split_files
from nops_data._layout import Field, FileLayout, read_layout
from nops_data._open_files import OpenFiles
from nops_data._trajectories import locate, read_checked


class WellReader:
    """The trajectories of one split, `<folder>/data/<split>/*.hdf5`, in the order of the paths.

    Item `i` is a dictionary: `fields` [T, C, *grid] float32, `parameters` [P] float32, `times`
    [T] float32, `index` (i) and, where a file has scalars that change in time, `scalars` [T, S].
    Channels are the time-varying fields, scalars before vectors (`v_x`, `v_y`) before tensors
    (`S_xx`, `S_xy`, …, row-major), then the fields constant in time, repeated for every frame.
    Spatial axes keep the file's order. Fields that do not vary with the sample or along an axis
    are repeated.

    Every file is looked at when the reader is made and opened for values when first needed, per
    process; the reader can be pickled at any time. Values are checked to be finite as they are
    read.

    Args:
        folder: The data set's folder.
        split: "train", "valid" or "test".
        fields: Names of the fields to read (all components), in any order; all when None.
        parameters: "unit": values in [0, 1], which are those stored in `/nops/theta_unit`, or,
            where the files have none, each scalar mapped linearly from its range over all splits
            of the folder (0 where it never changes). "physical": `/scalars` as they are.

    Raises:
        LayoutError: If a file is missing, damaged or in another layout, if trajectories or shards
            are missing, or if the files of the split disagree.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        split: str,
        fields: Sequence[str] | None = None,
        parameters: Literal["unit", "physical"] = "unit",
    ) -> None:
        if parameters not in ("unit", "physical"):
            raise ValueError(f"parameters: found {parameters!r}, expected 'unit' or 'physical'")
        self.folder = Path(folder)
        self.split = split
        self._layouts = [read_layout(path) for path in split_files(folder, split)]
        check_agreement(self._layouts)
        check_shards(self._layouts)
        self.fields = _choose(self._layouts[0], fields)
        self.parameters = torch.from_numpy(self._read_parameters(parameters))
        counts = [layout.num_trajectories for layout in self._layouts]
        self._ends = list(itertools.accumulate(counts))
        self._open: OpenFiles[OpenFile] = OpenFiles()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        position, sample = self._locate(index)
        layout = self._layouts[position]
        times = layout.times if layout.times.ndim == 1 else layout.times[sample]
        item = {
            "fields": self.read(index),
            "parameters": self.parameters[index],
            "times": torch.from_numpy(times.copy()),
            "index": index % len(self),
        }
        names = [scalar for scalar in layout.scalars if scalar.time_varying]
        if names:
            item["scalars"] = torch.from_numpy(_read_scalars(layout, sample))
        return item

    def __repr__(self) -> str:
        return f"WellReader({str(self.folder)!r}, split={self.split!r}): {len(self)} trajectories"

    @property
    def layouts(self) -> tuple[FileLayout, ...]:
        """What each file holds, in the order of the trajectories."""
        return tuple(self._layouts)

    @property
    def dataset_name(self) -> str:
        """Name of the data set, one for all files."""
        return self._layouts[0].dataset_name

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return tuple(name for field in self.fields for name in field.channels)

    @property
    def constant_channels(self) -> tuple[str, ...]:
        """Those channels that repeat one frame; they come last."""
        constant = [field for field in self.fields if not field.time_varying]
        return tuple(name for field in constant for name in field.channels)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the scalars that do not change in time, in order."""
        return self._layouts[0].parameter_names

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid points along each spatial axis."""
        return self._layouts[0].shape

    @property
    def spatial_dims(self) -> tuple[str, ...]:
        """Names of the spatial axes."""
        return self._layouts[0].spatial_dims

    @property
    def coordinates(self) -> tuple[torch.Tensor, ...]:
        """Grid coordinates along each spatial axis, in the file's unit of length."""
        return tuple(torch.from_numpy(axis.copy()) for axis in self._layouts[0].coordinates)

    @property
    def boundary(self) -> tuple[Sides, ...]:
        """Kind ("wall", "open", "periodic") at the low and high end of each spatial axis."""
        return self._layouts[0].boundary

    @property
    def frame_interval(self) -> float:
        """Time between the first two frames of the first trajectory; 1 where there is one frame."""
        times = self._layouts[0].times
        first = times if times.ndim == 1 else times[0]
        return float(first[1] - first[0]) if len(first) > 1 else 1.0

    @property
    def num_frames(self) -> int:
        """Frames of the shortest trajectory."""
        return min(layout.num_frames for layout in self._layouts)

    def frames_of(self, index: int) -> int:
        """Frames of one trajectory."""
        return self._layouts[self._locate(index)[0]].num_frames

    def read(self, index: int, *, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Frames `start` … `stop - 1` of one trajectory; nothing else is read.

        Returns:
            [stop - start, C, *grid] float32, in the file's units.

        Raises:
            ValueError: If the frames are not within the trajectory.
            LayoutError: If they cannot be read or are not finite.
        """
        return read_checked(self, index, start=start, stop=stop)

    def read_into(self, out: np.ndarray, index: int, *, start: int) -> None:
        """Fill a float32 buffer [n, C, *grid] with n frames from `start` on, unchecked."""
        position, sample = self._locate(index)
        self._file(position).read_into(out, sample=sample, start=start)

    def check_finite(self, frames: torch.Tensor, index: int, *, start: int) -> None:
        """Refuse frames of one trajectory that hold NaN or infinity, naming the place.

        Raises:
            LayoutError: With file, dataset, sample in the file, step, channel and position.
        """
        bad = first_nonfinite(frames)
        if bad is not None:
            position, sample = self._locate(index)
            step, channel, *place = bad
            places = [(f.dataset, name) for f in self.fields for name in f.channels]
            dataset, name = places[channel]
            raise layout_error(
                self._layouts[position].path,
                f"dataset '{dataset}', sample {sample}, step {start + step}, channel '{name}', "
                f"grid point {place}",
                found=frames[bad].item(),
                expected="a finite value",
            )

    def close(self) -> None:
        """Close the files this process opened; the next read opens them again."""
        self._open.close()

    def _locate(self, index: int) -> tuple[int, int]:
        return locate(self._ends, index, owner=self)

    def _file(self, position: int) -> OpenFile:
        return self._open.get(position, lambda: self._opened(self._layouts[position]))

    def _opened(self, layout: FileLayout) -> OpenFile:
        names = {field.dataset for field in self.fields}
        chosen = tuple(field for field in layout.fields if field.dataset in names)
        return OpenFile(layout, fields=chosen)

    def _read_parameters(self, kind: str) -> np.ndarray:
        physical = np.concatenate([layout.parameters for layout in self._layouts])
        if kind == "physical" or not physical.shape[1]:
            return physical.astype(np.float32)
        stored = [layout.provenance and layout.provenance.theta for layout in self._layouts]
        unit = [theta for theta in stored if theta is not None]
        if len(unit) == len(stored):
            return np.concatenate(unit).astype(np.float32)
        low, high = parameter_range(self.folder, names=self.parameter_names)
        width = np.where(high > low, high - low, 1.0)
        return ((physical - low) / width).astype(np.float32)


def parameter_range(folder: Path | str, *, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of each time-constant scalar over all splits of a folder.

    Raises:
        LayoutError: If a file has other scalars.
    """
    values = []
    for split in SPLITS:
        for path in list_hdf5(Path(folder) / "data" / split):
            layout = read_layout(path)
            if layout.parameter_names != names:
                raise layout_error(path, "scalars", found=layout.parameter_names, expected=names)
            values.append(layout.parameters)
    joined = np.concatenate(values)
    return joined.min(axis=0), joined.max(axis=0)


def check_agreement(layouts: Sequence[FileLayout]) -> None:
    """Refuse files of one folder that are not parts of one data set.

    Raises:
        LayoutError: Naming the first file that differs, in what, and the file it differs from.
    """
    first = layouts[0]
    for layout in layouts[1:]:
        for key in ("dataset_name", "spatial_dims", "shape", "fields", "scalars"):
            found, expected = getattr(layout, key), getattr(first, key)
            if found != expected:
                raise layout_error(
                    layout.path, key, found=found, expected=f"{expected} as in {first.path}"
                )


def check_shards(layouts: Sequence[FileLayout]) -> None:
    """Refuse a split of which shards are missing or double, where the files say their place.

    Raises:
        LayoutError: Naming the shards.
    """
    shards = [layout.provenance.shard for layout in layouts if layout.provenance]
    numbers = [shard["shard"] for shard in shards if shard]
    expected = sorted({shard["num_shards"] for shard in shards if shard})
    if numbers and (len(expected) != 1 or sorted(numbers) != list(range(expected[0]))):
        folder = Path(layouts[0].path).parent
        missing = sorted(set(range(max(expected))) - set(numbers))
        found = f"shards {sorted(numbers)}" + (f", without {missing}" if missing else "")
        raise LayoutError(f"{folder}: found {found}, expected each of {max(expected)} shards once.")


def _choose(layout: FileLayout, names: Sequence[str] | None) -> tuple[Field, ...]:
    if names is None:
        return layout.fields
    known = [field.name for field in layout.fields]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"fields: found {list(names)}, expected some of {known} ({layout.path})")
    return tuple(field for field in layout.fields if field.name in names)


def _read_scalars(layout: FileLayout, sample: int) -> np.ndarray:
    columns = []
    with open_hdf5(layout.path) as file:
        for scalar in layout.scalars:
            if scalar.time_varying:
                values = get_dataset(file, f"scalars/{scalar.name}")[()]
                columns.append(values[sample] if scalar.sample_varying else values)
    return np.stack(columns, axis=1).astype(np.float32)
