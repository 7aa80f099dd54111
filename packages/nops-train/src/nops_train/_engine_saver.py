"""Writing checkpoints: in the time of the step, or beside the steps that follow."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from nops_train._checkpoint import plain
from nops_train._checkpoint_folder import CheckpointFolder
from nops_train._engine_batch import map_tensors


class Saver:
    """Writes the checkpoints of one run, in order and each as a whole.

    Beside training, the state is copied to the host, and a second thread writes the copy; at most one is
    under way, so a disk that is slower than training holds it up. What fails there is raised by the next
    call. Files, sums and their order are those of writing at once.

    Args:
        folder: The checkpoints.
        beside: Whether to write beside training.
    """

    def __init__(self, folder: CheckpointFolder, *, beside: bool) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(max_workers=1) if beside else None
        self._pending: Future[None] | None = None

    def save(
        self, name: str, state: Mapping[str, Any], *, keep_last: int | None, best: bool = False
    ) -> None:
        """Write a checkpoint, the best so far or not.

        Raises:
            CheckpointError: If it, or the one before, cannot be written.
            TypeError: If the state is not plain.
        """
        self.wait()
        if self._pool is None:
            self._write(name, state, keep_last, best)
            return
        copy = map_tensors(plain(state, name="state"), copy_to_host)
        self._pending = self._pool.submit(self._write, name, copy, keep_last, best)

    def wait(self) -> None:
        """Return when everything is on the disk.

        Raises:
            CheckpointError: If a checkpoint could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(
        self, name: str, state: Mapping[str, Any], keep_last: int | None, best: bool
    ) -> None:
        self._folder.save(name, state, keep_last=keep_last)
        if best:
            self._folder.mark_best(name)


def copy_to_host(tensor: Tensor) -> Tensor:
    """A copy that shares no memory with `tensor`."""
    return tensor.detach().to(torch.device("cpu"), copy=True)
