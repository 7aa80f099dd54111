"""The configuration of a loss scheduler."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from nops_schedules import _check as check
from nops_schedules._curves import CURVES
from nops_schedules._monitor import Monitor
from nops_schedules._names import did_you_mean, qualified_name
from nops_schedules._params_path import path_of, renamed_components

if TYPE_CHECKING:
    from nops_schedules._scheduler import FlexibleLossScheduler

Trigger = str | Callable[["FlexibleLossScheduler", float], bool]
TRIGGERS = ("plateau", "increase", "epoch", "threshold", "trend")


@dataclass(frozen=True, kw_only=True)
class SchedulerParams:
    """What a `FlexibleLossScheduler` does, checked as a whole; disabled unless told otherwise.

    Weights are dimensionless. "Units" are elapsed epochs, or calls of `step` for `unit="call"`; epochs
    are 0-based. Metrics and what is compared with them have the metric's own unit.

    Attributes:
        enabled: False: weights are `static_components` and never move.
        source_loss: Name of the metric of the loss that is moved away from; `monitor_metric` may be the word
            "source_loss".
        target_loss: The same of the loss that is moved to; not the same name.
        source_components: Terms of the source role; those that are False are left out.
        target_components: Terms of the target role.
        static_components: Weights that never move, by term; they override roles.
        initial_weight_source: Weight of the source role in the beginning.
        initial_weight_target: Weight of the target role in the beginning.
        final_weight_source: Weight of the source role at the end of the transition.
        final_weight_target: Weight of the target role at the end.
        max_weight_target: Cap of the target role's weight, held at any time.
        adaptation_trigger: When the weights move by a step. "plateau": the smoothed metric has not beaten its
            best by `min_delta` for `patience` units. "increase": it is worse by more than `min_delta` than
            at the call before. "epoch": at the first call at or after each of `milestones`.
            "threshold": it reaches `trigger_value`, and again every `patience` units while it stays
            there. "trend": by the Theil–Sen slope of the raw metric over the last `patience` units it
            improves by less than `min_delta` in `patience` units. Or a callable
            `f(scheduler, smoothed) -> bool`.
        patience: Units without improvement, at least 1.
        min_delta: Least improvement that counts.
        transition_step: Change of weight in one adaptation, of the role that changes most.
        adaptive_step: Shrink the step with the distance to the segment's end:
            max(transition_step·(1 − q), floor).
        min_epochs_before_adapt: Added to `warmup_epochs`: nothing is decided before the sum of both.
        warmup_epochs: See `min_epochs_before_adapt`.
        max_consecutive_adaptations: Adaptations at most one unit apart before a pause.
        transition_schedule: Weights over the position q of a segment: "linear", "cosine", "exponential".
        monitor_metric: What is watched: a metric's name, a dotted key, an arithmetic expression such as
            "0.5*a + b/c", the words "source_loss" and "target_loss", or a callable of the metrics.
        use_ema: Smooth the metric with an exponential moving average; else it is taken as it comes.
        ema_beta: Share of the average kept per unit, in [0, 1).
        min_delta_mode: "abs", or "rel": `min_delta` is a fraction of the value it is compared with.
        monitor_mode: "min": lower is better; "max": higher is.
        unit: "epoch" or "call".
        min_step: Floor of the adaptive step; a smaller `transition_step` is the floor itself.
        pause_epochs: Length of a pause, in units.
        ema_in_warmup: Feed the average before the first decision as well.
        milestones: Epochs of the trigger "epoch", rising.
        trigger_value: Value of the trigger "threshold".
        cap_policy: Where a waypoint is above a cap: "error", or "clip": stop at the last position within.
        guard_metric: Watched for harm, as `monitor_metric`; None: nothing is undone. Lower is better.
        guard_tolerance: The smoothed guard metric may exceed its best by this fraction.
        max_rollbacks: Adaptations undone before the weights are held for good.
        roles: More than two roles: terms by role. The weights of source and target, `max_weight_target` and the components of
            source and target are left alone then.
        waypoints: With `roles`: the weight of every role at each waypoint, two at least.
        caps: With `roles`: highest weight by role.
        monitors: With `roles`: one per segment, in place of `monitor_metric`.
        max_nonfinite: Calls in a row with a metric that is not finite before it is an error.
        split: Whose values an engine hands over: "valid" (metrics and terms of a validation) or "train"
            (terms of an epoch).
        history_size: Events kept.

    Raises:
        ValueError: If a field or a combination makes no sense; it is named.

    Warns:
        DeprecationWarning: If a component has a name of before; see `rename_legacy_losses`.
    """

    enabled: bool = False
    source_loss: str = "field_error"
    target_loss: str = "spectrum_error"
    source_components: Mapping[str, bool] = field(
        default_factory=lambda: {"recFieldError": True, "predFieldError": True}
    )
    target_components: Mapping[str, bool] = field(default_factory=lambda: {"spectrumError": True})
    static_components: Mapping[str, float] = field(default_factory=dict)
    initial_weight_source: float = 1.0
    initial_weight_target: float = 0.0
    final_weight_source: float = 0.3
    final_weight_target: float = 0.7
    max_weight_target: float = 0.8
    adaptation_trigger: Trigger = "plateau"
    patience: int = 5
    min_delta: float = 0.001
    transition_step: float = 0.1
    adaptive_step: bool = True
    min_epochs_before_adapt: int = 10
    warmup_epochs: int = 5
    max_consecutive_adaptations: int = 10
    transition_schedule: str = "linear"
    monitor_metric: Monitor = "spectrum_error"
    use_ema: bool = True
    ema_beta: float = 0.9
    min_delta_mode: str = "abs"
    monitor_mode: str = "min"
    unit: str = "epoch"
    min_step: float = 0.05
    pause_epochs: int = 5
    ema_in_warmup: bool = False
    milestones: Sequence[int] = ()
    trigger_value: float | None = None
    cap_policy: str = "error"
    guard_metric: Monitor | None = None
    guard_tolerance: float = 0.2
    max_rollbacks: int = 3
    roles: Mapping[str, Sequence[str]] | None = None
    waypoints: Sequence[Mapping[str, float]] | None = None
    caps: Mapping[str, float] | None = None
    monitors: Sequence[Monitor] | None = None
    max_nonfinite: int = 10
    split: str = "valid"
    history_size: int = 1000

    def __post_init__(self) -> None:
        for name, checked in _CHECKS.items():
            object.__setattr__(self, name, checked(name, getattr(self, name)))
        for name, value in renamed_components(self).items():
            object.__setattr__(self, name, value)
        _check_losses(self)
        _check_trigger(self)
        path_of(self)

    @classmethod
    def fromDict(cls, raw: Mapping[str, Any]) -> "SchedulerParams":  # noqa: N802 - a published name
        """The parameters of a plain dict, such as read from YAML or JSON.

        Raises:
            ValueError: If a key is unknown, with the nearest valid one, or a value makes no sense.
        """
        if not isinstance(raw, Mapping):
            raise ValueError(f"the scheduler's parameters must be a mapping, got {raw!r}.")
        known = [one.name for one in fields(cls)]
        for key in raw:
            if key not in known:
                raise ValueError(
                    f"unknown scheduler parameter {key!r}.{did_you_mean(key, known)} Known: {known}."
                )
        return cls(**raw)

    def asDict(self) -> dict[str, Any]:  # noqa: N802 - a published name
        """All fields in plain values that JSON can hold; callables by `module:name`."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}


