"""What the user sees: a bar with rate and time left on a terminal, plain lines anywhere else.

A plain line stands for itself in a log file: time stamp, position, rate, time left. There is at most one per
half minute within an epoch, and one per epoch.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

ProgressMode = Literal["auto", "bar", "plain", "none"]

REFRESH_SECONDS = 0.2
LINE_SECONDS = 30.0
MOST_METRICS = 8  # of a line


def spell_time(seconds: float) -> str:
    """Hours, minutes and seconds, such as `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class Progress:
    """Shows how training goes. Nothing here touches the run.

    Args:
        mode: "bar", "plain", "none", or "auto" for a bar where standard error is a terminal.
        epochs: Epochs of the run.
        batches: Batches per epoch.
    """

    def __init__(self, mode: ProgressMode, *, epochs: int, batches: int) -> None:
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "plain"
        self._mode = mode
        self._epochs, self._batches = epochs, batches
        self._bar: Any = None
        self._task: Any = None
        self._shown = self._started = time.monotonic()
        self._first: int | None = None
        self._done = 0

    def __enter__(self) -> "Progress":
        if self._mode == "bar":
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                refresh_per_second=1 / REFRESH_SECONDS,
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """A line for the user."""
        if self._mode == "none":
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
            return
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)

    def step(self, *, epoch: int, batch: int) -> None:
        """A step is done: `batch` batches of epoch `epoch` (0-based) are behind."""
        done = epoch * self._batches + batch
        if self._first is None:
            self._first, self._started = done, time.monotonic()  # its own start is unknown
        self._done = done
        now = time.monotonic()
        wait = REFRESH_SECONDS if self._bar is not None else LINE_SECONDS
        if now - self._shown < wait or self._mode == "none":
            return
        self._shown = now
        if self._bar is None:
            self._line(f"epoch {epoch + 1}/{self._epochs}  batch {batch}/{self._batches}")
            return
        self._update(done, f"epoch {epoch + 1}/{self._epochs}", f"{self._rate():.2f} steps/s")

    def epoch(
        self, *, epoch: int, loss: float, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """An epoch (0-based) is done; the log has all metrics, a line the first of them."""
        shown = "  ".join(f"{k} {v:.4g}" for k, v in list(metrics.items())[:MOST_METRICS])
        text = f"epoch {epoch + 1}/{self._epochs}  loss {loss:.4g}  {shown}".rstrip()
        text = f"{text}  {seconds:.1f} s"
        self._done = (epoch + 1) * self._batches
        self._shown = time.monotonic()
        if self._bar is None:
            self._line(text)
            return
        self._update(self._done, f"epoch {epoch + 1}/{self._epochs}")
        self.say(text)

    def _line(self, text: str) -> None:
        """A line of a log file; without rate while there is none."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        rate = self._rate()
        left = self._epochs * self._batches - self._done
        pace = f"  {rate:.2f} steps/s  {spell_time(left / rate)} left" if rate else ""
        self.say(f"{stamp}  {text}{pace}")

    def _rate(self) -> float:
        """Steps per second since the end of this process's first; 0 before there are two."""
        made = 0 if self._first is None else self._done - self._first
        return made / max(time.monotonic() - self._started, 1e-9)

    def _update(self, done: int, description: str, rate: str = "") -> None:
        if self._task is None:
            total = self._epochs * self._batches
            first = self._first or 0  # what another session has done counts for no rate
            self._task = self._bar.add_task(description, total=total, completed=first, rate=rate)
        fields = {"rate": rate} if rate else {}
        self._bar.update(self._task, completed=done, description=description, **fields)
