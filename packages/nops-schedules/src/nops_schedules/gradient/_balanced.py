"""The base of weightings that measure gradients now and then, and hold the weights between."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from nops_schedules._check import fraction, whole
from nops_schedules.gradient._backward import Reduce, trained
from nops_schedules.gradient._terms import (
    base_weights,
    check_bounds,
    check_head,
    check_known,
    clamp,
    head,
)


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What such a weighting remembers.

    Attributes:
        weights: By name, all terms.
        measured: Terms whose weight was measured at least once.
        clamped: Measurements after which the weight had to be clamped, by term; none for others.
        first: Loss of each term when it was first seen, where that matters.
    """

    weights: dict[str, float]
    measured: tuple[str, ...] = ()
    clamped: dict[str, int] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)


class BalancedWeights(ABC):
    """Weights from the gradients of the terms, measured by `balance` and held until the next measurement.

    A change is staged by `balance`, is used by `weights` at once, and counts for good from `apply_update` on,
    or with the next `balance`; `discard_update` takes it back, for a step that was skipped.

    Attributes:
        terms: Base weight of each term: its weight until it is measured. One of 0 is off for ever.
        observes: None: values alone tell it nothing.
    """

    observes: str | None = None

    def __init__(
        self,
        loss_names: Sequence[str] | Mapping[str, float],
        *,
        ema: float,
        every: int,
        min_weight: float,
        max_weight: float,
    ) -> None:
        self.terms = base_weights(loss_names)
        self._ema = fraction("ema", ema)
        self._every = whole(1)("every", every)
        check_bounds(min_weight, max_weight)
        self._bounds = (min_weight, max_weight)
        self._kept = Balance(weights=dict(self.terms))
        self._staged: Balance | None = None
        self._noted: dict[
            str, Tensor
        ] = {}  # residuals of the step in hand, where they are measured

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._now.weights})"

    @abstractmethod
    def _refreshed(
        self,
        losses: Mapping[str, Tensor],
        params: Sequence[Tensor],
        *,
        step: int,
        reduce: Reduce | None,
    ) -> Balance | None:
        """What `losses` (of the terms that are on) make of `_kept`; None where they tell nothing."""

    @property
    def _now(self) -> Balance:
        return self._staged or self._kept

    @property
    def clamped_terms(self) -> dict[str, int]:
        """Name to the number of measurements after which its weight was clamped; others are not there."""
        return dict(self._now.clamped)

    def begin_at(self, weights: Mapping[str, float]) -> None:
        """Take the weights of a scheme before this one, clamped, until the first measurement.

        Terms that were off there, or are off here, keep the weight that they have.
        """
        taken = {n: w for n, w in weights.items() if w > 0 and self.terms.get(n, 0.0) > 0}
        held, _ = clamp(taken, self._bounds, {})
        self._kept, self._staged = replace(self._now, weights={**self._now.weights, **held}), None

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """All terms but those with a base weight of 0."""
        return frozenset(name for name, base in self.terms.items() if base > 0)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term."""
        return dict(self._now.weights)

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Look at nothing: the weights come from `balance`."""
        return

    def balance(
        self,
        losses: Mapping[str, Tensor],
        params: Sequence[Tensor],
        *,
        epoch: int,
        step: int,
        reduce: Reduce | None = None,
    ) -> None:
        """Measure the gradients where it is time: at each step that `every` divides, and at first.

        Graphs are kept. The gradients of parameters are not touched.

        Args:
            losses: Raw scalar terms by name.
            params: What is trained; those without `requires_grad` are left out.
            epoch: 0-based.
            step: 0-based; steps that were skipped not counted.
            reduce: Sums over the ranks, where several make the step: `losses` are then this rank's parts
                of the sums.

        Raises:
            KeyError: If a loss is no term of this weighting.
            ValueError: If no parameter requires a gradient.
        """
        check_known(losses, self.terms)
        self._kept, self._staged = self._now, None
        try:
            if not self._kept.measured or step % self._every == 0:
                on = {n: losses[n] for n, base in self.terms.items() if base > 0 and n in losses}
                self._staged = self._refreshed(on, trained(params), step=step, reduce=reduce)
        finally:
            self._noted.clear()  # their graphs go

    def apply_update(self) -> None:
        """Keep what was staged."""
        self._kept, self._staged = self._now, None
        self._noted.clear()

    def discard_update(self) -> None:
        """Forget what was staged: the step was skipped."""
        self._staged = None
        self._noted.clear()

    def state_dict(self) -> dict[str, Any]:
        """All that is remembered, in plain numbers, strings, lists and dicts."""
        now = self._now
        return {
            **head(self, self.terms),
            "weights": dict(now.weights),
            "measured": list(now.measured),
            "clamped": dict(now.clamped),
            "first": dict(now.first),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another weighting, other terms or another version.
        """
        check_head(state, self, self.terms)
        self._staged = None
        self._kept = Balance(
            weights=dict(state["weights"]),
            measured=tuple(state["measured"]),
            clamped=dict(state["clamped"]),
            first=dict(state["first"]),
        )

    def _blend(self, target: Mapping[str, float]) -> Balance | None:
        """The weights, drawn to `target`: all the way for a term that was not measured before."""
        if not target:
            return None
        kept, raw = self._kept, {}
        for name, value in target.items():
            share = self._ema if name in kept.measured else 0.0
            raw[name] = share * kept.weights[name] + (1 - share) * value
        return self._held(raw)

    def _held(self, raw: Mapping[str, float]) -> Balance:
        """`_kept` with these measured weights, clamped, which is counted."""
        kept = self._kept
        weights, clamped = clamp(raw, self._bounds, kept.clamped)
        measured = tuple(n for n in self.terms if n in raw or n in kept.measured)
        return replace(
            kept, weights={**kept.weights, **weights}, measured=measured, clamped=clamped
        )
