"""Weights that never move."""

import math
from collections.abc import Mapping


class ConstantWeights:
    """The same weight for each term at every step: the simplest weighting.

    It has what a training engine asks of a weighting: `terms`, `observes`, `active`, `weights`,
    `observe`, `state_dict`, `load_state_dict`.

    Attributes:
        terms: Each term's weight, dimensionless, zero included.
        observes: None: it wants to see no values.
    """

    def __init__(self, terms: Mapping[str, float]) -> None:
        """Take each term's weight.

        Args:
            terms: Weight by name of the loss term; finite and not negative, one at least positive.
                A term of weight 0 stays known, but is not computed.

        Raises:
            ValueError: If there is no term, a weight is negative or not finite, or all are 0.
            TypeError: If a name is not a string, or a weight not a number.
        """
        self.terms: dict[str, float] = checked_terms(terms)
        self.observes: str | None = None

    def __repr__(self) -> str:
        return f"ConstantWeights({self.terms})"

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute: those with a positive weight, at any time."""
        return frozenset(name for name, weight in self.terms.items() if weight > 0)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term, those of weight 0 included, the same at any time."""
        return dict(self.terms)

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Look at nothing: constant weights follow no values."""

    def state_dict(self) -> dict[str, object]:
        """An empty dict: the weights are configuration, and nothing else is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Accept the empty state.

        Raises:
            ValueError: If `state` holds anything: it was saved by another kind of weighting.
        """
        if state:
            raise ValueError(
                f"constant weights have no state, found the keys {sorted(state)}: "
                "the checkpoint was written with another weighting."
            )


def checked_terms(terms: Mapping[str, float]) -> dict[str, float]:
    """Weight by name, as a new dict.

    Raises:
        ValueError: If there is no term, a weight is negative or not finite, or all are 0.
        TypeError: If a name is not a string, or a weight not a number.
    """
    checked = {name: _checked(name, terms[name]) for name in terms}
    if not any(checked.values()):
        raise ValueError(
            f"at least one term needs a positive weight, got {dict(terms)}: "
            "there would be nothing to train."
        )
    return checked


def _checked(name: object, weight: object) -> float:
    if not isinstance(name, str) or isinstance(weight, bool) or not isinstance(weight, int | float):
        raise TypeError(f"terms maps names to numbers, found {name!r}: {weight!r}.")
    if not 0 <= weight < math.inf:
        raise ValueError(f"the weight of '{name}' must be finite and not negative, got {weight}.")
    return float(weight)
