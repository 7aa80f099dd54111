"""What the errors between two spectra share: which shells count, how much, and the floor."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nops_losses._checks import check_choice

# By type of the fields: the share of the energy outside shell 0 below which a shell of the truth
# counts as empty, and the share of the whole energy that rounding puts there, (4 eps)².
FLOORS = {torch.float64: (1e-20, 8e-31)}
FLOOR = (1e-10, 2.3e-13)  # float32 and below

Per = Literal["frame", "sequence", "batch"]
ShellWeights = Callable[[Tensor], Tensor]


class Shells(NamedTuple):
    """The shells of two spectra that are compared.

    Attributes:
        pred: Energy plus floor [..., K]; 1 where the shell does not count.
        target: The same of the truth.
        share: Weight of each shell, sums to 1; 0 throughout where the truth has no shell.
        floor: The floor e [..., 1].
        broken: 0, or NaN where a spectrum is not finite [...].
    """

    pred: Tensor
    target: Tensor
    share: Tensor
    floor: Tensor
    broken: Tensor


def mean_over(shells: Shells, distance: Tensor) -> Tensor:
    """Weighted mean over the shells of a distance that is 0 between equal ones."""
    return (shells.share * distance).sum(-1) + shells.broken


def compared_shells(
    pred: Tensor,
    target: Tensor,
    *,
    wavenumber: Tensor,
    kept: slice,
    zero: int | None,
    floor: float | None,
    shell_weights: ShellWeights | None,
) -> Shells:
    """Choose the shells `kept` whose energy in the truth exceeds the floor.

    The floor is `floor` times the energy of the truth outside the bin `zero`, plus what rounding
    leaves: the transform of a constant frame is not exactly zero in the other shells.
    """
    level = _floor(target, zero=zero, floor=floor, coarse=_coarser(pred, target))
    p, t = pred[..., kept] + level, target[..., kept] + level
    used = target[..., kept] > level
    weights = used.to(t.dtype)
    if shell_weights is not None:
        weights = weights * shell_weights(wavenumber[kept])
    total = weights.sum(-1, keepdim=True)
    share = weights / total.where(total > 0, 1.0)
    broken = 0.0 * (p.sum(-1) + t.sum(-1))
    return Shells(p.where(used, 1.0), t.where(used, 1.0), share, level, broken)


def kept_bins(
    centres: Sequence[float],
    *,
    zero: int | None,
    nyquist: float,
    k_range: tuple[float, float] | None,
) -> slice:
    """The bins with centres in `k_range`; for None those above k = 0 up to `nyquist`."""
    low, high = (0.0, nyquist) if k_range is None else _checked_range(k_range)
    slack = 1e-9 * high
    chosen = [
        j
        for j, centre in enumerate(centres)
        if low - slack <= centre <= high + slack and not (k_range is None and j == zero)
    ]
    if not chosen:
        raise ValueError(
            f"no bin of wavenumbers lies within {low:g} and {high:g} radians per length; the "
            f"centres go from {centres[0]:g} to {centres[-1]:g}. Change k_range, bins or lengths."
        )
    return slice(chosen[0], chosen[-1] + 1)


def nyquist_of(sizes: Sequence[int], lengths: Sequence[float]) -> float:
    """The smallest Nyquist wavenumber of the axes, radians per length."""
    return math.pi * min([size / length for size, length in zip(sizes, lengths, strict=True)])


def pooled(energy: Tensor, per: Per, *, channel_axis: bool) -> Tensor:
    """Energies averaged over no leading axis, the last, or all, for "frame", "sequence", "batch".

    Leading axes are those before the shells and, with `channel_axis`, the channels.
    """
    check_choice("per", per, ("frame", "sequence", "batch"))
    trailing = 2 if channel_axis else 1
    leading = energy.ndim - trailing
    if per == "frame":
        return energy
    if leading == 0:
        raise ValueError(
            f"per={per!r} averages over an axis before the channels, but the fields have axes "
            "(channel, *grid) alone; use per='frame'."
        )
    axes = range(leading) if per == "batch" else [leading - 1]
    return energy.mean(tuple(axes))


def _checked_range(k_range: tuple[float, float]) -> tuple[float, float]:
    if len(k_range) != 2 or not 0 <= k_range[0] <= k_range[1] < math.inf:
        raise ValueError(
            "k_range needs a smallest and a largest wavenumber in radians per length, none "
            f"negative; got {tuple(k_range)}."
        )
    return k_range


def _coarser(pred: Tensor, target: Tensor) -> torch.dtype:
    both = pred.dtype == target.dtype == torch.float64
    return torch.float64 if both else torch.float32


def _floor(target: Tensor, *, zero: int | None, floor: float | None, coarse: torch.dtype) -> Tensor:
    if floor is not None and not 0 <= floor < math.inf:
        raise ValueError(f"floor is a share of the energy, at least 0; got {floor}.")
    share, rounding = FLOORS.get(coarse, FLOOR)
    whole = target.sum(-1, keepdim=True)
    varying = whole if zero is None else target[..., zero + 1 :].sum(-1, keepdim=True)
    return (share if floor is None else floor) * varying + rounding * whole
