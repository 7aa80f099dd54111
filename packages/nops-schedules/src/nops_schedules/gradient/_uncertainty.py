"""Weights that are learned beside the network, from the values of the terms alone."""

import copy
import math
from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_schedules._check import choice, positive
from nops_schedules.gradient._norms import Names
from nops_schedules.gradient._terms import (
    base_weights,
    check_bounds,
    check_head,
    check_known,
    clamp,
    head,
)


@final
class UncertaintyWeights:
    """A learned scale s_i for each term, trained to lower a total in which small weights cost.

    - "kendall": the total is Σ ½ exp(−s_i) L_i + ½ s_i, the weight ½ exp(−s_i); best at s_i = ln L_i.
    - "imtl_l": the total is Σ exp(s_i) L_i − s_i, the weight exp(s_i); twice the first, with −s.

    It observes the terms of each step and moves s by Adam and the closed derivative, so it needs no backward
    pass. To train s with the network instead, give `parameters()` to its optimizer, without weight decay,
    minimise `total(losses)`, and leave `observe` out: the path is the same. The total may be negative.

    Args:
        loss_names: The terms, or their base weights by name. Only a base weight of 0 matters here: the term
            is off for ever. s starts at 0.
        form: Which total.
        lr: Learning rate of s.
        min_weight: Smallest weight.
        max_weight: Largest weight.

    Attributes:
        terms: Base weight of each term.
        observes: "step".

    Source:
        Kendall, Gal and Cipolla, arXiv 1705.07115; "imtl_l": Liu et al., *Towards Impartial Multi-task
        Learning*, ICLR 2021.
    """

    def __init__(
        self,
        loss_names: Names,
        *,
        form: str = "kendall",
        lr: float = 1e-2,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
    ) -> None:
        self.terms = base_weights(loss_names)
        self.observes: str | None = "step"
        self._form: str = choice("kendall", "imtl_l")("form", form)
        check_bounds(min_weight, max_weight)
        self._bounds = (min_weight, max_weight)
        self._clamped: dict[str, int] = {}
        zero = torch.zeros((), dtype=torch.float64)
        self._scales = {n: nn.Parameter(zero.clone()) for n, base in self.terms.items() if base > 0}
        self._adam = torch.optim.Adam(self._scales.values(), lr=positive("lr", lr))

    def __repr__(self) -> str:
        return f"UncertaintyWeights({self.weights(epoch=0, step=0)})"

    def parameters(self) -> list[nn.Parameter]:
        """The s of each term that is on: float64 scalars on the host, which train like any parameter."""
        return list(self._scales.values())

    def total(self, losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The total whose minimum over s is sought, differentiable in the losses and in s.

        Args:
            losses: Raw scalar terms by name.

        Raises:
            KeyError: If a loss is no term of this weighting.
            ValueError: If none of them is on.
        """
        check_known(losses, self.terms)
        parts = [
            self._part(self._scales[n].to(v), v) for n, v in losses.items() if n in self._scales
        ]
        if not parts:
            raise ValueError(f"none of {list(losses)} is on: there is nothing to train.")
        return torch.stack(parts).sum()

    def _part(self, s: Tensor, loss: Tensor) -> Tensor:
        if self._form == "kendall":
            return 0.5 * (-s).exp() * loss + 0.5 * s
        return s.exp() * loss - s

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """All terms but those with a base weight of 0."""
        return frozenset(self._scales)

    def begin_at(self, weights: Mapping[str, float]) -> None:
        """Start s where the weights are those of a scheme before this one, within the limits.

        Terms that were off there, or are off here, keep the s that they have.
        """
        low, high = self._bounds
        for name, s in self._scales.items():
            if (value := weights.get(name, 0.0)) > 0:
                held = min(max(value, low), high)
                at = -math.log(2 * held) if self._form == "kendall" else math.log(held)
                s.data.fill_(at)

    @property
    def clamped_terms(self) -> dict[str, int]:
        """Name to the number of observed steps after which its weight was clamped; others are not there."""
        return dict(self._clamped)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term."""
        low, high = self._bounds
        return {
            **dict.fromkeys(self.terms, 0.0),
            **{n: min(max(w, low), high) for n, w in self._raw().items()},
        }

    def _raw(self) -> dict[str, float]:
        """Weights of the terms that are on, before the limits."""
        sign, factor = (-1.0, 0.5) if self._form == "kendall" else (1.0, 1.0)
        return {n: factor * exp(sign * s.item()) for n, s in self._scales.items()}

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Move s by the terms of one training step; of validation nothing is taken.

        A term that is missing or not finite keeps its s.

        Raises:
            KeyError: If one is no term of this weighting.
            ValueError: If a term is negative.
        """
        if split != "train":
            return
        check_known(values, self.terms)
        for name, s in self._scales.items():
            value = float(values.get(name, math.nan))
            if value < 0:
                raise ValueError(
                    f"{name} is negative ({value}): use constant weights or an aggregator."
                )
            s.grad = self._derivative(s.detach(), value) if math.isfinite(value) else None
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        _, self._clamped = clamp(self._raw(), self._bounds, self._clamped)

    def _derivative(self, s: Tensor, value: float) -> Tensor:
        if self._form == "kendall":
            return 0.5 - 0.5 * (-s).exp() * value
        return s.exp() * value - 1

    def state_dict(self) -> dict[str, Any]:
        """Each s, and the moments of their Adam."""
        return {
            **head(self, self.terms),
            "form": self._form,
            "clamped": dict(self._clamped),
            "scales": {name: s.item() for name, s in self._scales.items()},
            "adam": copy.deepcopy(self._adam.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another weighting, form, other terms or another version.
        """
        check_head(state, self, self.terms)
        if state["form"] != self._form:
            raise ValueError(f"the state is of the form {state['form']!r}, this is {self._form!r}.")
        with torch.no_grad():
            for name, s in self._scales.items():
                s.fill_(state["scales"][name])
        self._clamped = dict(state["clamped"])
        self._adam.load_state_dict(state["adam"])


def exp(value: float) -> float:
    """The exponential; infinite where that is too large for a number."""
    return math.exp(value) if value < 709.0 else math.inf
