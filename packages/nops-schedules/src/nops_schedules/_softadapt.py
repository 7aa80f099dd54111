"""Weights by how each loss changed since the last time."""

from collections.abc import Mapping, Sequence
from typing import Any

from nops_schedules._check import choice, number
from nops_schedules._check import weight as not_negative
from nops_schedules._loss_weights import LossWeights
from nops_schedules._normalise import softmax_weights


class SoftAdapt(LossWeights):
    """More weight to the terms that fall less: w = m·softmax of the change of each loss.

    "ratio": w = m·softmax(β·L(t) / (L(t−1) + ε)); "difference": w = m·softmax(β·(L(t) − L(t−1))), which
    takes losses of any sign, and depends on their unit. The initial weights hold until a term has been
    seen twice. Over m terms the weights sum to m while no clamp acts.

    Attributes:
        terms: Each term's initial weight, dimensionless, zero included.
        epoch: Epoch of the last update; None before the first.

    Source:
        Heydari, Thompson and Mehmood, arXiv 1912.12355; the ratio as ReLoBRaLo's authors use it.
    """

    def __init__(
        self,
        loss_names: Sequence[str],
        *,
        variant: str = "ratio",
        beta: float = 1.0,
        eps: float = 1e-8,
        initial_weights: Mapping[str, float] | None = None,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
        update_unit: str = "step",
        max_invalid: int = 10,
    ) -> None:
        """Take the terms and the rule.

        Args:
            loss_names: Names of the terms.
            variant: "ratio" or "difference".
            beta: β, dimensionless, or under "difference" in the inverse unit of the losses. Below 0 the
                terms that fall fastest are preferred.
            eps: ε, in the unit of the losses.
            initial_weights: Weight of each until its first move; 0 is off for ever. None: 1 for each.
            min_weight: Least weight of a term that is on.
            max_weight: Largest weight.
            update_unit: "epoch" or "step": what one update is.
            max_invalid: NaN, infinite or missing values of a term in a row that are an error.

        Raises:
            ValueError: If a name, a weight, or a number makes no sense.
            TypeError: If a weight is no number.
        """
        self._variant = choice("ratio", "difference")("variant", variant)
        self._beta = number("beta", beta)
        self._eps = not_negative("eps", eps)
        super().__init__(
            loss_names,
            initial_weights,
            min_weight=min_weight,
            max_weight=max_weight,
            update_unit=update_unit,
            signed=variant == "difference",
            max_invalid=max_invalid,
        )

    def _move(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        last, beta = self._last, self._beta
        if self._variant == "ratio":
            scores = {n: beta * (v / (last[n] + self._eps)) for n, v in losses.items() if n in last}
        else:
            scores = {n: beta * (v - last[n]) for n, v in losses.items() if n in last}
        last.update(losses)
        return softmax_weights(scores) if scores else {}

    def _forget(self) -> None:
        self._last: dict[str, float] = {}

    def _settings(self) -> dict[str, Any]:
        return {"variant": self._variant, "beta": self._beta, "eps": self._eps}

    def _remembered(self) -> dict[str, Any]:
        return {"last": dict(self._last)}

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._last = dict(state["last"])
