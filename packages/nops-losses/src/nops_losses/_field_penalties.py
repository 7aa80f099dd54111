"""What physics asks of a field at points: sums that stay, values at the border, no negative ones."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_choice, check_same_shape, masked_mean, to_working_dtype
from nops_losses._points import checked_grid, read_points

End = Literal["low", "high"]
ENDS: tuple[End, End] = ("low", "high")


def conservation_penalty(
    field: Float[Tensor, "sample point channel"],
    reference: Float[Tensor, "sample point channel"],
    *,
    scale: Literal["rms", "integral"] = "rms",
    eps: float = 1e-8,
    cell_volume: float | Float[Tensor, "*axes"] | None = None,
    mask: Bool[Tensor, "sample ..."] | None = None,
) -> Float[Tensor, ""]:
    """Mean over samples and channels of |Σu − Σu_ref| / size: how far the total is from what it was.

    The sums are over points, each times its volume V. The size is ΣV·rms(u_ref) + eps for "rms",
    finite where the reference cancels; |ΣV u_ref| + eps for "integral", the relative change of the
    total, which is large where that is nearly 0.

    Args:
        field: Predicted u, axes (sample, point, channel), any unit.
        reference: u_ref, the same sample's field that u must keep the total of; same shape and
            unit. It gets no gradient.
        scale: What the change is measured by.
        eps: Added to the size, in the unit times that of the volume; not negative. With 0, a
            reference of zeros gives a value that is not finite.
        cell_volume: V: one number, one per point (point,), or (sample, point); None is 1.
        mask: True where a sample, (sample,), or a point, (sample, point), counts. Points left out
            are in no sum, samples without points in no mean.

    Returns:
        Dimensionless, at least 0, float32 (float64 for float64 fields); 0 with gradient 0 where
        nothing counts.

    Raises:
        ValueError: If shapes, volumes or mask do not fit, `scale` is unknown or `eps` negative.
        TypeError: If a field is not real floating point.
    """
    check_same_shape(field, reference, names=("field", "reference"))
    check_choice("scale", scale, ("rms", "integral"))
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be finite and not negative, got {eps}.")
    target, keep = read_points(reference.detach(), mask, name="reference")
    pred, _ = read_points(field, mask, name="field")
    volume = _volumes(cell_volume, like=target)
    change = (volume * (pred - target)).sum(1).abs()
    if scale == "integral":
        size = (volume * target).sum(1).abs()
    else:  # ΣV √(ΣV u² / ΣV) = √(ΣV ΣV u²)
        total = (volume if keep is None else volume.where(keep[..., None], 0.0)).sum(1)
        size = (total * (volume * target.square()).sum(1)).sqrt()
    if keep is None:
        return (change / (size + eps)).mean()
    alive = keep.any(1)[:, None].expand(change.shape)
    return masked_mean(change / (size + eps).where(alive, 1.0), alive, (0, 1))


def boundary_penalty(
    field: Float[Tensor, "sample point channel"],
    *,
    grid_shape: Sequence[int],
    value: float = 0.0,
    sides: Literal["all"] | Sequence[tuple[int, End]] = "all",
    mask: Bool[Tensor, "sample ..."] | None = None,
) -> Float[Tensor, ""]:
    """Mean of (u − value)² over the border cells of a grid, each counted once.

    Args:
        field: u, axes (sample, point, channel): the cells of a grid with its last axis fastest, any
            unit.
        grid_shape: Cells along each axis.
        value: What u should be there, same unit.
        sides: "all", or pairs (axis, "low" or "high"): leave out those of a periodic axis, which
            has no border.
        mask: True where a sample, (sample,), or a cell, (sample, point), counts.

    Returns:
        In the unit squared, at least 0, float32 (float64 for float64 fields); 0 with gradient 0
        where no border cell counts.

    Raises:
        ValueError: If cells, points or mask do not fit, a side is unknown or given twice, or its
            axis has one cell, all of which would be border.
        TypeError: If the field is not real floating point.
    """
    values, kept = read_points(field, mask, name="field")
    sizes = checked_grid(grid_shape, num_points=field.shape[1])
    border = torch.zeros(sizes, dtype=torch.bool, device=field.device)
    for axis, end in _checked_sides(sides, sizes):
        border.select(axis, 0 if end == "low" else -1).fill_(True)
    keep = border.flatten().expand(field.shape[:2])
    keep = keep if kept is None else keep & kept
    inside = ~keep[..., None]
    error = (values - value).masked_fill(inside, 0.0)  # what lies inside is never seen
    return masked_mean(error.square().mean(-1), keep, (0, 1))


def positivity_penalty(
    field: Float[Tensor, "sample point channel"],
    *,
    minimum: float = 0.0,
    mask: Bool[Tensor, "sample ..."] | None = None,
) -> Float[Tensor, ""]:
    """Mean of max(minimum − u, 0): by how much values are too low.

    Args:
        field: u, axes (sample, point, channel), any unit.
        minimum: Lowest value allowed, same unit.
        mask: True where a sample, (sample,), or a point, (sample, point), counts.

    Returns:
        In the unit, at least 0, float32 (float64 for float64 fields); 0 with gradient 0 where
        nothing counts. Values at the minimum get no gradient.

    Raises:
        ValueError: If field or mask have other axes.
        TypeError: If the field is not real floating point.
    """
    values, keep = read_points(field, mask, name="field")
    return masked_mean((minimum - values).relu().mean(-1), keep, (0, 1))


def _volumes(cell_volume: float | Tensor | None, *, like: Tensor) -> Tensor:
    """One volume per sample and point, with a channel axis of one."""
    samples, count, _ = like.shape
    if not isinstance(cell_volume, Tensor):
        return like.new_full((1, 1, 1), 1.0 if cell_volume is None else cell_volume).expand(
            samples, count, 1
        )
    if tuple(cell_volume.shape) not in ((count,), (samples, count)):
        raise ValueError(
            f"cell_volume has one number per point, ({count},), or per sample and point, "
            f"({samples}, {count}); got {tuple(cell_volume.shape)}."
        )
    volume = to_working_dtype(cell_volume.detach(), name="cell_volume").to(like)
    return volume.expand(samples, count)[..., None]


def _checked_sides(
    sides: Literal["all"] | Sequence[tuple[int, End]], sizes: tuple[int, ...]
) -> tuple[tuple[int, End], ...]:
    every = tuple(itertools.product(range(len(sizes)), ENDS))
    chosen = every if sides == "all" else tuple(sides)
    if not chosen or not set(chosen) <= set(every) or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"sides is 'all', or some of {', '.join(map(str, every))}, each once; got {sides}."
        )
    thin = sorted({axis for axis, _ in chosen if sizes[axis] < 2})
    if thin:
        raise ValueError(
            f"axis {thin[0]} of grid_shape={sizes} has one cell, and all of the grid would be its "
            "border; leave its sides out."
        )
    return chosen
