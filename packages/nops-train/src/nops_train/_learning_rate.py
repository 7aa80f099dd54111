"""The learning rate that `TrainConfig` describes, as the engine asks for it."""

from collections.abc import Callable

from nops_train._config import TrainConfig
from nops_train._errors import InputError


def make_learning_rate(
    train: TrainConfig,
    *,
    steps_per_epoch: int,
    cosine: Callable[..., float],
    decay_per_epoch: float = 1.0,
) -> Callable[[int, int], float]:
    """The rate of each optimizer step, from its epoch and its number, both 0-based.

    Args:
        train: `lr_schedule`, `learning_rate`, `warmup_steps` and `epochs` count.
        steps_per_epoch: Batches of the train split.
        cosine: The rate of a step where `lr_schedule` is "cosine": called as
            `cosine(step, peak=…, warmup_steps=…, total_steps=…)`, such as
            `nops_schedules.warmup_cosine`.
        decay_per_epoch: Factor per epoch where `lr_schedule` is "constant".

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
    return lambda epoch, step: cosine(step, peak=peak, warmup_steps=warmup, total_steps=total)
