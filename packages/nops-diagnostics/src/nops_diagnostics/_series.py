"""Quantities over training, from the event log of a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One quantity over training: optimizer steps and values, NaN where it was not finite."""

    step: tuple[int, ...]
    value: tuple[float, ...]


def read_series(events: Sequence[Event], *, kind: str, key: str) -> dict[str, Series]:
    """Collect `event[key]` of all events of one kind, over the step.

    Args:
        events: Objects of the event log, in order; other kinds are passed over, and so are events
            without the key.
        kind: Value of `event` to select, such as `train`.
        key: A key that holds a number, or a dictionary of numbers by name.

    Returns:
        A series by name; a plain number is named like its key. Empty if there is none. What is
        not a number (None, a text such as `NaN`) becomes NaN.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if event.get("event") != kind or key not in event or "step" not in event:
            continue
        held = event[key]
        for name, value in (held if isinstance(held, Mapping) else {key: held}).items():
            points.setdefault(name, []).append((int(event["step"]), _number(value)))
    return {
        name: Series(step=tuple(s for s, _ in pairs), value=tuple(v for _, v in pairs))
        for name, pairs in points.items()
    }


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
