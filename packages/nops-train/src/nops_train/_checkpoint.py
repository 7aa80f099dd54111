"""One checkpoint file: what may be in it, how it is written, how it is read.

A checkpoint is a dict of plain tensors, numbers, strings, lists and dicts in torch's zip format. It
loads with `weights_only=True`: reading one never runs code.
"""

import errno
import hashlib
import os
import pickle
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nops_train._errors import InputError

SCHEMA = 1
"""Version of the layout of the engine's checkpoints."""


class CheckpointError(InputError):
    """A checkpoint cannot be written or read: the message names the file and the reason."""


class Digest(NamedTuple):
    """What `manifest.json` says of a file."""

    sha256: str
    bytes: int


def plain(value: Any, *, name: str) -> Any:
    """A copy of `value` of plain containers only, tensors detached.

    Args:
        value: Tensors, numbers, strings, None, and lists, tuples and dicts of them.
        name: What the value is, for the message.

    Raises:
        TypeError: For anything else, with the place where it was found.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        value = value.detach()
        # A view would bring the whole of its storage into the file.
        is_view = value.untyped_storage().nbytes() > value.numel() * value.element_size()
        return value.clone() if is_view else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_plain_key(key, name): plain(v, name=f"{name}.{key}") for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item, name=f"{name}[{i}]") for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise TypeError(
        f"{name} is a {type(value).__module__}.{type(value).__qualname__}: a checkpoint holds "
        "tensors, numbers, strings, lists and dicts only"
    )


def _plain_key(key: Any, name: str) -> str | int:
    if isinstance(key, (str, int)):
        return key
    raise TypeError(f"{name} has the key {key!r}: a checkpoint's keys are strings or integers")


class _Writer:
    """A file that keeps the first error met: torch's own writer reports a text of its own instead."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def stage(path: Path, write: Callable[[Any], Any]) -> tuple[Path, Digest]:
    """Write a temporary file beside `path` and bring it to the disk; `commit` puts it in place.

    The sum is taken of what the system has been given, by a second thread that follows the writer.

    Raises:
        CheckpointError: If it cannot be written (no space, no permission, no folder): the temporary
            file is gone, and what stood at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    writer = None
    try:
        with open(temporary, "wb") as file, ThreadPoolExecutor(max_workers=1) as pool:
            writer = _Writer(file)
            written = threading.Event()
            sha256 = pool.submit(_sum_behind, temporary, written)
            try:
                write(writer)
                file.flush()
            finally:
                written.set()
            os.fsync(file.fileno())
        return temporary, Digest(sha256.result(), temporary.stat().st_size)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else writer and writer.error
        if cause is None:
            raise
        raise CheckpointError(
            f"{path}: cannot be written: {cause.strerror or cause}; what was there before is intact. "
            "Make space or choose another folder, then repeat the command"
        ) from error


def _sum_behind(path: Path, written: threading.Event) -> str:
    """SHA-256 of a file that is being written from front to end, until all of it is."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while True:
            is_last = written.is_set()
            while block := file.read(1 << 20):
                digest.update(block)
            if is_last:
                return digest.hexdigest()
            written.wait(0.001)


def commit(temporary: Path, path: Path) -> None:
    """Put a staged file in the place of `path`, at once and for good."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of a process that was killed while it wrote into `folder`."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a text file at once: a reader sees the old or the new one, never a part.

    Raises:
        CheckpointError: As `stage`.
    """
    temporary, _ = stage(path, lambda file: file.write(text.encode()))
    commit(temporary, path)


def stage_state(path: Path, state: Mapping[str, Any]) -> tuple[Path, Digest]:
    """Stage a state dict as a checkpoint file."""
    content = plain(state, name="state")
    return stage(path, lambda file: torch.save(content, file))


def stage_copy(path: Path, source: Path) -> tuple[Path, None]:
    """Stage a second name of `source`; a copy where the file system has no hard links."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        with open(source, "rb") as original:
            return stage(path, lambda file: shutil.copyfileobj(original, file))[0], None
    return temporary, None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file, on the CPU; no code in it is ever run.

    Raises:
        CheckpointError: If the file is missing, is no checkpoint, is damaged, or holds an object that
            is not plain; a pickle is named and refused.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path}: refused: no checkpoint of torch's zip format; it is cut short, or a bare pickle, "
            "which could run code. It was not executed"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        kind = found.group(1) if found else "of an unknown kind"
        raise CheckpointError(
            f"{path}: refused: it holds a pickled object ({kind}), which could run code; it was not "
            "executed. Checkpoints hold tensors, numbers, strings, lists and dicts only"
        ) from error
    except (RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: damaged: {first}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, expected a dict")
    return state


def zip_damage(path: Path) -> str | None:
    """What the CRC-32 sums inside a file find wrong with it; None where they agree, or it has none."""
    if not zipfile.is_zipfile(path):
        return None  # `read_state` says what it is
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        return str(error)
    return None if bad is None else f"CRC-32 of {bad} differs"
