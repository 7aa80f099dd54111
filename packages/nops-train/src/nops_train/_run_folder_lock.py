"""One process at a time in a run folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nops_train._errors import InputError

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock there
    fcntl = None


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


def _take(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 32, 0).decode() or "unknown"
        raise InputError(
            f"{folder}: process {owner} is training in this folder; wait for it, stop it, or give "
            "another --name"
        ) from error
    except OSError:
        return  # a file system without locks
