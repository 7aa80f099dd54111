"""What windows, samplers and the normaliser need of a source of trajectories."""

import bisect
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch


@runtime_checkable
class Trajectories(Protocol):
    """Trajectories [T, C, *grid] of one split, read frame by frame; all on one grid.

    `WellReader`, `PDEBench` and `SpinlockReader` are three. Another source that has these can be given to `Windows`
    and `Normaliser.fit` all the same.

    Attributes:
        parameters: [N, P] float32, one row per trajectory.
        split: The part of the data: "train", "valid" or "test".
    """

    parameters: torch.Tensor
    split: str

    def __len__(self) -> int: ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid points along each spatial axis."""
        ...

    @property
    def num_frames(self) -> int:
        """Frames of the shortest trajectory."""
        ...

    def frames_of(self, index: int) -> int:
        """Frames of one trajectory."""
        ...

    def read(self, index: int, *, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Frames `start` … `stop - 1` of one trajectory [n, C, *grid] float32, all finite."""
        ...

    def read_into(self, out: np.ndarray, index: int, *, start: int) -> None:
        """Fill a float32 buffer [n, C, *grid] with n frames from `start` on, unchecked."""
        ...

    def check_finite(self, frames: torch.Tensor, index: int, *, start: int) -> None:
        """Refuse frames of one trajectory that hold NaN or infinity, naming the place."""
        ...

    def close(self) -> None:
        """Close the files this process opened; the next read opens them again."""
        ...


def empty_frames(*shape: int) -> torch.Tensor:
    """A buffer to read into, whatever torch's default type and device are."""
    return torch.empty(*shape, dtype=torch.float32, device="cpu")


def read_checked(reader: Trajectories, index: int, *, start: int, stop: int | None) -> torch.Tensor:
    """`Trajectories.read` by means of `read_into` and `check_finite`.

    Raises:
        ValueError: If the frames are not within the trajectory.
        LayoutError: If they cannot be read or are not finite.
    """
    frames = reader.frames_of(index)
    stop = frames if stop is None else stop
    if not 0 <= start < stop <= frames:
        raise ValueError(
            f"{reader!r}: frames {start}:{stop} of trajectory {index}, which has {frames}"
        )
    out = empty_frames(stop - start, len(reader.channels), *reader.shape)
    reader.read_into(out.numpy(), index, start=start)
    reader.check_finite(out, index, start=start)
    return out


def locate(ends: Sequence[int], index: int, *, owner: object) -> tuple[int, int]:
    """File number and number within the file, from the running count of trajectories.

    Raises:
        IndexError: If there is no such trajectory; negative ones count from the end.
    """
    if not -ends[-1] <= index < ends[-1]:
        raise IndexError(f"{owner!r}: no trajectory {index}")
    index %= ends[-1]
    file = bisect.bisect_right(ends, index)
    return file, index - (ends[file - 1] if file else 0)
