"""Errors of a field against its reference, each with the convention said in words."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import as_double, check_choice, check_pair, num_cells, space_axes

Reduction = Literal["mean", "none"]
NrmseConvention = Literal["pdebench", "pooled", "the_well"]

THE_WELL_EPS = 1e-7  # the_well benchmark/metrics/spatial.py, added to the mean square


def mse(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    spatial_dims: int = 2,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """Mean squared error over the cells of each frame and channel.

    Args:
        pred: Prediction `[*leading, channel, *space]`, any unit.
        target: Reference, same shape and unit.
        spatial_dims: Number of trailing axes that are space.
        reduction: `"none"` keeps `[*leading, channel]`, `"mean"` averages it.

    Returns:
        float64, in the square of the field's unit; 0 when equal.

    Raises:
        ValueError: If the shapes differ or have too few axes.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    difference = as_double(pred) - as_double(target)
    return reduce_frames(difference.square().mean(space_axes(spatial_dims)), reduction)


def nmse(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    spatial_dims: int = 2,
    eps: float = 0.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """Mean squared error over the mean square of the target, per frame and channel.

    `MSE / (<target^2> + eps)`, then averaged: a mean of ratios, so that one frame whose field has
    died out can rule it. `rollout_scores` pools over samples instead.

    Args:
        pred: Prediction `[*leading, channel, *space]`, any unit.
        target: Reference, same shape and unit.
        spatial_dims: Number of trailing axes that are space.
        eps: Added to the mean square, in the square of the unit; the_well uses 1e-7.
        reduction: `"none"` keeps `[*leading, channel]`, `"mean"` averages it.

    Returns:
        Dimensionless float64; 0 when equal, 1 for a zero prediction (`eps=0`). Infinite where the
        target is zero and the prediction is not, NaN where both are.

    Raises:
        ValueError: If the shapes differ or have too few axes.

    Source:
        Ohana et al., The Well, arXiv 2412.00568.
    """
    error = mse(pred, target, spatial_dims=spatial_dims, reduction="none")
    return reduce_frames(error / (mean_square(target, spatial_dims=spatial_dims) + eps), reduction)


def vrmse(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    spatial_dims: int = 2,
    ddof: int = 0,
    eps: float = 0.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """Root of the mean squared error over the spatial variance of the target.

    `sqrt(MSE / (s^2 + eps))` per frame and channel, then averaged. With `ddof=0` the target's own
    spatial mean scores exactly 1. The Well divides by the unbiased variance, `ddof=1`, and adds
    `eps=1e-7`: there the mean field scores `sqrt((n - 1) / n)`, 0.998 on 16 x 16 cells.

    Args:
        pred: Prediction `[*leading, channel, *space]`, any unit.
        target: Reference, same shape and unit.
        spatial_dims: Number of trailing axes that are space.
        ddof: Subtracted from the number of cells in the variance: 0, or 1 for The Well's figure.
        eps: Added to the variance, in the square of the unit.
        reduction: `"none"` keeps `[*leading, channel]`, `"mean"` averages it.

    Returns:
        Dimensionless float64; 0 when equal. Infinite (NaN if also equal) where the target is
        constant in space and `eps` is 0.

    Raises:
        ValueError: If the shapes differ or have too few axes, or a frame has no more than `ddof`
            cells.

    Source:
        Ohana et al., The Well, arXiv 2412.00568.
    """
    error = mse(pred, target, spatial_dims=spatial_dims, reduction="none")
    variance = spatial_variance(target, spatial_dims=spatial_dims, ddof=ddof)
    return reduce_frames((error / (variance + eps)).sqrt(), reduction)


def nrmse(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    convention: NrmseConvention = "pdebench",
    spatial_dims: int = 2,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """Root mean squared error over the root mean square of the target.

    - `"pdebench"`: one ratio per frame and channel, `sqrt(<d^2>) / sqrt(<target^2>)`, averaged;
    - `"the_well"`: the same with 1e-7 added to `<target^2>`;
    - `"pooled"`: one ratio of sums over everything, `sqrt(sum d^2 / sum target^2)`.

    Args:
        pred: Prediction `[*leading, channel, *space]`, any unit.
        target: Reference, same shape and unit.
        convention: Which of the three.
        spatial_dims: Number of trailing axes that are space.
        reduction: `"none"` keeps `[*leading, channel]`, `"mean"` averages it; `"pooled"` has
            one value only and takes `"mean"`.

    Returns:
        Dimensionless float64; 0 when equal, exactly 1 for a zero prediction, but for
        `"the_well"`. Infinite or NaN over a zero target, but for `"the_well"`.

    Raises:
        ValueError: If the shapes differ, or `"pooled"` is asked for `reduction="none"`.

    Source:
        Takamoto et al., PDEBench, arXiv 2210.07182; Ohana et al., The Well, arXiv 2412.00568.
    """
    check_choice("convention", convention, ("pdebench", "pooled", "the_well"))
    if convention != "pooled":
        eps = THE_WELL_EPS if convention == "the_well" else 0.0
        ratio = nmse(pred, target, spatial_dims=spatial_dims, eps=eps, reduction="none")
        return reduce_frames(ratio.sqrt(), reduction)
    if reduction != "mean":
        raise ValueError(
            f"convention='pooled' gives one value, so reduction={reduction!r} cannot be kept; "
            "pass a slice such as pred[:, lead] for a value per lead."
        )
    check_pair(pred, target, spatial_dims=spatial_dims)
    error = (as_double(pred) - as_double(target)).square().sum()
    return (error / as_double(target).square().sum()).sqrt()


def skill(
    mse: Float[Tensor, "*shape"], baseline_mse: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """`1 - mse / baseline_mse`: 1 is perfect, 0 no better than the baseline, below 0 worse.

    Args:
        mse: Mean squared errors of the model, any shape.
        baseline_mse: Of the baseline on the same samples, same shape and unit.

    Returns:
        Dimensionless. Minus infinity where only the baseline is perfect, NaN where both are.

    Raises:
        ValueError: If the shapes differ.
    """
    if mse.shape != baseline_mse.shape:
        raise ValueError(
            f"mse and baseline_mse need one shape, got {tuple(mse.shape)} and "
            f"{tuple(baseline_mse.shape)}."
        )
    return 1.0 - mse / baseline_mse


def mean_square(field: Tensor, *, spatial_dims: int) -> Tensor:
    """Mean over space of the squared field, `[*leading, channel]`, float64."""
    return as_double(field).square().mean(space_axes(spatial_dims))


def spatial_variance(field: Tensor, *, spatial_dims: int, ddof: int) -> Tensor:
    """Variance over space, `[*leading, channel]`, float64."""
    cells = num_cells(field, spatial_dims=spatial_dims)
    if not 0 <= ddof < cells:
        raise ValueError(f"ddof={ddof} needs to be at least 0 and below the {cells} cells.")
    return torch.var(as_double(field), space_axes(spatial_dims), correction=ddof)


def reduce_frames(values: Tensor, reduction: str) -> Tensor:
    """`values` as they are for "none", their mean for "mean"."""
    check_choice("reduction", reduction, ("mean", "none"))
    return values.mean() if reduction == "mean" else values
