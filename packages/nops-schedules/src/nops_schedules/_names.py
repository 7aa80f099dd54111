"""Names that users write: the nearest valid one, and what a callable is called."""

import difflib
from collections.abc import Callable, Collection
from typing import Any


def did_you_mean(name: object, known: Collection[str]) -> str:
    """` Did you mean 'x'?` for the nearest known name; empty where none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def qualified_name(function: Callable[..., Any]) -> str:
    """`module:name` of a function; of any other callable, that of its class."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
