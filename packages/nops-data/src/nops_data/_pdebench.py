"""Reading trajectories from PDEBench's files."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nops_data._boundary import Sides
from nops_data._errors import LayoutError, layout_error
from nops_data._fingerprint import file_digest
from nops_data._finite import first_nonfinite
from nops_data._open_files import OpenFiles
from nops_data._pdebench_facts import check_given
from nops_data._pdebench_files import PDE_SPLITS, SAME, check_agreement, files_at, samples_of
from nops_data._pdebench_frames import OpenPDEFile, dataset_of
from nops_data._pdebench_layout import read_pde_file
from nops_data._pdebench_tasks import task_of
from nops_data._trajectories import locate, read_checked


class PDEBench:
    """The trajectories of one split of one or more PDEBench files, all of one equation.

    Item `i` is a dictionary: `fields` [T, C, *grid] float32, `positions` [*grid, D] float32 (grid
    axis k is column k), `times` [T] float32, `parameters` [P] float32, `boundary` (per axis the
    kind at its low and high end: "wall", "open" or "periodic") and `index` (i). Grid axes keep the
    file's order, see `spatial_dims`. Channels that are given rather than predicted come last:
    Darcy flow is one frame with the channels `u` and `nu`, of which `constant_channels` names
    `nu`, the input. Values are in the file's units and checked to be finite as they are read.

    The task fixes the layout; sizes are never used to guess one:

    | task | file | parameters | boundary |
    |---|---|---|---|
    | `advection` | `tensor` (S, T, x) | `beta` | periodic |
    | `burgers`, `diffusion_reaction_1d` | the same | `nu`; `nu, rho` | periodic |
    | `diffusion_sorption` | groups `/0000/data` (T, x, 1) | | wall, open |
    | `darcy` | `nu` (S, x, y), `tensor` (S, 1, x, y) | `beta` | wall |
    | `diffusion_reaction` | groups (T, y, x, 2) | | wall |
    | `shallow_water` | groups (T, x, y, 1) | | open |
    | `compressible_1d`, `_2d`, `_3d` | `density, pressure, Vx, …` (S, T, x, …) | `M` (not 1-D), `eta, zeta` | by file name, `_periodic_` or `_trans_` (open) |

    Parameters are physical values from root attributes, else from the file's name as PDEBench
    writes it (logged), else from `parameters`; all places that have one must agree. The
    `t-coordinate` may be one entry longer than there are frames.

    Args:
        path: A file, a folder of `*.hdf5` and `*.h5` files, or a sequence of files.
        task: The equation, see above.
        split: By trajectory, the same share of every file. "test" is the tenth that PDEBench's
            baselines hold out, "valid" the tenth beside it, "train" the rest. "pdebench" is that
            same held-out tenth and "pdebench_train" all the rest, as its baselines train on;
            `split` is then "test" or "train". The tenth comes first in files of arrays, last in
            files of groups, as in the baselines' two loaders.
        parameters: Values that neither attributes nor file names have, by name.
        time_stride: Keep every n-th frame.
        space_stride: Keep every n-th point of each axis. PDEBench's baselines for Burgers read
            with a `time_stride` of 5 and a `space_stride` of 4.
        frame_interval: Time between the frames kept that the caller counts on, in the file's unit;
            checked, not used.
        boundary: For files whose name does not say it, as in `WellWriter`.
        from_rest: Read a steady flow as a trajectory of two frames, at times 0 and 1: at rest, with
            the predicted channels at 0, and as in the file. So one step maps what is given to the
            answer.

    Raises:
        LayoutError: If a file is missing, damaged or in another layout, a parameter or the
            boundary is missing or ambiguous, files disagree on the grid or the times, or the frame
            interval is another.
        ValueError: If an argument is out of range.

    Source:
        Takamoto et al., PDEBench, arXiv 2210.07182; data at doi 10.18419/darus-2986.
    """

    def __init__(
        self,
        path: Path | str | Sequence[Path | str],
        *,
        task: str,
        split: str,
        parameters: Mapping[str, float] | None = None,
        time_stride: int = 1,
        space_stride: int = 1,
        frame_interval: float | None = None,
        boundary: str | tuple[str | Sides, ...] | None = None,
        from_rest: bool = False,
    ) -> None:
        if split not in PDE_SPLITS:
            raise ValueError(f"split: found {split!r}, expected one of {PDE_SPLITS}")
        self._task = task_of(task)
        if from_rest and not self._task.steady:
            raise ValueError(f"from_rest: found a task with time, {task!r}, expected a steady one")
        self._from_rest = from_rest
        given = dict(parameters or {})
        check_given(self._task, given)
        options = {"parameters": given, "boundary": boundary}
        self._files = [read_pde_file(file, self._task, **options) for file in files_at(path)]
        check_agreement(self._files)
        self._strides = self._checked_strides(time_stride, space_stride)
        self._samples = [samples_of(file, split) for file in self._files]
        self.split = {"pdebench": "test", "pdebench_train": "train"}.get(split, split)
        self._ends = list(itertools.accumulate(len(samples) for samples in self._samples))
        self.parameters = self._rows()
        self._open: OpenFiles[OpenPDEFile] = OpenFiles()
        if frame_interval is not None:
            self._check_interval(frame_interval)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "fields": self.read(index),
            "positions": self.positions,
            "times": self.times,
            "parameters": self.parameters[index],
            "boundary": self.boundary,
            "index": index % len(self),
        }

    def __repr__(self) -> str:
        first, more = self._files[0].path, len(self._files) - 1
        place = repr(first) + (f" and {more} more" if more else "")
        return (
            f"PDEBench({place}, task={self.task!r}, split={self.split!r}): {len(self)} trajectories"
        )

    @property
    def task(self) -> str:
        """The equation."""
        return self._task.name

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, in the order of the trajectories."""
        return tuple(file.path for file in self._files)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self._task.channels

    @property
    def constant_channels(self) -> tuple[str, ...]:
        """Those channels that are given rather than predicted; they come last."""
        return self._task.constant_channels

    @property
    def steady(self) -> bool:
        """Whether a trajectory is one frame without time."""
        return self._task.steady

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return self._task.parameters

    @property
    def varying_parameters(self) -> tuple[str, ...]:
        """Those parameters that differ between files."""
        rows = [file.parameters for file in self._files]
        names = enumerate(self.parameter_names)
        return tuple(name for k, name in names if len({row[k] for row in rows}) > 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid points along each spatial axis, after the stride."""
        return tuple(len(axis) for axis in self.coordinates)

    @property
    def spatial_dims(self) -> tuple[str, ...]:
        """Names of the spatial axes, in order."""
        return self._task.dims

    @property
    def coordinates(self) -> tuple[torch.Tensor, ...]:
        """Grid coordinates along each spatial axis, float64, in the file's unit of length."""
        stride = self._strides[1]
        return tuple(torch.from_numpy(x[::stride].copy()) for x in self._files[0].coordinates)

    @property
    def positions(self) -> torch.Tensor:
        """Coordinates of every grid point [*grid, D] float32."""
        return torch.stack(torch.meshgrid(*self.coordinates, indexing="ij"), dim=-1).float()

    @property
    def boundary(self) -> tuple[Sides, ...]:
        """Kind ("wall", "open", "periodic") at the low and high end of each spatial axis."""
        return self._files[0].boundary

    @property
    def times(self) -> torch.Tensor:
        """Time of each frame kept [T] float32, in the file's unit."""
        if self._from_rest:
            return torch.tensor([0.0, 1.0])
        return torch.from_numpy(self._files[0].times[:: self._strides[0]]).float()

    @property
    def frame_interval(self) -> float | None:
        """Time between the frames kept; None where there is one frame."""
        if self._from_rest:
            return 1.0
        times = self._files[0].times[:: self._strides[0]]
        return float((times[-1] - times[0]) / (len(times) - 1)) if len(times) > 1 else None

    @property
    def num_frames(self) -> int:
        """Frames of every trajectory, after the stride."""
        kept = len(range(0, len(self._files[0].times), self._strides[0]))
        return kept + self._from_rest

    def frames_of(self, index: int) -> int:
        """Frames of one trajectory."""
        locate(self._ends, index, owner=self)
        return self.num_frames

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
        number, within = locate(self._ends, index, owner=self)
        file = self._open.get(number, lambda: OpenPDEFile(self._files[number], self._task))
        place: Any = {"sample": self._samples[number][within], "strides": self._strides}
        if not self._from_rest:
            file.read_into(out, start=start, **place)
            return
        file.read_into(out[-1:], start=0, **place)
        out[:-1] = out[-1:]
        if start == 0:
            out[0, : -len(self.constant_channels)] = 0.0

    def check_finite(self, frames: torch.Tensor, index: int, *, start: int) -> None:
        """Refuse frames of one trajectory that hold NaN or infinity, naming the place.

        Raises:
            LayoutError: With file, dataset, sample in the file, step, channel and position.
        """
        bad = first_nonfinite(frames)
        if bad is not None:
            number, within = locate(self._ends, index, owner=self)
            step, channel, *place = bad
            file, sample = self._files[number], self._samples[number][within]
            raise layout_error(
                file.path,
                f"dataset '{dataset_of(file, self._task, sample, channel)}', sample {sample}, step "
                f"{(start + step) * self._strides[0]}, channel '{self.channels[channel]}', grid "
                f"point {[i * self._strides[1] for i in place]}",
                found=frames[bad].item(),
                expected="a finite value",
            )

    def close(self) -> None:
        """Close the files this process opened; the next read opens them again."""
        self._open.close()

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each file by its name, as in `file_fingerprints`."""
        return {Path(path).name: file_digest(Path(path)) for path in self.paths}

    def check_condition(self, names: Sequence[str]) -> None:
        """Refuse files of different parameters that the model is not told of.

        Args:
            names: Parameters that the model is conditioned on.

        Raises:
            LayoutError: Naming the parameter, two files and their values.
        """
        for name in self.varying_parameters:
            if name not in names:
                k = self.parameter_names.index(name)
                first = self._files[0]
                other = next(f for f in self._files if f.parameters[k] != first.parameters[k])
                raise LayoutError(
                    f"{other.path}: parameter '{name}': found {other.parameters[k]:g}, expected "
                    f"{first.parameters[k]:g} as in {first.path}, or a model conditioned on "
                    f"'{name}' (it is conditioned on {list(names)})."
                )

    def _checked_strides(self, time_stride: int, space_stride: int) -> tuple[int, int]:
        frames, points = len(self._files[0].times), min(self._files[0].shape)
        most = 1 if self.steady else max(1, frames - 1)
        sizes = (("time_stride", time_stride, most), ("space_stride", space_stride, points))
        for name, value, largest in sizes:
            if not 1 <= value <= largest:
                raise ValueError(
                    f"{name}: found {value}, expected 1 to {largest}, as {self._files[0].path} has "
                    f"{frames} frames of {self._files[0].shape} points"
                )
        return time_stride, space_stride

    def _rows(self) -> torch.Tensor:
        rows = [
            file.parameters
            for file, samples in zip(self._files, self._samples, strict=True)
            for _ in samples
        ]
        return torch.tensor(rows, dtype=torch.float32, device="cpu").reshape(len(self), -1)

    def _check_interval(self, expected: float) -> None:
        found = self.frame_interval
        if found is None or not math.isclose(found, expected, rel_tol=SAME):
            times = self._files[0].times
            step = "no time step" if len(times) < 2 else f"{times[1] - times[0]:g}"
            raise LayoutError(
                f"{self._files[0].path}: frame interval: found {step} x time_stride "
                f"{self._strides[0]} = {found}, expected {expected:g}."
            )
