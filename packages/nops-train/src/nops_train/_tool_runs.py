"""A list of runs: what state each is in, how far it came, how good it was."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nops_train._command_line_help import console
from nops_train._errors import InputError
from nops_train._events import LONGEST_LINE, read_record, restored
from nops_train._run_folder_lock import lock_owner

DEEPEST = 4  # folders beneath the one that is searched; a study's run lies three deep
AT_EPOCH_END = ("epoch", "validation", "early_stop")


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """One run in the list.

    Attributes:
        app: Name of the app.
        name: Of the run, with its study where it has one.
        state: "running" only while a process holds the folder; "killed" where one died at work.
        epochs: Epochs done, and of how many, such as `3/25`.
        step: Optimizer steps applied, as far as logged.
        best: Best monitored value.
        age: Seconds since the last event, or since the folder was made.
    """

    app: str
    name: str
    state: str
    epochs: str
    step: int
    best: str
    age: float


def list_runs(folder: Path) -> None:
    """Print a table of the runs in a folder, the most recent first.

    Raises:
        InputError: If the folder is missing or holds no run.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of runs")
    lines = sorted((describe(path, folder) for path in find_runs(folder)), key=lambda r: r.age)
    if not lines:
        raise InputError(f"{folder}: no run in it (no config.yaml down to {DEEPEST} folders deep)")
    titles = ("app", "name", "state", "epoch", "step", "best", "last event")
    rows = [
        (r.app, r.name, r.state, r.epochs, str(r.step), r.best, f"{spell(r.age)} ago")
        for r in lines
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    out = console()
    for row in (titles, *rows):  # a line per run, however wide: it may be searched
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.print("  ".join(cells).rstrip(), soft_wrap=True)


def find_runs(folder: Path) -> Iterator[Path]:
    """The run folders in a folder, itself included; nothing inside a run is searched."""
    for found, names, files in os.walk(folder):
        path = Path(found)
        if "config.yaml" in files:
            names.clear()
            yield path
        elif len(path.relative_to(folder).parts) >= DEEPEST:
            names.clear()
        names.sort()


def describe(path: Path, root: Path) -> RunLine:
    """What the files of a run say of it, and its lock."""
    summary = _read_json(path / "summary.json")
    events = _last_events(path / "events.jsonl")
    epochs, step = _position(events, summary)
    total = _nested(_config(path), "train", "epochs")
    app, name = _names(path, root)
    return RunLine(
        app=app,
        name=name,
        state=_state(path, summary.get("status")),
        epochs=f"{epochs}/{total}" if isinstance(total, int) else str(epochs),
        step=step,
        best=_best(path, summary),
        age=max(time.time() - _changed(path), 0.0),
    )


def spell(seconds: float) -> str:
    """A time span in its largest fitting unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _names(path: Path, root: Path) -> tuple[str, str]:
    parts = path.relative_to(root).parts
    if len(parts) >= 2:
        return parts[0], "/".join(parts[1:])
    absolute = path.resolve()
    return absolute.parent.name, absolute.name


def _state(path: Path, status: str | None) -> str:
    """The summary's word, checked against the folder's lock: a killed process cannot correct it."""
    held = lock_owner(path)
    if held is None:
        return f"{status or 'new'} (no locks here)"
    if held:
        return f"running ({held})"
    return "killed" if status == "running" else status or "new"


def _position(events: list[dict[str, Any]], summary: dict[str, Any]) -> tuple[int, int]:
    """Epochs done and steps applied, by the last event that says so."""
    for event in reversed(events):
        if "step" in event:
            epochs = event["epoch"] + (event["event"] in AT_EPOCH_END)
            return epochs, event["step"] + (event["event"] == "train")
    return summary.get("epochs", 0), summary.get("steps", 0)


def _best(path: Path, summary: dict[str, Any]) -> str:
    best = summary.get("best")
    if summary.get("status") == "running":  # the summary is from the start of that session
        best = _best_of(path, best)
    return f"{best['metric']} {best['value']:.4g}" if best else ""


def _best_of(path: Path, before: dict[str, Any] | None) -> dict[str, Any] | None:
    name = before["metric"] if before else _nested(_config(path), "train", "monitor")
    found = None
    if (path / "events.jsonl").is_file():
        with open(path / "events.jsonl", encoding="utf-8") as lines:
            for line in lines:
                if '"event": "validation"' in line and '"best": true' in line:
                    found = _event(line) or found
    value = None if found is None else found["metrics"].get(name)
    return before if value is None else {"metric": name, "value": value}


def _last_events(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    with open(file, "rb") as log:
        log.seek(max(log.seek(0, os.SEEK_END) - LONGEST_LINE, 0))
        lines = log.read().decode("utf-8", "replace").splitlines()[-20:]
    return [event for line in lines if (event := _event(line))]


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = restored(json.loads(line))
    except ValueError:
        return None  # the last line of a process at work, or the first of a part
    return event if isinstance(event, dict) and "event" in event else None


def _changed(path: Path) -> float:
    file = path / "events.jsonl"
    return (file if file.is_file() else path / "config.yaml").stat().st_mtime


def _config(path: Path) -> Any:
    try:
        return yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_record(path)
    except (OSError, InputError):
        return {}


def _nested(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
