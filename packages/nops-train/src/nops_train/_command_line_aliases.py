"""Other accepted names of keys, and what each of them sets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nops_train._command_line_keys import describe
from nops_train._command_line_spec import Alias
from nops_train._errors import InputError

__all__ = ["Aliases", "Assignment", "expand", "fits", "shown"]

STRICT = ConfigDict(strict=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One key set to one value, with the place that says so (`my.yaml: train.epochs`, `--lr`)."""

    key: str
    value: Any
    origin: str

    @property
    def where(self) -> str:
        """The place, with the key itself where the place does not say it."""
        return self.origin if self.key in self.origin else f"{self.origin} ({self.key})"


@dataclass
class Aliases:
    """The aliases of an app, by the form in which they are written.

    Attributes:
        table: As declared.
        dotted: Those that are dotted keys, accepted in YAML and with `--` before them.
        flags: All of them, by flag.
        words: Bare names (`bptt_window`) and what to write instead, for advice.
    """

    table: Sequence[Alias]
    dotted: dict[str, Alias] = field(default_factory=dict)
    flags: dict[str, Alias] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for alias in self.table:
            bare = alias.name.removeprefix("--")
            self.flags[f"--{bare}"] = alias
            self.words[bare.replace("-", "_")] = (
                alias.sets if isinstance(alias.sets, str) else alias.name
            )
            if bare == alias.name:
                self.dotted[bare] = alias

    def beneath(self, path: str) -> bool:
        """Whether a dotted alias goes on from this path."""
        return any(name.startswith(f"{path}.") for name in self.dotted)


def expand(alias: Alias, place: Assignment) -> Iterator[Assignment]:
    """What an alias sets, given the value written for it.

    Raises:
        InputError: If the value is of a wrong type, or the alias refuses it.
    """
    for key, value in _settings(alias, place).items():
        yield Assignment(key=key, value=value, origin=place.origin)


def _settings(alias: Alias, place: Assignment) -> Mapping[str, Any]:
    """Keys and values."""
    if isinstance(alias.sets, str):
        return {alias.sets: place.value}
    if isinstance(alias.sets, Mapping):
        if place.value is True:
            return alias.sets
        raise InputError(f"{place.origin}: expected true, or nothing; found {shown(place.value)}")
    if not fits(place.value, alias.type):
        expected = describe(alias.type)
        raise InputError(f"{place.origin}: expected {expected}; found {shown(place.value)}")
    try:
        return alias.sets(place.value)
    except ValueError as error:
        raise InputError(f"{place.origin}: {error}") from error


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value is valid for a type, as strictly as a config checks it."""
    try:
        TypeAdapter(annotation, config=STRICT).validate_json(json.dumps(value))
    except ValidationError:
        return False
    return True


def shown(value: Any) -> str:
    """A value as YAML would show it, cut to a line."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
