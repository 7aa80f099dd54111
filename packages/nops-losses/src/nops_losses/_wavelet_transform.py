"""The separable wavelet transform: orthonormal filters by strided sums over shifted slices.

Sums and no convolution: a GPU may round a convolution's factors to ten bits (TF32).
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nops_losses._checks import check_choice

Wavelet = Literal["haar", "db2", "db4", "sym4"]
Boundary = Literal["periodic", "symmetric"]

# Scaling filters that sum to √2, from the roots of Daubechies' polynomial in 60 digits ("Ten
# lectures on wavelets", 1992, section 6.1): db of minimal, sym4 of nearly linear phase.
SCALING: dict[str, tuple[float, ...]] = {
    "haar": (0.7071067811865475244, 0.7071067811865475244),
    "db2": (
        0.48296291314453414337,
        0.83651630373780790558,
        0.22414386804201338103,
        -0.12940952255126038117,
    ),
    "db4": (
        0.23037781330889650086,
        0.71484657055291564709,
        0.63088076792985890788,
        -0.027983769416859854211,
        -0.18703481171909308408,
        0.030841381835560763627,
        0.032883011666885199735,
        -0.010597401785069032105,
    ),
    "sym4": (
        0.032223100604051467872,
        -0.012603967262031303754,
        -0.099219543576633532585,
        0.2978577956053060514,
        0.80373875180513208088,
        0.49761866763277498998,
        -0.029635527646002491764,
        -0.075765714789502213228,
    ),
}
MOST_LEVELS = 4  # where the caller names no number
COARSEST = 4  # cells that are then left on each axis


class WaveletTransform(NamedTuple):
    """A transform of fields whose last axes are space; its levels fit the grid it was made for.

    Attributes:
        wavelet: Name of the filters.
        levels: How often the approximation is split again.
        boundary: What lies beyond the border: the field again, or its mirror image, whose first
            cell repeats the border's.
        undecimated: Keep every cell on every level: filters over √2, with holes between the taps.
        spatial_dims: Number of grid axes at the end.
    """

    wavelet: Wavelet
    levels: int
    boundary: Boundary
    undecimated: bool
    spatial_dims: int


def details_of(field: Tensor, transform: WaveletTransform) -> tuple[list[list[Tensor]], Tensor]:
    """Detail coefficients per level, finest first, and orientation; then the approximation.

    The orientations of a level, 2^spatial_dims − 1 of them, count in binary, high = 1, the
    last axis in the last place.
    """
    low = SCALING[transform.wavelet]
    if transform.undecimated:
        low = tuple(tap / math.sqrt(2) for tap in low)
    high = tuple((-1) ** place * tap for place, tap in enumerate(reversed(low)))
    details: list[list[Tensor]] = []
    for level in range(transform.levels):
        field, *detail = _split(field, (low, high), level, transform)
        details.append(detail)
    return details, field


def inside_of(mask: Tensor, transform: WaveletTransform) -> list[Tensor]:
    """Per level, where a coefficient sees cells of `mask` (…, *grid) alone, as booleans."""
    ones = (1.0,) * len(SCALING[transform.wavelet])
    outside, inside = (~mask).float(), []
    for level in range(transform.levels):
        outside = (_split(outside, (ones,), level, transform)[0] > 0.5).float()
        inside.append(outside == 0)
    return inside


def _split(
    field: Tensor, filters: Sequence[Sequence[float]], level: int, transform: WaveletTransform
) -> list[Tensor]:
    bands = [field]
    for axis in range(-transform.spatial_dims, 0):
        bands = [out for band in bands for out in _filter(band, filters, axis, level, transform)]
    return bands


def _filter(
    field: Tensor,
    filters: Sequence[Sequence[float]],
    axis: int,
    level: int,
    transform: WaveletTransform,
) -> list[Tensor]:
    """The scalar products of each filter with the field at the places of one level."""
    size, taps = field.shape[axis], len(filters[0])
    holes = 2**level if transform.undecimated else 1
    if transform.undecimated:
        first, count, stride = -holes * (taps // 2 - 1), size, 1
    elif transform.boundary == "periodic":
        first, count, stride = 1 - taps // 2, size // 2, 2
    else:
        first, count, stride = 2 - taps, (size + taps - 1) // 2, 2
    span = stride * (count - 1) + 1
    extended = _extend(field, axis, first, first + span + holes * (taps - 1), transform.boundary)
    shifted = [
        extended[(..., slice(start, start + span, stride), *(slice(None),) * (-axis - 1))]
        for start in range(0, holes * taps, holes)
    ]
    return [_weighted_sum(shifted, weights) for weights in filters]


def _extend(field: Tensor, axis: int, first: int, stop: int, boundary: Boundary) -> Tensor:
    """The field at positions `first` to `stop` of an axis, beyond its borders as well."""
    size = field.shape[axis]
    place = torch.arange(first, stop, device=field.device)
    if boundary == "periodic":
        place = place % size
    else:
        place = place % (2 * size)
        place = torch.where(place < size, place, 2 * size - 1 - place)
    return field.index_select(axis, place)


def _weighted_sum(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = terms[0] * weights[0]
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        total = torch.add(total, term, alpha=weight)
    return total


def plan_transform(
    sizes: Sequence[int],
    *,
    wavelet: Wavelet,
    levels: int | None,
    boundary: Boundary,
    undecimated: bool,
) -> WaveletTransform:
    """The transform for a grid; ValueError where the options or their levels do not fit it."""
    check_choice("wavelet", wavelet, tuple(SCALING))
    check_choice("boundary", boundary, ("periodic", "symmetric"))
    taps = len(SCALING[wavelet])
    for axis, size in enumerate(sizes):
        if size < taps:
            raise ValueError(
                f"grid axis {axis} has {size} cells, fewer than the {taps} of {wavelet}."
            )
    halving = boundary == "periodic" and not undecimated
    return WaveletTransform(
        wavelet=wavelet,
        levels=_number_of_levels(sizes, levels, halving=halving),
        boundary=boundary,
        undecimated=undecimated,
        spatial_dims=len(sizes),
    )


def _number_of_levels(sizes: Sequence[int], levels: int | None, *, halving: bool) -> int:
    if levels is not None and levels < 1:
        raise ValueError(f"levels needs at least 1, got {levels}.")
    # how often an axis can be halved: without remainder, or until one cell is left
    most = [(size & -size if halving else size).bit_length() - 1 for size in sizes]
    coarse = [(size // COARSEST).bit_length() - 1 for size in sizes]
    axis = most.index(min(most))
    wanted = levels or 1
    if most[axis] < wanted:
        how = "halved without remainder" if halving else "halved"
        raise ValueError(
            f"grid axis {axis} has {sizes[axis]} cells, which can be {how} {most[axis]} times, but "
            f"wavelet levels={levels} takes {wanted}"
            + ("; pass fewer levels or undecimated=True." if halving else "; pass fewer levels.")
        )
    if levels is None and min(coarse) < 1:
        axis = coarse.index(min(coarse))
        raise ValueError(
            f"grid axis {axis} has {sizes[axis]} cells; levels=None leaves {COARSEST} on the "
            f"coarsest level and needs {2 * COARSEST}. Pass levels={most[axis]} at most."
        )
    return min(MOST_LEVELS, *most, *coarse) if levels is None else levels
