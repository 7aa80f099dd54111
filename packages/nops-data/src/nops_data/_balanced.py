"""Batches of several tasks: each of one task, all tasks equally often."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nops_data._keyed import TASK, check_seed, keyed, keyed_each
from nops_data._sampler import Draw, ResumableSampler, check_skip


class BalancedSampler:
    """Batches of one task each, as many of every task, which can start at any batch.

    An epoch is `batches_per_task` rounds. A round has one batch of every task, in an order that
    depends on (seed, epoch, round); so after any number of batches no task is more than one batch
    ahead of another. The batches of a task follow its own permutation per (seed, epoch), which
    neither the other tasks nor their order change. A task with fewer batches than rounds starts
    over with a new permutation; one with more shows another part of itself each epoch. Nothing is
    stored: the position is (epoch, batch), which the caller keeps.

    Samples are numbered through the tasks in the order given, as `TaskMixture` does. `Draw.epoch`
    counts the passes over the task, so windows with random starts differ between passes.

    Args:
        sizes: Number of samples of each task, by name.
        batch_size: Samples per batch, all ranks together; for each task by name where they differ.
        seed: In [0, 2**63).
        batches_per_task: Rounds per epoch; None is what the largest task needs to be seen once.
        shuffle: Permute samples and tasks, or keep both in order.
        drop_last: Leave out a task's last batch of a pass where it is not full.
        rank: This process, 0-based.
        world_size: Number of processes.

    Raises:
        ValueError: If there is no task, a batch size is missing, or an argument is out of range,
            as in `ResumableSampler`, with the task named.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        batch_size: int | Mapping[str, int],
        seed: int,
        batches_per_task: int | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not sizes:
            raise ValueError("sizes: found no task, expected at least one")
        self.seed = check_seed(seed)
        self.shuffle = shuffle
        self.names = tuple(sizes)
        options: dict[str, Any] = {"shuffle": shuffle, "drop_last": drop_last}
        options |= {"rank": rank, "world_size": world_size}
        each = _batch_sizes(batch_size, self.names)
        self._samplers = {
            name: _sampler(name, sizes[name], each[name], seed, options) for name in self.names
        }
        most = max(len(sampler) for sampler in self._samplers.values())
        self.batches_per_task = most if batches_per_task is None else batches_per_task
        if self.batches_per_task < 1:
            raise ValueError(f"batches_per_task: found {batches_per_task}, expected at least 1")
        ends = itertools.accumulate(sizes.values(), initial=0)
        self._first = dict(zip(self.names, ends, strict=False))

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.batches_per_task * len(self.names)

    @property
    def num_samples(self) -> int:
        """Samples of all tasks together."""
        return sum(sampler.num_samples for sampler in self._samplers.values())

    def task_at(self, epoch: int, batch: int) -> str:
        """Name of the task of one batch."""
        number, place = divmod(batch, len(self.names))
        return self._round(epoch, number)[place]

    def batches(self, epoch: int, *, skip: int = 0) -> Iterator[list[Draw]]:
        """This rank's share of each batch of an epoch, from batch `skip` on.

        Raises:
            ValueError: If `skip` is not between 0 and the number of batches, or `epoch` negative.
        """
        check_skip(skip, len(self))
        if epoch < 0:
            raise ValueError(f"epoch: found {epoch}, expected at least 0")
        return self._batches(epoch, skip)

    def _batches(self, epoch: int, skip: int) -> Iterator[list[Draw]]:
        rounds, place = divmod(skip, len(self.names))
        ahead = self._round(epoch, rounds)[:place]
        streams = {name: self._stream(name, epoch, rounds + (name in ahead)) for name in self.names}
        for batch in range(skip, len(self)):
            yield next(streams[self.task_at(epoch, batch)])

    def _round(self, epoch: int, number: int) -> tuple[str, ...]:
        if not self.shuffle:
            return self.names
        keys = keyed_each(TASK, self.seed, epoch, number, count=len(self.names))
        return tuple(self.names[k] for k in np.argsort(keys, kind="stable"))

    def _stream(self, name: str, epoch: int, first: int) -> Iterator[list[Draw]]:
        """The batches of one task in an epoch from its batch `first` on, pass after pass."""
        sampler, shift = self._samplers[name], self._first[name]
        passes = -(-self.batches_per_task // len(sampler))
        done, skip = divmod(first, len(sampler))
        for number in range(epoch * passes + done, (epoch + 1) * passes):
            for batch in sampler.batches(number, skip=skip):
                yield [Draw(draw.epoch, draw.index + shift) for draw in batch]
            skip = 0


def _batch_sizes(batch_size: int | Mapping[str, int], names: tuple[str, ...]) -> Mapping[str, int]:
    if not isinstance(batch_size, Mapping):
        return dict.fromkeys(names, batch_size)
    if set(batch_size) != set(names):
        raise ValueError(f"batch_size: found {sorted(batch_size)}, expected {sorted(names)}")
    return batch_size


def _sampler(
    name: str, size: int, batch_size: int, seed: int, options: Mapping[str, Any]
) -> ResumableSampler:
    digest = hashlib.sha256(name.encode()).digest()  # the same in every process, unlike hash()
    own = keyed(TASK, seed, int.from_bytes(digest[:8], "big")) >> 1
    try:
        return ResumableSampler(size, batch_size=batch_size, seed=own, **options)
    except ValueError as error:
        raise ValueError(f"task {name!r}: {error}") from error
