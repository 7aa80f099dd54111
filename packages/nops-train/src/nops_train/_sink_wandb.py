"""Events and pictures as Weights & Biases shows them; needs the extra `wandb`.

Its environment variables keep their meaning: with `WANDB_MODE=offline` nothing leaves the machine, and
`wandb sync` sends it later.
"""

import contextlib
import importlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nops_train._checkpoint import write_text
from nops_train._scalars import scalars, step_of
from nops_train._sinks import require

ID_FILE = "wandb_id.txt"


class WandbSink:
    """One W&B run for one run folder, however often it goes on.

    W&B's own step is the event's number in the log, so that an event that was sent before is left out and
    none is lost; the axis of all curves is the optimizer step.

    Args:
        folder: The run's folder, `<runs>/<app>/<name>`; the app names the project where `WANDB_PROJECT`
            does not. It keeps the W&B run's identity in `wandb_id.txt`.
        config: The run's configuration.

    Raises:
        InputError: If W&B is not installed.
    """

    def __init__(self, folder: Path, *, config: Mapping[str, Any]) -> None:
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise require(error, extra="wandb") from error
        self._folder, self._config = folder, dict(config)
        self._run: Any = None
        self._number = 0
        self._images: dict[str, Any] = {}

    def begin(self, events: Sequence[Mapping[str, Any]], *, step: int) -> None:
        """Start the W&B run, or go on with it; send what it lacks of the log."""
        self.close()
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or self._folder.resolve().parent.name,
            name=self._folder.name,
            id=self._identity(),
            resume="allow",
            dir=str(self._folder),
            config=self._config,
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        self._number = 0
        for record in events:
            self.event(record)

    def event(self, record: Mapping[str, Any]) -> None:
        """Send an event's numbers, and the pictures that came before it, unless it has been sent."""
        assert self._run is not None
        values: dict[str, Any] = dict(scalars(record))
        values |= self._images
        self._images = {}
        if values and self._number >= self._run.step:
            self._run.log({**values, "step": step_of(record)}, step=self._number)
        self._number += 1

    def image(self, name: str, image: Tensor, *, step: int) -> None:
        """Keep a picture for the event that follows, the validation's."""
        picture = image[0] if len(image) == 1 else image.movedim(0, -1)
        self._images[name] = self._wandb.Image(picture.numpy())

    def flush(self) -> None:
        """Nothing: W&B sends from a process of its own."""

    def close(self) -> None:
        """End this process's part."""
        if self._run is not None:
            with contextlib.suppress(ConnectionError):
                self._run.finish()
            self._run = None

    def _identity(self) -> str:
        file = self._folder / ID_FILE
        if not file.is_file():
            write_text(file, secrets.token_hex(8) + "\n")
        return file.read_text(encoding="utf-8").strip()
