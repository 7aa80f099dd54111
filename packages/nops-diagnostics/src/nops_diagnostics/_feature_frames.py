"""Scalars of periodic fields, one number per frame and channel."""

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch
from nops_losses import energy_spectrum
from torch import Tensor

from nops_diagnostics._feature_columns import (
    BANDS,
    BINS,
    PATCH,
    ROLL_OFF,
    ROLL_OFF_WIDTH,
    SHARE_FLOOR,
    TINY,
)
from nops_diagnostics._order import ordered_values

NUM_PLANS = 32
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LINEAR: tuple[str, ...] = (
    "share_1",
    "share_2",
    "share_4",
    "share_8",
    "centroid",
    "along_x",
    "along_y",
)
LINEAR += ("fourth", "spectral_anisotropy", "four_fold", "lag_correlation", "patch_mean")


class Modes(NamedTuple):
    """What a grid's modes need, flat over those that rfft2 stores.

    Attributes:
        multiplicity: How many modes each stands for [M]; 0 for the mean.
        radius: |k| in waves per domain [M].
        linear: Factors of the energy's shares in each linear scalar [M, len(LINEAR)].
    """

    multiplicity: Tensor
    radius: Tensor
    linear: Tensor


def frame_scalars(field: Tensor, *, length: float) -> dict[str, Tensor]:
    """Every scalar of `FRAME`, and those that only an initial state or a clip asks for.

    Args:
        field: Periodic fields `[..., channel, height, width]`, float32 or float64.
        length: Extent of each axis.

    Returns:
        Scalars `[..., channel]` by name.
    """
    mean = field.mean((-2, -1))
    centred = field - mean[..., None, None]
    square = centred.square()
    variance = square.mean((-2, -1)) + TINY
    found = {
        "mean": mean,
        "std": variance.sqrt(),
        "skewness": (square * centred).mean((-2, -1)) / variance.pow(1.5),
        "kurtosis": square.square().mean((-2, -1)) / variance.square(),
        "entropy": _value_entropy(centred / variance.sqrt()[..., None, None]),
        "total_variation": _total_variation(field, length=length),
        "mean_square": variance - TINY + mean.square(),
    }
    found["excess_kurtosis"] = found["kurtosis"] - 3
    return found | _values(field) | _spectral(centred, length=length)


def crossing_rate(field: Tensor, median: Tensor) -> Tensor:
    """Share of pairs of neighbours on two sides of the median `[...]`; without a gradient."""
    above = field.detach() > median.detach()[..., None, None]
    crossed = [above ^ above.roll(1, dims=axis) for axis in (-2, -1)]
    return torch.stack(crossed).to(field.dtype).mean((0, -2, -1))


def central_difference(field: Tensor, *, axis: int) -> Tensor:
    """u(x+1) − u(x−1) along a periodic axis."""
    return field.roll(-1, dims=axis) - field.roll(1, dims=axis)


def soft_entropy(share: Tensor) -> Tensor:
    """Entropy of shares along the last axis over its greatest, finite in value and gradient at 0."""
    return -(share * (share + TINY).log()).sum(-1) / math.log(share.shape[-1])


def _values(field: Tensor) -> dict[str, Tensor]:
    flat = field.flatten(-2)
    last = flat.shape[-1] - 1
    places = [quantile * last for quantile in QUANTILES]
    wanted = [0, *(n for place in places for n in (math.floor(place), math.ceil(place))), last]
    low, *middle, high = ordered_values(flat, wanted).unbind(-1)
    found = {"min": low, "max": high, "mean_abs": flat.abs().mean(-1)}
    found["linf"] = torch.maximum(-low, high)
    pairs = zip(QUANTILES, places, middle[::2], middle[1::2], strict=True)
    for quantile, place, below, above in pairs:
        found[f"q{round(100 * quantile):02d}"] = below + (place % 1) * (above - below)
    return found


def _value_entropy(scaled: Tensor) -> Tensor:
    """Entropy of a histogram to which each value gives to its two nearest bins, by distance."""
    place = ((scaled.flatten(-2).clamp(-4, 4) + 4) / 8 * (BINS - 1)).clamp(0, BINS - 1)
    lower = place.detach().floor().clamp(max=BINS - 2)
    weight = place - lower
    index = lower.nan_to_num().long()  # what is not finite stays so through the weight
    histogram = place.new_zeros(*place.shape[:-1], BINS)
    histogram = histogram.scatter_add(-1, index, 1 - weight).scatter_add(-1, index + 1, weight)
    return soft_entropy(histogram / place.shape[-1])


def _total_variation(field: Tensor, *, length: float) -> Tensor:
    squares = torch.zeros_like(field)
    for axis in (-2, -1):
        slope = central_difference(field, axis=axis) * (field.shape[axis] / (2 * length))
        squares = squares + slope.square()
    return (squares + TINY).sqrt().mean((-2, -1))


