"""Checkpoints of other programs: an app says how theirs become ours, the engine goes on from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nops_train._checkpoint import CheckpointError

OPTIONAL = ("optimizer", "weighting", "ema", "scaler", "learning_rate")

__all__ = ["Imported", "Importer", "import_state"]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a foreign checkpoint holds, in the engine's words.

    Attributes:
        parts: State dicts by the engine's names: "model" at least, and where there are any "optimizer",
            "weighting", "ema", "scaler", "learning_rate". What is absent starts anew.
        stateful: States of the app's own objects by name; what is absent starts anew.
        epoch: Epoch to go on in, 0-based.
        batch: Batches of it that are done.
        step: Optimizer steps made.
        best: Best monitored value, with "metric", "mode", "value", "epoch", "step"; None where unknown.
        history: One dict per finished epoch, as far as known.
        config: The configuration that it was made with, in this app's keys, to be compared with the
            run's; None where it cannot be told.
        notes: What was inferred or left out, in words: told to the user and logged.
    """

    parts: Mapping[str, dict[str, Any]]
    epoch: int
    step: int
    batch: int = 0
    stateful: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    best: Mapping[str, Any] | None = None
    history: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class Importer(Protocol):
    """Reads one foreign layout; given to the engine, which asks it for `--resume FILE`."""

    def matches(self, state: Mapping[str, Any]) -> bool:
        """Whether a file of plain values has this layout."""
        ...

    def convert(self, state: dict[str, Any], *, file: Path) -> Imported:
        """The content in the engine's words.

        Args:
            state: What the file holds; nothing in it was executed.
            file: Its path, where the name says something, such as `step_200.pt`.

        Raises:
            InputError: If it cannot be used, with a table of what does not fit.
        """
        ...


def import_state(
    state: dict[str, Any],
    *,
    file: Path,
    importers: Sequence[Importer],
    fresh: Mapping[str, Any],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A file's state in the engine's layout, and notes for the user; ours is returned as it is.

    Args:
        state: As read.
        file: Where from.
        importers: Asked in order; the first that matches converts.
        fresh: The state of a run that has not started, which fills what the file lacks.

    Raises:
        CheckpointError: If it is neither ours nor known to an importer.
    """
    if "schema" in state:
        return state, ()
    importer = next((item for item in importers if item.matches(state)), None)
    if importer is None:
        known = "; no importer knows its layout" if importers else ""
        raise CheckpointError(
            f"{file}: no checkpoint of the engine: it has no schema version{known}. It holds the keys "
            f"{sorted(map(str, state))[:12]}; for its weights alone use --init-from"
        )
    return _completed(importer.convert(state, file=file), fresh, file=file)


def _completed(
    imported: Imported, fresh: Mapping[str, Any], *, file: Path
) -> tuple[dict[str, Any], tuple[str, ...]]:
    if "model" not in imported.parts:
        raise CheckpointError(f"{file}: the importer found no model in it")
    position = {"epoch": imported.epoch, "batch": imported.batch, "step": imported.step}
    state = {
        **fresh,
        **imported.parts,
        "position": {**fresh["position"], **position},
        "train": {
            **fresh["train"],
            **position,
            "best": None if imported.best is None else dict(imported.best),
            "history": [dict(item) for item in imported.history],
        },
        "stateful": {**fresh["stateful"], **imported.stateful},
        "config": fresh["config"] if imported.config is None else dict(imported.config),
        "events": 0,
    }
    notes = [f"{file}: {note}" for note in imported.notes]
    if anew := _starting_anew(imported, fresh):
        notes.append(f"{file}: holds nothing for {', '.join(anew)}, which start anew")
    return state, tuple(notes)


def _starting_anew(imported: Imported, fresh: Mapping[str, Any]) -> list[str]:
    """Names of what the run has a state of and the file has not."""
    parts = [name for name in OPTIONAL if fresh.get(name) and name not in imported.parts]
    return parts + [name for name in fresh["stateful"] if name not in imported.stateful]
