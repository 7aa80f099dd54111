"""Files that one process keeps open, so that reading goes on where it was."""

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

_MAX_OPEN = 64  # files open at once in one process


class Closable(Protocol):
    """Anything with a `close`."""

    def close(self) -> None:
        """Let go of the file."""


File = TypeVar("File", bound=Closable)


class OpenFiles(Generic[File]):
    """Up to 64 open files by number, of this process alone.

    A copy in another process, by pickle or by fork, starts with none: HDF5 handles must not be
    shared between processes.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[int, File] = OrderedDict()
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self._files)

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": OrderedDict(), "_process": None}

    def values(self) -> list[File]:
        """The files that are open, the one opened first in front."""
        return list(self._files.values())

    def get(self, number: int, open_file: Callable[[], File]) -> File:
        """The file of this number, opened by `open_file` if it is not open here."""
        if self._process != os.getpid():
            self._files, self._process = OrderedDict(), os.getpid()
        if number not in self._files:
            if len(self._files) == _MAX_OPEN:
                self._files.popitem(last=False)[1].close()
            self._files[number] = open_file()
        return self._files[number]

    def close(self) -> None:
        """Close all; the next `get` opens again."""
        while self._files:
            self._files.popitem()[1].close()
