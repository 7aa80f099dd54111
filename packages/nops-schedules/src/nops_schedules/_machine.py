"""The state machine of a loss scheduler: what one validation does to its memory."""

import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nops_schedules._events import LossSchedulerEvent
from nops_schedules._memory import Memory
from nops_schedules._names import qualified_name
from nops_schedules._params_path import monitor_of, path_of
from nops_schedules._path import Position
from nops_schedules._trigger import (
    note_best,
    note_recent,
    patience_of,
    reason_to_adapt,
    smooth,
    threshold_of,
    units,
)

if TYPE_CHECKING:
    from nops_schedules._params import SchedulerParams
    from nops_schedules._scheduler import FlexibleLossScheduler


class Machine:
    """Decides when to move along the path.

    Attributes:
        params: The configuration, enabled or not.
        path: Its path.
        memory: All that is remembered.
        events: What was done, the last `history_size`.
        aliases: Metrics that the words "source_loss" and "target_loss" stand for.
        start: The first epoch from which it may adapt.
    """

    def __init__(self, params: "SchedulerParams") -> None:
        """Start at the beginning of the path."""
        self.params = params
        self.path = path_of(params)
        self.memory = Memory()
        self.events: deque[LossSchedulerEvent] = deque(maxlen=params.history_size)
        self.aliases = {"source_loss": params.source_loss, "target_loss": params.target_loss}
        self.start = params.min_epochs_before_adapt + params.warmup_epochs

    def go_on(self, memory: Memory, events: Iterable[LossSchedulerEvent]) -> None:
        """Take over what another one remembered."""
        self.memory = memory
        self.events.clear()
        self.events.extend(events)

    @property
    def state(self) -> str:
        """DISABLED, WARMUP, MONITORING, PAUSED, HELD or COMPLETE."""
        memory = self.memory
        if not self.params.enabled:
            return "DISABLED"
        if memory.held:
            return "HELD"
        if memory.position >= self.path.end:
            return "COMPLETE"
        if memory.paused_at is not None:
            return "PAUSED"
        return "MONITORING" if memory.warm else "WARMUP"

    def weights(self) -> dict[str, float]:
        """Weight of each component, the static ones over all others."""
        moving = self.path.weights(self.memory.position) if self.params.enabled else {}
        return {**moving, **self.params.static_components}

    def take(
        self, owner: "FlexibleLossScheduler", epoch: int, monitored: float, guard: float | None
    ) -> bool:
        """Take note of one validation; True where the position moved.

        Args:
            owner: Handed to a trigger that is a callable.
            epoch: 0-based.
            monitored: The monitored number.
            guard: The guard's; None without one.

        Raises:
            FloatingPointError: If one was not finite `max_nonfinite` times in a row.
        """
        memory = self.memory
        memory.call, memory.epoch = memory.call + 1, epoch
        for name, value in ((self._monitor_name, monitored), ("the guard metric", guard)):
            if value is not None and not math.isfinite(value):
                return self._skip(name, value)
        memory.nonfinite = 0
        warm = epoch >= self.start
        if warm or self.params.ema_in_warmup:
            self._smooth(monitored, guard)
        if not warm:
            return False
        self._end_warmup()
        if self._is_harmed():
            return self._roll_back()
        if self.state != "MONITORING":
            return self._rest()
        note_best(self.params, memory, now=self.now)
        if self.params.adaptation_trigger == "trend":
            note_recent(self.params, memory, now=self.now)
        return self._adapt_if_due(owner)

    @property
    def now(self) -> int:
        """The time in the schedule's unit."""
        return self.memory.call if self.params.unit == "call" else self.memory.epoch or 0

    def _skip(self, name: str, value: float) -> bool:
        memory = self.memory
        memory.nonfinite += 1
        self.note("skipped_nonfinite", f"{name} is {value}: nothing is decided on it")
        if memory.nonfinite >= self.params.max_nonfinite:
            raise FloatingPointError(
                f"{name} was not finite {memory.nonfinite} times in a row, up to epoch "
                f"{memory.epoch}: training has diverged, or the metric is undefined on this data."
            )
        return False

    def _smooth(self, monitored: float, guard: float | None) -> None:
        memory, params = self.memory, self.params
        elapsed = self.now - memory.smoothed_at
        beta = params.ema_beta if params.use_ema else 0.0
        memory.monitored, memory.previous = monitored, memory.smoothed
        memory.smoothed = smooth(memory.smoothed, monitored, beta=beta, elapsed=elapsed)
        if guard is not None:
            memory.guard_smoothed = smooth(memory.guard_smoothed, guard, beta=beta, elapsed=elapsed)
        memory.smoothed_at = self.now
        memory.threshold = threshold_of(params, memory)

    def _end_warmup(self) -> None:
        memory, params = self.memory, self.params
        if memory.warm:
            return
        memory.warm = True
        self.note("warmup_complete", f"epoch {memory.epoch} is the first from which it may adapt")
        level = abs(memory.smoothed or 0.0)
        if params.min_delta_mode == "abs" and level < 10 * params.min_delta:
            self.note(
                "advice",
                f"{self._monitor_name} is {level:.3g}, and min_delta {params.min_delta:g} is more than a "
                'tenth of it: almost nothing will count as improvement; min_delta_mode="rel" helps',
            )
        hidden = [name for name in self.path.largest() if name in params.static_components]
        if hidden:
            self.note("advice", f"static_components hide {', '.join(hidden)}: they do not move")

    def _is_harmed(self) -> bool:
        memory = self.memory
        if memory.guard_smoothed is None:
            return False
        harm = memory.guard_smoothed
        best = harm if memory.guard_best is None else memory.guard_best
        memory.guard_best = min(best, harm)
        muted = memory.guard_after is not None and self.now < memory.guard_after
        if memory.held or muted or not memory.undo:
            return False
        return harm > best + self.params.guard_tolerance * abs(best)

    def _roll_back(self) -> bool:
        memory, params = self.memory, self.params
        left = memory.position.segment
        memory.position = memory.undo.pop()
        memory.rollbacks += 1
        memory.paused_at, memory.streak, memory.adapted_at = None, 0, None
        memory.guard_after = self.now + patience_of(params, memory)
        reason = (
            f"the guard rose to {memory.guard_smoothed:.4g} from its best {memory.guard_best:.4g}"
        )
        self.note("rollback", f"{reason}: the last adaptation is undone")
        self._restart(left)
        if memory.rollbacks >= params.max_rollbacks:
            memory.held = True
            self.note("held", f"{memory.rollbacks} rollbacks: the weights are held for good")
        return True

    def _rest(self) -> bool:
        memory, params = self.memory, self.params
        if self.state != "PAUSED" or memory.paused_at is None:
            return False
        if self.now - memory.paused_at >= params.pause_epochs:
            memory.paused_at, memory.streak, memory.adapted_at = None, 0, None
            self._restart(memory.position.segment)
            self.note("resumed", f"the pause of {units(params, params.pause_epochs)} is over")
        return False

    def _adapt_if_due(self, owner: "FlexibleLossScheduler") -> bool:
        moved = False
        while self.state == "MONITORING":
            reason = reason_to_adapt(owner, self.memory, now=self.now, name=self._monitor_name)
            if reason is None:
                break
            self._adapt(reason)
            moved = True
            if self.params.adaptation_trigger != "epoch":
                break  # several milestones may have passed since the last call, but nothing else
        return moved

    def _adapt(self, reason: str) -> None:
        memory, params, left = self.memory, self.params, self.memory.position
        memory.undo = [*memory.undo, left][-params.max_rollbacks :]
        memory.position = self.path.advance(left, self._step_size(left))
        near = memory.adapted_at is not None and self.now - memory.adapted_at <= 1
        memory.streak = memory.streak + 1 if near else 1
        memory.adaptations, memory.adapted_at = memory.adaptations + 1, self.now
        self.note("adaptation", reason)
        self._restart(left.segment)
        if self.state == "COMPLETE":
            self.note("complete", f"the weights are final, adapted {memory.adaptations} times")
        elif memory.streak >= params.max_consecutive_adaptations:
            memory.paused_at = self.now
            self.note(
                "paused",
                f"{memory.streak} adaptations in a row: none for {units(params, params.pause_epochs)}",
            )

    def _step_size(self, position: Position) -> float:
        params = self.params
        if not params.adaptive_step:
            return params.transition_step
        floor = min(params.min_step, params.transition_step)
        return max(params.transition_step * (1 - position.q), floor)

    def _restart(self, left: int) -> None:
        """Wait anew; on a segment with another monitor than segment `left`'s, with a new average too."""
        memory, params = self.memory, self.params
        memory.clock = self.now
        if monitor_of(params, left) != monitor_of(params, memory.position.segment):
            memory.forget_monitor()
            return
        memory.best = memory.smoothed
        memory.recent = [] if memory.monitored is None else [(self.now, memory.monitored)]
        if memory.reached_at is not None:
            memory.reached_at = self.now

    @property
    def _monitor_name(self) -> str:
        monitor = monitor_of(self.params, self.memory.position.segment)
        if isinstance(monitor, str):
            return self.aliases.get(monitor, monitor)
        return qualified_name(monitor)

    def note(self, kind: str, reason: str) -> None:
        """Keep an event at the position of now; `reason` is a sentence without its full stop."""
        memory = self.memory
        skipped = kind == "skipped_nonfinite"
        event = LossSchedulerEvent(
            kind=kind,
            epoch=memory.epoch or 0,
            weights=self.weights(),
            progress=self.path.progress(memory.position),
            monitored=None if skipped else memory.monitored,
            smoothed=memory.smoothed,
            threshold=None if skipped else memory.threshold,
            reason=f"{reason}.",
        )
        self.events.append(event)
