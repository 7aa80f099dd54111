"""Weights by how much each loss varies, relative to its mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from nops_schedules._check import whole
from nops_schedules._loss_weights import LossWeights

_LARGEST = 1e150  # of a ratio, so that its square is still a number


class VarianceWeights(LossWeights):
    """More weight to the terms that still vary: w_i ∝ σ_i / μ_i, scaled to mean 1.

    σ and μ are the population deviation and the mean, over all updates so far, of the ratio
    ℓ = L / (mean of the earlier L), the first of which is 1. A term that never changes gets the least
    weight; where none changes, all get 1.

    Attributes:
        terms: Each term's initial weight, dimensionless, zero included.
        epoch: Epoch of the last update; None before the first.

    Source:
        Groenendijk et al., *Multi-Loss Weighting with Coefficient of Variations*, arXiv 2009.01717.
    """

    def __init__(
        self,
        loss_names: Sequence[str],
        *,
        warmup: int = 1,
        initial_weights: Mapping[str, float] | None = None,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
        update_unit: str = "step",
        max_invalid: int = 10,
    ) -> None:
        """Take the terms and the rule.

        Args:
            loss_names: Names of the terms.
            warmup: Updates at the initial weights, 1 or more; the means run meanwhile.
            initial_weights: Weight of each until its first move; 0 is off for ever. None: 1 for each.
            min_weight: Least weight of a term that is on.
            max_weight: Largest weight.
            update_unit: "epoch" or "step": what one update is.
            max_invalid: NaN, infinite or missing values of a term in a row that are an error.

        Raises:
            ValueError: If a name, a weight, or a number makes no sense.
            TypeError: If a weight is no number.
        """
        self._warmup = whole(1)("warmup", warmup)
        super().__init__(
            loss_names,
            initial_weights,
            min_weight=min_weight,
            max_weight=max_weight,
            update_unit=update_unit,
            max_invalid=max_invalid,
        )

    def _move(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        spread = {name: self._relative_deviation(name, value) for name, value in losses.items()}
        if self._updates < self._warmup:
            return {}
        seen = {name: value for name, value in spread.items() if self._moments[name][0] > 1}
        total = sum(seen.values())
        if total == 0:
            return dict.fromkeys(seen, 1.0)
        factor = len(seen) / total
        return {name: factor * value for name, value in seen.items()}

    def _relative_deviation(self, name: str, loss: float) -> float:
        """Take a loss into its term's moments; σ / μ of the ratios (Welford, Technometrics 4, 1962)."""
        count, mean_loss, mean, squares = self._moments.get(name, (0, loss, 0.0, 0.0))
        ratio = min(loss / mean_loss, _LARGEST)
        count += 1
        step = ratio - mean
        mean += step / count
        squares += step * (ratio - mean)
        mean_loss += (loss - mean_loss) / count
        self._moments[name] = (count, mean_loss, mean, squares)
        return (squares / count) ** 0.5 / mean

    def _forget(self) -> None:
        self._moments: dict[str, tuple[int, float, float, float]] = {}

    def _settings(self) -> dict[str, Any]:
        return {"warmup": self._warmup}

    def _remembered(self) -> dict[str, Any]:
        return {"moments": {name: list(of) for name, of in self._moments.items()}}

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._moments = {name: tuple(of) for name, of in state["moments"].items()}
