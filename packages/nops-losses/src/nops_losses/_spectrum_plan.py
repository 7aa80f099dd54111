"""What a spectrum needs to know of a grid: the bin and the weight of every mode, made once."""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nops_losses._checks import check_choice

TIE_GUARD = 1e-9  # half-integer radii occur with unequal lengths; rounding must not decide them
NUM_PLANS = 32
BINS_PER_OCTAVE = 8

Bins = Literal["linear", "log"] | Sequence[float]
Estimator = Literal["sum", "mean"]


class Plan(NamedTuple):
    """What depends on grid, lengths and bins alone, flat over the modes that rfftn stores.

    Attributes:
        shell: Bin of each mode [M].
        weight: Factor of |F|² in the bin's energy [M]; 0 for modes outside all bins.
        modes: Number of modes in each bin [K], those that rfftn leaves out included.
        wavenumber: Centre of each bin [K], radians per length.
        centres: The same as numbers of the host, for choices that need no device.
        zero: Bin that holds the mean of the field; None if no bin does.
    """

    shell: Tensor
    weight: Tensor
    modes: Tensor
    wavenumber: Tensor
    centres: tuple[float, ...]
    zero: int | None


def plan_for(
    sizes: Sequence[int],
    *,
    lengths: Sequence[float] | None,
    bins: Bins = "linear",
    estimator: Estimator = "sum",
    like: Tensor,
) -> Plan:
    """The plan of a grid on the device and in the dtype of `like`; its 32 last ones are kept."""
    check_choice("estimator", estimator, ("sum", "mean"))
    sizes = tuple(sizes)
    key = (sizes, checked_lengths(lengths, sizes), _checked_bins(bins), estimator)
    build = _cached_plan if may_cache(like) else _build_plan
    return build(*key, like.device, like.dtype)


def may_cache(like: Tensor) -> bool:
    """Whether what is made for `like` may serve later calls.

    A compiled graph holds the plan's own arithmetic, a look-up would break it; and what is made
    from a tensor without numbers (of a tracer, say) has none either.
    """
    return not torch.compiler.is_compiling() and type(like) is Tensor


def bin_sums(power: Tensor, plan: Plan, *, spatial_dims: int) -> Tensor:
    """Weighted sums of `power` [..., *modes] over each bin, [..., K]; one operation for all."""
    flat = power.flatten(-spatial_dims) * plan.weight
    sums = flat.new_zeros(*flat.shape[:-1], plan.wavenumber.numel())
    return sums.index_add(-1, plan.shell, flat)


def checked_lengths(lengths: Sequence[float] | None, sizes: tuple[int, ...]) -> tuple[float, ...]:
    """One positive extent per axis, 2π each for None."""
    if lengths is None:
        return (2 * math.pi,) * len(sizes)
    if len(lengths) != len(sizes) or not all(0 < length < math.inf for length in lengths):
        raise ValueError(
            f"lengths needs one positive extent for each of the {len(sizes)} grid axes, "
            f"got {tuple(lengths)}."
        )
    return tuple(float(length) for length in lengths)


def signed_modes(sizes: tuple[int, ...]) -> list[Tensor]:
    """Mode numbers of each axis that rfftn stores, float64; the last axis has none below 0."""
    frequencies = [torch.fft.fftfreq] * (len(sizes) - 1) + [torch.fft.rfftfreq]
    return [
        frequency(size, d=1 / size, dtype=torch.float64, device="cpu")
        for frequency, size in zip(frequencies, sizes, strict=True)
    ]


def multiplicity(size: int) -> Tensor:
    """How many modes each stored column of a real transform of `size` points stands for."""
    columns = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64, device="cpu")
    columns[0] = 1.0
    if size % 2 == 0:
        columns[-1] = 1.0
    return columns


def _checked_bins(bins: Bins) -> Literal["linear", "log"] | tuple[float, ...]:
    if isinstance(bins, str):
        check_choice("bins", bins, ("linear", "log"))
        return "log" if bins == "log" else "linear"
    edges = tuple(float(edge) for edge in bins)
    rising = all(low < high for low, high in itertools.pairwise(edges))
    if len(edges) < 2 or not (rising and edges[0] >= 0 and math.isfinite(edges[-1])):
        raise ValueError(
            "bins as edges needs two or more rising wavenumbers in radians per length, none "
            f"negative; got {edges}."
        )
    return edges


@lru_cache(maxsize=NUM_PLANS)
def _cached_plan(
    sizes: tuple[int, ...],
    lengths: tuple[float, ...],
    bins: Literal["linear", "log"] | tuple[float, ...],
    estimator: Estimator,
    device: torch.device,
    dtype: torch.dtype,
) -> Plan:
    with torch.inference_mode(False):  # an inference tensor could not serve a later backward pass
        return _build_plan(sizes, lengths, bins, estimator, device, dtype)


