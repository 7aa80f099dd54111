"""Scalars of whole clips, one number per sample and channel, and of channels against each other."""

import math

import torch
from torch import Tensor

from nops_diagnostics._feature_columns import EVENT, EVENT_WIDTH, NORMS, TINY
from nops_diagnostics._feature_frames import central_difference, soft_entropy

OVER = (1, -2, -1)  # time and space of [sample, time, channel, height, width]


def clip_scalars(clip: Tensor, frames: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every scalar of `SUMMARY`.

    Args:
        clip: Fields `[sample, time, channel, height, width]`, at least 4 frames.
        frames: Scalars of its frames, `[sample, time, channel]` by name.

    Returns:
        Scalars `[sample, channel]` by name.
    """
    norms = {
        "l1": frames["mean_abs"],
        "l2": (frames["mean_square"] + TINY).sqrt(),
        "linf": frames["linf"],
        "tv": frames["total_variation"],
        "entropy": frames["entropy"],
    }
    found = {"growth_rate": _slope((frames["mean_square"] + TINY).log())}
    found |= _increments(clip) | _over_time(clip) | _patterns(clip, frames["mean"])
    for name in NORMS:
        found |= {f"{name}_{kind}": value for kind, value in _course(norms[name]).items()}
    return found


def cross_scalars(clip: Tensor, frames: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every scalar of `CROSS`, `[sample, time]`, of clips with two or more channels."""
    channels = clip.shape[2]
    scale = frames["std"][..., None]
    scaled = (clip.flatten(-2) - frames["mean"][..., None]) / scale
    matrix = scaled @ scaled.mT / scaled.shape[-1]
    first, second = torch.triu_indices(channels, channels, offset=1, device=clip.device)
    pairs = matrix[..., first, second].abs()
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    broken = trace - trace  # 0, or NaN, of which eigvalsh would raise
    eigenvalues = torch.linalg.eigvalsh(matrix.nan_to_num()) + broken[..., None] + 1e-6
    return {
        "correlation_mean": pairs.mean(-1),
        "correlation_max": pairs.amax(-1),
        "participation": trace.square() / (matrix.square().sum((-2, -1)) + TINY),
        "log_condition": (eigenvalues[..., -1] / eigenvalues[..., 0].clamp(min=1e-7)).log(),
    }


def _increments(clip: Tensor) -> dict[str, Tensor]:
    steps = clip.diff(dim=1)
    square = steps.square()
    mean_square = square.mean(OVER) + TINY
    rms = mean_square.sqrt()
    mean = clip.mean(OVER, keepdim=True)
    variance = (clip - mean).square().mean(OVER) + TINY
    lag = max(1, (clip.shape[1] - 1) // 4)
    apart = clip[:, lag:] - clip[:, :-lag]
    bent = apart[:, lag:] - apart[:, :-lag]
    beyond = (steps.abs() / rms[:, None, :, None, None] - EVENT) / EVENT_WIDTH
    return {
        "speed": rms / variance.sqrt(),
        "acceleration": (steps.diff(dim=1).square().mean(OVER) + TINY).sqrt() / rms,
        "irreversibility": (steps * square).mean(OVER) / mean_square.pow(1.5),
        "persistence_error": apart.square().mean(OVER) / variance,
        "extrapolation_error": bent.square().mean(OVER) / variance,
        "event_rate": torch.sigmoid(beyond).mean(OVER),
    }


def _over_time(clip: Tensor) -> dict[str, Tensor]:
    """What the series of each cell tells, its mean over time taken out."""
    num_frames = clip.shape[1]
    products = _products(clip - clip.mean(1, keepdim=True))
    lags = products.flatten(-2) @ _lag_sums(products)  # [sample, channel, lag], lag 0 first
    lag = torch.arange(num_frames, dtype=clip.dtype, device=clip.device)
    frequency = lag[1 : num_frames // 2 + 1] / num_frames
    count = 2 - (2 * frequency == 1).to(clip)
    waves = count * torch.cos(2 * math.pi * lag[:, None] * frequency)
    waves[1:] *= 2  # what stands for its negative lag, too
    energy = (lags @ waves / num_frames**2).clamp(min=0)
    share = energy / (energy.sum(-1, keepdim=True) + TINY)
    variance = lags[..., 0] / num_frames + TINY
    return {
        "lag_correlation": lags[..., 1] / (num_frames - 1) / variance,
        "temporal_centroid": share @ frequency,
        "temporal_entropy": soft_entropy(share),
    }


def _patterns(clip: Tensor, mean: Tensor) -> dict[str, Tensor]:
    """What frames say of each other, their means taken out."""
    frames = clip - mean[..., None, None]
    now, following = frames[:, :-1], frames[:, 1:]
    variance = frames.square().mean(OVER) + TINY
    flows = {
        f"flow_{name}": (now * central_difference(following, axis=axis)).mean(OVER) / variance
        for name, axis in (("x", -1), ("y", -2))
    }
    return flows | {"decorrelation_time": _decorrelation(frames)}


def _decorrelation(frames: Tensor) -> Tensor:
    """Σ over lags of the squared mean correlation of frames that far apart."""
    products = _products(frames)
    scale = (products.diagonal(dim1=-2, dim2=-1) + TINY).sqrt()
    correlation = products / (scale[..., None] * scale[..., None, :])
    sums = _lag_sums(products)
    return (correlation.flatten(-2) @ (sums / sums.sum(0))).square().sum(-1)


def _products(frames: Tensor) -> Tensor:
    """⟨u_t u_s⟩ over space of every two frames, `[sample, channel, time, time]`."""
    flat = frames.movedim(1, 2).flatten(-2)
    return flat @ flat.mT / flat.shape[-1]


def _lag_sums(products: Tensor) -> Tensor:
    """1 where frames are `lag` apart, `[time * time, lag]`, each pair once."""
    time = torch.arange(products.shape[-1], device=products.device)
    apart = (time - time[:, None]).flatten()
    return (apart[:, None] == time).to(products)


def _course(norm: Tensor) -> dict[str, Tensor]:
    """Drift and roughness of `norm [sample, time, channel]`."""
    mean = norm.mean(1) + TINY**0.5
    bends = norm.diff(n=2, dim=1).square().mean(1)
    return {
        "drift": (norm[:, -1] - norm[:, 0]) / mean,
        "roughness": (bends + TINY).sqrt() / mean,
    }


def _slope(values: Tensor) -> Tensor:
    """Least-squares slope over time of `[sample, time, channel]`."""
    time = torch.arange(values.shape[1], dtype=values.dtype, device=values.device)
    time = time - time.mean()
    return torch.einsum("btc,t->bc", values, time / time.square().sum())
