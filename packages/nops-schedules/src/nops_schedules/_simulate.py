"""When would the weights move? A real scheduler, driven by a recorded metric."""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nops_schedules._events import LossSchedulerEvent
from nops_schedules._params import SchedulerParams
from nops_schedules._scheduler import FlexibleLossScheduler


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """What a scheduler does over a recorded metric: one entry per epoch in each field but `events`.

    Attributes:
        epochs: 0-based.
        weights: Weight of each component after the epoch's validation, dimensionless.
        progress: Fraction of the path, in [0, 1].
        monitored: The metric as it came, its own unit; None without a validation, or where it was not
            finite.
        smoothed: Its moving average; None before the first.
        thresholds: What it was compared with; None where it was not.
        states: DISABLED, WARMUP, MONITORING, PAUSED, HELD or COMPLETE.
        events: What was done, and why.
        scale: Factor on each term's weight at the end, where one was given; None where it is not
            measured yet.
    """

    epochs: tuple[int, ...]
    weights: tuple[Mapping[str, float], ...]
    progress: tuple[float, ...]
    monitored: tuple[float | None, ...]
    smoothed: tuple[float | None, ...]
    thresholds: tuple[float | None, ...]
    states: tuple[str, ...]
    events: tuple[LossSchedulerEvent, ...]
    scale: Mapping[str, float | None] = dataclasses.field(default_factory=dict)


def simulate(
    params: SchedulerParams,
    metrics: Sequence[float | Mapping[str, Any] | None],
    *,
    scale: Mapping[str, float | str] | None = None,
) -> Simulation:
    """Drive a scheduler with one entry of `metrics` per epoch.

    Args:
        params: The configuration; where disabled, nothing moves.
        metrics: Per epoch the monitored number itself, or all metrics by name, or None for an epoch
            without validation.
        scale: As for `FlexibleLossScheduler`; the weights here are free of it.

    Returns:
        What it did, with all events.

    Raises:
        ValueError: As `FlexibleLossScheduler.step`, or if a guard is configured and a number stands alone.
        FloatingPointError: As `FlexibleLossScheduler.step`.
    """
    # As many events as there are, whatever a scheduler in a run would keep.
    whole = dataclasses.replace(params, history_size=sys.maxsize)
    scheduler = FlexibleLossScheduler(whole, scale=scale)
    rows: list[tuple[Any, ...]] = []
    for epoch, given in enumerate(metrics):
        value = _feed(scheduler, epoch, given)
        rows.append(
            (
                scheduler.get_loss_weights(),
                scheduler.progress,
                value,
                scheduler.smoothed,
                None if value is None else scheduler.threshold,
                scheduler.state,
            )
        )
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * 6
    weights, progress, monitored, smoothed, thresholds, states = columns
    return Simulation(
        epochs=tuple(range(len(rows))),
        weights=weights,
        progress=progress,
        monitored=monitored,
        smoothed=smoothed,
        thresholds=thresholds,
        states=states,
        events=scheduler.events,
        scale=scheduler.scale,
    )


def _feed(
    scheduler: FlexibleLossScheduler, epoch: int, given: float | Mapping[str, Any] | None
) -> float | None:
    """One epoch; the monitored value, None where there is none."""
    if given is None or not scheduler.params.enabled:
        return None
    if isinstance(given, Mapping):
        value, _ = scheduler._read(given)
        scheduler.step(epoch, given)
    elif scheduler.params.guard_metric is not None:
        raise ValueError(
            f"metrics[{epoch}] is the number {given}; with a guard_metric all metrics are needed, by name."
        )
    else:
        value = float(given)
        scheduler._take(epoch, value, None)
    return value if math.isfinite(value) else None
