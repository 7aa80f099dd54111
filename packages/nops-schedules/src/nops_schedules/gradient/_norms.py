"""Weights that make the gradients of the terms equally large, by three measures of size."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from nops_schedules._check import choice
from nops_schedules.gradient._backward import Reduce, flat_gradient
from nops_schedules.gradient._balanced import Balance, BalancedWeights
from nops_schedules.gradient._terms import check_known, usable

Names = Sequence[str] | Mapping[str, float]


@final
class GradientNormWeights(BalancedWeights):
    """Each term's gradient is brought to the mean 2-norm: w_i = mean_j |g_j| / |g_i|.

    A term whose gradient is zero keeps its weight and is left out of the mean. Where a gradient is not
    finite, all weights stay.

    Args:
        loss_names: The terms, or their base weights by name.
        ema: Share of the old weight at a measurement, in [0, 1); the first counts in full.
        every: Steps from one measurement to the next.
        min_weight: Smallest weight.
        max_weight: Largest weight.

    Source:
        Wang, Sankaran, Wang and Perdikaris, arXiv 2308.08468, with the sum in place of the mean.
    """

    def __init__(
        self,
        loss_names: Names,
        *,
        ema: float = 0.9,
        every: int = 100,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
    ) -> None:
        super().__init__(
            loss_names, ema=ema, every=every, min_weight=min_weight, max_weight=max_weight
        )

    def _refreshed(
        self,
        losses: Mapping[str, Tensor],
        params: Sequence[Tensor],
        *,
        step: int,
        reduce: Reduce | None,
    ) -> Balance | None:
        norms = sizes(losses, params, norm, reduce)
        mean = sum(norms.values()) / max(len(norms), 1)
        return self._blend({name: mean / size for name, size in norms.items()})


@final
class LearningRateAnnealing(BalancedWeights):
    """Each term's gradient is measured against that of a reference, whose own weight stays.

    Over all entries of the gradients, w_i is

    - "max_mean": max |g_ref| / mean |g_i|, as the paper has it;
    - "mean_mean": mean |g_ref| / mean |g_i|;
    - "max_mean_over_weight": the first, divided by the weight in force.

    A term whose gradient is zero keeps its weight. Where the reference's is zero, or one is not finite,
    all weights stay.

    Args:
        loss_names: The terms, or their base weights by name.
        reference: One of them, or several: then the gradient of their sum counts.
        variant: Which quotient.
        ema: Share of the old weight at a measurement, in [0, 1); the first counts in full.
        every: Steps from one measurement to the next.
        min_weight: Smallest weight.
        max_weight: Largest weight.

    Source:
        Wang, Teng and Perdikaris, arXiv 2001.04536, algorithm 1.
    """

    def __init__(
        self,
        loss_names: Names,
        *,
        reference: str | Sequence[str],
        variant: str = "max_mean",
        ema: float = 0.9,
        every: int = 10,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
    ) -> None:
        super().__init__(
            loss_names, ema=ema, every=every, min_weight=min_weight, max_weight=max_weight
        )
        self._reference = (reference,) if isinstance(reference, str) else tuple(reference)
        _check_reference(self._reference, self.terms)
        self._variant: str = choice("max_mean", "mean_mean", "max_mean_over_weight")(
            "variant", variant
        )

    def _refreshed(
        self,
        losses: Mapping[str, Tensor],
        params: Sequence[Tensor],
        *,
        step: int,
        reduce: Reduce | None,
    ) -> Balance | None:
        parts = [loss for name, loss in losses.items() if name in self._reference]
        if not parts:
            return None
        peak = mean_size if self._variant == "mean_mean" else largest
        found = sizes({"": torch.stack(parts).sum()}, params, peak, reduce)
        others = {name: loss for name, loss in losses.items() if name not in self._reference}
        means = sizes(others, params, mean_size, reduce)
        if not found:
            return None
        return self._blend({name: found[""] / self._scaled(name, m) for name, m in means.items()})

    def _scaled(self, name: str, mean: float) -> float:
        is_over = self._variant == "max_mean_over_weight"
        return mean * self._kept.weights[name] if is_over else mean


@final
class InverseDirichlet(BalancedWeights):
    """Each term's gradient is brought to one standard deviation over its entries: w_i = std(g_ref) / std(g_i).

    A term whose gradient has no deviation keeps its weight. Where the reference's has none, or one is not
    finite, all weights stay.

    Args:
        loss_names: The terms, or their base weights by name.
        reference: One of them, whose weight stays; or None, for the largest deviation of all.
        ema: Share of the old weight at a measurement, in [0, 1); the first counts in full.
        every: Steps from one measurement to the next.
        min_weight: Smallest weight.
        max_weight: Largest weight.

    Source:
        Maddu, Sturm, Müller and Sbalzarini, arXiv 2107.00940.
    """

    def __init__(
        self,
        loss_names: Names,
        *,
        reference: str | None = None,
        ema: float = 0.5,
        every: int = 100,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
    ) -> None:
        super().__init__(
            loss_names, ema=ema, every=every, min_weight=min_weight, max_weight=max_weight
        )
        self._reference = reference
        _check_reference(() if reference is None else (reference,), self.terms)

    def _refreshed(
        self,
        losses: Mapping[str, Tensor],
        params: Sequence[Tensor],
        *,
        step: int,
        reduce: Reduce | None,
    ) -> Balance | None:
        found = sizes(losses, params, deviation, reduce)
        own = self._reference
        aim = max(found.values(), default=math.nan) if own is None else found.get(own, math.nan)
        if math.isnan(aim):
            return None
        return self._blend({name: aim / size for name, size in found.items() if name != own})


def norm(gradient: Tensor) -> Tensor:
    """2-norm of a flat gradient, in float64."""
    return torch.linalg.vector_norm(gradient, dtype=torch.float64)


def largest(gradient: Tensor) -> Tensor:
    """Largest size of an entry."""
    return gradient.abs().max().double()


def mean_size(gradient: Tensor) -> Tensor:
    """Mean size of the entries, in float64."""
    return gradient.abs().mean(dtype=torch.float64)


def deviation(gradient: Tensor) -> Tensor:
    """Population standard deviation of the entries, in float64."""
    return gradient.double().std(correction=0)


def sizes(
    losses: Mapping[str, Tensor],
    params: Sequence[Tensor],
    size: Callable[[Tensor], Tensor],
    reduce: Reduce | None,
) -> dict[str, float]:
    """How large each term's gradient is; terms with none are left out, all where one is not finite.

    Args:
        losses: Scalars by name; one backward pass each.
        params: Those of `trained`.
        size: Of a flat gradient.
        reduce: Sums a gradient over the ranks.
    """
    found = []
    for loss in losses.values():
        gradient = flat_gradient(loss, params)
        found.append(size(gradient if reduce is None else reduce(gradient)))
    values = torch.stack(found).tolist() if found else []
    if not all(map(math.isfinite, values)):
        return {}
    return {name: value for name, value in zip(losses, values, strict=True) if usable(value)}


def _check_reference(reference: Sequence[str], terms: Mapping[str, float]) -> None:
    check_known(reference, terms)
    if off := [name for name in reference if terms[name] == 0]:
        raise ValueError(f"reference: {off} are off, with a base weight of 0.")
