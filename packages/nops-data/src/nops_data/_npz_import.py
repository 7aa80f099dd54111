"""From a tree of npz files to files in the_well's layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nops_data._errors import layout_error
from nops_data._hdf5 import SPLITS, get_dataset, list_hdf5, open_hdf5
from nops_data._layout import GROUPS, FileLayout, read_layout
from nops_data._npz_tree import MASK, NpzSplit, NpzTree
from nops_data._writer import WellWriter, shard_path


def import_npz(
    source: Path | str,
    folder: Path | str,
    *,
    dataset_name: str,
    splits: Mapping[str, NpzSplit],
    fields: Sequence[str] = ("velocity", "pressure"),
    parameters: Sequence[str] = (),
    frame_interval: float = 1.0,
    spatial_dims: Sequence[str] = ("x", "y"),
    boundary: str | Sequence[str | tuple[str, str]] = "open",
    lengths: Sequence[float] | None = None,
    chunk_frames: int = 16,
) -> list[Path]:
    """Convert `sim_%06d/<field>_%06d.npz`, one trajectory per simulation and file.

    Every file is looked at, without its values, before the first one is written. Called again
    after an interruption, it goes on behind the last complete file.

    Args:
        source: Folder of the simulations. A frame's file holds `arr_0`, [C, *grid], the streamwise
            axis first: C is the number of axes for `velocity`, 1 for all others.
        folder: The data set's folder; made when missing.
        dataset_name: Name stored in every file, and start of the file names.
        splits: "train", "valid", "test" to simulations and frames. No simulation is in two.
        fields: Start of the files' names: `velocity`, `velocityZ`, `density`, `pressure`.
        parameters: Keys of `src/description.json`, as `Reynolds Number`. Each becomes a scalar
            and a channel that is constant in space and time, `reynolds_number`. A list, one value
            per frame, must not change over the frames of its split.
        frame_interval: Time between two frames of consecutive numbers.
        spatial_dims: Names of the axes, in the arrays' order.
        boundary: As `WellWriter` takes it.
        lengths: Extent of the domain along each axis; 1 by default.
        chunk_frames: Frames per HDF5 chunk: best the length of the windows that will be read.

    Returns:
        The paths of all files, in the order of splits and simulations. A tree with
        `obstacle_mask.npz` gives a constant channel `obstacle_mask`, 1 in the fluid.

    Raises:
        ValueError: If a simulation is used twice, or an argument is out of range.
        LayoutError: If a file is missing, damaged, of another shape or not finite, or a parameter
            is missing, naming the file; if the folder holds files of another data set.
    """
    _check_splits(splits)
    tree = NpzTree(
        folder=Path(source),
        fields=tuple(fields),
        parameters=tuple(parameters),
        num_dims=len(spatial_dims),
    )
    grid, masked = tree.survey(list(splits.values()))
    writer = WellWriter(
        folder,
        dataset_name=dataset_name,
        spatial_dims=spatial_dims,
        boundary=boundary,
        lengths=lengths,
        chunk_frames=chunk_frames,
    )
    conversion = _Conversion(
        tree=tree, writer=writer, grid=grid, masked=masked, frame_interval=frame_interval
    )
    paths = {name: _paths(writer, name, len(split.simulations)) for name, split in splits.items()}
    for name, split in splits.items():
        for path, simulation in zip(paths[name], split.simulations, strict=True):
            conversion.convert(path, simulation, split.frames)
    return [path for name in splits for path in paths[name]]


@dataclass(frozen=True, kw_only=True)
class _Conversion:
    """What is the same for all simulations of one import."""

    tree: NpzTree
    writer: WellWriter
    grid: tuple[int, ...]
    masked: bool
    frame_interval: float

    def convert(self, path: Path, simulation: int, frames: range) -> None:
        """Write one file, or check that it is there already."""
        parameters = self.tree.read_parameters(simulation, frames)
        constants = self._constants(simulation, parameters)
        times = self.frame_interval * np.asarray(frames, dtype=np.float64)
        if path.exists():
            if not self._is_same(path, simulation, frames, constants, times):
                found = f"another data set than simulation {simulation} of {self.tree.folder}"
                expected = "another folder, or no file of this name"
                raise layout_error(path, "content", found=found, expected=expected)
            return
        written = self.writer.write(
            path.parent.name,
            {field: self.tree.read(field, simulation, frames) for field in self.tree.fields},
            times,
            parameters={name: [value] for name, value in parameters.items()},
            constants=constants,
        )
        assert written == path

    def _constants(self, simulation: int, parameters: dict[str, float]) -> dict[str, np.ndarray]:
        """Channels that are constant in time: the parameters, and the mask."""
        constants = {
            name: np.full((1, *self.grid), value, dtype=np.float32)
            for name, value in parameters.items()
        }
        return constants | ({MASK: self.tree.read_mask(simulation)} if self.masked else {})

    def _is_same(
        self,
        path: Path,
        simulation: int,
        frames: range,
        constants: dict[str, np.ndarray],
        times: np.ndarray,
    ) -> bool:
        """Whether a file was made of this simulation: its form, first and last frame tell."""
        layout = read_layout(path)
        names = {field.name for field in layout.fields}
        if names != {*self.tree.fields, *constants} or not self._has_form(layout, times):
            return False
        with open_hdf5(path) as file:
            for field in layout.fields:
                stored = get_dataset(file, f"{GROUPS[field.order]}/{field.name}")
                if field.time_varying:
                    found = np.stack([stored[:, 0], stored[:, -1]], axis=1)
                    wanted = self.tree.read(field.name, simulation, [frames[0], frames[-1]])
                else:
                    found, wanted = stored[()], constants[field.name]
                if not np.array_equal(found, wanted):
                    return False
        return True

    def _has_form(self, layout: FileLayout, times: np.ndarray) -> bool:
        """Whether a file has the times, axes and boundary of this import."""
        axes = self.writer.axes(self.grid)
        found = [layout.times, *layout.coordinates]
        wanted = [times.astype(np.float32), *(axis.coordinates for axis in axes)]
        return (
            layout.spatial_dims == self.writer.spatial_dims
            and layout.boundary == tuple(axis.sides for axis in axes)
            and all(map(np.array_equal, found, wanted))
        )


def _check_splits(splits: Mapping[str, NpzSplit]) -> None:
    if not splits or set(splits) - set(SPLITS):
        raise ValueError(f"splits: found {sorted(splits)}, expected some of {SPLITS}")
    used: dict[int, str] = {}
    for name, split in splits.items():
        twice = [number for number in split.simulations if number in used]
        if len(set(split.simulations)) != len(split.simulations):
            raise ValueError(f"split '{name}': simulations {list(split.simulations)} repeat")
        if twice:
            other = sorted({used[number] for number in twice})
            raise ValueError(f"split '{name}': simulations {twice} are also in {other}")
        used.update(dict.fromkeys(split.simulations, name))


def _paths(writer: WellWriter, split: str, count: int) -> list[Path]:
    """The files of one split; others in its folder are refused."""
    place = writer.folder / "data" / split
    paths = [shard_path(place, writer.dataset_name, number) for number in range(count)]
    strange = sorted(set(list_hdf5(place)) - set(paths))
    if strange:
        raise layout_error(
            strange[0],
            "file",
            found=f"a file that is none of the {count} of this split",
            expected="another folder, or one that holds nothing else",
        )
    return paths
