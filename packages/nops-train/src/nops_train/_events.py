"""The event log: one JSON object per line, written through at once."""

import io
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nops_train._errors import InputError

LONGEST_LINE = 1 << 20  # bytes; an event takes a few hundred per term
_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}
_VALUES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def jsonable(value: Any) -> Any:
    """`value` with non-finite floats as "NaN", "Infinity", "-Infinity": JSON has no such numbers."""
    if isinstance(value, float):
        return value if math.isfinite(value) else _NAMES.get(value, "NaN")
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def restored(value: Any) -> Any:
    """What `jsonable` made, with the non-finite floats back."""
    if isinstance(value, str):
        return _VALUES.get(value, value)
    if isinstance(value, dict):
        return {key: restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [restored(item) for item in value]
    return value


def read_record(path: Path) -> dict[str, Any]:
    """A JSON file with its non-finite floats back; empty where there is none yet.

    Raises:
        InputError: If it is no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = restored(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path}: no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, expected names and values")
    return content


def as_json(record: Mapping[str, Any]) -> str:
    """The text of a JSON file that `read_record` reads."""
    return json.dumps(jsonable(record), indent=2, allow_nan=False) + "\n"


def read_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The events of a run folder, or of one `.jsonl` file, oldest first.

    A last line cut short by a crash is left out.

    Args:
        path: The run folder or the file.

    Returns:
        One dict per line, with `event`, `time`, `epoch` and `step`.

    Raises:
        InputError: If there is no such file, or a line before the last is no JSON object.
    """
    path = Path(path)
    path = path / "events.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such event log")
    lines = path.read_text(encoding="utf-8").split("\n")
    events = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            events.append(restored(json.loads(line)))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number} is no JSON object: {error}") from error
    return events


def write_all(file: io.RawIOBase, data: bytes) -> None:
    """Write all of `data` to an unbuffered file, which may take it in parts."""
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        rest = rest[written or 0 :]


class Listener(Protocol):
    """Follows a log."""

    def event(self, record: Mapping[str, Any]) -> None:
        """An event was logged."""
        ...

    def flush(self) -> None:
        """The log is being brought to the disk."""
        ...


class EventLog:
    """Appends events to a file, each flushed as it is written.

    Args:
        path: The file; made with its first event.
        enabled: Whether anything is written; false on the ranks that do not write.

    Attributes:
        listeners: Told of each event after it is logged, and of each `sync`.
    """

    def __init__(self, path: Path, *, enabled: bool = True) -> None:
        self.path = path
        self.enabled = enabled
        self.listeners: list[Listener] = []
        self._file: io.FileIO | None = None

    def write(self, event: str, **fields: Any) -> None:
        """Append `{"event": event, "time": now, **fields}`.

        Raises:
            InputError: If the file cannot be written, with the system's reason.
        """
        if not self.enabled:
            return
        record = {"event": event, "time": round(time.time(), 3), **fields}
        line = json.dumps(jsonable(record), allow_nan=False) + "\n"
        try:
            write_all(self._open(), line.encode())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from error
        for listener in self.listeners:
            listener.event(record)

    def sync(self) -> int:
        """Bring everything to the disk; the length of the file in bytes."""
        if not self.enabled:
            return 0
        for listener in self.listeners:
            listener.flush()
        file = self._open()
        os.fsync(file.fileno())
        return file.tell()

    def truncate(self, length: int) -> int:
        """Cut what was logged after a checkpoint; the length found before, in bytes."""
        if not self.enabled:
            return length
        file = self._open()
        found = file.tell()
        if found > length:
            file.truncate(length)
            file.seek(0, os.SEEK_END)
        return found

    def close(self) -> None:
        """Close the file; the next event opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> io.FileIO:
        if self._file is None:
            self.path.touch()
            self._file = io.FileIO(self.path, "r+")  # unbuffered: nothing waits in this process
            _cut_open_line(self._file)
        return self._file


def _cut_open_line(file: io.FileIO) -> None:
    """Go to the end of the last whole line; a crash may have left a part of one behind it."""
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(end - LONGEST_LINE, 0))
    tail = file.read(end - start)
    whole = start + tail.rfind(b"\n") + 1
    if whole < end:
        file.truncate(whole)
    file.seek(whole)
