"""The learning rate that `TrainConfig` describes, as the engine asks for it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, final

from nops_train._config import TrainConfig
from nops_train._errors import InputError

START = 0.1  # of the peak, where a warm-up begins; the same as that of a cosine


def make_learning_rate(
    train: TrainConfig,
    *,
    steps_per_epoch: int,
    cosine: Callable[..., float],
    decay_per_epoch: float = 1.0,
) -> Callable[[int, int], float]:
    """The rate of each optimizer step, from its epoch and its number, both 0-based.

    | `lr_schedule` | rate after a warm-up of `warmup_steps` |
    |---|---|
    | "cosine" | what `cosine` says, down to the run's last step |
    | "step" | times `lr_factor` after each `lr_step_epochs` epochs |
    | "plateau" | times `lr_factor` after each `lr_patience` validations without a better `monitor` |
    | "constant" | without a warm-up, times `decay_per_epoch` after each epoch |

    Args:
        train: The schedule, its numbers and `epochs` count.
        steps_per_epoch: Batches of the train split.
        cosine: The rate of a step where `lr_schedule` is "cosine": called as
            `cosine(step, peak=…, warmup_steps=…, total_steps=…)`, such as
            `nops_schedules.warmup_cosine`.
        decay_per_epoch: Factor per epoch where `lr_schedule` is "constant".

    Returns:
        `rate(epoch, step)`; under "plateau" with a state, and `observe(value)` for the monitored
        metric.

    Raises:
        InputError: If the warm-up is as long as the run.
    """
    peak = train.learning_rate
    if train.lr_schedule == "constant":
        return lambda epoch, step: peak * decay_per_epoch**epoch
    warmup, total = train.warmup_steps, train.epochs * steps_per_epoch
    if warmup >= total:
        raise InputError(
            f"train.warmup_steps = {warmup} leaves nothing of the run's {total} steps "
            f"(train.epochs = {train.epochs} of {steps_per_epoch} batches)"
        )
    if train.lr_schedule == "plateau":
        return PlateauRate(train)
    if train.lr_schedule == "step":
        factor, every = train.lr_factor, train.lr_step_epochs
        return lambda epoch, step: peak * factor ** (epoch // every) * _warmed(step, warmup)
    return lambda epoch, step: cosine(step, peak=peak, warmup_steps=warmup, total_steps=total)


def _warmed(step: int, warmup_steps: int) -> float:
    """Share of the peak: straight from a tenth at step 0 to 1 at `warmup_steps`."""
    return START + (1 - START) * step / warmup_steps if step < warmup_steps else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlateauState:
    """What a rate that falls on a plateau remembers.

    Attributes:
        best: Best value so far; None before the first finite one.
        waited: Validations since then, or since the rate fell.
        scale: Present factor on the rate, dimensionless.
    """

    best: float | None = None
    waited: int = 0
    scale: float = 1.0


def plateau(
    state: PlateauState, value: float, *, factor: float, patience: int, mode: str = "min"
) -> PlateauState:
    """The state after one more validation: the scale falls after `patience` in a row that are no better.

    Equal is no better, and a NaN never is.
    """
    sign = 1.0 if mode == "min" else -1.0
    best = float("inf") if state.best is None else sign * state.best
    if sign * value < best:
        return PlateauState(best=value, scale=state.scale)
    if state.waited + 1 < patience:
        return PlateauState(best=state.best, waited=state.waited + 1, scale=state.scale)
    return PlateauState(best=state.best, scale=state.scale * factor)


@final
class PlateauRate:
    """A rate that falls when validation gets no better; the engine shows it the monitored metric.

    Args:
        train: `learning_rate`, `warmup_steps`, `lr_factor`, `lr_patience` and `monitor_mode` count.
    """

    def __init__(self, train: TrainConfig) -> None:
        self._train, self._state = train, PlateauState()

    def __call__(self, epoch: int, step: int) -> float:
        """The rate of a step."""
        warmed = _warmed(step, self._train.warmup_steps)
        return self._train.learning_rate * self._state.scale * warmed

    def observe(self, value: float) -> None:
        """Take note of the monitored metric of a validation."""
        train = self._train
        self._state = plateau(
            self._state,
            value,
            factor=train.lr_factor,
            patience=train.lr_patience,
            mode=train.monitor_mode,
        )

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, in plain numbers."""
        return asdict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self._state = PlateauState(**state)
