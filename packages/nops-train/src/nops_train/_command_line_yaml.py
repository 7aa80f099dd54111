"""YAML as configs need it: 1.2 scalars, no repeated key, plain values, errors that say where.

PyYAML follows YAML 1.1, where `3e-4` is text, `no` is false, `010` is eight and `1:30` is ninety;
here scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from nops_train._errors import InputError

__all__ = ["dump_yaml", "parse_yaml", "read_yaml"]

# What PyYAML's constructors let through for a scalar with a wrong tag, such as `!!bool maybe`.
BAD_SCALAR = (ValueError, TypeError, KeyError, AttributeError)

LARGEST_INTEGER = 2**63  # of a signed 64-bit integer, in magnitude

SCALARS = (
    ("null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
    ("merge", re.compile(r"^<<$"), ["<"]),
)


class _Loader(yaml.SafeLoader):
    """Safe loader with the scalars above; a repeated key is an error."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own way; filled below)

    def int_of(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        if text[:2] in ("0o", "0x"):
            return int(text, 0)
        return int(text)

    def float_of(self, node: yaml.ScalarNode) -> float:
        return float(
            self.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan")
        )

    def mapping_of(self, node: yaml.MappingNode) -> Iterator[dict[Hashable, Any]]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="expected text as a key", problem_mark=key.start_mark
                )
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        yield from self.construct_yaml_map(node)


class _Dumper(yaml.SafeDumper):
    """Safe dumper that quotes whatever either version of YAML would read as something else."""


for _name, _pattern, _first in SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.int_of)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.float_of)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping_of)


def parse_yaml(text: str, *, source: str) -> Any:
    """The value of a YAML text: null, booleans, numbers, text, lists and mappings only.

    Args:
        text: YAML; the empty text is null.
        source: How messages call it, such as a file's name.

    Raises:
        InputError: If it is no YAML, repeats a key, or holds another type of value.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        _check_plain(value, source=source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{source}: not valid YAML{at}: {error.problem}") from error
    except RecursionError as error:
        raise InputError(f"{source}: not usable YAML: nested too deeply") from error
    except InputError:
        raise
    except (yaml.YAMLError, *BAD_SCALAR) as error:
        raise InputError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from error
    return value


def _check_plain(value: Any, *, source: str) -> None:
    """Refuse what a config cannot hold: dates, bytes, sets, huge integers, broken text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"{source}: key {key!r}: expected text as a key")
            _check_plain(key, source=source)
            _check_plain(item, source=f"{source}: {key}")
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, source=source)
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise InputError(f"{source}: expected an integer of 64 bits, found a larger one")
    elif isinstance(value, str) and not _is_unicode(value):
        raise InputError(f"{source}: expected Unicode text, found {value!r}")
    elif not isinstance(value, str | int | float | None):
        raise InputError(f"{source}: expected a plain value, found {type(value).__name__}")


def _is_unicode(text: str) -> bool:
    """Whether it can be stored as UTF-8; arguments of a shell may hold stray bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file; an empty file is an empty mapping.

    Raises:
        InputError: If the file is missing, unreadable, no YAML, or no mapping: the message names it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text, so not YAML") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    value = parse_yaml(text, source=str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, found {value!r:.60}")
    return value


def dump_yaml(value: Any) -> str:
    """The YAML text of plain values, in the given order, that `parse_yaml` reads back unchanged."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
