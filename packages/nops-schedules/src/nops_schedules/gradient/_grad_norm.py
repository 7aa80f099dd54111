"""GradNorm: weights that let all terms train at one rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from nops_schedules._check import number, positive
from nops_schedules.gradient._backward import Reduce, trained
from nops_schedules.gradient._balanced import Balance, BalancedWeights
from nops_schedules.gradient._norms import Names, norm, sizes
from nops_schedules.gradient._terms import usable


@final
class GradNorm(BalancedWeights):
    """Weights that let all terms train at one rate, by a step on their logarithms.

    With n_i = |∇L_i| and r_i = (L_i / L_i⁰) / mean_j (L_j / L_j⁰), the aim for w_i n_i is
    mean_j(w_j n_j) r_i^alpha, held fixed; the distance to it has the derivative sign(w_i n_i − aim_i) n_i
    with respect to w_i. One step of gradient descent is made on log w, then the weights are scaled to their
    first sum. The derivative is closed, so no graph of a gradient is built.

    A term whose gradient or first loss is zero keeps its weight for the step. Where a value is not finite,
    all weights stay.

    Args:
        loss_names: The terms, or their base weights by name.
        alpha: How strongly slow terms are pulled up.
        lr: Learning rate of the log weights.
        shared: Parameters whose gradients are measured, such as the last layer that all terms share; all
            trained parameters where None.
        every: Steps from one update to the next.
        min_weight: Smallest weight.
        max_weight: Largest weight.

    Source:
        Chen, Badrinarayanan, Lee and Rabinovich, arXiv 1711.02257.
    """

    def __init__(
        self,
        loss_names: Names,
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        shared: Sequence[Tensor] | None = None,
        every: int = 1,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
    ) -> None:
        super().__init__(
            loss_names, ema=0.0, every=every, min_weight=min_weight, max_weight=max_weight
        )
        self._alpha = number("alpha", alpha)
        self._lr = positive("lr", lr)
        self._shared = None if shared is None else trained(shared)

    def _refreshed(
        self,
        losses: Mapping[str, Tensor],
        params: Sequence[Tensor],
        *,
        step: int,
        reduce: Reduce | None,
    ) -> Balance | None:
        values = loss_values(losses, reduce)
        if not all(map(math.isfinite, values.values())):
            return None
        first = {name: self._kept.first.get(name, value) for name, value in values.items()}
        norms = sizes(losses, params if self._shared is None else self._shared, norm, reduce)
        rates = {name: values[name] / first[name] for name in norms if usable(first[name])}
        mean = sum(rates.values()) / max(len(rates), 1)
        if mean == 0:
            return None
        norms = {name: norms[name] for name in rates}
        moved = self._moved(norms, {name: rate / mean for name, rate in rates.items()})
        return replace(self._held(moved), first={**self._kept.first, **first})

    def _moved(self, norms: Mapping[str, float], rates: Mapping[str, float]) -> dict[str, float]:
        weights = {name: self._kept.weights[name] for name in norms}
        parts = {name: weights[name] * size for name, size in norms.items()}
        mean = sum(parts.values()) / len(parts)
        total = sum(weights.values())
        for name, part in parts.items():
            away = part - mean * rates[name] ** self._alpha
            # d/d(log w) = w d/dw
            weights[name] *= math.exp(-self._lr * math.copysign(part, away) if away else 0.0)
        scale = total / sum(weights.values())
        return {name: weight * scale for name, weight in weights.items()}


def loss_values(losses: Mapping[str, Tensor], reduce: Reduce | None) -> dict[str, float]:
    """The values of the terms, of all ranks where there are several.

    Raises:
        ValueError: If one is negative: it has no size.
    """
    if not losses:
        return {}
    stacked = torch.stack([loss.detach().double() for loss in losses.values()])
    values = (stacked if reduce is None else reduce(stacked)).tolist()
    if negative := [name for name, value in zip(losses, values, strict=True) if value < 0]:
        raise ValueError(f"{negative} are negative: use constant weights or an aggregator.")
    return dict(zip(losses, values, strict=True))
