"""Weights by the last change of each loss from epoch to epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from nops_schedules._check import positive
from nops_schedules._loss_weights import LossWeights
from nops_schedules._normalise import softmax_weights


class DynamicWeightAverage(LossWeights):
    """More weight to the terms that fell less in the last epoch: w = m·softmax(L(t) / (L(t−1)·T)).

    L(t) and L(t−1) are the means of the last two epochs; the initial weights hold until there are two.
    Over m terms the weights sum to m while no clamp acts.

    Attributes:
        terms: Each term's initial weight, dimensionless, zero included.
        epoch: Epoch of the last update; None before the first.

    Source:
        Liu, Johns and Davison, arXiv 1803.10704.
    """

    def __init__(
        self,
        loss_names: Sequence[str],
        *,
        temperature: float = 2.0,
        initial_weights: Mapping[str, float] | None = None,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
        update_unit: str = "epoch",
        max_invalid: int = 10,
    ) -> None:
        """Take the terms and the rule.

        Args:
            loss_names: Names of the terms.
            temperature: T, dimensionless; a large one makes the weights alike.
            initial_weights: Weight of each until its first move; 0 is off for ever. None: 1 for each.
            min_weight: Least weight of a term that is on.
            max_weight: Largest weight.
            update_unit: "epoch" or "step": what one update is.
            max_invalid: NaN, infinite or missing values of a term in a row that are an error.

        Raises:
            ValueError: If a name, a weight, or a number makes no sense.
            TypeError: If a weight is no number.
        """
        self._temperature = positive("temperature", temperature)
        super().__init__(
            loss_names,
            initial_weights,
            min_weight=min_weight,
            max_weight=max_weight,
            update_unit=update_unit,
            max_invalid=max_invalid,
        )

    def _move(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        last, temperature = self._last, self._temperature
        scores = {n: v / last[n] / temperature for n, v in losses.items() if n in last}
        last.update(losses)
        return softmax_weights(scores) if scores else {}

    def _forget(self) -> None:
        self._last: dict[str, float] = {}

    def _settings(self) -> dict[str, Any]:
        return {"temperature": self._temperature}

    def _remembered(self) -> dict[str, Any]:
        return {"last": dict(self._last)}

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._last = dict(state["last"])
