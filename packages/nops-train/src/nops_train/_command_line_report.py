"""How a command ends: exit code, one clean message on standard error, traceback where it helps.

| raised | code | on standard error |
|---|---|---|
| `CheckFailed`, `PeerFailed` | 1 | message |
| `InputError`, `ValueError`, `OSError`, out of memory | 2 | message |
| `Diverged` | 3 | message |
| `Interrupted`, `KeyboardInterrupt` | 128 + signal, 130 | message |
| any other exception | 1 | traceback: a defect of ours |
"""

import os
import sys
import time
import traceback
from pathlib import Path

from pydantic import ValidationError
from rich.text import Text

from nops_train._command_line_help import console
from nops_train._errors import CheckFailed, Diverged, InputError, Interrupted, PeerFailed

__all__ = ["report_error"]

MEMORY_ADVICE = (
    "not enough memory: {}\n"
    "settings that need less: a smaller train.batch_size, a larger train.accumulate (it splits each "
    "batch), a shorter window or a smaller model"
)


def report_error(error: BaseException, *, program: str, folder: Path | None) -> int:
    """Tell the user how the command ended; returns the exit code.

    The traceback of everything but a signal is appended to `error.log` in the run folder, where that
    exists. `NOPS_TRACEBACK=1` shows it on standard error as well.

    Args:
        error: What ended it.
        program: Name of program and command, for the message.
        folder: Run folder, if the command has one.
    """
    code, message = exit_of(error)
    is_stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    log = None if is_stopped or folder is None else write_log(error, program=program, folder=folder)
    err = console(sys.stderr)
    rank = int(os.environ.get("RANK", "0"))
    start = f"[rank {rank}] {program}" if rank else program
    if message is None or os.environ.get("NOPS_TRACEBACK") == "1":
        err.print("".join(traceback.format_exception(error)), end="", soft_wrap=True)
    if message is not None:
        label = "" if is_stopped else "error: "
        err.print(
            Text.assemble((f"{start}: ", "bold"), (label, "bold red"), message), soft_wrap=True
        )
    is_plain = isinstance(error, InputError | CheckFailed | ValidationError | PeerFailed)
    is_plain = is_plain or is_stopped
    if log is not None and not is_plain:
        err.print(f"The traceback is in {log}", soft_wrap=True)
    elif message is not None and not is_plain and os.environ.get("NOPS_TRACEBACK") != "1":
        err.print("NOPS_TRACEBACK=1 shows the traceback", soft_wrap=True)
    return code


def exit_of(error: BaseException) -> tuple[int, str | None]:
    """Exit code and message; no message for a defect of ours."""
    if isinstance(error, CheckFailed | InputError | Diverged | Interrupted | PeerFailed):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped by the keyboard"
    if is_out_of_memory(error):
        return 2, MEMORY_ADVICE.format(first_line(error))
    if isinstance(error, ValidationError):
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        return 2, "\n".join([f"{error.title} is not valid:", *lines])
    if isinstance(error, OSError) and error.strerror:
        return 2, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ValueError | OSError):
        return 2, str(error) or type(error).__name__
    return 1, None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of Python, NumPy or torch, which is not imported to find out.

    Args:
        error: As caught.

    Returns:
        Whether it says so.
    """
    if isinstance(error, MemoryError):
        return True
    names = {cls.__name__ for cls in type(error).__mro__}
    text = str(error).lower()
    told = "out of memory" in text or "can't allocate memory" in text
    return "OutOfMemoryError" in names or (isinstance(error, RuntimeError) and told)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its class."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_log(error: BaseException, *, program: str, folder: Path) -> Path | None:
    """Append the traceback to the run's `error.log`; None where there is no folder, or no room."""
    path = folder / "error.log"
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        if not folder.is_dir():
            return None
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"---- {stamp} {program} (rank {os.environ.get('RANK', '0')})\n")
            file.write("".join(traceback.format_exception(error)))
    except OSError:  # the disk may be what failed; the message itself still reaches the user
        return None
    return path