_CHECKS: dict[str, check.Check] = {
    **dict.fromkeys(("enabled", "adaptive_step", "use_ema", "ema_in_warmup"), check.flag),
    **dict.fromkeys(("source_loss", "target_loss"), check.text),
    **dict.fromkeys(("source_components", "target_components"), check.mapping(check.flag)),
    **dict.fromkeys(("min_epochs_before_adapt", "warmup_epochs"), check.whole(0)),
    **dict.fromkeys(
        (
            *("patience", "max_consecutive_adaptations", "pause_epochs"),
            *("max_rollbacks", "max_nonfinite", "history_size"),
        ),
        check.whole(1),
    ),
    **dict.fromkeys(
        (
            *("initial_weight_source", "initial_weight_target", "final_weight_source"),
            *(
                "final_weight_target",
                "max_weight_target",
                "min_delta",
                "min_step",
                "guard_tolerance",
            ),
        ),
        check.weight,
    ),
    "static_components": check.mapping(check.weight),
    "adaptation_trigger": check.choice_or_callable(*TRIGGERS),
    "transition_step": check.positive,
    "transition_schedule": check.choice(*CURVES),
    "monitor_metric": check.text_or_callable,
    "ema_beta": check.fraction,
    "min_delta_mode": check.choice("abs", "rel"),
    "monitor_mode": check.choice("min", "max"),
    "unit": check.choice("epoch", "call"),
    "milestones": check.sequence(check.whole(0)),
    "trigger_value": check.optional(check.number),
    "cap_policy": check.choice("error", "clip"),
    "guard_metric": check.optional(check.text_or_callable),
    "roles": check.optional(check.mapping(check.sequence(check.text))),
    "waypoints": check.optional(check.sequence(check.mapping(check.weight))),
    "caps": check.optional(check.mapping(check.weight)),
    "monitors": check.optional(check.sequence(check.text_or_callable)),
    "split": check.choice("valid", "train"),
}


def _check_losses(params: SchedulerParams) -> None:
    if params.source_loss == params.target_loss:
        raise ValueError(f"source_loss and target_loss are both '{params.source_loss}'.")
    twice = sorted({*params.source_components} & {*params.target_components})
    if params.roles is None and twice:
        raise ValueError(f"source_components and target_components both hold {twice}.")


def _check_trigger(params: SchedulerParams) -> None:
    trigger, milestones = params.adaptation_trigger, tuple(params.milestones)
    if bool(milestones) != (trigger == "epoch"):
        raise ValueError(
            f'milestones {list(milestones)} and adaptation_trigger={trigger!r}: milestones belong to "epoch".'
        )
    if list(milestones) != sorted(set(milestones)):
        raise ValueError(f"milestones must rise, got {list(milestones)}.")
    if (params.trigger_value is not None) != (trigger == "threshold"):
        raise ValueError(
            f"trigger_value={params.trigger_value} and adaptation_trigger={trigger!r}: "
            'trigger_value belongs to "threshold".'
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return qualified_name(value) if callable(value) else value
