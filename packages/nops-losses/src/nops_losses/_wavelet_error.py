"""How far the energies of two fields differ scale by scale, and where in space."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_pair, mask_over, reduce, to_working_dtype
from nops_losses._shell_errors import compared_shells, mean_over
from nops_losses._wavelet_transform import (
    Boundary,
    Wavelet,
    WaveletTransform,
    details_of,
    inside_of,
    plan_transform,
)


def wavelet_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    wavelet: Wavelet = "db2",
    levels: int | None = None,
    boundary: Boundary = "periodic",
    undecimated: bool = False,
    energy_weight: float = 1.0,
    coefficient_weight: float = 0.0,
    floor: float | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Squared log-ratio of detail energies, averaged over the levels and orientations of wavelets.

    A level of the orthonormal transform splits a field into an approximation of half the size and
    2^spatial_dims − 1 orientations of details d; the approximation is split again. Each band's
    energy E is Σ d² over channels and places. The error is the mean over bands of

        energy_weight (ln(Ep + e) − ln(Et + e))² + coefficient_weight Σ|dp − dt| / Σ|dt|,

    over the bands with Et > e, where e is the share `floor` of the target's detail energy, plus
    what rounding leaves of the whole field. For p = (1 + a)t the first part is (2 ln(1 + a))² on
    any grid in any unit. It is nearly blind to position, the second part is not. Wavelets are
    local: walls and masks cost only the coefficients that see them.

    Args:
        pred: Predicted field, axes (..., channel, *grid) with any number of grid axes, any unit.
        target: True field, same shape and unit; it gets no gradient.
        wavelet: "haar", "db2", "db4" (2, 4, 8 taps, 1, 2, 4 vanishing moments) or "sym4" (as db4,
            more symmetric).
        levels: How often to split. None takes as many as halve every axis without remainder, at
            most 4, and leaves at least 4 cells per axis; where nothing needs to divide (undecimated
            or symmetric), the remainder is no matter.
        boundary: "periodic", for which the transform keeps the energy, or "symmetric" for walls: a
            mirror image with the border's cell repeated, a few more coefficients, energy not kept.
        undecimated: Keep every place on every level (filters over √2 with holes): any size, and a
            rolled periodic field has the same energies. 2^spatial_dims times the memory per level.
        energy_weight: Factor of the first part, dimensionless.
        coefficient_weight: Factor of the second part, dimensionless.
        floor: Dimensionless, at least 0; None is 1e-10, 1e-20 for float64.
        mask: True where a cell counts; broadcasts to the fields' shape (grid axes, or more). A
            coefficient counts if all cells that its filters see do; bands without any are dropped.
            Coarse levels see wide: (2^level − 1)(taps − 1) + 1 cells along each axis.
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over the leading axes, "none" keeps them.

    Returns:
        Dimensionless; 0 when equal, and for a frame without a kept band (a constant target). Its
        gradient is finite at zero fields. Half-precision fields are computed in float32.

    Raises:
        ValueError: If the shapes differ, an axis is missing, shorter than the filter or not to be
            split `levels` times, or an option is unknown or out of range.
        TypeError: If a field is not real floating point.

    Source:
        Daubechies, "Ten lectures on wavelets" (1992); Mallat, IEEE Trans. PAMI 11 (1989) 674; for
        `undecimated` Nason and Silverman, "The stationary wavelet transform" (1995).
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    target = to_working_dtype(target.detach(), name="target")
    pred = to_working_dtype(pred, name="pred")
    _check_weights(energy_weight, coefficient_weight)
    sizes = target.shape[-spatial_dims:]
    transform = plan_transform(
        sizes, wavelet=wavelet, levels=levels, boundary=boundary, undecimated=undecimated
    )
    inside = None
    if mask is not None:
        keep = mask_over(mask, target)
        pred, target = pred.where(keep, 0.0), target.where(keep, 0.0)
        over_grid = mask.expand(torch.broadcast_shapes(mask.shape, sizes))
        inside = inside_of(over_grid, transform)
    p, t = (_bands(transform, field, inside) for field in (pred, target))
    # the approximation stands in the place of the mean: it only tells how large rounding may be
    energies = [_sums(bands, spatial_dims, square=True) for bands in (p, t)]
    options = {"wavenumber": energies[1], "kept": slice(1, None), "zero": 0}
    compared = compared_shells(*energies, **options, floor=floor, shell_weights=None)
    distance = torch.zeros_like(compared.target)
    if energy_weight:
        logs = compared.pred.log() - compared.target.log()
        distance = distance + energy_weight * logs.square()
    if coefficient_weight:
        kept = compared.share > 0
        distance = distance + coefficient_weight * _relative(p[1:], t[1:], kept, spatial_dims)
    return reduce(mean_over(compared, distance), reduction)


def _check_weights(energy_weight: float, coefficient_weight: float) -> None:
    weights = (energy_weight, coefficient_weight)
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(
            "energy_weight and coefficient_weight must be finite, not negative and not both 0, got "
            f"{energy_weight} and {coefficient_weight}."
        )


def _bands(transform: WaveletTransform, field: Tensor, inside: list[Tensor] | None) -> list[Tensor]:
    """The approximation, then all details, finest level first, 0 for those that do not count."""
    details, approximation = details_of(field, transform)
    if inside is None:
        return [approximation, *(band for level in details for band in level)]
    pairs = zip(details, inside, strict=True)
    return [approximation, *(d.where(seen, 0.0) for level, seen in pairs for d in level)]


def _sums(bands: list[Tensor], spatial_dims: int, *, square: bool) -> Tensor:
    """Σ d², or Σ |d|, over channels and places: (..., band)."""
    axes = tuple(range(-spatial_dims - 1, 0))
    return torch.stack([(d.square() if square else d.abs()).sum(axes) for d in bands], dim=-1)


def _relative(p: list[Tensor], t: list[Tensor], kept: Tensor, spatial_dims: int) -> Tensor:
    """Σ|dp − dt| / Σ|dt| for each band kept."""
    difference = [dp - dt for dp, dt in zip(p, t, strict=True)]
    size = _sums(t, spatial_dims, square=False).where(kept, 1.0)
    return _sums(difference, spatial_dims, square=False) / size
