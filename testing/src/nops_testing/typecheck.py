"""The run-time type checker of the test suite: beartype, with int accepted where float is asked."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

__all__ = ["check"]

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with checks of its annotations; one made inside of another is left alone.

    Such a function would be compiled anew for each call of the other, which took two thirds of the time of the
    solvers' longest tests.
    """
    return function if "<locals>" in function.__qualname__ else _beartype(function)
