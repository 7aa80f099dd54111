"""A task made of a loss function: the shortest way from a loop of one's own into the engine."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from nops_train._errors import InputError

LossFunction = Callable[[Any], Tensor | Mapping[str, Tensor]]
MetricFunction = Callable[[Any], Mapping[str, Tensor | float]]

NAME = "loss"


class LossTask:
    """Turns a function of a batch into what the engine trains and validates.

    Args:
        loss: From a batch to a scalar, called `loss`, or to several by name, unweighted; each the mean over
            the samples of the batch. It knows the model.
        metrics: From a batch to validation metrics by name: a scalar, or one value per sample `[B]`. By
            default the values of `loss` themselves, computed in eval mode.
    """

    def __init__(self, loss: LossFunction, metrics: MetricFunction | None = None) -> None:
        self._loss, self._metrics = loss, metrics

    def losses(
        self, batch: Any, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """The terms; those that are not active are left out."""
        terms = self._terms(batch)
        return {name: value for name, value in terms.items() if name in active}

    def metrics(self, batch: Any) -> Mapping[str, Tensor | float]:
        """The metrics."""
        return self._terms(batch) if self._metrics is None else self._metrics(batch)

    def _terms(self, batch: Any) -> Mapping[str, Tensor]:
        found = self._loss(batch)
        if isinstance(found, Tensor):
            return {NAME: found}
        if isinstance(found, Mapping):
            return found
        raise InputError(
            f"the loss function returned {type(found).__name__}, expected a scalar tensor or a dict of them"
        )
