"""The section `data` of a config, settled by the data that are on disk or will be made."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from nops_train._command_line_layers import parse_config
from nops_train._errors import InputError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def require_data(folder: Path | str, *, app: str) -> Path:
    """The folder, where there is one.

    Args:
        folder: As given by `data.path`.
        app: Name of the program, for the advice.

    Returns:
        The folder, as a path.

    Raises:
        InputError: If there is nothing; with the command that would make data there.
    """
    if not Path(folder).exists():
        raise InputError(
            f"data.path: expected a folder with data/train/*.hdf5, found nothing at {folder}; "
            f"`{app} generate --data {folder}` would make one"
        )
    return Path(folder)


def settled_config(
    config: ConfigT,
    *,
    folder: Path | str,
    facts: Mapping[str, Any] | None = None,
    explicit: Collection[str] = (),
) -> ConfigT:
    """The config with `data.path` set, and with what the data on disk decide.

    Args:
        config: As resolved, with a section `data`.
        folder: Where the data are, or will be.
        facts: Keys of the section, and what the files hold; None for data that are yet to be made.
            A count (`num_…`) that the user gave takes the first so many.
        explicit: Keys that the user gave (`Invocation.explicit`).

    Returns:
        The config, a copy.

    Raises:
        InputError: If the user asked for what the folder does not hold, or the config does not fit
            the data.
    """
    data: Any = config.data  # type: ignore[attr-defined]
    found = _agreed(facts or {}, data, explicit, Path(folder))
    settled = config.model_copy(
        update={"data": data.model_copy(update={"path": str(folder), **found})}
    )
    return parse_config(type(config), settled.model_dump(mode="json"), source=str(folder))


def _agreed(
    facts: Mapping[str, Any], data: Any, explicit: Collection[str], folder: Path
) -> dict[str, Any]:
    """The facts, with smaller numbers where the user named them."""
    agreed = dict(facts)
    for name, found in facts.items():
        wanted = getattr(data, name)
        if f"data.{name}" not in explicit or wanted == found:
            continue
        if not name.startswith("num_") or wanted > found:
            raise InputError(f"data.{name} = {wanted}, but {folder} holds {found}")
        agreed[name] = wanted
    return agreed
