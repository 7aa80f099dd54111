"""Patience and warm-up from a metric that was recorded before."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from nops_schedules._params import SchedulerParams
from nops_schedules._robust import Point, mad_sigma, theil_sen

_FEWEST = 8  # recorded values; fewer say nothing about noise
_SHORTEST = 3  # a slope over fewer points has no residuals worth the name
_SETTLED = 0.1  # of the steepest descent: below it the first fall is over


def suggest_params(
    metrics: Sequence[float | None], *, params: SchedulerParams | None = None
) -> SchedulerParams:
    """`params` with the patience and the warm-up that a recorded metric asks for.

    Noise: the deviation σ of the values from the straight line between both neighbours, by the median
    absolute deviation. The slope over a window of w epochs, w + 1 values, then has the standard error
    σ·√(12 / (w(w+1)(w+2))) per epoch. `patience` is the smallest w for which that is below `min_delta` (times
    the median of the last quarter for `min_delta_mode="rel"`): over a shorter window noise would be
    taken for a trend. `warmup_epochs` is the first epoch from which the Theil–Sen slope over the next
    `patience` epochs is less than a tenth of the steepest, `min_epochs_before_adapt` becomes 0.

    Args:
        metrics: The monitored metric, one entry per epoch; None for an epoch without validation. Values
            that are not finite are left out.
        params: What the rest is taken from; None: the defaults, enabled.

    Returns:
        New parameters, `enabled` as given.

    Raises:
        ValueError: If fewer than 8 values are finite, `min_delta` is 0, or the noise is too large for any window
            of the record: the least `min_delta` that would do is named.

    Source:
        Sen, J. Am. Stat. Assoc. 63 (1968); the standard error is that of least squares on equidistant
        points, which Theil–Sen misses by 5 % for Gaussian noise.
    """
    params = SchedulerParams(enabled=True) if params is None else params
    points = [
        (epoch, float(value))
        for epoch, value in enumerate(metrics)
        if value is not None and math.isfinite(value)
    ]
    if len(points) < _FEWEST:
        raise ValueError(f"metrics needs {_FEWEST} finite values at least, got {len(points)}.")
    patience = _patience(points, params)
    warmup = _settled(points, patience, falling=params.monitor_mode == "min")
    return replace(params, patience=patience, warmup_epochs=warmup, min_epochs_before_adapt=0)


def _patience(points: Sequence[Point], params: SchedulerParams) -> int:
    late = statistics.median(value for _, value in points[-max(len(points) // 4, 1) :])
    level = abs(late) if params.min_delta_mode == "rel" else 1.0
    sigma = mad_sigma(_residuals(points))
    errors = {w: sigma * _slope_error(w) for w in range(_SHORTEST, len(points))}
    for window, error in errors.items():
        if error < params.min_delta * level:
            return window
    least = min(errors.values()) / level if level else math.inf
    raise ValueError(
        f"the metric's noise of {sigma:.3g} hides slopes below min_delta={params.min_delta:g} in all "
        f"{len(points)} values: record longer, or raise min_delta above {least:.2g}."
    )


def _slope_error(window: int) -> float:
    """Standard error of the slope over window + 1 unit-spaced values of unit noise."""
    return math.sqrt(12 / (window * (window + 1) * (window + 2)))


def _residuals(points: Sequence[Point]) -> list[float]:
    """Deviations from the chord of both neighbours, scaled to the deviation of one value."""
    found = []
    for (t1, y1), (t2, y2), (t3, y3) in zip(points, points[1:], points[2:], strict=False):
        share = (t2 - t1) / (t3 - t1)
        spread = math.sqrt(1 + share**2 + (1 - share) ** 2)
        found.append((y2 - (1 - share) * y1 - share * y3) / spread)
    return found


def _settled(points: Sequence[Point], patience: int, *, falling: bool) -> int:
    """First epoch from which the next `patience` epochs gain little."""
    gains = {}
    for index in range(len(points)):
        at = points[index][0]
        window = [point for point in points[index:] if point[0] <= at + patience]
        if points[-1][0] >= at + patience and len(window) > 1:
            gains[at] = -theil_sen(window) if falling else theil_sen(window)
    steepest = max(gains.values(), default=0.0)
    if steepest <= 0:
        return 0
    settled = [int(at) for at, gain in gains.items() if gain < _SETTLED * steepest]
    return settled[0] if settled else int(points[-1][0])
