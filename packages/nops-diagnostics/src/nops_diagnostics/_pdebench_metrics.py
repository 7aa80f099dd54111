"""The error measures that PDEBench adds to nRMSE: conserved, boundary, Fourier bands, maximum."""

import itertools
import math
from typing import Literal

import torch
from jaxtyping import Float
from nops_losses import energy_spectrum
from torch import Tensor

from nops_diagnostics._layout import as_double, check_choice, check_pair, space_axes
from nops_diagnostics._metrics import Reduction, reduce_frames

BAND_EDGES = (0.0, 4.0, 12.0)  # PDEBench's low, middle and high, in waves per domain


def crmse(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    spatial_dims: int = 2,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """How far the spatial mean is off: `|<pred> - <target>|` per frame and channel, averaged.

    The integral over the domain is this times its volume: the error of a conserved quantity.
    Blind to anything that moves it from cell to cell.

    Args:
        pred: Prediction `[*leading, channel, *space]` on an even grid, any unit.
        target: Reference, same shape and unit.
        spatial_dims: Number of trailing axes that are space.
        reduction: `"none"` keeps `[*leading, channel]`, `"mean"` averages it. PDEBench takes the
            root mean square over samples: `crmse(..., reduction="none").square().mean(0).sqrt()`.

    Returns:
        float64 in the unit of the field, at most the RMSE; 0 where the means are equal.

    Raises:
        ValueError: If the shapes differ or have too few axes.

    Source:
        Takamoto et al., PDEBench, arXiv 2210.07182, "cRMSE".
    """
    difference = _difference(pred, target, spatial_dims=spatial_dims)
    return reduce_frames(difference.mean(space_axes(spatial_dims)).abs(), reduction)


def brmse(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    spatial_dims: int = 2,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """Root mean squared error over the outermost cells, per frame and channel, averaged.

    Each cell that is first or last along any axis counts once: 2H + 2W - 4 of H x W.

    Args:
        pred: Prediction `[*leading, channel, *space]`, any unit.
        target: Reference, same shape and unit.
        spatial_dims: Number of trailing axes that are space.
        reduction: `"none"` keeps `[*leading, channel]`, `"mean"` averages it.

    Returns:
        float64 in the unit of the field; 0 where they agree on the boundary.

    Raises:
        ValueError: If the shapes differ or have too few axes.

    Source:
        Takamoto et al., PDEBench, arXiv 2210.07182, "bRMSE".
    """
    difference = _difference(pred, target, spatial_dims=spatial_dims)
    edge = torch.ones(difference.shape[-spatial_dims:], dtype=torch.bool, device=pred.device)
    edge[(slice(1, -1),) * spatial_dims] = False
    outer = difference.flatten(-spatial_dims)[..., edge.flatten()]
    return reduce_frames(outer.square().mean(-1).sqrt(), reduction)


def max_error(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    spatial_dims: int = 2,
    reduction: Literal["max", "none"] = "max",
) -> Float[Tensor, "*kept"]:
    """Largest absolute error.

    Args:
        pred: Prediction `[*leading, channel, *space]`, any unit.
        target: Reference, same shape and unit.
        spatial_dims: Number of trailing axes that are space.
        reduction: `"none"` keeps `[*leading, channel]`, `"max"` is the largest of all.

    Returns:
        float64 in the unit of the field; NaN where a value is.

    Raises:
        ValueError: If the shapes differ or have too few axes.
    """
    check_choice("reduction", reduction, ("max", "none"))
    largest = _difference(pred, target, spatial_dims=spatial_dims).abs()
    largest = largest.amax(space_axes(spatial_dims))
    return largest.max() if reduction == "max" else largest


def frmse(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    edges: tuple[float, ...] = BAND_EDGES,
    spatial_dims: int = 2,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """Root mean squared error of each band of wave numbers, per frame and channel, averaged.

    With F the discrete Fourier transform of the error divided by the number of cells, band j holds
    `sqrt(sum |F_k|^2)` over edge_j <= |k| < edge_j+1, the last band everything above, |k| in
    waves per domain. By Parseval's identity the squares of the bands of a frame sum to its mean
    squared error when the first edge is 0. PDEBench divides by the number of wave numbers in the
    band instead, so its figures do not add up and are not these.

    Args:
        pred: Prediction `[*leading, channel, *space]` on an even grid, any unit. An error that is
            not periodic leaks into the high bands.
        target: Reference, same shape and unit.
        edges: Lower edges of the bands, rising.
        spatial_dims: Number of trailing axes that are space.
        reduction: `"none"` keeps `[*leading, channel, band]`, `"mean"` averages to `[band]`.

    Returns:
        float64 in the unit of the field; 0 for a band that the grid does not reach.

    Raises:
        ValueError: If the shapes differ or have too few axes, or the edges do not rise from 0 or
            above.

    Source:
        Takamoto et al., PDEBench, arXiv 2210.07182, "fRMSE", for the bands.
    """
    check_choice("reduction", reduction, ("mean", "none"))
    difference = _difference(pred, target, spatial_dims=spatial_dims)
    top = math.hypot(*difference.shape[-spatial_dims:])  # twice the largest wave number
    if not edges or edges[0] < 0 or not all(a < b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"edges={edges}: expected rising wave numbers from 0 or above.")
    energy = energy_spectrum(
        difference,
        bins=(*edges, max(top, edges[-1] + 1.0)),
        components="each",
        spatial_dims=spatial_dims,
    ).energy
    bands = (2.0 * energy).sqrt()
    return bands.flatten(0, -2).mean(0) if reduction == "mean" else bands


def _difference(pred: Tensor, target: Tensor, *, spatial_dims: int) -> Tensor:
    check_pair(pred, target, spatial_dims=spatial_dims)
    return as_double(pred) - as_double(target)
