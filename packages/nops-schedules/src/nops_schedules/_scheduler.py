"""Loss weights that move from one mix to another when a watched metric stops improving."""

import math
from collections.abc import Mapping
from typing import Any

from nops_schedules._check import choice
from nops_schedules._events import LossSchedulerEvent, describe_weights
from nops_schedules._machine import Machine
from nops_schedules._monitor import read_monitor
from nops_schedules._params import SchedulerParams
from nops_schedules._params_path import monitor_of
from nops_schedules._restore import restored
from nops_schedules._terms import base_terms, checked_scale

VERSION = 1
_OBSERVES = {"valid": "validation", "train": "epoch"}


class FlexibleLossScheduler:
    """Moves weight from one role's loss terms to another's, step by step, when a metric says so.

    Call `step` after each validation, or hand it to an engine as its weighting. One position on a path
    of waypoints holds the weights: segment s and q in [0, 1], weights = lerp(w_s, w_{s+1}, φ(q)). One
    adaptation adds step / D to q, D being the largest weight change in the segment. Weights are not
    renormalised: their sum moves on a straight line, and q = 1 ends it.

    Attributes:
        params: The configuration.
        terms: Every term with its base weight, as an engine asks: a term that moves has its largest weight.
        observes: "validation" or "epoch" by `params.split`; None where disabled.

    Source:
        The two losses that it was made for: Oommen et al., arXiv 2409.08477. The rules are ours.
    """

    def __init__(
        self,
        params: SchedulerParams,
        *,
        terms: Mapping[str, float] | None = None,
        scale: Mapping[str, float | str] | None = None,
        on_mismatch: str = "error",
    ) -> None:
        """Start at the beginning of the path.

        Args:
            params: The configuration.
            terms: Base weights of all terms of the loss, which the schedule overlays; None: its own
                components are all there are. A component with a base weight other than 0 and other
                than the one it starts with contradicts itself.
            scale: Factors on the weights that `weights` gives, by term; `get_loss_weights` is free of them.
                A text is a metric or an arithmetic expression of metrics, measured once: at the first
                validation from the end of the warm-up on that makes it positive and finite. Until
                then the term has no weight.
            on_mismatch: What `load_state_dict` does by default with a state of other parameters.

        Raises:
            ValueError: If a component is not among the terms, or has two different first weights; if a
                scale is to be measured by a schedule that is disabled.
        """
        self.params = params
        self._machine = Machine(params)
        self._on_mismatch = choice("error", "warn", "override")("on_mismatch", on_mismatch)
        self._base = base_terms(params, self._machine.path, terms)
        self._scale = checked_scale(scale or {}, self._base)
        self._measured: dict[str, float] = {}
        self._check_measurable()
        largest = self._machine.path.largest() if params.enabled else {}
        whole = {**self._base, **largest, **params.static_components}
        self.terms: dict[str, float] = self._scaled(whole, unmeasured=1.0)
        self.observes: str | None = _OBSERVES[params.split] if params.enabled else None
        self._place()

    @classmethod
    def from_params(cls, params: SchedulerParams) -> "FlexibleLossScheduler":
        """The scheduler of `params`."""
        return cls(params)

    def __repr__(self) -> str:
        weights = describe_weights(self.get_loss_weights())
        return f"FlexibleLossScheduler(enabled={self.params.enabled}, {self.state}, {weights})"

    # What anybody's loop uses

    def step(self, epoch: int, metrics: Mapping[str, Any]) -> bool:
        """Take note of one validation, and move the weights if it is time.

        Args:
            epoch: 0-based; it must rise from call to call, unless `unit="call"`.
            metrics: Numbers by name; they may be nested.

        Returns:
            Whether the weights moved.

        Raises:
            ValueError: If the epoch does not rise, or a monitored metric is missing or no number.
            FloatingPointError: If the metric was not finite `max_nonfinite` times in a row.
        """
        if not self.params.enabled:
            return False
        self._check_epoch(epoch)
        factors = self._read_scale(metrics)
        moved = self._take(epoch, *self._read(metrics))
        if self._machine.memory.warm:
            self._measure(factors)
        return moved

    def _take(self, epoch: int, monitored: float, guard: float | None) -> bool:
        moved = self._machine.take(self, epoch, monitored, guard)
        if moved:
            self._place()
        return moved

    def get_loss_weights(self) -> dict[str, float]:
        """Weight of each component now; where disabled, the static ones alone."""
        return dict(self._weights)

    def get_scheduler_state(self) -> dict[str, Any]:
        """Where it stands, in plain values: for logs and for eyes."""
        memory = self._machine.memory
        waited = 0 if memory.best is None else self._machine.now - memory.clock
        return {
            "weight_source": self.weight_source,
            "weight_target": self.weight_target,
            "epochs_since_improvement": waited,
            "total_adaptations": memory.adaptations,
            "consecutive_adaptations": memory.streak,
            "progress": self.progress,
            "warmup_complete": memory.warm,
            "best_metric": memory.best,
            "current_metric_ema": memory.smoothed,
            "state": self.state,
            "epoch": memory.epoch,
            "position": list(memory.position),
        }

    @property
    def weight_source(self) -> float:
        """Weight of the first role."""
        return next(iter(self._role_weights.values()))

    @property
    def weight_target(self) -> float:
        """Weight of the last role."""
        return [*self._role_weights.values()][-1]

    @property
    def progress(self) -> float:
        """Fraction of the path, (s + q) / segments, in [0, 1]."""
        return self._machine.path.progress(self._machine.memory.position)

    @property
    def scale(self) -> dict[str, float | None]:
        """The factor on each term's weight, where one was given; None where it is not measured yet."""
        return {
            name: self._measured.get(name) if isinstance(value, str) else value
            for name, value in self._scale.items()
        }

    @property
    def state(self) -> str:
        """DISABLED, WARMUP, MONITORING, PAUSED, HELD or COMPLETE."""
        return self._machine.state

    @property
    def smoothed(self) -> float | None:
        """The moving average of the monitored metric; None before the first value."""
        return self._machine.memory.smoothed

    @property
    def threshold(self) -> float | None:
        """What that average was last compared with; None where the trigger compares with nothing."""
        return self._machine.memory.threshold

    @property
    def events(self) -> tuple[LossSchedulerEvent, ...]:
        """The last `history_size` events, oldest first."""
        return tuple(self._machine.events)

    # What an engine asks of a weighting

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute now: those with a positive weight."""
        return self._active

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term now, times its scale."""
        return dict(self._all_weights)

    def observe(self, values: Mapping[str, Any], *, epoch: int, step: int, split: str) -> None:
        """Call `step` with values of the split that the schedule follows."""
        if split == self.params.split:
            self.step(epoch, values)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered and the parameters, in plain numbers, texts, lists and dicts."""
        measured = {"scale": dict(self._measured)} if self._to_measure else {}
        return {
            **measured,
            "version": VERSION,
            "params": self.params.asDict(),
            "progress": self.progress,
            "memory": self._machine.memory.plain(),
            "events": [
                {**vars(event), "weights": dict(event.weights)} for event in self._machine.events
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any], on_mismatch: str | None = None) -> None:
        """Go on from `state`, as if it had never stopped.

        Args:
            state: What `state_dict` gave.
            on_mismatch: Where its parameters are others than these: "error"; "warn" and go on with these;
                "override": go on with these silently. None: as said at construction. Where the path has
                another number of segments, it goes on at the same progress.

        Raises:
            ValueError: If it is no state of a loss scheduler, or of other parameters: each is listed.
        """
        policy = self._on_mismatch if on_mismatch is None else on_mismatch
        memory, events = restored(
            state, params=self.params, path=self._machine.path, version=VERSION, policy=policy
        )
        self._machine.go_on(memory, events)
        saved = state.get("scale", {})
        self._measured = {name: saved[name] for name in self._to_measure if name in saved}
        self._place()

    def _check_epoch(self, epoch: int) -> None:
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ValueError(f"epoch is a whole number counted from 0, got {epoch!r}.")
        last = self._machine.memory.epoch
        if self.params.unit == "epoch" and last is not None and epoch <= last:
            raise ValueError(
                f'epoch must rise from call to call, got {epoch} after {last}; give unit="call" to '
                "validate more often than once per epoch."
            )

    @property
    def _to_measure(self) -> dict[str, str]:
        """The expressions among the factors."""
        return {name: text for name, text in self._scale.items() if isinstance(text, str)}

    def _check_measurable(self) -> None:
        if self._to_measure and not self.params.enabled:
            raise ValueError(
                f"scale: {', '.join(self._to_measure)} is to be measured at the end of the warm-up, and a "
                "disabled schedule has none: give a number."
            )

    def _read_scale(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """The factors that are not measured yet, as the metrics of this validation make them."""
        aliases = self._machine.aliases
        return {
            name: read_monitor(text, metrics, field=f"scale of '{name}'", aliases=aliases)
            for name, text in self._to_measure.items()
            if name not in self._measured
        }

    def _measure(self, factors: Mapping[str, float]) -> None:
        for name, value in factors.items():
            if 0 < value < math.inf:
                self._measured[name] = value
                text = self._scale[name]
                self._machine.note(
                    "scale",
                    f"the weight of {name} is multiplied by {value:.4g} from now on: {text}",
                )
        self._place()

    def _read(self, metrics: Mapping[str, Any]) -> tuple[float, float | None]:
        """The monitored number and the guard's."""
        params, aliases = self.params, self._machine.aliases
        monitor = monitor_of(params, self._machine.memory.position.segment)
        value = read_monitor(monitor, metrics, field="monitor_metric", aliases=aliases)
        if params.guard_metric is None:
            return value, None
        guard = params.guard_metric
        return value, read_monitor(guard, metrics, field="guard_metric", aliases=aliases)

    def _place(self) -> None:
        """Compute the weights of the position, once for all the steps until it moves."""
        machine = self._machine
        self._role_weights = machine.path.role_weights(machine.memory.position)
        self._weights = machine.weights()
        self._all_weights = self._scaled({**self._base, **self._weights})
        self._active = frozenset(name for name, weight in self._all_weights.items() if weight > 0)

    def _scaled(self, weights: Mapping[str, float], *, unmeasured: float = 0.0) -> dict[str, float]:
        factors = {k: unmeasured if value is None else value for k, value in self.scale.items()}
        return {name: weight * factors.get(name, 1.0) for name, weight in weights.items()}
