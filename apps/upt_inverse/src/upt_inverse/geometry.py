"""Points of the data's grid, and channels of its frames as the named fields of a model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nops_train import InputError
from torch import Tensor

EVEN = (
    1e-4  # relative spread of the spacing of an axis, above which a file's float32 grid is uneven
)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The grid that trajectories live on.

    Attributes:
        shape: Cells along each axis.
        positions: `[cell, axis]`, the first cell at 0, last axis fastest, the data's unit.
        origin: Coordinates of that first cell.
        lengths: Extent along each axis: cells times spacing.
        periodic: Which axes close on themselves.
    """

    shape: tuple[int, ...]
    positions: Tensor
    origin: tuple[float, ...]
    lengths: tuple[float, ...]
    periodic: tuple[bool, ...]

    @classmethod
    def of(cls, reader: Any) -> "Geometry":
        """The grid of a reader, a `WellReader` or a `PDEBench`.

        Raises:
            InputError: If the cells of an axis are not evenly spaced.
        """
        axes = [axis.double() for axis in reader.coordinates]
        spacing = [_spacing(axis, number) for number, axis in enumerate(axes)]
        shifted = [axis - axis[0] for axis in axes]
        grid = torch.stack(torch.meshgrid(*shifted, indexing="ij"), dim=-1)
        return cls(
            shape=reader.shape,
            positions=grid.flatten(0, -2).float(),
            origin=tuple(float(axis[0]) for axis in axes),
            lengths=tuple(
                len(axis) * step if step else 1.0 for axis, step in zip(axes, spacing, strict=True)
            ),
            periodic=tuple(sides == ("periodic", "periodic") for sides in reader.boundary),
        )

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbours along each axis."""
        return tuple(length / side for length, side in zip(self.lengths, self.shape, strict=True))

    @property
    def num_points(self) -> int:
        """Cells in all."""
        return math.prod(self.shape)


def _spacing(axis: Tensor, number: int) -> float:
    """Distance between neighbours; 0 for one cell."""
    if len(axis) == 1:
        return 0.0
    steps = axis.diff()
    mean = float(steps.mean())
    if mean <= 0 or float((steps - mean).abs().max()) > EVEN * mean:
        raise InputError(
            f"grid axis {number}: spacing from {float(steps.min()):g} to {float(steps.max()):g}; "
            "expected an evenly spaced grid"
        )
    return mean


@dataclass(frozen=True, kw_only=True)
class FieldMap:
    """Which channels of a frame make which field.

    Attributes:
        fields: Number of channels by name, in the order of the channels.
    """

    fields: Mapping[str, int]

    @classmethod
    def of(cls, reader: Any) -> "FieldMap":
        """The fields of a reader: those of its files, or each channel by itself."""
        found = getattr(reader, "fields", None)
        if found is None:
            return cls(fields=dict.fromkeys(reader.channels, 1))
        return cls(fields={field.name: len(field.channels) for field in found})

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Values `[..., point, channel]` by field."""
        return dict(zip(self.fields, values.split(list(self.fields.values()), -1), strict=True))

    def join(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Fields side by side `[..., point, channel]`."""
        return torch.cat([fields[name] for name in self.fields], dim=-1)


def flattened(frames: Tensor) -> Tensor:
    """Frames `[sample, time, channel, *grid]` as `[sample, time, point, channel]`."""
    return frames.flatten(3).transpose(2, 3)


def gridded(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values `[sample, time, point, channel]` as frames `[sample, time, channel, *grid]`."""
    return values.transpose(-2, -1).unflatten(-1, shape)
