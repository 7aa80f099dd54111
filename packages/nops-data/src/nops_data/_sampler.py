"""Which samples make up which batch: a function of (seed, epoch, batch), nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nops_data._keyed import ORDER, check_seed, keyed_each


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample to fetch: item `index` of a data set, in the 0-based `epoch`."""

    epoch: int
    index: int


class BatchSampler(Protocol):
    """What a loader needs to know of batches: `ResumableSampler` and `BalancedSampler` do."""

    @property
    def num_samples(self) -> int:
        """Length of the data set."""
        ...

    def __len__(self) -> int: ...

    def batches(self, epoch: int, *, skip: int = 0) -> Iterator[list[Draw]]:
        """This rank's share of each batch of an epoch, from batch `skip` on."""
        ...


class ResumableSampler:
    """Batches of an epoch, which can start at any batch without replaying those before.

    One permutation per (seed, epoch), the same for every number of ranks. Batch k of the epoch is
    the k-th stretch of `batch_size` samples; each rank gets a contiguous share of it, shares
    differing by at most one sample. Nothing is stored: the position is (epoch, batch), which the
    caller keeps.

    Args:
        num_samples: Length of the data set.
        batch_size: Samples per batch, all ranks together.
        seed: In [0, 2**63).
        shuffle: Order by the permutation, or 0, 1, 2, ….
        drop_last: Leave out a last batch that is not full; it is kept by default.
        rank: This process, 0-based.
        world_size: Number of processes.

    Raises:
        ValueError: If an argument is out of range, no batch is left, or the last batch would
            leave a rank without a sample.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples: found {num_samples}, expected at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: found {rank}, expected 0 <= rank < world_size = {world_size}")
        if batch_size < world_size:
            raise ValueError(f"batch_size: found {batch_size}, expected at least {world_size}")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = check_seed(seed)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self._check_last()

    def _check_last(self) -> None:
        if self.drop_last and self.num_samples < self.batch_size:
            raise ValueError(
                f"batch_size: found {self.batch_size}, expected at most {self.num_samples}, the "
                "number of samples, because drop_last leaves out what is not a full batch"
            )
        rest = self.num_samples % self.batch_size
        if not self.drop_last and 0 < rest < self.world_size:
            raise ValueError(
                f"batch_size: found {self.batch_size}, whose last batch has {rest} of "
                f"{self.num_samples} samples, expected at least one for each of "
                f"{self.world_size} ranks; set drop_last or another batch_size"
            )

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(self.num_samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch in order, [num_samples] int64."""
        if epoch < 0:
            raise ValueError(f"epoch: found {epoch}, expected at least 0")
        if not self.shuffle:
            return np.arange(self.num_samples)
        keys = keyed_each(ORDER, self.seed, epoch, count=self.num_samples)
        return np.argsort(keys, kind="stable")

    def batches(self, epoch: int, *, skip: int = 0) -> Iterator[list[Draw]]:
        """This rank's share of each batch of an epoch, from batch `skip` on.

        Raises:
            ValueError: If `skip` is not between 0 and the number of batches.
        """
        check_skip(skip, len(self))
        order = self.order(epoch)
        return (self._share(order, epoch, batch) for batch in range(skip, len(self)))

    def _share(self, order: np.ndarray, epoch: int, batch: int) -> list[Draw]:
        samples = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        first, stop = (
            len(samples) * rank // self.world_size for rank in (self.rank, self.rank + 1)
        )
        return [Draw(epoch, int(sample)) for sample in samples[first:stop]]


def check_skip(skip: int, num_batches: int) -> None:
    """Refuse to start outside the epoch.

    Raises:
        ValueError: If `skip` is not between 0 and the number of batches.
    """
    if not 0 <= skip <= num_batches:
        raise ValueError(f"skip: found {skip}, expected 0 to {num_batches} batches")
