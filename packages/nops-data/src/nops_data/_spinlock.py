"""Reading trajectories from the one HDF5 file that spinlock's data generator writes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from nops_data._errors import layout_error
from nops_data._fingerprint import file_digest
from nops_data._finite import first_nonfinite
from nops_data._hdf5 import SPLITS, open_hdf5
from nops_data._normaliser import Normaliser
from nops_data._open_files import OpenFiles
from nops_data._spinlock_layout import (
    INPUTS,
    OUTPUTS,
    Axis1,
    FirstFrame,
    SpinlockFile,
    input_of,
    read_spinlock,
)
from nops_data._splits import Splits, facts_of
from nops_data._trajectories import locate, read_checked


class SpinlockReader:
    """The trajectories of one split of a file, [T, C, H, W] each, read frame by frame.

    The file holds `/parameters/params` [N, P], in [0, 1]; `/inputs/fields` [N, C, H, W],
    [N, M, H, W] or [N, M, C, H, W]; `/outputs/fields` [N, M, T, C, H, W]; maybe the texts
    `/metadata/ic_types` and `/metadata/evolution_policies` [N]. M counts realisations of one θ with
    other noise, or other initial states: each is a trajectory of its own, nothing is averaged.

    Splits are of different θ: "test" the last tenth of them in the order of the file (one at
    least), "valid" the tenth before, "train" the rest. Rows of one θ and all their realisations go
    together. The first realisation of all rows comes first, then the second of all, and so on.

    Args:
        path: The file.
        split: "train", "valid" or "test".
        axis1: What axis 1 of inputs with four axes counts; None where an attribute `dims` of the
            dataset names all axes, such as "N, M, H, W". Sizes are never used to guess it.
        first_frame: What the first frame of the outputs is: "start" of the trajectory, or the state
            a "step" after the input, which is then put in front. None asks that both are equal,
            and looks at the first and the last row.

    Raises:
        LayoutError: If the file is missing, damaged or in another layout, has no trajectories, or
            fewer than three different θ; naming file, dataset, what was found and expected.
    """

    frame_interval: float = 1.0
    """Time between frames: one step."""

    def __init__(
        self,
        path: Path | str,
        *,
        split: str,
        axis1: Axis1 | None = None,
        first_frame: FirstFrame | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split: found {split!r}, expected one of {SPLITS}")
        self.split = split
        self._facts = read_spinlock(path, axis1=axis1, first_frame=first_frame)
        self.rows = _rows_of(self._facts)[split]
        theta = np.tile(self._facts.parameters[self.rows], (self._facts.num_realisations, 1))
        self.parameters = torch.from_numpy(theta.astype(np.float32))
        self._open: OpenFiles[_OpenSpinlock] = OpenFiles()

    def __len__(self) -> int:
        return len(self.parameters)

    def __repr__(self) -> str:
        path, split = self._facts.path, self.split
        return f"SpinlockReader({path!r}, split={split!r}): {len(self)} trajectories"

    @property
    def dataset_name(self) -> str:
        """The file's name without its ending."""
        return Path(self._facts.path).stem

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels: the file has none, so they are numbered."""
        return tuple(f"u_{channel}" for channel in range(self._facts.num_channels))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters: the file has none, so they are numbered."""
        return tuple(f"theta_{column}" for column in range(self.parameters.shape[1]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid points along each spatial axis."""
        return self._facts.shape

    @property
    def num_frames(self) -> int:
        """Frames of every trajectory, its start included."""
        return self._facts.num_frames

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Texts of `/metadata`, one per trajectory, by name; only those that the file has."""
        return {
            name: tuple(values[row] for row in self.rows) * self._facts.num_realisations
            for name, values in self._facts.kinds.items()
        }

    def frames_of(self, index: int) -> int:
        """Frames of one trajectory."""
        self._place(index)
        return self.num_frames

    def read(self, index: int, *, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Frames `start` … `stop - 1` of one trajectory; nothing else is kept.

        Returns:
            [stop - start, C, H, W] float32, in the file's units.

        Raises:
            ValueError: If the frames are not within the trajectory.
            LayoutError: If they cannot be read or are not finite.
        """
        return read_checked(self, index, start=start, stop=stop)

    def read_into(self, out: np.ndarray, index: int, *, start: int) -> None:
        """Fill a float32 buffer [n, C, H, W] with n frames from `start` on, unchecked."""
        row, realisation = self._place(index)
        file = self._open.get(0, lambda: _OpenSpinlock(self._facts))
        file.read_into(out, row=row, realisation=realisation, start=start)

    def check_finite(self, frames: torch.Tensor, index: int, *, start: int) -> None:
        """Refuse frames of one trajectory that hold NaN or infinity, naming the place.

        Raises:
            LayoutError: With file, dataset, row, realisation, step, channel and position.
        """
        bad = first_nonfinite(frames)
        if bad is not None:
            row, realisation = self._place(index)
            step, channel, *place = bad
            is_input = self._facts.begins_with_input and start + step == 0
            raise layout_error(
                self._facts.path,
                f"dataset '/{INPUTS if is_input else OUTPUTS}', row {row}, realisation "
                f"{realisation}, step {start + step}, channel {channel}, grid point {place}",
                found=frames[bad].item(),
                expected="a finite value",
            )

    def close(self) -> None:
        """Close the file if this process opened it; the next read opens it again."""
        self._open.close()

    def _place(self, index: int) -> tuple[int, int]:
        """Row of the file and realisation of a trajectory."""
        ends = [len(self.rows) * (k + 1) for k in range(self._facts.num_realisations)]
        realisation, place = locate(ends, index, owner=self)
        return int(self.rows[place]), realisation


class _OpenSpinlock:
    """One file, opened for reading frames."""

    def __init__(self, facts: SpinlockFile) -> None:
        self._facts = facts
        self._file = open_hdf5(facts.path)

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        self._file.close()

    def read_into(self, out: np.ndarray, *, row: int, realisation: int, start: int) -> None:
        """Fill `out` [n, C, H, W] with n frames of one trajectory.

        Raises:
            LayoutError: If the bytes cannot be read.
        """
        inputs: Any = self._file[INPUTS]
        outputs: Any = self._file[OUTPUTS]
        shift = int(self._facts.begins_with_input)
        try:
            if shift and start == 0:
                place = {"row": row, "realisation": realisation}
                out[0] = input_of(inputs, self._facts.axis1, **place)
                out = out[1:]
            first = max(start - shift, 0)
            out[:] = outputs[row, realisation, first : first + len(out)]
        except OSError as error:
            where = f"row {row}, realisation {realisation}, from frame {start} on"
            found = f"unreadable bytes ({error})"
            raise layout_error(self._facts.path, where, found=found, expected="frames") from error


def open_spinlock(
    path: Path | str, *, axis1: Axis1 | None = None, first_frame: FirstFrame | None = None
) -> Splits[SpinlockReader]:
    """Open the three splits of a file, and fit the normaliser on the train split.

    Args:
        path: The file.
        axis1: As in `SpinlockReader`.
        first_frame: As in `SpinlockReader`.

    Returns:
        As `open_splits`; `folder` is the file.

    Raises:
        LayoutError: As `SpinlockReader`, or if a value of the train split is not finite.
    """
    readers = _readers(path, axis1, first_frame)
    return Splits(
        folder=Path(path),
        normaliser=Normaliser.fit(readers["train"]),
        fingerprints={Path(path).name: file_digest(Path(path))},
        **readers,
    )


def spinlock_facts(
    path: Path | str, *, axis1: Axis1 | None = None, first_frame: FirstFrame | None = None
) -> dict[str, Any]:
    """Size of a file's data, as `stored_facts`; no field is read but the first frames of two rows.

    Args:
        path: The file.
        axis1: As in `SpinlockReader`.
        first_frame: As in `SpinlockReader`.

    Returns:
        The facts by name.

    Raises:
        LayoutError: As `SpinlockReader`.
    """
    return facts_of(_readers(path, axis1, first_frame))


def _readers(
    path: Path | str, axis1: Axis1 | None, first_frame: FirstFrame | None
) -> dict[str, SpinlockReader]:
    options: Any = {"axis1": axis1, "first_frame": first_frame}
    return {split: SpinlockReader(path, split=split, **options) for split in SPLITS}


def _rows_of(facts: SpinlockFile) -> dict[str, np.ndarray]:
    """Rows of each split, those of one θ in one of them, in the order of the file."""
    _, first, group = np.unique(facts.parameters, axis=0, return_index=True, return_inverse=True)
    number = np.argsort(np.argsort(first))[group.reshape(-1)]  # of each row's θ, as they come
    count, tenth = len(first), max(1, len(first) // 10)
    if count < len(SPLITS):
        raise layout_error(
            facts.path,
            "dataset '/parameters/params'",
            found=f"{count} different rows",
            expected=f"at least {len(SPLITS)}, one for each of {', '.join(SPLITS)}",
        )
    ends = {"train": count - 2 * tenth, "valid": count - tenth, "test": count}
    starts = {"train": 0, "valid": ends["train"], "test": ends["valid"]}
    return {
        split: np.flatnonzero((number >= starts[split]) & (number < ends[split]))
        for split in SPLITS
    }
