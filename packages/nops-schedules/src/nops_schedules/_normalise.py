"""What every balancing scheme shares: first weights, normalisers, softmax, and clamps that hold."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nops_schedules._check import sequence, text
from nops_schedules._constant import checked_terms
from nops_schedules._names import did_you_mean

MODES = ("mean", "unit", "sum", "total")

_LARGEST = 1e300  # scores beyond are as good as infinite, and their difference is still a number


class WeightingError(RuntimeError):
    """A term was NaN, infinite or missing too many times in a row to be balanced."""


def checked_names(loss_names: Sequence[str]) -> tuple[str, ...]:
    """The names of the terms, in the order given.

    Raises:
        ValueError: If there is none, one is no text, or one is there twice.
    """
    names = sequence(text)("loss_names", loss_names)
    if not names:
        raise ValueError("loss_names needs one name at least, got none.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"loss_names holds {twice} more than once.")
    return names


def first_weights(
    names: Sequence[str], initial_weights: Mapping[str, float] | None
) -> dict[str, float]:
    """Initial weight of each term, in the order of `names`; 1 for each where none are given.

    Raises:
        ValueError: If a name is missing or unknown, a weight is negative or not finite, or all are 0.
        TypeError: If a weight is no number.
    """
    if initial_weights is None:
        return dict.fromkeys(names, 1.0)
    if unknown := [name for name in initial_weights if name not in names]:
        hint = did_you_mean(unknown[0], names)
        raise ValueError(f"initial_weights holds {unknown}, no terms of {list(names)}.{hint}")
    if missing := [name for name in names if name not in initial_weights]:
        raise ValueError(f"initial_weights lacks {missing}; give each term its weight, 0 for off.")
    return checked_terms({name: initial_weights[name] for name in names})


def check_known(names: Iterable[str], known: Mapping[str, object]) -> None:
    """Refuse names that are no terms.

    Raises:
        KeyError: With the known names in its text.
    """
    for name in names:
        if name not in known:
            raise KeyError(f"'{name}' is no term of {list(known)}.{did_you_mean(name, known)}")


def normalised(
    losses: Mapping[str, float],
    *,
    initial: Mapping[str, float],
    mode: str = "mean",
    prior: bool = False,
    eps: float = 1e-8,
) -> dict[str, float]:
    """Weights that make all weighted losses equal, or as the priors are to each other.

    With q_i = p_i / (L_i + ε), p_i = 1 or under `prior` the initial weight w0_i:

    | mode | weights |
    |---|---|
    | "mean" | mean(w0)·q_i / mean(q): the mean weight stays |
    | "unit" | q_i: each weighted loss is p_i |
    | "sum" | q_i / Σ q_j L_j: the weighted losses sum to 1 |
    | "total" | q_i · Σ w0_j L_j / Σ q_j L_j: the total loss does not jump |

    Args:
        losses: Positive, of the terms that take part; one at least.
        initial: w0_i of those terms at least.
        mode: One of the four.
        prior: Keep the ratios of the initial weights.
        eps: ε, in the unit of the losses.

    Returns:
        The weight of each name in `losses`, not clamped.
    """
    values = list(losses.values())
    first = [initial[name] for name in losses]
    least = min(values) + eps  # q is in units of 1 / least, so that it cannot overflow
    q = [least / (value + eps) for value in values]
    if prior:
        q = [weight * one for weight, one in zip(first, q, strict=True)]
    factor = _factor(mode, least=least, q=q, values=values, first=first)
    return {name: factor * one for name, one in zip(losses, q, strict=True)}


def _factor(
    mode: str, *, least: float, q: list[float], values: list[float], first: list[float]
) -> float:
    """What `q` is multiplied by."""
    if mode == "unit":
        return 1.0 / least
    if mode == "mean":
        return sum(first) / sum(q)
    share = sum([one * value for one, value in zip(q, values, strict=True)])
    before = 1.0
    if mode == "total":
        before = sum([weight * value for weight, value in zip(first, values, strict=True)])
    return before / share if share else math.inf


def softmax_weights(scores: Mapping[str, float]) -> dict[str, float]:
    """Softmax over the m names times m: equal scores give 1 each."""
    values = list(scores.values())
    if max(values) > _LARGEST or min(values) < -_LARGEST:
        values = [max(-_LARGEST, min(value, _LARGEST)) for value in values]
    largest = max(values)
    parts = [math.exp(value - largest) for value in values]
    factor = len(parts) / sum(parts)
    return {name: factor * part for name, part in zip(scores, parts, strict=True)}


@dataclass
class Clamp:
    """Keeps weights within [low, high], counts where it acts, and warns the first time.

    Attributes:
        low: Least weight, dimensionless.
        high: Largest weight.
        counts: Name to the number of times that its weight was clamped.
    """

    low: float
    high: float
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high < math.inf:
            raise ValueError(
                "need 0 <= min_weight <= max_weight, both finite, "
                f"got min_weight={self.low!r}, max_weight={self.high!r}."
            )

    def __call__(self, weights: Mapping[str, float]) -> dict[str, float]:
        """The weights within the limits; they are never renormalised. NaN becomes the least."""
        low, high = self.low, self.high
        for weight in weights.values():
            if not low <= weight <= high:
                return self._clamped(weights)
        return dict(weights)

    def _clamped(self, weights: Mapping[str, float]) -> dict[str, float]:
        low, high = self.low, self.high
        self._note([n for n, weight in weights.items() if not low <= weight <= high], weights)
        # `weight >= low` is false for NaN, which ends at `low`.
        return {
            name: low if not weight >= low else min(weight, high)
            for name, weight in weights.items()
        }

    def _note(self, acted: Sequence[str], weights: Mapping[str, float]) -> None:
        if not self.counts:
            found = ", ".join(f"{name} {weights[name]:.3g}" for name in acted)
            warnings.warn(
                f"weights are clamped to [{self.low:g}, {self.high:g}] and no longer balance the "
                f"losses in full: {found}. Said once; `clamped_terms` counts.",
                UserWarning,
                stacklevel=2,
            )
        for name in acted:
            self.counts[name] = self.counts.get(name, 0) + 1
