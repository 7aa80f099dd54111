"""All terms of a loss beneath a schedule: their base weights, checked against its components."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nops_schedules._check import mapping, text, weight
from nops_schedules._names import did_you_mean
from nops_schedules._path import Path, Position

if TYPE_CHECKING:
    from nops_schedules._params import SchedulerParams


def base_terms(
    params: "SchedulerParams", path: Path, terms: Mapping[str, float] | None
) -> dict[str, float]:
    """Base weight of every term; empty where the schedule's components are all there are.

    Raises:
        ValueError: If a component is not among the terms, or starts with another weight than its base.
    """
    if terms is None:
        return {}
    base = mapping(weight)("terms", terms)
    moving = path.weights(Position()) if params.enabled else {}
    for name, first in {**moving, **params.static_components}.items():
        if name not in base:
            hint = did_you_mean(name, base)
            raise ValueError(
                f"the schedule's component '{name}' is no term of the loss {list(base)}.{hint}"
            )
        if base[name] not in (0.0, first):
            raise ValueError(
                f"'{name}' has the weight {base[name]:g} in the loss, and the schedule starts it at {first:g}: "
                "give it 0 or the same there, or change the schedule's."
            )
    return base


def checked_scale(
    scale: Mapping[str, float | str], base: Mapping[str, float]
) -> dict[str, float | str]:
    """Factors by term: numbers, or expressions of metrics to be measured.

    Raises:
        ValueError: If one is negative or not finite, an empty text, or of no term.
    """
    found = mapping(_factor)("scale", scale)
    for name in found:
        if base and name not in base:
            raise ValueError(f"scale: '{name}' is no term of the loss.{did_you_mean(name, base)}")
    return found


def _factor(name: str, value: Any) -> float | str:
    return text(name, value) if isinstance(value, str) else weight(name, value)
