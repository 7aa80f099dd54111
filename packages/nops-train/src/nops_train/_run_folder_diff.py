"""What differs between the settings of a run and those asked for now, in words."""

from collections.abc import Mapping
from typing import Any

from nops_train._errors import InputError

_ABSENT = object()
_MOST = 20  # lines shown: of a thousand changed files the first ones tell enough


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Dotted keys whose values differ, each with a line that names both values."""
    before, after = _flatten(old), _flatten(new)
    keys = [*before, *(key for key in after if key not in before)]
    return {
        key: f"{key}: the run has {_show(before, key)}, asked for {_show(after, key)}"
        for key in keys
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    }


def is_neutral(key: str, neutral: tuple[str, ...]) -> bool:
    """Whether a dotted key, or a section that it is in, may differ when a run goes on."""
    return any(key == name or key.startswith(f"{name}.") for name in neutral)


def check_same(found: Mapping[str, str], *, neutral: tuple[str, ...], where: str) -> None:
    """Stop on differences other than neutral ones.

    Raises:
        InputError: With one line per key, and what can be done.
    """
    lines = [line for key, line in found.items() if not is_neutral(key, neutral)]
    if lines:
        more = [f"… and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
        raise InputError(
            f"{where}: this run was started with other settings:\n  "
            + "\n  ".join([*lines[:_MOST], *more])
            + "\nGive the same settings to continue it; or start a new run (--resume never, or another "
            "--name), from this one's weights if you like (--init-from); or go on with the new settings "
            "(--resume force)"
        )


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat.update(_flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _show(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "nothing"
