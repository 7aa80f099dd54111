"""How long a rollout stays correlated with the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._bootstrap import bootstrap_weights, percentile_interval
from nops_diagnostics._layout import as_double, check_choice, check_pair

Channels = Literal["joint", "mean"]

CONSTANT = 1e-24  # share of a frame's square sum below which its variation is float64 round-off

THRESHOLDS = tuple(tenths / 10 for tenths in range(1, 10))


@dataclass(frozen=True, kw_only=True)
class CorrelationTime:
    """When the mean correlation first falls below the threshold.

    Attributes:
        time: In the unit of `frame_interval`, counted from the initial state.
        low: Lower end of the bootstrap interval of `time`.
        high: Upper end; a resample that never crosses counts with the last lead.
        censored: True if the correlation never crossed; then `time` is the last lead.
        curve: Mean correlation per lead, `[time]`, dimensionless.
    """

    time: float
    low: float
    high: float
    censored: bool
    curve: Float[Tensor, "time"]


def correlation(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    spatial_dims: int = 2,
    channels: Channels = "joint",
) -> Float[Tensor, "*leading"]:
    """Pearson correlation of each predicted frame with its reference.

    Covariance and both deviations use the same moments, so a frame's correlation with itself is 1.

    Args:
        pred: Prediction `[*leading, channel, *space]`, any unit.
        target: Reference, same shape; units may differ, correlation does not see them.
        spatial_dims: Number of trailing axes that are space.
        channels: `"joint"` takes channels and cells as one population: bring the channels to one
            mean and scale before, or their offsets alone correlate. `"mean"` takes one
            correlation per channel and averages those whose target is not constant in space.

    Returns:
        float64 `[*leading]` in [-1, 1]. 0 where the prediction is constant or not finite; NaN
        where the whole target frame is constant.

    Raises:
        ValueError: If the shapes differ or have too few axes.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    check_choice("channels", channels, ("joint", "mean"))
    first = -spatial_dims - (channels == "joint")
    p, p_moves = _unit_deviation(as_double(pred).flatten(first))
    t, t_moves = _unit_deviation(as_double(target).flatten(first))
    r = torch.where(p_moves, (p * t).sum(-1), 0.0).clamp(-1.0, 1.0)
    r = torch.where(t_moves, r, torch.nan)
    return r.nanmean(-1) if channels == "mean" else r


