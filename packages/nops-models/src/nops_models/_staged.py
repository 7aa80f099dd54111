"""Changes that a module makes of its own, held back until the optimizer step they belong to."""

import abc

import torch
from torch import Tensor, nn

from nops_models._ranks import in_group


class StagedUpdate(nn.Module, abc.ABC):
    """A module that moves by sums over samples: a prior by moments, a codebook by its cells.

    An update is made at once, or, after `defer_updates`, staged until `apply_update`: micro-batches
    then count as one batch, and `discard_update` forgets them. In several processes of one
    `torch.distributed` group all make each update together, of all their samples.
    """

    def __init__(self) -> None:
        super().__init__()
        self._staged: Tensor | None = None
        self._deferred = False

    def defer_updates(self) -> None:
        """From now on, wait for `apply_update`."""
        self._deferred = True

    @torch.no_grad()
    def apply_update(self) -> None:
        """Move by what is staged, if anything is."""
        grouped = in_group()
        # In eval nothing is staged on any rank, and nothing is sent.
        if self._staged is None and not (grouped and self.training):
            return
        sums = self._no_sums() if self._staged is None else self._staged
        self._staged = None
        if grouped:
            torch.distributed.all_reduce(sums)
        self._move(sums)
        self._forget()

    def discard_update(self) -> None:
        """Forget what is staged."""
        self._staged = None
        self._forget()

    def _stage(self, sums: Tensor) -> None:
        """Add to what the next update is made of; the first sums given become its own."""
        self._staged = sums if self._staged is None else self._staged + sums
        if not self._deferred:
            self.apply_update()

    @abc.abstractmethod
    def _no_sums(self) -> Tensor:
        """The sums over no samples."""

    @abc.abstractmethod
    def _move(self, sums: Tensor) -> None:
        """Make the update; sums over no samples change nothing."""

    @abc.abstractmethod
    def _forget(self) -> None:
        """Let go of what was kept beside the sums."""
