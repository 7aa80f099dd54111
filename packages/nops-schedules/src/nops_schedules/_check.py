"""Checks of single fields: each returns the value in its plain form, or says what it must be."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nops_schedules._names import did_you_mean

Check = Callable[[str, Any], Any]


def refuse(name: str, expected: str, value: object, hint: str = "") -> ValueError:
    """The error of a field: what it must be, and what it is."""
    return ValueError(f"{name} must be {expected}, got {value!r}.{hint}")


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise refuse(name, "true or false", value)
    return value


def text(name: str, value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise refuse(name, "a name", value)
    return value


def whole(minimum: int) -> Check:
    """A whole number of at least `minimum`."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise refuse(name, f"a whole number of at least {minimum}", value)
        return value

    return check


def number(name: str, value: Any) -> float:
    """A finite number."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not math.isfinite(value):
        raise refuse(name, "a finite number", value)
    return float(value)


def weight(name: str, value: Any) -> float:
    """A finite number that is not negative."""
    if number(name, value) < 0:
        raise refuse(name, "0 or more", value)
    return float(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    if number(name, value) <= 0:
        raise refuse(name, "above 0", value)
    return float(value)


def fraction(name: str, value: Any) -> float:
    """A number in [0, 1)."""
    if not 0 <= number(name, value) < 1:
        raise refuse(name, "within [0, 1)", value)
    return float(value)


def choice(*options: str) -> Check:
    """One of some texts."""

    def check(name: str, value: Any) -> str:
        if value not in options:
            raise refuse(name, f"one of {list(options)}", value, did_you_mean(value, options))
        return value

    return check


def choice_or_callable(*options: str) -> Check:
    """One of some texts, or a callable."""
    one_of = choice(*options)

    def check(name: str, value: Any) -> Any:
        return value if callable(value) else one_of(name, value)

    return check


def text_or_callable(name: str, value: Any) -> Any:
    """A text that is not empty, or a callable."""
    return value if callable(value) else text(name, value)


def optional(check: Check) -> Check:
    """None, or what `check` lets through."""
    return lambda name, value: None if value is None else check(name, value)


def mapping(check: Check) -> Check:
    """A mapping from names to what `check` lets through, as a new dict."""

    def check_all(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refuse(name, "a mapping", value)
        return {text(f"a key of {name}", key): check(f"{name}.{key}", value[key]) for key in value}

    return check_all


def sequence(check: Check) -> Check:
    """A list or tuple of what `check` lets through, as a tuple."""

    def check_all(name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise refuse(name, "a list", value)
        return tuple(check(f"{name}[{index}]", item) for index, item in enumerate(value))

    return check_all
