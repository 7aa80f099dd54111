"""A folder of checkpoints: the manifest of their sums, which is the newest good one, which to delete.

`manifest.json` is written after a checkpoint is in place, by the same route, and its entry is what makes
the file count. Where a file takes the place of one of the same name, the manifest first says so, so that
whichever of the two a crash leaves behind is recognised.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nops_train._checkpoint import (
    SCHEMA,
    CheckpointError,
    commit,
    read_state,
    remove_leftovers,
    sha256_of,
    stage_copy,
    stage_state,
    write_text,
    zip_damage,
)

MANIFEST = "manifest.json"
BEST = "best_model.pt"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A checkpoint in the manifest.

    Attributes:
        sha256: Sum of the file; None where only the file was found, without a manifest.
        bytes: Size of the file.
        sequence: Order of writing; the highest is the newest.
        epoch, batch, step: Position in training, 0-based: where a run goes on from here.
        superseded: Whether the run went back to before this file and on from there.
        pending: Sum of the file that is about to take this one's place.
    """

    sha256: str | None
    bytes: int
    sequence: int
    epoch: int = 0
    batch: int = 0
    step: int = 0
    superseded: bool = False
    pending: str | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """The newest good checkpoint, and what was wrong with those newer than it."""

    name: str
    state: dict[str, Any]
    problems: tuple[str, ...]


