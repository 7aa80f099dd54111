"""Pointwise errors of fields, relative to the size of the truth."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import (
    check_pair,
    mask_over,
    reduce,
    to_working_dtype,
)


def relative_l2(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """‖pred − target‖ / ‖target‖, one norm over channels and space for each leading index.

    Args:
        pred: Predicted field, axes (..., channel, *grid), any unit.
        target: True field, same shape and unit; it gets no gradient.
        mask: True where a cell counts; broadcasts to the grid axes (a channel axis of one, and
            leading axes, may be there too). None counts all cells.
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over the leading axes, "none" keeps them.

    Returns:
        Dimensionless; 0 when equal, and the gradient is 0 there too. A target whose norm is 0 gives
        the absolute norm ‖pred‖ instead. Half-precision inputs are computed in float32.

    Raises:
        ValueError: If the shapes differ, an axis is missing, or `reduction` is unknown.
        TypeError: If a field is not real floating point.

    Source:
        The relative L2 error of Li et al., "Fourier neural operator", arXiv 2010.08895.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    target = to_working_dtype(target.detach(), name="target")
    error = to_working_dtype(pred, name="pred") - target
    if mask is not None:
        keep = mask_over(mask, target)
        error, target = error.where(keep, 0.0), target.where(keep, 0.0)
    axes = tuple(range(-spatial_dims - 1, 0))
    size = torch.linalg.vector_norm(target, dim=axes)
    # vector_norm has gradient 0 at 0, so that a perfect prediction stays where it is.
    ratio = torch.linalg.vector_norm(error, dim=axes) / size.where(size > 0, 1.0)
    return reduce(ratio, reduction)
