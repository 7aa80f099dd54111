"""The schedule as a kind of the section `weighting`, its parameters by their names."""

import warnings
from typing import Annotated, Any, Literal

from nops_schedules import FlexibleLossScheduler, SchedulerParams, rename_legacy_losses
from nops_train import Config
from pydantic import Field

from turbulence.config_loss import RECONSTRUCTION, LossConfig

Weight = Annotated[float, Field(ge=0)]


class SchedulerConfig(Config):
    """Weight moves from the source's terms to the target's when a validation metric says so."""

    kind: Literal["scheduler"] = Field(
        default="scheduler", description="Rule of the weights over time."
    )
    source_loss: str = Field(
        default="field_error", description="Metric of the loss moved away from."
    )
    target_loss: str = Field(default="spectrum_error", description="Metric of the loss moved to.")
    source_components: dict[str, bool] = Field(
        default={"recFieldError": True, "predFieldError": True},
        description="Terms moved away from.",
    )
    target_components: dict[str, bool] = Field(
        default={"spectrumError": True}, description="Terms moved to."
    )
    static_components: dict[str, Weight] = Field(
        default={}, description="Terms whose weight stays."
    )
    initial_weight_source: float = Field(default=1.0, description="Weight of the source at first.")
    initial_weight_target: float = Field(default=0.0, description="Weight of the target at first.")
    final_weight_source: float = Field(default=0.3, description="Weight of the source at the end.")
    final_weight_target: float = Field(default=0.7, description="Weight of the target at the end.")
    max_weight_target: float = Field(default=0.8, description="Cap of the target's weight.")
    adaptation_trigger: str = Field(
        default="plateau", description="plateau, increase, epoch, threshold or trend."
    )
    patience: int = Field(default=5, description="Epochs without improvement before weights move.")
    min_delta: float = Field(default=0.001, description="Least improvement that counts.")
    min_delta_mode: str = Field(default="abs", description="abs, or rel: a fraction of the best.")
    transition_step: float = Field(default=0.1, description="Change of weight in one adaptation.")
    adaptive_step: bool = Field(default=True, description="Smaller steps towards the end.")
    min_step: float = Field(default=0.05, description="Floor of the adaptive step.")
    min_epochs_before_adapt: int = Field(default=10, description="Added to warmup_epochs.")
    warmup_epochs: int = Field(default=5, description="Epochs before anything is decided.")
    max_consecutive_adaptations: int = Field(
        default=10, description="Adaptations in a row before a pause."
    )
    pause_epochs: int = Field(default=5, description="Length of a pause, in epochs.")
    transition_schedule: str = Field(default="linear", description="linear, cosine or exponential.")
    monitor_metric: str = Field(
        default="spectrum_error",
        description="Metric, dotted key, or expression of metrics to watch.",
    )
    monitor_mode: str = Field(default="min", description="min: lower is better; or max.")
    use_ema: bool = Field(default=True, description="Smooth the metric.")
    ema_beta: float = Field(default=0.9, description="Share of the moving average kept per epoch.")
    ema_in_warmup: bool = Field(
        default=False, description="Feed the average before the first decision."
    )
    unit: str = Field(default="epoch", description="epoch, or call: what patience counts.")
    milestones: tuple[int, ...] = Field(default=(), description="Epochs of the trigger epoch.")
    trigger_value: float | None = Field(default=None, description="Value of the trigger threshold.")
    cap_policy: str = Field(default="error", description="error, or clip: stop below the cap.")
    guard_metric: str | None = Field(default=None, description="Metric that must not suffer.")
    guard_tolerance: float = Field(
        default=0.2, description="Fraction that it may exceed its best by."
    )
    max_rollbacks: int = Field(default=3, description="Adaptations undone before weights are held.")
    roles: dict[str, tuple[str, ...]] | None = Field(
        default=None, description="More than two roles: terms by role."
    )
    waypoints: tuple[dict[str, Weight], ...] | None = Field(
        default=None, description="With roles: the weight of each role at each waypoint."
    )
    caps: dict[str, Weight] | None = Field(default=None, description="With roles: caps by role.")
    monitors: tuple[str, ...] | None = Field(
        default=None, description="With roles: the metric to watch, per segment."
    )
    max_nonfinite: int = Field(default=10, description="Metrics in a row that may be not finite.")
    history_size: int = Field(default=1000, description="Events that are kept.")

    def params(self) -> SchedulerParams:
        """The schedule's parameters, without terms that a model which predicts lacks.

        Raises:
            ValueError: If a parameter makes no sense.
        """
        fields: dict[str, Any] = {**self.model_dump(exclude={"kind"}), "enabled": True}
        fields["static_components"] = _predicted(fields["static_components"])
        if fields["roles"] is None:
            for name in ("source_components", "target_components"):
                fields[name] = _predicted(fields[name])
        else:  # the components of two roles stay at their defaults, as the schedule asks
            fields["roles"] = {
                role: tuple(term for term in terms if term not in RECONSTRUCTION)
                for role, terms in fields["roles"].items()
            }
        return SchedulerParams(**fields)

    def waypoint_weights(self, params: SchedulerParams) -> dict[str, dict[str, float]]:
        """Weight of each component at each waypoint, by the waypoint's name in messages."""
        if params.roles is None or params.waypoints is None:
            ends = {
                "initial weights": (params.initial_weight_source, params.initial_weight_target),
                "final weights": (params.final_weight_source, params.final_weight_target),
            }
            parts = (params.source_components, params.target_components)
            found = {
                place: {
                    name: weight
                    for terms, weight in zip(parts, pair, strict=True)
                    for name, used in terms.items()
                    if used
                }
                for place, pair in ends.items()
            }
        else:
            found = {
                f"waypoint {number}": {
                    term: point.get(role, 0.0)
                    for role, terms in params.roles.items()
                    for term in terms
                }
                for number, point in enumerate(params.waypoints)
            }
        return {place: {**weights, **params.static_components} for place, weights in found.items()}


def _predicted(components: dict[str, Any]) -> dict[str, Any]:
    """Components without those of a reconstruction, whatever their spelling."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the command line has warned
        renamed = rename_legacy_losses(components)
    return {name: value for name, value in renamed.items() if name not in RECONSTRUCTION}


def checked_params(weighting: SchedulerConfig, loss: LossConfig) -> SchedulerParams:
    """The schedule's parameters, which fit the loss.

    Raises:
        ValueError: If they make no sense, or contradict the weights of the loss section.
    """
    params = weighting.params()
    FlexibleLossScheduler(params, terms=loss.weights(), scale=loss.scales())
    return params
