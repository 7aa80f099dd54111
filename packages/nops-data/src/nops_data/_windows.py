"""Stretches of trajectories as a map-style data set that reads the frames it returns, no more."""

import bisect
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch

from nops_data._keyed import START, check_seed, keyed
from nops_data._sampler import Draw
from nops_data._trajectories import Trajectories, empty_frames


class Windows:
    """Windows of `length` consecutive frames.

    An item is a dictionary of tensors: `frames` [length, C, *grid] float32, `start` (int64, step
    of the first frame), `sample` (int64, the trajectory), `parameters` [P] and, if asked for,
    `initial` [with_initial, C, *grid]: the trajectory's first frames.

    Args:
        reader: The trajectories: a `WellReader`, a `PDEBench`, or anything with what
            `Trajectories` lists.
        length: Frames per window, u0 included: a rollout over w steps needs w + 1.
        start: "random": one window per trajectory and epoch, at a uniform step that depends only
            on (seed, epoch, trajectory), so neither workers nor order nor ranks matter; "first":
            one window per trajectory, at step 0; "all": one item per possible start.
        seed: Of the random starts, in [0, 2**63); the others use none.
        with_initial: Number of first frames to give beside the window.

    Raises:
        ValueError: If a window or `with_initial` is longer than the shortest trajectory.
    """

    def __init__(
        self,
        reader: Trajectories,
        *,
        length: int,
        start: Literal["random", "first", "all"] = "random",
        seed: int = 0,
        with_initial: int = 0,
    ) -> None:
        if start not in ("random", "first", "all"):
            raise ValueError(f"start: found {start!r}, expected 'random', 'first' or 'all'")
        for name, value, least in (("length", length, 1), ("with_initial", with_initial, 0)):
            if not least <= value <= reader.num_frames:
                raise ValueError(
                    f"{name}: found {value}, expected {least} to {reader.num_frames}, the frames "
                    f"of the shortest trajectory of {reader!r}"
                )
        self.reader = reader
        self.length = length
        self.start = start
        self.seed = check_seed(seed)
        self.with_initial = with_initial
        starts = (reader.frames_of(i) - length + 1 for i in range(len(reader)))
        self._ends = list(itertools.accumulate(starts)) if start == "all" else []

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else len(self.reader)

    def __getitem__(self, index: Draw | int) -> dict[str, torch.Tensor]:
        """One window; a plain index means epoch 0."""
        return {key: values[0] for key, values in self.batch([index]).items()}

    def __getitems__(self, indices: Sequence[Draw | int]) -> list[dict[str, torch.Tensor]]:
        """Several windows, as views of one buffer each: what torch's own `DataLoader` asks for."""
        batch = self.batch(indices)
        return [{key: batch[key][k] for key in batch} for k in range(len(indices))]

    def batch(self, indices: Sequence[Draw | int]) -> dict[str, torch.Tensor]:
        """Several windows in one buffer: every tensor of an item with a leading batch axis.

        Raises:
            IndexError: If an index is out of range.
            LayoutError: If frames cannot be read or are not finite, naming file and place.
        """
        places = [self._place(index) for index in indices]
        samples = [sample for sample, _ in places]
        batch = {
            "frames": self._read(places, self.length),
            "start": torch.tensor([start for _, start in places], device="cpu"),
            "sample": torch.tensor(samples, device="cpu"),
            "parameters": self.reader.parameters[samples],
        }
        if self.with_initial:
            batch["initial"] = self._read([(sample, 0) for sample in samples], self.with_initial)
        return batch

    def close(self) -> None:
        """Close the files this process opened; the next read opens them again."""
        self.reader.close()

    def _place(self, index: Draw | int) -> tuple[int, int]:
        """The trajectory and first step of an item."""
        epoch, item = (index.epoch, index.index) if isinstance(index, Draw) else (0, index)
        if not 0 <= item < len(self):
            raise IndexError(f"window {item} of {len(self)} ({self.reader!r})")
        if self.start == "first":
            return item, 0
        if self.start == "all":
            sample = bisect.bisect_right(self._ends, item)
            return sample, item - (self._ends[sample - 1] if sample else 0)
        choices = self.reader.frames_of(item) - self.length + 1
        return item, keyed(START, self.seed, epoch, item) % choices

    def _read(self, places: Sequence[tuple[int, int]], length: int) -> torch.Tensor:
        reader = self.reader
        out = empty_frames(len(places), length, len(reader.channels), *reader.shape)
        buffer: Any = out.numpy()
        for k, (sample, start) in enumerate(places):
            reader.read_into(buffer[k], sample, start=start)
        if not bool(torch.isfinite(out.sum())):
            for k, (sample, start) in enumerate(places):
                reader.check_finite(out[k], sample, start=start)
        return out


def window_items(
    reader: Trajectories, *, count: int, length: int, frames: int, stride: int = 1
) -> list[int]:
    """Items of `Windows(reader, length=length, start="all")` within a part of the data.

    Args:
        reader: The trajectories.
        count: The first so many of them.
        length: Frames per window.
        frames: The first so many frames of each.
        stride: Of the starts.

    Returns:
        Indices into that `Windows`.

    Raises:
        ValueError: If there are fewer trajectories, or a window is longer than the frames.
    """
    if not 0 < count <= len(reader) or not 0 < length <= frames:
        raise ValueError(
            f"count, length: found {count} trajectories of {len(reader)} and windows of {length} "
            f"in {frames} frames, expected no more than there are"
        )
    items, first = [], 0
    for sample in range(count):
        held = reader.frames_of(sample)
        items += [first + start for start in range(0, min(frames, held) - length + 1, stride)]
        first += held - length + 1
    return items