class CheckpointFolder:
    """The checkpoints of one run, written by one process.

    Args:
        path: The folder; made with the first checkpoint.
        read_only: Whether another process writes: nothing is then written, marked or deleted.

    Attributes:
        problems: What was found wrong with the manifest, in words.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self.reload()

    def reload(self) -> None:
        """Read the manifest again."""
        self.problems: list[str] = []
        self._entries = self._read_manifest()

    @property
    def entries(self) -> dict[str, Entry]:
        """The checkpoints by file name, oldest first."""
        return dict(sorted(self._entries.items(), key=lambda item: item[1].sequence))

    def save(self, name: str, state: Mapping[str, Any], *, keep_last: int | None = None) -> Path:
        """Write a checkpoint, then delete old ones.

        Args:
            name: File name, such as `step_200.pt`.
            state: Plain state; its "position" (epoch, batch, step) goes into the manifest too.
            keep_last: Checkpoints to keep before this one, the best aside; None keeps all.

        Returns:
            The file.

        Raises:
            CheckpointError: If it cannot be written; all earlier checkpoints are then intact.
            TypeError: If the state is not plain.
        """
        path = self.path / name
        if self.read_only:
            return path
        self._make_folder()
        temporary, digest = stage_state(path, state)
        position = state.get("position", {})
        entry = Entry(
            sha256=digest.sha256,
            bytes=digest.bytes,
            sequence=self._next_sequence(),
            epoch=int(position.get("epoch", 0)),
            batch=int(position.get("batch", 0)),
            step=int(position.get("step", 0)),
        )
        self._put(name, temporary, entry, drop=self._outdated(name, keep_last))
        return path

    def mark_best(self, name: str) -> None:
        """Make `best_model.pt` a second name of the checkpoint `name`.

        Raises:
            CheckpointError: If it cannot be written; the one before is then intact.
        """
        if self.read_only:
            return
        entry = self._entries[name]
        temporary, _ = stage_copy(self.path / BEST, self.path / name)
        self._put(BEST, temporary, dataclasses.replace(entry, pending=None))

    def load(self, name: str) -> dict[str, Any]:
        """The state of one checkpoint, its sum checked.

        Raises:
            CheckpointError: If it is missing, damaged or refused.
        """
        path = self.path / name
        entry = self._entries.get(name)
        if not path.is_file():
            return read_state(path)
        if entry is None or entry.sha256 is None:
            if damage := zip_damage(path):
                raise CheckpointError(f"{path}: damaged: {damage}")
        elif (found := sha256_of(path)) not in (entry.sha256, entry.pending):
            raise CheckpointError(
                f"{path}: damaged: SHA-256 is {found[:12]}… in {path.stat().st_size} bytes, "
                f"{MANIFEST} says {entry.sha256[:12]}… in {entry.bytes}"
            )
        return read_state(path)

    def newest(self) -> Found | None:
        """The newest checkpoint that can be read, or None where there never was one.

        Raises:
            CheckpointError: If there are checkpoints but none can be read.
        """
        problems = list(self.problems)
        candidates = [name for name, entry in self.entries.items() if not entry.superseded]
        # Of two names of one state the periodic one is named.
        candidates.sort(key=lambda name: (self._entries[name].sequence, name != BEST))
        for name in reversed(candidates):
            try:
                return Found(name=name, state=self.load(name), problems=tuple(problems))
            except CheckpointError as error:
                problems.append(str(error))
        if candidates:
            raise CheckpointError(
                f"{self.path}: no checkpoint can be read:\n  " + "\n  ".join(problems)
            )
        return None

    def supersede_after(self, name: str) -> None:
        """Leave out, from now on, what was written after `name`: the run goes on from there."""
        if self.read_only:
            return
        limit = self._entries[name].sequence if name in self._entries else 0
        later = [k for k, e in self._entries.items() if e.sequence > limit and not e.superseded]
        for key in later:
            self._entries[key] = dataclasses.replace(self._entries[key], superseded=True)
        if later:
            self._write_manifest()

    def remove_leftovers(self) -> None:
        """Delete temporary files of a process that was killed while it wrote."""
        remove_leftovers(self.path)

    def _put(self, name: str, temporary: Path, entry: Entry, *, drop: tuple[str, ...] = ()) -> None:
        try:
            if (old := self._entries.get(name)) and (self.path / name).exists():
                self._entries[name] = dataclasses.replace(old, pending=entry.sha256)
                self._write_manifest()
            commit(temporary, self.path / name)
            for outdated in drop:
                self._entries.pop(outdated)
            self._entries[name] = entry
            self._write_manifest()
        except OSError as error:
            raise CheckpointError(f"{self.path / name}: cannot be written: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        for outdated in drop:
            _delete(self.path / outdated)

    def _outdated(self, name: str, keep_last: int | None) -> tuple[str, ...]:
        if keep_last is None:
            return ()
        periodic = [key for key in self.entries if key not in (BEST, name)]
        return tuple(periodic[: max(len(periodic) - keep_last, 0)])

    def _next_sequence(self) -> int:
        return 1 + max((entry.sequence for entry in self._entries.values()), default=0)

    def _make_folder(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be made: {error.strerror}") from error

    def _write_manifest(self) -> None:
        files = {name: asdict(entry) for name, entry in self.entries.items()}
        text = json.dumps({"schema": SCHEMA, "files": files}, indent=2) + "\n"
        write_text(self.path / MANIFEST, text)

    def _read_manifest(self) -> dict[str, Entry]:
        path = self.path / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {name: Entry(**fields) for name, fields in content["files"].items()}
        except FileNotFoundError:
            reason = "missing"
        except NotADirectoryError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"damaged ({error})"
        files = sorted(self.path.glob("*.pt"), key=lambda p: (p.stat().st_mtime_ns, p.name))
        if files:
            self.problems.append(
                f"{path}: {reason}; the checkpoints beside it are checked by the CRC-32 sums inside them"
            )
        return {
            file.name: Entry(sha256=None, bytes=file.stat().st_size, sequence=number)
            for number, file in enumerate(files, start=1)
        }


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is out of the manifest: a file too many does no harm
        path.unlink(missing_ok=True)


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> str:
    """Write a checkpoint from any training loop: at once or not at all, with its sum beside it.

    The file is written beside its place, brought to the disk, renamed, and its SHA-256 put into
    `manifest.json` of the same folder. A crash or a full disk at any moment leaves the one before.

    Args:
        path: The file, for example `checkpoints/step_200.pt`.
        state: Tensors, numbers, strings, lists and dicts by name; an object with `state_dict()` stands
            for what that returns.

    Returns:
        The SHA-256 of the file.

    Raises:
        CheckpointError: If it cannot be written, with the system's reason.
        TypeError: If something in the state is not plain, with its place.
    """
    path = Path(path)
    content = {k: v.state_dict() if hasattr(v, "state_dict") else v for k, v in state.items()}
    folder = CheckpointFolder(path.parent)
    folder.save(path.name, content)
    sha256 = folder.entries[path.name].sha256
    assert sha256 is not None
    return sha256


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state in a checkpoint file, or in the newest good one of a folder, on the CPU.

    The sum is checked against `manifest.json` beside the file, where it is listed. Nothing in the file is
    ever executed.

    Args:
        path: A file, or a folder with `manifest.json`.

    Returns:
        The mapping that was saved: plain values and tensors.

    Raises:
        CheckpointError: If there is none, or it is damaged or refused; the message says which and why.
    """
    path = Path(path)
    if not path.is_dir():
        return CheckpointFolder(path.parent).load(path.name)
    found = CheckpointFolder(path).newest()
    if found is None:
        raise CheckpointError(f"{path}: holds no checkpoint")
    return found.state
