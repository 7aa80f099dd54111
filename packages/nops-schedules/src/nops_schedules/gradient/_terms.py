"""What the gradient-based weightings share: names of terms, bounds of weights, and the head of a state."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nops_schedules._check import positive, weight
from nops_schedules._constant import checked_terms

VERSION = 1


def base_weights(loss_names: Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    """Base weight by name: 1 each where names are given.

    Raises:
        ValueError: If there is none, a name comes twice, a weight is negative or not finite, or all are 0.
        TypeError: If a name is not a string, or a weight not a number.
    """
    if isinstance(loss_names, Mapping):
        return checked_terms(loss_names)
    if isinstance(loss_names, str):
        raise TypeError(f"loss_names is a list of names, found the text {loss_names!r}.")
    if twice := sorted({name for name in loss_names if list(loss_names).count(name) > 1}):
        raise ValueError(f"loss_names has {twice} more than once.")
    return checked_terms(dict.fromkeys(loss_names, 1.0))


def check_bounds(min_weight: float, max_weight: float) -> None:
    """Refuse bounds that hold nothing.

    Raises:
        ValueError: If one is no finite number, or they are the wrong way round.
    """
    if weight("min_weight", min_weight) > positive("max_weight", max_weight):
        raise ValueError(
            f"min_weight must not be above max_weight, got {min_weight} and {max_weight}."
        )


def clamp(
    raw: Mapping[str, float], bounds: tuple[float, float], counts: Mapping[str, int]
) -> tuple[dict[str, float], dict[str, int]]:
    """The weights within `bounds`, and the counts of those that were not, one higher each.

    Which terms they are is told once, by a warning.
    """
    low, high = bounds
    held = {name: min(max(weight, low), high) for name, weight in raw.items()}
    hit = {name: weight for name, weight in raw.items() if held[name] != weight}
    if hit and not counts:
        text = ", ".join(f"{name} ({weight:.3g})" for name, weight in hit.items())
        warnings.warn(
            f"the weights of {text} were clamped to [{low:g}, {high:g}]; clamped_terms counts them.",
            UserWarning,
            stacklevel=2,
        )
    return held, {**counts, **{name: counts.get(name, 0) + 1 for name in hit}}


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that are none of the terms.

    Raises:
        KeyError: With the terms.
    """
    if unknown := [name for name in names if name not in known]:
        raise KeyError(f"{unknown} are no terms of the weighting; it has {list(known)}")


def usable(value: float) -> bool:
    """Whether a measured size says something: it is finite and above zero."""
    return 0 < value < math.inf


def head(owner: object, names: Iterable[str]) -> dict[str, Any]:
    """What a state says of its owner."""
    return {"kind": type(owner).__name__, "version": VERSION, "names": list(names)}


def check_head(state: Mapping[str, Any], owner: object, names: Iterable[str]) -> None:
    """Refuse the state of another weighting.

    Raises:
        ValueError: With what was saved, and what is expected.
    """
    check_saved_by(state, head(owner, names))


def check_saved_by(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a state that does not begin with what is expected.

    Raises:
        ValueError: With what was saved, and what is expected.
    """
    found = {key: state.get(key) for key in expected}
    if found != expected:
        raise ValueError(f"the state was saved by {found}; this weighting is {dict(expected)}.")
