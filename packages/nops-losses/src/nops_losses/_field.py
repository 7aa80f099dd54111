"""Pointwise errors of fields, relative to the size of the truth."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_pair, mask_over, masked_mean, reduce, to_working_dtype

EPS_REL = 1e-8
LEGACY_EPS = 1e-8  # the published definition's, in the field's unit squared


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


def field_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    channel_weights: Sequence[float] | None = None,
    centre: bool = False,
    squared: bool = True,
    eps_rel: float = EPS_REL,
    eps_abs: float = 0.0,
    legacy: bool = False,
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Squared error over the target's mean square, for each frame and channel, then averaged.

    ⟨(p − t)²⟩ / (⟨t²⟩ + eps_rel·m_c + eps_abs), where ⟨⟩ is the mean over space and m_c the mean of
    t² over all frames of channel c. It is a mean of ratios: every frame and channel counts the same,
    however weak. It is not invariant to a shift: an offset in the target lowers it, so a number
    needs the space it was taken in (normalised or physical), or `centre=True`.

    Args:
        pred: Predicted field p, axes (..., channel, *grid), any unit.
        target: True field t, same shape and unit; it gets no gradient.
        mask: True where a cell counts; broadcasts to the fields' shape (grid axes, or more). None
            counts all cells. A frame without any has the error 0.
        channel_weights: One weight per channel, not negative and not all 0; the mean over channels
            becomes their weighted mean. None weighs all the same.
        centre: Measure the target from its mean over space, frame by frame and channel by channel.
        squared: False takes the root of each ratio, with gradient 0 where it is 0.
        eps_rel: Share of m_c that is added to the denominator, dimensionless.
        eps_abs: Added to the denominator, in the unit squared.
        legacy: Add 1e-8 instead, in the unit squared: the published definition, bit for bit. It
            halves the error of fields whose root mean square is 1e-4.
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over leading axes and channels, "none" keeps both; entries are
            then scaled so that their plain mean is the value of "mean".

    Returns:
        Dimensionless; 0 when equal. Where the denominator is 0 (a target of zeros in all frames,
        for `centre` one that is constant up to rounding) it is the mean square error itself.
        float32 (float64 for float64 fields).

    Raises:
        ValueError: If the shapes differ, an axis is missing, weights or eps are negative or not
            finite, `legacy` comes with an own eps, or `reduction` is unknown.
        TypeError: If a field is not real floating point.

    Source:
        The field error of Oommen et al., arXiv 2409.08477.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    _check_eps(eps_rel, eps_abs, legacy=legacy)
    target = to_working_dtype(target.detach(), name="target")
    error = to_working_dtype(pred, name="pred") - target
    keep = None if mask is None else mask_over(mask, target)
    if keep is not None:
        error, target = error.where(keep, 0.0), target.where(keep, 0.0)
    axes = tuple(range(-spatial_dims, 0))
    power = _power(target, keep, axes, centre=centre)
    if legacy:
        size = power + LEGACY_EPS
    else:
        size = power + eps_rel * _over_frames(power, keep, axes) + eps_abs
    ratio = masked_mean(error.square(), keep, axes) / size.where(size != 0, 1.0)
    ratio = ratio if squared else safe_root(ratio)
    if channel_weights is not None:
        shares = _shares(channel_weights, ratio.shape[-1])
        # by slices: a tensor made of the host's numbers would make a GPU wait
        parts = zip(ratio.unbind(-1), shares, strict=True)
        ratio = torch.stack([part * share for part, share in parts], dim=-1)
    return reduce(ratio, reduction)


def safe_root(value: Tensor) -> Tensor:
    """The square root, with gradient 0 instead of infinity at 0."""
    zero = value == 0
    return value.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _check_eps(eps_rel: float, eps_abs: float, *, legacy: bool) -> None:
    if not (0 <= eps_rel < math.inf and 0 <= eps_abs < math.inf):
        raise ValueError(
            f"eps_rel and eps_abs must be finite and not negative, got {eps_rel} and {eps_abs}."
        )
    if legacy and (eps_rel, eps_abs) != (EPS_REL, 0.0):
        raise ValueError(
            f"legacy=True adds {LEGACY_EPS} to the denominator and nothing else; leave out "
            f"eps_rel={eps_rel} and eps_abs={eps_abs}."
        )


def _power(target: Tensor, keep: Tensor | None, axes: tuple[int, ...], *, centre: bool) -> Tensor:
    """Mean square over space, or the variance with what is only rounding set to 0."""
    power = masked_mean(target.square(), keep, axes)
    if not centre:
        return power
    mean = masked_mean(target, keep, axes)
    variance = masked_mean((target - mean[(..., *(None,) * len(axes))]).square(), keep, axes)
    rounding = (4 * torch.finfo(target.dtype).eps) ** 2 * power
    return variance.masked_fill(variance <= rounding, 0.0)


def _over_frames(power: Tensor, keep: Tensor | None, axes: tuple[int, ...]) -> Tensor:
    """Mean of `power` over all frames of each channel, each by the number of its cells."""
    frames = power.reshape(-1, power.shape[-1])
    if keep is None:
        return frames.mean(0)
    cells = keep.sum(axes).reshape(frames.shape)
    return (frames * cells).sum(0) / cells.sum(0).clamp(min=1)


def _shares(weights: Sequence[float], channels: int) -> list[float]:
    """Weights of mean 1, one for each channel."""
    valid = len(weights) == channels and all(0 <= weight < math.inf for weight in weights)
    if not valid or sum(weights) == 0:
        raise ValueError(
            f"channel_weights needs one weight for each of the {channels} channels, finite, not "
            f"negative and not all 0; got {tuple(weights)}."
        )
    return [weight * channels / sum(weights) for weight in weights]
