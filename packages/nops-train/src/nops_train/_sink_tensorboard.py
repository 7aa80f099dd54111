"""Events and pictures as TensorBoard shows them; needs the extra `tensorboard`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from nops_train._scalars import scalars, step_of
from nops_train._sinks import require

# Where the log ends with one of these, nothing of the last step is to come. Elsewhere the validation of a
# killed process may be repeated, and it belongs to the last step too.
EPOCH_ENDS = ("epoch", "validation", "early_stop", "end")


class TensorBoardSink:
    """Writes into one folder, however often the run goes on.

    Where it goes on, what was shown beyond the log is hidden (`purge_step`), and what that hides of the
    log is written again. The step is that of the event, 0-based; the end of an epoch belongs to its last
    step.

    Args:
        folder: Made with the first event.
        config: The run's configuration, shown as text.

    Raises:
        InputError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, config: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise require(error, extra="tensorboard") from error
        self._make = SummaryWriter
        self._folder, self._config = folder, dict(config)
        self._writer: Any = None

    def begin(self, events: Sequence[Mapping[str, Any]], *, step: int) -> None:
        """Open the folder; hide what is beyond the log."""
        self.close()
        first = step if events and events[-1]["event"] in EPOCH_ENDS else max(step - 1, 0)
        _await_next_name(self._folder)
        self._writer = self._make(str(self._folder), purge_step=first)
        if not events:
            text = yaml.safe_dump(self._config, sort_keys=False, allow_unicode=True)
            self._writer.add_text("config", "\n".join(f"    {t}" for t in text.splitlines()), 0)
        for record in events:
            if step_of(record) >= first:
                self.event(record)

    def event(self, record: Mapping[str, Any]) -> None:
        """Write an event's numbers."""
        assert self._writer is not None
        step, written = step_of(record), record.get("time")
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, step, walltime=written)

    def image(self, name: str, image: Tensor, *, step: int) -> None:
        """Write a picture."""
        assert self._writer is not None
        self._writer.add_image(name, image, step)

    def flush(self) -> None:
        """Bring everything to the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the file; the next `begin` opens another in the same folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _await_next_name(folder: Path) -> None:
    """Wait until a new file's name sorts after those present: TensorBoard reads files by name.

    Names begin with the second of their making; a second at most is waited.
    """
    this = f"events.out.tfevents.{int(time.time()):010d}"
    if any(folder.glob(f"{this}.*")):
        time.sleep(1.0 - time.time() % 1.0 + 0.01)
