"""One process at a time in a run folder."""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nops_train._errors import InputError

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock there
    fcntl = None

GLANCES, GLANCE_SECONDS = 3, 0.05


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it however the process ends.

    Raises:
        InputError: If another process holds it, or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        file = open(path, "a+")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    with file:
        _take(file.fileno(), folder)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def lock_owner(folder: Path) -> int | None:
    """The process that holds a folder's lock, 0 where it is free, None where there is no telling.

    The lock is shared for an instant to find out; `folder_lock` waits longer than that.
    """
    if fcntl is None:
        return None
    try:
        with open(folder / ".lock") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or -1)
            return 0
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        return None


def _take(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        _try(descriptor)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 32, 0).decode() or "unknown"
        raise InputError(
            f"{folder}: process {owner} is training in this folder; wait for it, stop it, or give "
            "another --name"
        ) from error
    except OSError:
        return  # a file system without locks


def _try(descriptor: int) -> None:
    assert fcntl is not None
    for _ in range(GLANCES):
        with contextlib.suppress(BlockingIOError):  # `lock_owner` holds it for an instant
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(GLANCE_SECONDS)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