def _spectral(centred: Tensor, *, length: float) -> dict[str, Tensor]:
    modes = modes_of(centred)
    # MKL refuses an expanded view (stride 0) in some releases of torch
    transform = torch.fft.rfft2(centred.contiguous(), norm="forward")
    power = torch.view_as_real(transform).square().sum(-1).flatten(-2)
    energy = power * modes.multiplicity
    total = energy.sum(-1) + TINY
    share = energy / total[..., None]
    found = dict(zip(LINEAR, (share @ modes.linear).unbind(-1), strict=True))
    squared = found.pop("along_x") + (along_y := found.pop("along_y"))
    spread = (modes.radius - found["centroid"][..., None]).square()
    wave = 2 * math.pi / length
    found["bandwidth"] = ((spread * share).sum(-1) + TINY).sqrt()
    found["gradient_rms"] = wave * (squared * total + TINY).sqrt()
    found["gradient_anisotropy"] = (squared - 2 * along_y) / (squared + TINY)
    found["laplacian_rms"] = wave**2 * (found.pop("fourth") * total + TINY).sqrt()
    found["local_variance"] = share.sum(-1) - found.pop("patch_mean")
    number = modes.multiplicity.sum()
    relative = (power * number / total[..., None] + SHARE_FLOOR).log()
    found["flatness"] = ((relative * modes.multiplicity).sum(-1) / number).exp()
    return found | _shells(centred, total)


def _shells(centred: Tensor, total: Tensor) -> dict[str, Tensor]:
    """Scalars of the shells' shares s_j, j = 1 … , those beyond half the side included."""
    energy = energy_spectrum(centred, components="each").energy[..., 1:]
    share = 2 * energy / total[..., None]
    number = torch.arange(1, share.shape[-1] + 1, dtype=share.dtype, device=share.device)
    half = min(centred.shape[-2:]) // 2
    place = number[:half].log() - number[:half].log().mean()
    fourth = share.pow(4)
    below = (ROLL_OFF - share.cumsum(-1)) / ROLL_OFF_WIDTH
    return {
        "slope": (share[..., :half] + SHARE_FLOOR).log() @ (place / place.square().sum()),
        "roll_off": 1 + torch.sigmoid(below).sum(-1),
        "spectral_entropy": soft_entropy(share),
        "dominant": fourth @ number / (fourth.sum(-1) + TINY**2),
    }


def modes_of(field: Tensor) -> Modes:
    """The modes of a grid on the device and in the dtype of `field`; the 32 last are kept."""
    height, width = field.shape[-2:]
    return _modes(height, width, field.device, field.dtype)


@lru_cache(maxsize=NUM_PLANS)
def _modes(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Modes:
    with torch.inference_mode(False):  # an inference tensor could not serve a later backward pass
        ky = torch.fft.fftfreq(height, d=1 / height, dtype=torch.float64)[:, None]
        kx = torch.fft.rfftfreq(width, d=1 / width, dtype=torch.float64)[None, :]
        radius = (kx.square() + ky.square()).sqrt().flatten()
        count = torch.where((kx == 0) | (2 * kx == width), 1.0, 2.0).expand(height, -1).flatten()
        count = torch.where(radius == 0, 0.0, count)
        linear = torch.stack([c.flatten() for c in _linear(kx, ky, height, width)], dim=-1)
        return Modes(*(x.to(device, dtype) for x in (count, radius, linear)))


def _linear(kx: Tensor, ky: Tensor, height: int, width: int) -> list[Tensor]:
    """Factors in the order of `LINEAR`, each `[height, width // 2 + 1]`."""
    squared = kx.square() + ky.square()
    edges = [*BANDS, math.inf]
    bands = [
        ((squared >= low**2) & (squared < high**2)).double()
        for low, high in itertools.pairwise(edges)
    ]
    double = (kx.square() - ky.square()) / squared.clamp(min=1)
    lag = (torch.cos(2 * math.pi * kx / width) + torch.cos(2 * math.pi * ky / height)) / 2
    patch = _box(kx, width) * _box(ky, height)
    along = [kx.square().expand_as(squared), ky.square().expand_as(squared)]
    angles = [double, 2 * double.square() - 1]
    return [*bands, squared.sqrt(), *along, squared.square(), *angles, lag, patch]


def _box(wavenumber: Tensor, size: int) -> Tensor:
    """|transfer|² of the mean over `PATCH` neighbouring cells, or over the whole axis."""
    side = min(PATCH, size)
    angle = math.pi * wavenumber / size
    ratio = torch.sin(side * angle) / (side * torch.sin(angle))
    return torch.where(wavenumber == 0, 1.0, ratio).square()