def correlation_time(
    pred: Float[Tensor, "sample time channel *space"],
    target: Float[Tensor, "sample time channel *space"],
    *,
    frame_interval: float,
    threshold: float = 0.8,
    spatial_dims: int = 2,
    channels: Channels = "joint",
    interpolate: bool = True,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> CorrelationTime:
    """Time at which the sample-mean correlation first falls below `threshold`.

    Frame `j` is lead `j + 1`, at `(j + 1) * frame_interval`; at lead 0 both share the initial
    state and the correlation is 1. Samples are averaged first, then the crossing is sought.

    Args:
        pred: Rollout without the initial state, `[sample, time, channel, *space]`.
        target: Truth at the same times, same shape.
        frame_interval: Physical time between frames; sets the unit of the answer.
        threshold: Correlation regarded as lost, between 0 and 1.
        spatial_dims: Number of trailing axes that are space.
        channels: See `correlation`.
        interpolate: True places the crossing linearly between two leads; False takes the first
            lead that lies below.
        bootstrap: Number of resamples over samples.
        confidence: Coverage aimed at by the interval.
        seed: Of the resampling.

    Returns:
        The time with its interval, whether it is censored, and the curve. Samples with a constant
        target frame are left out at that lead; a lead at which all are left out is NaN in the
        curve and counts as the lead before it.

    Raises:
        ValueError: If the shapes differ or `threshold`, `frame_interval` or an option of the
            bootstrap is out of range.

    Source:
        Lippe et al., PDE-Refiner, arXiv 2308.05732, for the threshold 0.8.
    """
    return correlation_times(
        pred,
        target,
        frame_interval=frame_interval,
        thresholds=(threshold,),
        spatial_dims=spatial_dims,
        channels=channels,
        interpolate=interpolate,
        bootstrap=bootstrap,
        confidence=confidence,
        seed=seed,
    )[threshold]


def correlation_times(
    pred: Float[Tensor, "sample time channel *space"],
    target: Float[Tensor, "sample time channel *space"],
    *,
    frame_interval: float,
    thresholds: Sequence[float] = THRESHOLDS,
    spatial_dims: int = 2,
    channels: Channels = "joint",
    interpolate: bool = True,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[float, CorrelationTime]:
    """`correlation_time` at several thresholds, the correlations computed once.

    Args:
        pred: See `correlation_time`, as for all below.
        target: Truth at the same times, same shape.
        frame_interval: Physical time between frames.
        thresholds: Each between 0 and 1.
        spatial_dims: Number of trailing axes that are space.
        channels: See `correlation`.
        interpolate: See `correlation_time`.
        bootstrap: Number of resamples over samples, the same ones for all thresholds.
        confidence: Coverage aimed at by the intervals.
        seed: Of the resampling.

    Returns:
        The time by threshold.

    Raises:
        ValueError: As `correlation_time`, or if there is no threshold.
    """
    check_pair(pred, target, spatial_dims=spatial_dims, leading=2)
    if not thresholds or not all(0.0 < t < 1.0 for t in thresholds) or not frame_interval > 0.0:
        raise ValueError(
            f"need 0 < threshold < 1 and frame_interval > 0, got threshold="
            f"{', '.join(map(str, thresholds))} and frame_interval={frame_interval}."
        )
    r = _per_frame(pred, target, spatial_dims=spatial_dims, channels=channels)
    plain = torch.full((1, len(r)), 1.0 / len(r), dtype=r.dtype)
    weights = bootstrap_weights(len(r), num_resamples=bootstrap, seed=seed)
    curves = _mean_defined(r, torch.cat([plain, weights]))

    def at(threshold: float) -> CorrelationTime:
        leads, censored = _first_crossing(curves, threshold=threshold, interpolate=interpolate)
        times = leads * frame_interval
        low, high = percentile_interval(times[1:], confidence=confidence)
        return CorrelationTime(
            time=float(times[0]),
            low=float(low),
            high=float(high),
            censored=bool(censored[0]),
            curve=curves[0],
        )

    return {threshold: at(threshold) for threshold in thresholds}


def _unit_deviation(values: Tensor) -> tuple[Tensor, Tensor]:
    """Deviation from the mean over the last axis, scaled to length 1, and whether it moves.

    Dividing by the largest value first keeps the squares of a diverging rollout finite.
    """
    values = values / values.abs().amax(-1, keepdim=True)
    deviation = values - values.mean(-1, keepdim=True)
    length = deviation.square().sum(-1)
    moves = length > CONSTANT * values.square().sum(-1)  # False for NaN
    return deviation / length.sqrt().unsqueeze(-1), moves


def _per_frame(pred: Tensor, target: Tensor, *, spatial_dims: int, channels: Channels) -> Tensor:
    """Correlation `[sample, time]` on the CPU, one lead in float64 at a time."""
    frames = zip(pred.unbind(1), target.unbind(1), strict=True)
    per_lead = [correlation(p, t, spatial_dims=spatial_dims, channels=channels) for p, t in frames]
    return torch.stack(per_lead, dim=1).detach().cpu()


def _mean_defined(r: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the samples whose correlation is defined, `[resample, time]`."""
    defined = ~r.isnan()
    total = weights @ torch.where(defined, r, 0.0)
    return total / (weights @ defined.to(r.dtype))


def _first_crossing(
    curves: Tensor, *, threshold: float, interpolate: bool
) -> tuple[Tensor, Tensor]:
    """Lead of the first value below `threshold` in each row, and whether there is none."""
    filled = [torch.ones_like(curves[:, 0])]
    for column in curves.unbind(1):
        filled.append(torch.where(column.isnan(), filled[-1], column))
    path = torch.stack(filled, dim=1)
    below = path < threshold
    censored = ~below.any(1)
    after = below.int().argmax(1).clamp(min=1)
    leads = after.to(path.dtype)
    if interpolate:
        high, low = (path.gather(1, i.unsqueeze(1)).squeeze(1) for i in (after - 1, after))
        leads = after - 1 + (high - threshold) / (high - low)
    return torch.where(censored, float(curves.shape[1]), leads), censored
