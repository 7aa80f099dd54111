"""What the user sees: a bar with rate and time left on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

ProgressMode = Literal["auto", "bar", "plain", "none"]

REFRESH_SECONDS = 0.2
LINE_SECONDS = 30.0


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
            self._first, self._started = done - 1, time.monotonic()
        now = time.monotonic()
        wait = REFRESH_SECONDS if self._bar is not None else LINE_SECONDS
        if now - self._shown < wait or self._mode == "none":
            return
        self._shown = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        if self._bar is None:
            left = (self._epochs * self._batches - done) / rate
            self.say(
                f"epoch {epoch + 1}/{self._epochs}  batch {batch}/{self._batches}  "
                f"{rate:.2f} steps/s  {left:.0f} s left"
            )
            return
        self._update(done, f"epoch {epoch + 1}/{self._epochs}", f"{rate:.2f} steps/s")

    def epoch(
        self, *, epoch: int, loss: float, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """An epoch (0-based) is done."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        text = f"epoch {epoch + 1}/{self._epochs}  loss {loss:.4g}  {shown}".rstrip()
        if self._bar is not None:
            self._update((epoch + 1) * self._batches, f"epoch {epoch + 1}/{self._epochs}")
        self.say(f"{text}  {seconds:.1f} s")
        self._shown = time.monotonic()

    def _update(self, done: int, description: str, rate: str = "") -> None:
        if self._task is None:
            total = self._epochs * self._batches
            first = self._first or 0  # what another session has done counts for no rate
            self._task = self._bar.add_task(description, total=total, completed=first, rate=rate)
        fields = {"rate": rate} if rate else {}
        self._bar.update(self._task, completed=done, description=description, **fields)
