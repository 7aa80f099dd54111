"""The divergence of a velocity on a grid, by central differences."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import masked_mean, reduce
from nops_losses._points import checked_grid, each_axis, read_points, wrapped

STENCIL = 3  # cells that a central difference spans


def divergence_penalty(
    velocity: Float[Tensor, "sample point axis"],
    *,
    grid_shape: Sequence[int],
    spacing: float | Sequence[float],
    periodic: bool | Sequence[bool] = False,
    power: float = 1.0,
    mask: Bool[Tensor, "sample ..."] | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Mean of |Σᵢ ∂ᵢvᵢ|^power over the cells where central differences exist.

    ∂ᵢv = (v(x + hᵢ eᵢ) − v(x − hᵢ eᵢ)) / 2hᵢ, exact for quadratic fields, of second order in the
    spacing else: a velocity without divergence has some here. The cells at the ends of an axis that
    is not periodic are left out.

    Args:
        velocity: v, axes (sample, point, axis): the cells of a grid with its last axis fastest;
            component i points along grid axis i. In physical units: components that are scaled
            each by its own deviation have no divergence.
        grid_shape: Cells along each axis.
        spacing: Distance h between neighbours, physical, for all axes or for each.
        periodic: Whether the last cell of an axis is a neighbour of its first, for all axes or for
            each.
        power: At least 1.
        mask: True where a sample, (sample,), or a cell, (sample, point), counts. A cell is left out
            too where one of the cells that its differences read is.
        reduction: "mean" averages over the cells left of all samples, "none" over those of each
            sample, [sample].

    Returns:
        In the unit of velocity / spacing to the power, at least 0, float32 (float64 for float64
        velocities); 0 with gradient 0 where no cell is left.

    Raises:
        ValueError: If components and axes, cells and points, spacings or mask do not fit, an axis
            has fewer than 3 cells, or an option is out of range.
        TypeError: If the velocity is not real floating point.

    Source:
        The divergence term of Kohl, Chen and Thuerey, arXiv 2309.01745, which is in units of cells.
    """
    values, keep = read_points(velocity, mask, name="velocity")
    sizes = checked_grid(grid_shape, num_points=velocity.shape[1])
    _check_axes(sizes, components=velocity.shape[2])
    steps = each_axis(spacing, len(sizes), name="spacing")
    if not all(0 < step < math.inf for step in steps):
        raise ValueError(f"spacing must be positive and finite, got {spacing}.")
    if not 1 <= power < math.inf:
        raise ValueError(f"power must be at least 1 and finite, got {power}.")
    wraps = each_axis(periodic, len(sizes), name="periodic")
    grid = values.movedim(-1, 0).unflatten(-1, sizes)  # component, sample, *grid
    value = _divergence(wrapped(grid, wraps), steps).abs()
    value = value if power == 1 else value.pow(power)
    if keep is not None:
        keep = _whole_stencil(wrapped(keep.unflatten(-1, sizes), wraps), len(sizes)).flatten(1)
    if reduction == "none":
        return masked_mean(value.flatten(1), keep, (1,))
    return reduce(masked_mean(value.flatten(1), keep, (0, 1)), reduction)


def _check_axes(sizes: tuple[int, ...], *, components: int) -> None:
    if components != len(sizes):
        raise ValueError(
            f"a divergence needs one component per grid axis, got {components} components and "
            f"grid_shape={sizes}."
        )
    if min(sizes) < STENCIL:
        raise ValueError(f"a central difference spans {STENCIL} cells, got grid_shape={sizes}.")


def _inner(field: Tensor, dims: int, *, axis: int | None = None, shift: int = 0) -> Tensor:
    """The field without its border cells, seen `shift` cells further along `axis` (from the end)."""
    for place in range(-dims, 0):
        start = 1 + (shift if place == axis else 0)
        field = field.narrow(place, start, field.shape[place] - 2)
    return field


def _divergence(velocity: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Of components at axis 0, in the cells within the border."""
    dims = len(spacing)
    slopes = [
        (_inner(part, dims, axis=axis, shift=1) - _inner(part, dims, axis=axis, shift=-1))
        / (2 * step)
        for part, axis, step in zip(velocity, range(-dims, 0), spacing, strict=True)
    ]
    return torch.stack(slopes).sum(0)


def _whole_stencil(keep: Tensor, dims: int) -> Tensor:
    """Where a cell and all that its differences read count, in the cells within the border."""
    whole = _inner(keep, dims)
    for axis in range(-dims, 0):
        for shift in (-1, 1):
            whole = whole & _inner(keep, dims, axis=axis, shift=shift)
    return whole
