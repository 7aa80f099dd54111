"""Weights by how each loss stands to its last value and, now and then, to its first."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from nops_schedules._check import number, positive, whole
from nops_schedules._check import weight as not_negative
from nops_schedules._loss_weights import LossWeights
from nops_schedules._normalise import softmax_weights


class ReLoBRaLo(LossWeights):
    """Relative loss balancing with random lookback.

    w ← α·[ρ·w + (1−ρ)·ŵ(t; 0)] + (1−α)·ŵ(t; t−1), with ŵ(t; s) = m·softmax(L(t) / (τ·L(s) + ε)) and
    ρ = 1 with probability β, else 0. The first update keeps the initial weights, the second has α = 0.
    ρ depends on the seed and the number of the update alone; no global generator is touched.

    Attributes:
        terms: Each term's initial weight, dimensionless, zero included.
        epoch: Epoch of the last update; None before the first.

    Source:
        Bischof and Kraus, arXiv 2110.09813; the first two updates as their code has them.
    """

    def __init__(
        self,
        loss_names: Sequence[str],
        *,
        alpha: float = 0.999,
        tau: float = 1.0,
        beta: float = 0.999,
        eps: float = 1e-12,
        seed: int = 0,
        initial_weights: Mapping[str, float] | None = None,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
        update_unit: str = "step",
        max_invalid: int = 10,
    ) -> None:
        """Take the terms and the rule.

        Args:
            loss_names: Names of the terms.
            alpha: α in [0, 1], the share of the past.
            tau: τ, dimensionless; a large one makes the weights alike.
            beta: β in [0, 1], how often the past is the old weight, and not the first loss.
            eps: ε, in the unit of the losses.
            seed: Start of the draws of ρ.
            initial_weights: Weight of each until its first move; 0 is off for ever. None: 1 for each.
            min_weight: Least weight of a term that is on.
            max_weight: Largest weight.
            update_unit: "epoch" or "step": what one update is.
            max_invalid: NaN, infinite or missing values of a term in a row that are an error.

        Raises:
            ValueError: If a name, a weight, or a number makes no sense.
            TypeError: If a weight is no number.
        """
        self._alpha = _share("alpha", alpha)
        self._tau = positive("tau", tau)
        self._beta = _share("beta", beta)
        self._eps = not_negative("eps", eps)
        self._seed = whole(0)("seed", seed)
        super().__init__(
            loss_names,
            initial_weights,
            min_weight=min_weight,
            max_weight=max_weight,
            update_unit=update_unit,
            max_invalid=max_invalid,
        )

    def _move(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        seen = {name: value for name, value in losses.items() if name in self._last}
        moved = self._balanced(seen) if seen else {}
        self._last.update(losses)
        for name, value in losses.items():
            self._first.setdefault(name, value)
        return moved

    def _balanced(self, losses: Mapping[str, float]) -> dict[str, float]:
        recent = self._relative_to(self._last, losses)
        alpha = 0.0 if self._updates <= 1 else self._alpha
        if alpha == 0.0:
            return recent
        keeps = uniform(self._seed, self._updates) < self._beta
        past = self._weights if keeps else self._relative_to(self._first, losses)
        return {name: alpha * past[name] + (1 - alpha) * recent[name] for name in losses}

    def _relative_to(
        self, reference: Mapping[str, float], losses: Mapping[str, float]
    ) -> dict[str, float]:
        tau, eps = self._tau, self._eps
        return softmax_weights(
            {name: value / (tau * reference[name] + eps) for name, value in losses.items()}
        )

    def _forget(self) -> None:
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def _settings(self) -> dict[str, Any]:
        return {
            "alpha": self._alpha,
            "tau": self._tau,
            "beta": self._beta,
            "eps": self._eps,
            "seed": self._seed,
        }

    def _remembered(self) -> dict[str, Any]:
        return {"first": dict(self._first), "last": dict(self._last)}

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._first, self._last = dict(state["first"]), dict(state["last"])


def uniform(seed: int, count: int) -> float:
    """A number in [0, 1) that depends on both and on nothing else, equal on every machine."""
    digest = hashlib.blake2b(f"{seed}:{count}".encode(), digest_size=7).digest()
    return (int.from_bytes(digest, "big") >> 3) / 2**53


def _share(name: str, value: Any) -> float:
    if not 0 <= number(name, value) <= 1:
        raise ValueError(f"{name} must be within [0, 1], got {value!r}.")
    return float(value)
