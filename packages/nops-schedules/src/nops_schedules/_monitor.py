"""The number that a schedule watches: by name, dotted key, arithmetic expression or callable."""

import ast
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from nops_schedules._names import did_you_mean, qualified_name

Monitor = str | Callable[[Mapping[str, Any]], float]

_LONGEST = 500  # characters of an expression; Python's parser may recurse as deep
_MISSING = object()
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.UAdd: lambda a: +a,
    ast.USub: lambda a: -a,
}


def read_monitor(
    monitor: Monitor, metrics: Mapping[str, Any], *, field: str, aliases: Mapping[str, str]
) -> float:
    """The monitored number of one validation; it may be not finite.

    A text is, in this order: an alias; an exact key; a dotted key into nested mappings; an arithmetic
    expression over keys and numbers with + − * / and parentheses. Division by zero gives NaN.

    Args:
        monitor: A text, or a callable of `metrics`.
        metrics: Numbers by name; mappings may be nested.
        field: Where the monitor is configured, for messages.
        aliases: Names that stand for others.

    Raises:
        ValueError: If a name is not among the metrics, or what is found is no number.
    """
    if not isinstance(monitor, str):
        return _number(monitor(metrics), name=qualified_name(monitor), field=field)
    name = aliases.get(monitor, monitor)
    found = _look_up(name, metrics)
    if found is not _MISSING:
        return _number(found, name=name, field=field)
    tree = _parse(name)
    if tree is None or _name_of(tree) is not None:
        raise _missing(name, metrics, field)
    return _evaluate(tree, metrics, text=name, field=field, aliases=aliases)


def _look_up(name: str, metrics: Mapping[str, Any]) -> Any:
    if name in metrics:
        return metrics[name]
    found: Any = metrics
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _MISSING
        found = found[part]
    return found


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> ast.expr | None:
    """The expression, or None where the text is none."""
    if len(text) > _LONGEST:
        return None
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _name_of(node: ast.AST) -> str | None:
    """`a.b.c` of a name or a chain of attributes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _name_of(node.value)
        return None if head is None else f"{head}.{node.attr}"
    return None


def _evaluate(
    node: ast.AST, metrics: Mapping[str, Any], *, text: str, field: str, aliases: Mapping[str, str]
) -> float:
    inner = functools.partial(_evaluate, metrics=metrics, text=text, field=field, aliases=aliases)
    name = _name_of(node)
    if name is not None:
        name = aliases.get(name, name)
        found = _look_up(name, metrics)
        if found is _MISSING:
            raise _missing(name, metrics, field)
        return _number(found, name=name, field=field)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _number(node.value, name=text, field=field)
    try:
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](inner(node.left), inner(node.right))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](inner(node.operand))
    except ZeroDivisionError:
        return math.nan
    raise ValueError(
        f"{field} {text!r}: an expression holds names of metrics, numbers, + - * / and parentheses; "
        f"found {ast.unparse(node)!r}. The metrics are {_names(metrics)}."
    )


def _number(value: Any, *, name: str, field: str) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        raise ValueError(
            f"{field}: '{name}' must be a number, got {value!r} of type {type(value).__name__}."
        ) from None


def _names(metrics: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in metrics.items():
        nested = isinstance(value, Mapping)
        names += _names(value, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return sorted(names)


def _missing(name: str, metrics: Mapping[str, Any], field: str) -> ValueError:
    names = _names(metrics)
    return ValueError(
        f"{field} '{name}' is not among the metrics {names}.{did_you_mean(name, names)}"
    )
