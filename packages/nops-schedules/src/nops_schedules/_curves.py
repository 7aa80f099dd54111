"""Curves from 0 to 1: how far a transition has come when a fraction of it has passed."""

import math
from collections.abc import Callable
from typing import NamedTuple

_STEEPNESS = 3.0  # of the exponential: half of the way is done after 0.22 of the time
_FULL = -math.expm1(-_STEEPNESS)


class Curve(NamedTuple):
    """A rising function of [0, 1] onto itself, and its inverse."""

    value: Callable[[float], float]
    inverse: Callable[[float], float]


CURVES = {
    "linear": Curve(lambda q: q, lambda y: y),
    "cosine": Curve(
        lambda q: 0.5 * (1 - math.cos(math.pi * q)), lambda y: math.acos(1 - 2 * y) / math.pi
    ),
    "exponential": Curve(
        lambda q: -math.expm1(-_STEEPNESS * q) / _FULL,
        lambda y: -math.log1p(-_FULL * y) / _STEEPNESS,
    ),
}


def between(begin: float, end: float, fraction: float) -> float:
    """The straight line from `begin` at 0 to `end` at 1: never beyond either, and each exactly."""
    value = begin + (end - begin) * fraction if fraction < 1 else end
    return min(max(value, min(begin, end)), max(begin, end))
