"""Relative error in a Sobolev norm, which sees derivatives as well as values."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_pair, reduce, to_working_dtype
from nops_losses._field import safe_root
from nops_losses._spectrum_plan import (
    NUM_PLANS,
    checked_lengths,
    may_cache,
    multiplicity,
    signed_modes,
)
from nops_losses._transform import Reading, coefficients


def sobolev_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    order: float = 1.0,
    squared: bool = False,
    lengths: Sequence[float] | None = None,
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """‖pred − target‖ / ‖target‖ in H^s, one norm over channels and space for each leading index.

    ‖u‖² = Σ_k (1 + |k|²)^s Σ_c |F_c(k)|² with F = rfftn(u, norm="forward"), conjugate modes
    counted. s = 0 is `relative_l2`; s = 1 adds the mean square of all first derivatives, for
    wavenumbers in the fields' own unit of length; a negative s weighs large scales. For periodic
    fields: a jump across the border is a large derivative.

    Args:
        pred: Predicted field, axes (..., channel, *grid), any unit.
        target: True field, same shape and unit; it gets no gradient.
        order: s, any finite number.
        squared: Leave out the root of the ratio.
        lengths: Physical extent of each grid axis, in the order of the axes; None is 2π each, for
            which wavenumbers are integers. The 1 is in the same unit: scale lengths to choose how
            much derivatives count.
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over the leading axes, "none" keeps them.

    Returns:
        Dimensionless; 0 when equal, and the gradient is 0 there too. A target whose norm is 0 gives
        the absolute norm of the error. float32 (float64 for float64 fields).

    Raises:
        ValueError: If the shapes differ, an axis is missing or empty, or an option is out of range.
        TypeError: If a field is not real floating point.

    Source:
        Czarnecki et al., "Sobolev training for neural networks", arXiv 1706.04859; the norm as in
        Li et al., "Learning dissipative dynamics in chaotic systems", arXiv 2106.06898.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    if not math.isfinite(order):
        raise ValueError(f"order must be finite, got {order}.")
    target = to_working_dtype(target.detach(), name="target")
    error = to_working_dtype(pred, name="pred") - target
    reading = Reading(spatial_dims, mask=None, window="none", detrend="none")
    modes = [coefficients(field, reading, name="pred") for field in (error, target)]
    sizes = tuple(target.shape[-spatial_dims:])
    build = _cached_weights if may_cache(error) else _build_weights
    weights = build(sizes, checked_lengths(lengths, sizes), order, error.device, error.dtype)
    power = [torch.view_as_real(mode).square().sum((-1, -spatial_dims - 2)) for mode in modes]
    norms = [(values * weights).flatten(-spatial_dims).sum(-1) for values in power]
    ratio = norms[0] / norms[1].where(norms[1] != 0, 1.0)
    return reduce(ratio if squared else safe_root(ratio), reduction)


@lru_cache(maxsize=NUM_PLANS)
def _cached_weights(
    sizes: tuple[int, ...],
    lengths: tuple[float, ...],
    order: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    with torch.inference_mode(False):  # an inference tensor could not serve a later backward pass
        return _build_weights(sizes, lengths, order, device, dtype)


def _build_weights(
    sizes: tuple[int, ...],
    lengths: tuple[float, ...],
    order: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """(1 + |k|²)^s times the number of modes that each stored one stands for, [*modes]."""
    square = torch.ones((), dtype=torch.float64, device="cpu")
    for modes, length in zip(signed_modes(sizes), lengths, strict=True):
        square = square.unsqueeze(-1) + (2 * math.pi / length * modes).square()
    return (square**order * multiplicity(sizes[-1])).to(device, dtype)
