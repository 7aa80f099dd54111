"""How steep a field on a grid is at each of its cells."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._points import checked_grid, each_axis, read_points, wrapped


def gradient_magnitude(
    field: Float[Tensor, "sample point channel"],
    *,
    grid_shape: Sequence[int],
    spacing: float | Sequence[float] = 1.0,
    periodic: bool | Sequence[bool] = False,
) -> Float[Tensor, "sample point"]:
    """√Σ (∂ᵢu_c)² at each cell, over axes i and channels c: where the field has detail.

    Central differences, of second order in the spacing; at the ends of an axis that is not periodic
    the difference to the one neighbour. An axis of one cell has no slope. As `importance` of
    `sample_queries` it draws more points where fields are steep.

    Args:
        field: u, axes (sample, point, channel): the cells of a grid, its last axis fastest. Channels
            of different units want to be normalised first.
        grid_shape: Cells along each axis.
        spacing: Distance between neighbours, for all axes or for each.
        periodic: Whether the last cell of an axis is a neighbour of its first, for all axes or for
            each.

    Returns:
        In the unit of field / spacing, at least 0, float32 (float64 for float64 fields), without a
        gradient: it chooses points, and trains nothing.

    Raises:
        ValueError: If cells and points, or spacings and axes, do not fit.
        TypeError: If the field is not real floating point.
    """
    values, _ = read_points(field.detach(), None, name="field")
    sizes = checked_grid(grid_shape, num_points=field.shape[1])
    steps = each_axis(spacing, len(sizes), name="spacing")
    wraps = each_axis(periodic, len(sizes), name="periodic")
    grid = values.movedim(-1, 0).unflatten(-1, sizes)  # channel, sample, *grid
    places = range(-len(sizes), 0)
    slopes = [
        _slope(grid, axis, step, wraps=wraps[axis])
        for axis, step in zip(places, steps, strict=True)
        if sizes[axis] > 1
    ]
    if not slopes:
        return values.new_zeros(values.shape[:2])
    return torch.stack(slopes).square().sum((0, 1)).sqrt().flatten(1)


def _slope(grid: Tensor, axis: int, spacing: float, *, wraps: bool) -> Tensor:
    """Derivative along an axis counted from the end."""
    if not wraps:
        return torch.gradient(grid, spacing=float(spacing), dim=axis)[0]
    around = wrapped(grid.movedim(axis, -1), (True,))
    return ((around[..., 2:] - around[..., :-2]) / (2 * spacing)).movedim(-1, axis)
