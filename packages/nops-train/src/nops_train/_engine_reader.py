"""The batches of an epoch as all ranks agree to make them, and the moments at which they stop together."""

from collections.abc import Iterator
from typing import Any

import torch

from nops_train._engine_batch import num_samples
from nops_train._engine_feed import Feeder
from nops_train._engine_report import StopRequested
from nops_train._engine_rng import seed_generators
from nops_train._errors import InputError, PeerFailed
from nops_train._protocols import BatchSource
from nops_train._signals import SignalGuard
from nops_train._world import World


class Reader:
    """Reads this rank's share of each batch.

    Args:
        world: The ranks.
        signals: What this process was sent.
        device: Where batches go.
        seed: Start of the draws made while a batch is read.

    Attributes:
        failed: Whether some rank could not read, which all of them know.
    """

    def __init__(
        self, *, world: World, signals: SignalGuard, device: torch.device, seed: int
    ) -> None:
        self._world, self._signals = world, signals
        self._feeder, self._seed = Feeder(device), seed
        self.failed = False

    def batches(
        self, source: BatchSource, *, epoch: int, first: int, stop: int
    ) -> Iterator[tuple[Any, int]]:
        """The batches `first` to `stop` of an epoch, each with its number of samples on all ranks.

        Raises:
            StopRequested: If any rank was sent a signal.
            InputError: If the source ends early.
            PeerFailed: If another rank could not read.
        """
        if first >= stop:
            return
        seed_generators("order", self._seed, epoch=epoch)
        iterator = iter(source.batches(epoch=epoch, skip=first))
        for index in range(first, stop):
            seed_generators("data", self._seed, epoch=epoch, index=index, rank=self._world.rank)
            batch, samples = self._next(iterator, f"{index} batches of epoch {epoch}", stop)
            yield self._feeder.send(batch), samples

    def stop_if_asked(self) -> None:
        """Stop together, outside of reading.

        Raises:
            StopRequested: If any rank was sent a signal.
        """
        self._agreed(None, None, signal=self._signals.received)

    def _next(self, iterator: Iterator[Any], place: str, stop: int) -> tuple[Any, int]:
        batch: Any = None
        error: Exception | None = None
        signal = (
            self._signals.received
        )  # one that comes while the batch is read lets its step be made
        try:
            if signal is None:
                batch = next(iterator)
        except StopIteration:
            error = InputError(
                f"the training source ended after {place}; its num_batches is {stop}"
            )
        except Exception as raised:
            error, signal = raised, self._signals.received  # a signal ends worker processes too
        return batch, self._agreed(batch, error, signal=signal)

    def _agreed(self, batch: Any, error: Exception | None, *, signal: int | None) -> int:
        """Samples of all ranks, unless one of them was told to stop, or failed."""
        mine = 0 if batch is None else num_samples(batch)
        if not (self._world.active or signal or error):
            return mine
        found = self._world.agree(signal=signal or 0, samples=mine, failed=error is not None)
        if found.signal:
            self._signals.received = found.signal
            raise StopRequested
        self.failed = bool(found.failed)
        if error is not None:
            raise error
        if found.failed:
            raise PeerFailed(f"rank {found.failed[0]} could not read its share of a batch")
        return found.samples
