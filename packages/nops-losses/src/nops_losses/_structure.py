"""Structure functions: moments of differences between two points, walls and masks included."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_axes, check_choice, mask_over, to_working_dtype
from nops_losses._spectrum_plan import checked_lengths


class StructureFunction(NamedTuple):
    """Moments of increments per grid axis and separation.

    Attributes:
        separation: Distances [axis, R] in the unit of the lengths.
        value: Moments [..., axis, R] in the field's unit to the power of the order.
    """

    separation: Tensor
    value: Tensor


def structure_function(
    field: Float[Tensor, "*axes"],
    *,
    order: float = 2.0,
    separations: Sequence[int] | None = None,
    lengths: Sequence[float] | None = None,
    kind: Literal["longitudinal", "scalar"] = "longitudinal",
    periodic: bool = True,
    mask: Bool[Tensor, "..."] | None = None,
    spatial_dims: int = 2,
) -> StructureFunction:
    """⟨|u(x + r eᵢ) − u(x)|^order⟩, the mean over x, for each grid axis i and separation r.

    It needs neither periodic fields nor whole ones: only pairs of points count that both lie in the
    domain and, with a mask, where it is True.

    Args:
        field: Field u, axes (..., channel, *grid), any unit.
        order: Power p > 0 of the increments; a gradient is finite everywhere for p >= 1.
        separations: Distances in cells, whole, at least 1 and below the shortest axis. None takes
            powers of two up to a quarter of the shortest axis.
        lengths: Physical extent of each grid axis, in the order of the axes; None is 2π each.
        kind: "longitudinal" takes channel i along axis i, the components of a velocity: one channel
            per grid axis. "scalar" takes every channel along every axis.
        periodic: False leaves out pairs across the border.
        mask: True where a cell counts; broadcasts to the field's shape (grid axes, or more).
        spatial_dims: Number of grid axes at the end.

    Returns:
        `StructureFunction(separation [axis, R], value [..., axis, R])`, where ... are the leading
        axes, and for "scalar" the channels after them. NaN where no pair counts. float32 (float64
        for float64 fields).

    Raises:
        ValueError: If an axis is missing or has one cell, "longitudinal" finds another number of
            channels than grid axes, or an option is out of range.
        TypeError: If the field is not real floating point.

    Source:
        Kolmogorov (1941); Frisch, "Turbulence" (1995), section 5.1 on the sign and the order.
    """
    check_axes(field, name="field", spatial_dims=spatial_dims)
    values = to_working_dtype(field, name="field")
    sizes = tuple(field.shape[-spatial_dims:])
    extents = checked_lengths(lengths, sizes)
    _check_kind(kind, channels=field.shape[-spatial_dims - 1], spatial_dims=spatial_dims)
    if not 0 < order < math.inf:
        raise ValueError(f"order must be positive and finite, got {order}.")
    cells = _checked_separations(separations, sizes)
    keep = None if mask is None else mask_over(mask, values)
    values = values if keep is None else values.where(keep, 0.0)
    rows = []
    for axis in range(spatial_dims):
        # channel `axis`, or all; the channel axis stays for the moment
        chosen = slice(axis, axis + 1) if kind == "longitudinal" else slice(None)
        u, kept = (_channels(part, chosen, spatial_dims) for part in (values, keep))
        assert u is not None
        options = {"axis": axis - spatial_dims, "periodic": periodic, "dims": spatial_dims}
        rows.append(torch.stack([_moment(u, kept, r, order, **options) for r in cells], dim=-1))
    value = torch.stack(rows, dim=-2)
    spacing = [extent / size for extent, size in zip(extents, sizes, strict=True)]
    # by fills: a tensor made of the host's numbers would make a GPU wait
    distances = [torch.stack([value.new_full((), r * step) for r in cells]) for step in spacing]
    separation = torch.stack(distances)
    return StructureFunction(separation, value.squeeze(-3) if kind == "longitudinal" else value)


def _check_kind(kind: str, *, channels: int, spatial_dims: int) -> None:
    check_choice("kind", kind, ("longitudinal", "scalar"))
    if kind == "longitudinal" and channels != spatial_dims:
        raise ValueError(
            f"kind='longitudinal' needs channel i to point along grid axis i, but there are "
            f"{channels} channels and {spatial_dims} grid axes; choose the velocities or pass "
            f"kind='scalar'."
        )


def _checked_separations(separations: Sequence[int] | None, sizes: tuple[int, ...]) -> list[int]:
    shortest = min(sizes)
    if shortest < 2:
        raise ValueError(f"an increment needs two cells on every axis, got a grid of {sizes}.")
    if separations is None:
        return [2**power for power in range(max(shortest // 4, 1).bit_length())]
    if not separations or not all(r == int(r) and 1 <= r < shortest for r in separations):
        raise ValueError(
            f"separations are whole numbers of cells, at least 1 and below the {shortest} of the "
            f"shortest axis, got {tuple(separations)}."
        )
    return [int(r) for r in separations]


def _channels(field: Tensor | None, chosen: slice, spatial_dims: int) -> Tensor | None:
    return None if field is None else field[(..., chosen, *(slice(None),) * spatial_dims)]


def _moment(
    u: Tensor,
    keep: Tensor | None,
    r: int,
    order: float,
    *,
    axis: int,
    periodic: bool,
    dims: int,
) -> Tensor:
    """Mean of |u(x + r) − u(x)|^order over the pairs that count, for each channel."""
    ahead, here = _pair(u, r, axis=axis, periodic=periodic)
    change = ahead - here
    power = change.square() if order == 2 else change.abs().pow(order)
    axes = tuple(range(-dims, 0))
    if keep is None:
        return power.mean(axes)
    both = torch.logical_and(*_pair(keep, r, axis=axis, periodic=periodic))
    return power.where(both, 0.0).sum(axes) / both.sum(axes)


def _pair(field: Tensor, r: int, *, axis: int, periodic: bool) -> tuple[Tensor, Tensor]:
    """The field r cells ahead, and where it is compared."""
    if periodic:
        return field.roll(-r, axis), field
    count = field.shape[axis] - r
    return field.narrow(axis, r, count), field.narrow(axis, 0, count)
