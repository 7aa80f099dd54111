"""Weights that grow where the residual of a point stays large: learned, and by a moving average."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from nops_schedules._check import choice, fraction, number, positive
from nops_schedules.gradient._points import PointWeights

BETA1, BETA2 = 0.9, 0.999  # Adam's
EPS = 1e-30  # in place of 1e-8: a derivative here is a squared residual over the number of points


@final
class SelfAdaptive(PointWeights):
    """A weight λ for each point, trained to raise the loss that the network lowers.

    | mask | loss | derivative with respect to λ, over the number of points |
    |---|---|---|
    | "square" | mean (λr)² | 2λr² |
    | "linear" | mean λr² | r² |
    | "sigmoid" | mean σ(λ)r² | σ(λ)(1 − σ(λ))r² |

    λ climbs by Adam along this derivative, so no second backward pass is made; points that are not in a
    step keep their λ and its moments.

    Args:
        n_points: How many points there are; they keep their numbers for the whole run.
        mask: How λ enters.
        lr: Learning rate of λ.
        init: λ of each point at first.

    Source:
        McClenny and Braga-Neto, arXiv 2009.04544.
    """

    def __init__(
        self, n_points: int, *, mask: str = "square", lr: float = 5e-3, init: float = 1.0
    ) -> None:
        super().__init__(n_points, start=number("init", init))
        self._mask: str = choice("square", "linear", "sigmoid")("mask", mask)
        self._lr: float = positive("lr", lr)
        self._mean = torch.zeros(n_points, dtype=torch.float64)
        self._square = torch.zeros(n_points, dtype=torch.float64)
        self._steps = torch.zeros(n_points, dtype=torch.float64)

    def _factor(self) -> Tensor:
        return self._weights.sigmoid() if self._mask == "sigmoid" else self._weights

    def _squared(self, factor: Tensor, residual: Tensor) -> Tensor:
        if self._mask == "square":
            return (factor * residual).square()
        return factor * residual.square()

    def _slope(self) -> Tensor:
        """The derivative of what multiplies r², by λ."""
        if self._mask == "square":
            return 2 * self._weights
        if self._mask == "linear":
            return torch.ones_like(self._weights)
        sigmoid = self._weights.sigmoid()
        return sigmoid * (1 - sigmoid)

    def _moved(self, squares: Tensor, counts: Tensor) -> Tensor:
        seen = counts > 0
        slope = self._slope() * squares / counts.sum()
        mean, square, steps = (x.to(slope.device) for x in (self._mean, self._square, self._steps))
        self._mean = mean.lerp(slope, 1 - BETA1).where(seen, mean)
        self._square = square.lerp(slope.square(), 1 - BETA2).where(seen, square)
        self._steps = steps + seen
        at = self._steps.clamp_min(1)
        root = (self._square / (1 - BETA2**at)).sqrt()
        return self._weights + self._lr * self._mean / (1 - BETA1**at) / (root + EPS)

    def _remembered(self) -> dict[str, Any]:
        moments = {"mean": self._mean, "square": self._square, "steps": self._steps}
        return {"mask": self._mask, **{name: x.clone() for name, x in moments.items()}}

    def _remember(self, state: Mapping[str, Any]) -> None:
        if state["mask"] != self._mask:
            raise ValueError(f"the state is of the mask {state['mask']!r}, this is {self._mask!r}.")
        self._mean, self._square = state["mean"].clone(), state["square"].clone()
        self._steps = state["steps"].clone()


@final
class ResidualAttention(PointWeights):
    """A weight λ for each point: a decaying sum of how large its residual was among all.

    λ starts at 0 and goes to γλ + η|r| / max|r|, the largest over the points of the step. So it never
    passes η / (1 − γ). "squared" is the loss mean (λr)², "linear" is mean λr². A point that was not seen
    before counts with η in the loss, the most that its first step can give: with 0 it would be left out, and
    a first batch would train nothing.

    Args:
        n_points: How many points there are; they keep their numbers for the whole run.
        gamma: γ, the share of λ that stays, in [0, 1).
        eta: η, what the largest residual adds.
        variant: How λ enters.

    Source:
        Anagnostopoulos, Toscano, Stergiopulos and Karniadakis, arXiv 2307.00379.
    """

    def __init__(
        self, n_points: int, *, gamma: float = 0.999, eta: float = 1e-3, variant: str = "squared"
    ) -> None:
        super().__init__(n_points, start=0.0)
        self._gamma: float = fraction("gamma", gamma)
        self._eta: float = positive("eta", eta)
        self._variant: str = choice("squared", "linear")("variant", variant)

    def _factor(self) -> Tensor:
        return self._weights.where(self._weights > 0, self._eta)

    def _squared(self, factor: Tensor, residual: Tensor) -> Tensor:
        if self._variant == "squared":
            return (factor * residual).square()
        return factor * residual.square()

    def _moved(self, squares: Tensor, counts: Tensor) -> Tensor:
        size = (squares / counts.clamp_min(1)).sqrt()
        largest = size.max()
        share = torch.where(largest > 0, size / largest, 0.0)
        return self._gamma * self._weights + self._eta * share

    def _remembered(self) -> dict[str, Any]:
        return {"variant": self._variant}

    def _remember(self, state: Mapping[str, Any]) -> None:
        if state["variant"] != self._variant:
            raise ValueError(
                f"the state is of the variant {state['variant']!r}, this is {self._variant!r}."
            )