def _build_plan(
    sizes: tuple[int, ...],
    lengths: tuple[float, ...],
    bins: Literal["linear", "log"] | tuple[float, ...],
    estimator: Estimator,
    device: torch.device,
    dtype: torch.dtype,
) -> Plan:
    radius = _radius(sizes, lengths)
    columns = multiplicity(sizes[-1]).expand(radius.shape).flatten()
    if isinstance(bins, str):
        binning = _merged_shells(radius.flatten(), sizes, lengths, bins)
    else:
        binning = _between_edges(radius.flatten(), sizes, lengths, bins)
    shell, centres, ideal, zero = binning
    inside = columns * (shell >= 0)
    shell = shell.clamp(min=0)
    count = inside.new_zeros(len(centres)).index_add(0, shell, inside)
    weight = 0.5 * inside
    if estimator == "mean":
        factor = torch.tensor(ideal, dtype=torch.float64, device="cpu") / count.clamp(min=1)
        if zero is not None:
            factor[zero] = 1.0
        weight = weight * factor[shell]
    wavenumber = torch.tensor(centres, dtype=torch.float64, device="cpu")
    weight, count, wavenumber = (x.to(device, dtype) for x in (weight, count, wavenumber))
    return Plan(shell.to(device), weight, count, wavenumber, centres, zero)


_Binning = tuple[Tensor, tuple[float, ...], list[float], int | None]


def _merged_shells(
    radius: Tensor, sizes: tuple[int, ...], lengths: tuple[float, ...], bins: str
) -> _Binning:
    """Shells j - ½ <= |k|/dk < j + ½, for "log" merged into about 8 per octave.

    Returns the bin of each mode, the centres, the expected count of each bin and the bin of k = 0.
    """
    shell = torch.floor(radius + 0.5 + TIE_GUARD).long()
    owner = list(range(_num_shells(sizes, lengths)))
    if bins == "log":
        owner = _octave_bins(len(owner))
    surface = _sphere(len(sizes)) * _density(lengths)
    members = [0] * (owner[-1] + 1)
    centres, ideal = [0.0] * len(members), [0.0] * len(members)
    for j, to in enumerate(owner):
        members[to] += 1
        centres[to] += j * _spacing(lengths)
        ideal[to] += surface * j ** (len(sizes) - 1)
    centres = tuple(total / number for total, number in zip(centres, members, strict=True))
    merged = shell if bins == "linear" else torch.tensor(owner, device="cpu")[shell]
    return merged, centres, ideal, 0


def _octave_bins(num_shells: int) -> list[int]:
    """The bin of each shell: shell 0 alone, the others by their rounded place among 8 per octave."""
    places = [round(BINS_PER_OCTAVE * math.log2(j)) for j in range(1, num_shells)]
    steps = [int(place != before) for before, place in itertools.pairwise([-1, *places])]
    return [0, *itertools.accumulate(steps)]


def _between_edges(
    radius: Tensor, sizes: tuple[int, ...], lengths: tuple[float, ...], bins: tuple[float, ...]
) -> _Binning:
    """Bins edge <= |k| < next edge; modes outside all of them have bin -1."""
    limits = [edge / _spacing(lengths) for edge in bins]
    boundaries = torch.tensor(limits, dtype=torch.float64, device="cpu")
    shell = torch.bucketize(radius + TIE_GUARD, boundaries, right=True) - 1
    shell = shell.where(shell < len(bins) - 1, -1)
    dims = len(sizes)
    centres = tuple((low + high) / 2 for low, high in itertools.pairwise(bins))
    volume = _sphere(dims) / dims * _density(lengths)
    ideal = [volume * (high**dims - low**dims) for low, high in itertools.pairwise(limits)]
    return shell, centres, ideal, 0 if bins[0] == 0 else None


def _spacing(lengths: tuple[float, ...]) -> float:
    """dk, the width of a shell."""
    return 2 * math.pi / min(lengths)


def _sphere(dims: int) -> float:
    """Surface of the unit sphere: 2, 2π, 4π in one to three dimensions."""
    return 2 * math.pi ** (dims / 2) / math.gamma(dims / 2)


def _density(lengths: tuple[float, ...]) -> float:
    """Modes per dk^d."""
    return math.prod([length / min(lengths) for length in lengths])


def _num_shells(sizes: tuple[int, ...], lengths: tuple[float, ...]) -> int:
    """One more than the shell of the corner mode, the farthest of all."""
    corner = [
        size // 2 * (min(lengths) / length) for size, length in zip(sizes, lengths, strict=True)
    ]
    return math.floor(math.hypot(*corner) + 0.5 + TIE_GUARD) + 1


def _radius(sizes: tuple[int, ...], lengths: tuple[float, ...]) -> Tensor:
    """|k|/dk of each mode that rfftn stores, in float64."""
    square = torch.zeros((), dtype=torch.float64, device="cpu")
    for axis, (modes, length) in enumerate(zip(signed_modes(sizes), lengths, strict=True)):
        scaled = modes * (min(lengths) / length)
        square = square + scaled.square().view(-1, *(1,) * (len(sizes) - 1 - axis))
    return square.sqrt()
