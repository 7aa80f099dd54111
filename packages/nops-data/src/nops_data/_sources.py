"""Sources of batches for the engine: some items of a data set, shared among ranks, normalised."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from nops_data._balanced import BalancedSampler
from nops_data._loader import Batches
from nops_data._mixture import TaskMixture
from nops_data._rounds import Rounds
from nops_data._sampler import Draw, ResumableSampler

SequenceT = TypeVar("SequenceT", bound=Sequence[Any])
FIELDS = ("frames", "initial")


class Picked:
    """Some items of a data set of windows, in a given order.

    Args:
        dataset: Such as `Windows`: with `batch(draws)` and, where it holds files, `close()`.
        items: Their places in it.
        parameters: Columns of the batch's `parameters` [B, P] to keep, in order; all when None.
    """

    def __init__(
        self, dataset: Any, items: Sequence[int], *, parameters: Sequence[int] | None = None
    ) -> None:
        self._dataset, self._items = dataset, items
        self._columns = None if parameters is None else list(parameters)

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, draws: Sequence[Draw]) -> Any:
        """The items of these draws in one buffer, as the data set gives them."""
        batch = self._dataset.batch([Draw(d.epoch, self._items[d.index]) for d in draws])
        if self._columns is None:
            return batch
        return {**batch, "parameters": batch["parameters"][:, self._columns]}

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        if hasattr(self._dataset, "close"):
            self._dataset.close()


def share_of(items: SequenceT, *, rank: int, world_size: int) -> SequenceT:
    """One rank's stretch of a sequence: each item is some rank's, stretches differ by one at most.

    Args:
        items: The same on every rank.
        rank: This process, 0-based.
        world_size: Number of processes.

    Returns:
        The stretch, of the sequence's own type.
    """
    first, stop = (len(items) * number // world_size for number in (rank, rank + 1))
    return items[first:stop]  # type: ignore[return-value]


def training_batches(
    dataset: Any,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    device: str = "auto",
) -> Batches:
    """Batches in a new order each epoch; of each batch every rank reads its share.

    Args:
        dataset: Such as `Windows` or `Picked`.
        batch_size: Items per batch, all ranks together.
        seed: Of the orders.
        rank: This process, 0-based.
        world_size: Number of processes.
        num_workers: Processes that read ahead; 0 reads here.
        device: "cpu", or anything else for page-locked batches where there is CUDA.

    Returns:
        A source of batches for the engine.

    Raises:
        ValueError: As `ResumableSampler`.
    """
    sampler = ResumableSampler(
        len(dataset), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
    )
    return Batches(dataset, sampler, num_workers=num_workers, pin_memory=_pinned(device))


def balanced_rounds(
    datasets: Mapping[str, Any],
    *,
    batch_size: int,
    seed: int,
    rounds: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    device: str = "auto",
) -> Rounds:
    """A batch of each of several data sets at a time, all of one size, in a new order each epoch.

    Args:
        datasets: By task, each as in `training_batches`.
        batch_size: Items of each batch, all ranks together; a pass leaves out what does not fill one.
        seed: Of the orders.
        rounds: Per epoch; None is what the largest data set needs to be seen once.
        rank: This process, 0-based.
        world_size: Number of processes.
        num_workers: As in `training_batches`.
        device: As in `training_batches`.

    Returns:
        A source whose batches are mappings, one batch by task.

    Raises:
        ValueError: As `BalancedSampler`, such as for a data set with fewer items than a batch.
    """
    mixture = TaskMixture(datasets)
    sampler = BalancedSampler(
        mixture.sizes,
        batch_size=batch_size,
        seed=seed,
        batches_per_task=rounds,
        drop_last=True,
        rank=rank,
        world_size=world_size,
    )
    pinned = _pinned(device)
    return Rounds(Batches(mixture, sampler, num_workers=num_workers, pin_memory=pinned))


def ordered_batches(
    dataset: Any,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    device: str = "auto",
) -> Batches:
    """Every item once and in order, to validate on; each rank reads a stretch of them.

    Nobody waits for anybody after a batch, so `batch_size` is each rank's own. They are read in
    this process.

    Args:
        dataset: As in `training_batches`.
        batch_size: Items per batch of a rank.
        rank: This process, 0-based.
        world_size: Number of processes.
        device: As in `training_batches`.

    Returns:
        A source of batches in the same order each epoch.

    Raises:
        ValueError: If there are fewer items than ranks.
    """
    if len(dataset) < world_size:
        raise ValueError(f"dataset: found {len(dataset)} items for {world_size} ranks")
    own = Picked(dataset, share_of(range(len(dataset)), rank=rank, world_size=world_size))
    sampler = ResumableSampler(len(own), batch_size=batch_size, seed=0, shuffle=False)
    return Batches(own, sampler, pin_memory=_pinned(device))


def _pinned(device: str) -> bool:
    return device != "cpu" and torch.cuda.is_available()


class NormalisedBatches:
    """A source of batches on their way to the engine: in units of training, no more than so many.

    Args:
        batches: Dictionaries of tensors, fields in the data's units.
        normalise: Maps a field to units of training, such as `Normaliser.normalise`.
        fields: The entries to map, where a batch has them.
        limit: Batches per epoch at most; None takes all.
    """

    def __init__(
        self,
        batches: Any,
        normalise: Callable[[Tensor], Tensor],
        *,
        fields: Sequence[str] = FIELDS,
        limit: int | None = None,
    ) -> None:
        self._batches, self._normalise, self._fields = batches, normalise, tuple(fields)
        self.num_batches = min(batches.num_batches, limit or batches.num_batches)

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[dict[str, Tensor]]:
        """The epoch's batches after the first `skip`."""
        source = self._batches.batches(epoch=epoch, skip=skip)
        for _, batch in zip(range(self.num_batches - skip), source, strict=False):
            yield self._normalised(batch)

    def _normalised(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {name: batch[name] for name in self._fields if name in batch}
        return {**batch, **{name: self._normalise(field) for name, field in found.items()}}
