"""Layouts of the engine's checkpoints: which version a file has, and how an older one is brought up.

`SCHEMA` in `_checkpoint.py` counts up whenever the layout changes, and the function that turns the
layout before into the new one is entered here under the older number. Migrations are pure: they take a
state and return another, and a file on the disk stays as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nops_train._checkpoint import SCHEMA, CheckpointError

Migration = Callable[[dict[str, Any]], dict[str, Any]]

MIGRATIONS: dict[int, Migration] = {}
"""From version n to n + 1, by n. Version 1 is the first that was published."""


def migrate(
    state: Mapping[str, Any],
    *,
    where: str,
    migrations: Mapping[int, Migration] | None = None,
    schema: int = SCHEMA,
) -> dict[str, Any]:
    """A checkpoint's state in the present layout; migrations are applied in order of their versions.

    Args:
        state: As read; it is not changed.
        where: The file, for messages.
        migrations: From version n to n + 1, by n; those of this package by default.
        schema: The version to reach.

    Raises:
        CheckpointError: If the version is missing, newer than `schema`, or too old to be migrated.
    """
    steps = MIGRATIONS if migrations is None else migrations
    version = _version_of(state, where=where, newest=schema)
    result = dict(state)
    for number in range(version, schema):
        if number not in steps:
            raise CheckpointError(
                f"{where}: schema version is {version}, and nothing leads from {number} to "
                f"{number + 1}; this version reads {min([*steps, schema])} to {schema}"
            )
        result = {**steps[number](dict(result)), "schema": number + 1}
    return result


def _version_of(state: Mapping[str, Any], *, where: str, newest: int) -> int:
    version = state.get("schema")
    if not isinstance(version, int) or isinstance(version, bool):
        raise CheckpointError(
            f"{where}: schema version is {version!r}, expected an integer: no checkpoint of the engine"
        )
    if version > newest:
        raise CheckpointError(
            f"{where}: schema version is {version}, this version reads up to {newest}: the file was "
            "written by a newer nops-train; update it, or take the checkpoint before"
        )
    return version
