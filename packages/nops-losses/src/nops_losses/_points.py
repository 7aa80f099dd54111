"""Fields at points, axes (sample, point, channel): their masks, and the grids that they flatten."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nops_losses._checks import to_working_dtype


def read_points(field: Tensor, mask: Tensor | None, *, name: str) -> tuple[Tensor, Tensor | None]:
    """`field` in the working type, 0 where masked, and its mask [sample, point], None without one.

    Raises:
        ValueError: If the field has not three axes, or the mask is neither one flag per sample nor
            one per sample and point.
        TypeError: If the field is not real floating point, or the mask holds no flags.
    """
    if field.ndim != 3 or 0 in field.shape:
        raise ValueError(
            f"{name} has axes (sample, point, channel), none empty; got {tuple(field.shape)}."
        )
    values = to_working_dtype(field, name=name)
    keep = mask_of_points(mask, samples=values.shape[0], points=values.shape[1])
    return values if keep is None else values.where(keep[..., None], 0.0), keep


def mask_of_points(mask: Tensor | None, *, samples: int, points: int) -> Tensor | None:
    """A mask (sample,) or (sample, point) as one flag for each point, [B, N].

    Raises:
        ValueError: If it has another shape.
        TypeError: If it does not hold flags.
    """
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must hold flags (torch.bool), got {mask.dtype}.")
    if mask.shape not in ((samples,), (samples, points)):
        raise ValueError(
            f"mask has one flag per sample, ({samples},), or one per sample and point, ({samples}, "
            f"{points}); got {tuple(mask.shape)}."
        )
    return (mask if mask.ndim == 2 else mask[:, None]).expand(samples, points)


def checked_grid(grid_shape: Sequence[int], *, num_points: int) -> tuple[int, ...]:
    """The grid's sizes, which the points flatten in row-major order.

    Raises:
        ValueError: If the grid has another number of cells.
    """
    sizes = tuple(int(size) for size in grid_shape)
    if not sizes or min(sizes) < 1 or math.prod(sizes) != num_points:
        raise ValueError(
            f"grid_shape={sizes} has {math.prod(sizes)} cells, but there are {num_points} points: "
            "the fields must be a whole grid, flattened with its last axis fastest."
        )
    return sizes


def each_axis(value: float | bool | Sequence, count: int, *, name: str) -> tuple:
    """One value for each axis, the same where one is given for all."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * count
    if len(values) != count:
        raise ValueError(f"{name} is one value, or one for each of {count} axes; got {value}.")
    return values


def wrapped(field: Tensor, periodic: tuple[bool, ...]) -> Tensor:
    """The field with a cell of its other end put before and behind each periodic grid axis."""
    for axis, wraps in enumerate(periodic, start=-len(periodic)):
        if wraps:
            first, last = field.narrow(axis, 0, 1), field.narrow(axis, -1, 1)
            field = torch.cat([last, field, first], dim=axis)
    return field
