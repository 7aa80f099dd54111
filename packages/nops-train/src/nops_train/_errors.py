"""The exceptions of a run, each with the exit code that the command line gives it.

| exception | exit code | meaning |
|---|---|---|
| `InputError`, `InertTermError` | 2 | the user can change it: an option, a key, a file, a setting |
| `CheckFailed` | 1 | the work was done and its verdict is no |
| `PeerFailed` | 1 | another rank stopped: its own message says why |
| `Diverged` | 3 | training left the finite numbers |
| `Interrupted` | 128 + signal | stopped by a signal after saving: 143 for SIGTERM, 130 for SIGINT |
"""

import signal as _signal

__all__ = ["CheckFailed", "Diverged", "InertTermError", "InputError", "Interrupted", "PeerFailed"]


class InputError(ValueError):
    """Something that the user can change: the message names it, what was found and what is expected."""

    exit_code = 2


class InertTermError(InputError):
    """An enabled loss term cannot train anything: it reaches no parameter, or lacks an input."""


class CheckFailed(Exception):  # noqa: N818  (a verdict, not an error)
    """A check or a verdict failed: the work was done, and its answer is no."""

    exit_code = 1


class Diverged(RuntimeError):  # noqa: N818  (a state of the run, not an error)
    """Training produced too many non-finite steps; the message says which term, and what to try."""

    exit_code = 3


class PeerFailed(RuntimeError):  # noqa: N818  (what happened to another)
    """Another rank stopped, and with it this one: the other's own message says why."""

    exit_code = 1


class PeersLost(PeerFailed):
    """The other ranks are gone: what they were to send may never arrive."""


class Interrupted(BaseException):
    """A signal stopped the run after its state was saved.

    It derives from `BaseException`, so that no `except Exception` on the way swallows it.

    Attributes:
        signal: The signal's number, 15 for SIGTERM, 2 for SIGINT.
        exit_code: 128 plus that number, as a shell reports it.
    """

    def __init__(self, signal: int, message: str | None = None) -> None:
        """Keep the signal; without a message the text names it."""
        super().__init__(int(signal), message)
        self.signal = int(signal)
        self.exit_code = 128 + self.signal

    def __str__(self) -> str:
        """The message."""
        name = _signal.Signals(self.signal).name
        return self.args[1] or f"stopped by {name} after saving; the same command continues"
