"""Normalisation per channel, fitted on the training split, and its export as `stats.yaml`."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from nops_data._errors import LayoutError
from nops_data._finite import first_nonfinite
from nops_data._moments import Moments
from nops_data._trajectories import Trajectories

_BLOCK = 2**24  # values in float64 at once
_RESOLUTION = 1e-7  # spread against magnitude below which float32 holds nothing but rounding


class Normaliser:
    """Maps each channel to mean 0 and standard deviation 1 of the training split, and back.

    A channel that never changes (spread below 1e-7 of its magnitude) is centred and not scaled;
    `constant` says which. Statistics are float64 tensors [C] in the data's units.

    Attributes:
        channels: Names; empty when fitted on plain tensors.
        mean: Mean.
        std: Population standard deviation.
        increment_mean: Mean of the change from one frame to the next.
        increment_std: Population standard deviation of that change; 0 for trajectories of one
            frame.
    """

    def __init__(
        self,
        *,
        mean: torch.Tensor,
        std: torch.Tensor,
        increment_mean: torch.Tensor,
        increment_std: torch.Tensor,
        channels: tuple[str, ...] = (),
    ) -> None:
        self.channels = channels
        self.mean = mean
        self.std = std
        self.increment_mean = increment_mean
        self.increment_std = increment_std
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, ...]] = {}

    @classmethod
    def fit(cls, trajectories: Trajectories | Iterable[Any]) -> "Normaliser":
        """Statistics of all frames, in one pass, float64.

        Args:
            trajectories: The reader of a train split, or any iterable of trajectories: tensors
                [T, C, *grid], or dictionaries that hold one under `fields`.

        Raises:
            ValueError: If the reader is not of the train split, or there is no trajectory, or
                channels differ.
            LayoutError: If a value is not finite, naming sample, step and channel.
        """
        reader = trajectories if isinstance(trajectories, Trajectories) else None
        if reader is not None and reader.split != "train":
            raise ValueError(
                f"split: found {reader.split!r}, expected 'train': statistics of data that is "
                "evaluated on would leak"
            )
        values: Moments | None = None
        changes: Moments | None = None
        for frames, first in _blocks(trajectories):
            values = _merge(values, frames if first else frames[1:])
            if len(frames) > 1:
                changes = _merge(changes, frames[1:].double() - frames[:-1].double())
        if values is None:
            raise ValueError("trajectories: found none, expected at least one")
        zero = torch.zeros_like(values.mean)
        return cls(
            mean=values.mean,
            std=values.std,
            increment_mean=zero if changes is None else changes.mean,
            increment_std=zero if changes is None else changes.std,
            channels=reader.channels if reader else (),
        )

    @property
    def scale(self) -> torch.Tensor:
        """What a channel is divided by: its standard deviation, 1 where it is constant."""
        return torch.where(self.constant, 1.0, self.std)

    @property
    def constant(self) -> torch.Tensor:
        """Which channels never change, [C] bool."""
        return self.std <= _RESOLUTION * self.rms

    @property
    def increment_scale(self) -> tuple[float, ...]:
        """Deviation of one-step increments per channel, in units of training; 1 where nothing changes.

        What a model that predicts the change of a step multiplies its output by.
        """
        scale = (self.increment_std / self.scale).tolist()
        return tuple(value if value > 0 else 1.0 for value in scale)

    @property
    def rms(self) -> torch.Tensor:
        """Root mean square."""
        return (self.mean.square() + self.std.square()).sqrt()

    def normalise(self, values: torch.Tensor, *, channel_dim: int = -3) -> torch.Tensor:
        """(values - mean) / scale per channel, in the type of `values` (at least float32 inside).

        Args:
            values: In the data's units, any shape with the channels at `channel_dim`.
            channel_dim: -3 for 2-D grids; -2 for 1-D, -4 for 3-D.

        Returns:
            Dimensionless, same shape.

        Raises:
            ValueError: If the number of channels differs.
        """
        mean, scale = self._fitted_to(values, channel_dim)
        return ((values - mean) / scale).to(values.dtype)

    def denormalise(self, values: torch.Tensor, *, channel_dim: int = -3) -> torch.Tensor:
        """Values * scale + mean per channel: the inverse of `normalise`."""
        mean, scale = self._fitted_to(values, channel_dim)
        return (values * scale + mean).to(values.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors and names."""
        return {
            "channels": list(self.channels),
            "mean": self.mean.clone(),
            "std": self.std.clone(),
            "increment_mean": self.increment_mean.clone(),
            "increment_std": self.increment_std.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: If keys are missing or unknown, or the channels are others.
        """
        if set(state) != set(self.state_dict()):
            raise ValueError(
                f"normaliser: found keys {sorted(state)}, expected {sorted(self.state_dict())}"
            )
        channels = tuple(state["channels"])
        if channels != self.channels or state["mean"].shape != self.mean.shape:
            raise ValueError(
                f"normaliser: found channels {channels} ({len(state['mean'])}), expected "
                f"{self.channels} ({len(self.mean)})"
            )
        for name in ("mean", "std", "increment_mean", "increment_std"):
            setattr(self, name, state[name].clone())
        self._placed = {}

    def _fitted_to(self, values: torch.Tensor, channel_dim: int) -> tuple[torch.Tensor, ...]:
        """Mean and scale, shaped to broadcast against `values`, on its device."""
        if not -values.ndim <= channel_dim < values.ndim:
            raise ValueError(
                f"channel_dim: found {channel_dim}, expected an axis of {values.shape}"
            )
        found = values.shape[channel_dim]
        if found != len(self.mean):
            raise ValueError(
                f"values: found {found} channels at axis {channel_dim} of {tuple(values.shape)}, "
                f"expected {len(self.mean)}"
            )
        shape = [1] * values.ndim
        shape[channel_dim] = found
        key = (values.device, torch.promote_types(values.dtype, torch.float32))
        if key not in self._placed:
            self._placed[key] = tuple(
                part.to(device=key[0], dtype=key[1]) for part in (self.mean, self.scale)
            )
        return tuple(part.reshape(shape) for part in self._placed[key])


def _merge(moments: Moments | None, values: torch.Tensor) -> Moments:
    block = Moments.of(values)
    if moments is None:
        return block
    if moments.mean.shape != block.mean.shape:
        raise ValueError(
            f"trajectories: found {len(block.mean)} channels, expected {len(moments.mean)} as "
            "in those before"
        )
    return moments.merged(block)


def _blocks(trajectories: Trajectories | Iterable[Any]) -> Iterator[tuple[torch.Tensor, bool]]:
    """Blocks of frames, each starting with the last frame of the one before; True for a first."""
    if isinstance(trajectories, Trajectories):
        yield from _reader_blocks(trajectories)
        return
    for number, item in enumerate(trajectories):
        frames = item["fields"] if isinstance(item, Mapping) else item
        if frames.ndim < 2 or not len(frames):
            raise ValueError(
                f"trajectory {number}: found shape {tuple(frames.shape)}, expected "
                "(time, channel, ...)"
            )
        _check_finite(frames, number)
        step = _block_length(frames[0].numel())
        for start in range(0, len(frames), step):
            yield frames[max(start - 1, 0) : start + step], start == 0


def _reader_blocks(reader: Trajectories) -> Iterator[tuple[torch.Tensor, bool]]:
    step = _block_length(len(reader.channels) * math.prod(reader.shape))
    for index in range(len(reader)):
        count = reader.frames_of(index)
        for start in range(0, count, step):
            stop = min(start + step, count)
            yield reader.read(index, start=max(start - 1, 0), stop=stop), start == 0


def _block_length(frame_values: int) -> int:
    return max(1, _BLOCK // frame_values)


def _check_finite(frames: torch.Tensor, number: int) -> None:
    bad = first_nonfinite(frames)
    if bad is not None:
        raise LayoutError(
            f"trajectory {number}, step {bad[0]}, channel {bad[1]}: found {frames[bad].item()}, "
            "expected a finite value."
        )
