"""From the text of a flag to a value, from a nested mapping to keys, from pydantic's error to ours."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from nops_train._command_line_aliases import Aliases, Assignment, expand, fits, shown
from nops_train._command_line_keys import Keys, describe, members_of
from nops_train._command_line_yaml import parse_yaml
from nops_train._errors import InputError

__all__ = ["check_key", "flatten", "nest", "parse_text", "problems"]

NULL_WORDS = ("null", "none", "None", "~")
MOST_LINES = 5  # of problems shown at once


def parse_text(text: str, annotation: Any, *, flag: str) -> Any:
    """The value that the text of a flag stands for; a list may be written `32,32`.

    Text that does not fit the type is returned as read, for validation to name it.

    Raises:
        InputError: If the text is no Unicode.
    """
    members = list(members_of(annotation))
    literals = [a for m in members if get_origin(m) is Literal for a in get_args(m)]
    if text in NULL_WORDS and NoneType in members and text not in literals:
        return None
    candidates = [_scalar(text, flag=flag), text]
    if any(get_origin(m) in (tuple, list) for m in members) and not isinstance(candidates[0], list):
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        candidates = [[_scalar(part, flag=flag) for part in parts], parts, *candidates]
    return next((c for c in candidates if fits(c, annotation)), candidates[0])


def _scalar(text: str, *, flag: str) -> Any:
    """Text read as YAML, or itself where it is none; no text is not null, as an unset variable is."""
    if not text.strip():
        return text
    try:
        return parse_yaml(text, source=flag)
    except InputError:
        parse_yaml(json.dumps(text), source=flag)  # refuses text that no file could hold
        return text


def flatten(
    mapping: Mapping[str, Any], keys: Keys, *, source: str, aliases: Aliases
) -> Iterator[Assignment]:
    """The keys of a nested mapping, each with its value and place; aliases are resolved.

    Args:
        mapping: Nested, as read from YAML; dotted names stand for nested ones.
        keys: The valid ones.
        source: The file, for messages.
        aliases: Dotted names accepted beside the keys.

    Raises:
        InputError: On an unknown key, naming the nearest valid one, or a section that is a value.
    """
    for path, value in _leaves(mapping, keys, prefix="", aliases=aliases):
        if "" in path.split("."):
            raise InputError(f"{source}: key {path!r}: expected a name on each side of a dot")
        place = Assignment(key=path, value=value, origin=f"{source}: {path}")
        if path in aliases.dotted:
            yield from expand(aliases.dotted[path], place)
        else:
            yield check_key(place, keys, aliases=aliases)


def check_key(place: Assignment, keys: Keys, *, aliases: Aliases) -> Assignment:
    """The assignment itself, if its key exists: a whole section may only be set to null.

    Raises:
        InputError: If it does not, naming the nearest valid key.
    """
    found, section = keys.find(place.key), keys.sections.get(place.key)
    if found or (section and section.optional and place.value is None):
        return place
    if section:
        start = "--" if place.origin.startswith("--") else ""
        name = f"{start}{place.key}.{keys.within(place.key)[0]}"
        found = shown(place.value)
        raise InputError(
            f"{place.origin}: expected a section, with keys such as {name}; found {found}"
        )
    advice = keys.advice(place.key, words=aliases.words, dashes=place.origin.startswith("--"))
    raise InputError(f"{place.origin}: unknown key; {advice}")


def _leaves(
    mapping: Mapping[str, Any], keys: Keys, *, prefix: str, aliases: Aliases
) -> Iterator[tuple[str, Any]]:
    """Dotted paths and values: sections are taken apart, and unknown mappings to their first leaf.

    An empty or null section says nothing, unless null is one of its values or the user named it.
    """
    for name, item in mapping.items():
        path = f"{prefix}{name}"
        key, section = keys.find(path), keys.sections.get(path) if path else None
        is_empty = item == {} or (item is None and section and not section.optional)
        if section and is_empty and not keys.is_named(path):
            continue
        is_value = key and not section and not aliases.beneath(path)
        if isinstance(item, dict) and item and not is_value:
            yield from _leaves(item, keys, prefix=f"{path}.", aliases=aliases)
        else:
            yield path, item


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a nested mapping."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *sections, name = path.split(".")
        level = nested
        for section in sections:
            level = level.setdefault(section, {})
        level[name] = value
    return nested


def problems(error: ValidationError, keys: Keys, *, origins: Mapping[str, str]) -> list[str]:
    """One line per key of a pydantic error: where it stood, what was expected, what was found."""
    lines: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        path = _path_of(item["loc"], keys, is_extra=item["type"] == "extra_forbidden")
        if item["type"].startswith(
            "union_tag"
        ):  # of the section; what is wrong is its deciding key
            path = f"{path}.{keys.sections[path].tag}"
        lines.setdefault(path, _line(item, path, keys, origins=origins))
    shown = list(lines.values())[:MOST_LINES]
    more = len(lines) - len(shown)
    return [*shown, f"and {more} more"] if more else shown


def _path_of(loc: Sequence[str | int], keys: Keys, *, is_extra: bool) -> str:
    """Dotted path of an error's location, without the names that pydantic gives to union members."""
    path = ""
    for index, part in enumerate(loc):
        candidate = f"{path}.{part}" if path else str(part)
        is_last = index == len(loc) - 1
        if candidate in keys.sections or keys.find(candidate) or (is_extra and is_last):
            path = candidate
    return path


def _line(item: Any, path: str, keys: Keys, *, origins: Mapping[str, str]) -> str:
    """One problem in words."""
    where = origins.get(path, path)
    kind = item["type"]
    if kind == "value_error":
        return f"{where}: {item['msg'].removeprefix('Value error, ')}".removeprefix(": ")
    if kind == "extra_forbidden":
        return f"{where}: {_other_kind(path, item['loc'], keys)}"
    key = keys.find(path)
    expected = describe(key.annotation) if key else "a section with keys"
    if kind in ("missing", "union_tag_not_found"):
        return f"{where}: missing; expected {expected}"
    value = item["input"]
    if kind == "union_tag_invalid":
        value = value[path.rpartition(".")[2]]
    return f"{where}: expected {expected}; found {shown(value)}"


def _other_kind(path: str, loc: Sequence[str | int], keys: Keys) -> str:
    """Why a key that exists is refused: its section is of another kind."""
    section = keys.sections[path.rpartition(".")[0]]
    kind = str(loc[-2])
    names = ", ".join(section.names_of(kind))
    return f"not a key while {section.path}.{section.tag} is {kind}; keys then: {names}"
