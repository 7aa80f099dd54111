"""When to adapt: each rule looks at the memory and gives the reason, or None."""

import math
import statistics
from typing import TYPE_CHECKING

from nops_schedules._memory import Memory
from nops_schedules._names import qualified_name
from nops_schedules._robust import theil_sen

if TYPE_CHECKING:
    from nops_schedules._params import SchedulerParams
    from nops_schedules._scheduler import FlexibleLossScheduler

MOST_PATIENCE = 4  # times the configured one, after rollbacks


def smooth(average: float | None, value: float, *, beta: float, elapsed: int) -> float:
    """The exponential moving average, m ← β^Δ m + (1 − β^Δ) x; the first value is the average."""
    if average is None:
        return value
    kept = beta**elapsed
    moved = average + (1 - kept) * (value - average)  # a constant stays what it is, exactly
    return moved if math.isfinite(moved) else kept * average + (1 - kept) * value


def patience_of(params: "SchedulerParams", memory: Memory) -> int:
    """Patience in units: twice as much after each rollback, four times at most."""
    return params.patience * min(2**memory.rollbacks, MOST_PATIENCE)


def threshold_of(params: "SchedulerParams", memory: Memory) -> float | None:
    """What the smoothed metric is compared with; None where it is not, or for the first value."""
    sign = 1.0 if params.monitor_mode == "min" else -1.0
    if params.adaptation_trigger == "plateau" and memory.best is not None:
        return memory.best - sign * _delta(params, memory.best)
    if params.adaptation_trigger == "increase" and memory.previous is not None:
        return memory.previous + sign * _delta(params, memory.previous)
    return params.trigger_value


def note_best(params: "SchedulerParams", memory: Memory, *, now: int) -> None:
    """Keep the best smoothed value, and start the clock anew where it was beaten by `min_delta`."""
    assert memory.smoothed is not None
    if memory.best is not None:
        bar = _delta(params, memory.best)
        gain = memory.best - memory.smoothed
        if (gain if params.monitor_mode == "min" else -gain) <= bar:
            return
    memory.best, memory.clock = memory.smoothed, now


def note_recent(params: "SchedulerParams", memory: Memory, *, now: int) -> None:
    """Keep the raw values that a trend is taken over: of the last `patience` units."""
    assert memory.monitored is not None
    memory.recent.append((now, memory.monitored))
    while len(memory.recent) > 1 and now - memory.recent[1][0] >= patience_of(params, memory):
        memory.recent.pop(0)


def reason_to_adapt(
    scheduler: "FlexibleLossScheduler", memory: Memory, *, now: int, name: str
) -> str | None:
    """The trigger's reason to adapt at this call, on the metric called `name`; None: not now."""
    trigger = scheduler.params.adaptation_trigger
    if isinstance(trigger, str):
        reason = _RULES[trigger](scheduler.params, memory, now)
        return reason and reason.format(name=name)
    asked = trigger(scheduler, memory.smoothed or 0.0)
    return f"the trigger {qualified_name(trigger)} asked for it" if asked else None


def units(params: "SchedulerParams", count: int) -> str:
    """`1 epoch`, `5 calls`."""
    return f"{count} {params.unit}" if count == 1 else f"{count} {params.unit}s"


def _delta(params: "SchedulerParams", level: float) -> float:
    return params.min_delta * (abs(level) if params.min_delta_mode == "rel" else 1.0)


def _plateau(params: "SchedulerParams", memory: Memory, now: int) -> str | None:
    waited = now - memory.clock
    if waited < patience_of(params, memory):
        return None
    waiting = f"has not come past {memory.threshold:.4g} for {units(params, waited)}"
    return f"{{name}}, at {memory.smoothed:.4g}, {waiting}"


def _increase(params: "SchedulerParams", memory: Memory, now: int) -> str | None:
    del now
    if memory.previous is None or memory.smoothed is None or memory.threshold is None:
        return None
    rise = memory.smoothed - memory.threshold
    if (rise if params.monitor_mode == "min" else -rise) <= 0:
        return None
    return f"{{name}} went from {memory.previous:.4g} to {memory.smoothed:.4g}, which is worse"


def _epoch(params: "SchedulerParams", memory: Memory, now: int) -> str | None:
    del now
    left = params.milestones[memory.milestone :]
    if not left or memory.epoch is None or memory.epoch < left[0]:
        return None
    memory.milestone += 1
    return f"the milestone of epoch {left[0]} is passed"


def _threshold(params: "SchedulerParams", memory: Memory, now: int) -> str | None:
    assert memory.smoothed is not None
    assert params.trigger_value is not None
    beyond = params.trigger_value - memory.smoothed
    if (beyond if params.monitor_mode == "min" else -beyond) < 0:
        memory.reached_at = None
        return None
    reached_at = memory.reached_at
    if reached_at is not None and now - reached_at < patience_of(params, memory):
        return None
    memory.reached_at = now
    return f"{{name}}, at {memory.smoothed:.4g}, has reached {params.trigger_value:.4g}"


def _trend(params: "SchedulerParams", memory: Memory, now: int) -> str | None:
    patience = patience_of(params, memory)
    if now - memory.recent[0][0] < patience:
        return None
    fall = 0.0 - theil_sen(memory.recent) * patience
    gain = fall if params.monitor_mode == "min" else -fall
    bar = _delta(params, statistics.median(value for _, value in memory.recent))
    if gain >= bar:
        return None
    return (
        f"{{name}} gains {gain:.2g} in {units(params, patience)} by its trend, less than {bar:.2g}"
    )


_RULES = {
    "plateau": _plateau,
    "increase": _increase,
    "epoch": _epoch,
    "threshold": _threshold,
    "trend": _trend,
}
