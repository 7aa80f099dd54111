"""A user's own data as a source of batches, with nothing but torch."""

import random
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from nops_train._engine_batch import num_samples, split_batch
from nops_train._engine_rng import position_seed, preserved_rng, seed_generators
from nops_train._errors import InputError
from nops_train._world import World, join_world


class ListSource:
    """A list of batches, a map-style dataset or a `DataLoader`, in an order that a run can continue.

    The order of an epoch depends on `seed` and the epoch alone, so a run goes on inside an epoch without
    reading what it has seen. Under `torchrun` each rank reads its share of every batch. What a dataset draws at random while it is read stays reproducible with no
    worker processes; in workers it is the dataset's own care.

    Args:
        data: A sequence of ready batches (without `batch_size`), a map-style dataset (with it), or a
            `DataLoader`, whose dataset, sampler, collation and workers are used.
        batch_size: Samples per batch of a dataset; None for ready batches and loaders.
        shuffle: Whether ready batches or a dataset's samples are put in a new order each epoch; a
            `DataLoader`'s own sampler decides for a loader.
        seed: Start of the order.
        drop_last: Whether a last batch with fewer samples is left out.
        collate: Makes a batch of a list of samples; torch's default stacks tensors.

    Raises:
        ValueError: If `data` is empty, or is a loader without indices (an `IterableDataset`), or
            `batch_size` does not go with it.
    """

    def __init__(
        self,
        data: Sequence[Any] | Dataset[Any] | DataLoader[Any],
        *,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        self._seed = seed
        self._world = join_world()
        if isinstance(data, DataLoader):
            self._source: _Source = _FromLoader(data, batch_size=batch_size, seed=seed)
        else:
            self._source = _FromItems(
                cast("Sequence[Any]", data), batch_size, shuffle, drop_last, collate, seed
            )
        if self.num_batches < 1:
            raise ValueError(f"data holds no batch: {len(cast('Sized', data))} items")
        self._source.check(self._world.size)

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return len(self._source)

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Any]:
        """The batches of an epoch after the first `skip`."""
        groups = self._source.order(epoch)[skip:]
        return self._source.read(groups, epoch=epoch, world=self._world)


class _FromItems:
    def __init__(
        self,
        items: Sequence[Any],
        batch_size: int | None,
        shuffle: bool,
        drop_last: bool,
        collate: Callable[[list[Any]], Any],
        seed: int,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected 1 or more")
        self._items, self._size, self._collate = items, batch_size, collate
        self._shuffle, self._drop_last, self._seed = shuffle, drop_last, seed

    def __len__(self) -> int:
        return len(self._groups(list(range(len(self._items)))))

    def order(self, epoch: int) -> list[list[int]]:
        indices = list(range(len(self._items)))
        if self._shuffle:
            random.Random(position_seed("order", self._seed, epoch=epoch)).shuffle(indices)
        return self._groups(indices)

    def check(self, ranks: int) -> None:
        if self._size is None:
            return  # `split_batch` finds out
        for group in self._groups(list(range(len(self._items)))):
            _check_shares(len(group), ranks)

    def read(self, groups: list[list[int]], *, epoch: int, world: World) -> Iterator[Any]:
        for group in groups:
            if self._size is None:
                yield _share_of_batch(self._items[group[0]], world)
            else:
                yield self._collate([self._items[i] for i in _share(group, world)])

    def _groups(self, indices: list[int]) -> list[list[int]]:
        size = self._size or 1
        groups = [indices[i : i + size] for i in range(0, len(indices), size)]
        if self._drop_last and groups and len(groups[-1]) < size:
            groups.pop()
        return groups


class _FromLoader:
    def __init__(self, loader: DataLoader[Any], *, batch_size: int | None, seed: int) -> None:
        if batch_size is not None:
            raise ValueError("batch_size is the loader's; leave it out with a DataLoader")
        if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
            raise ValueError(
                "the DataLoader has no batches of indices (an IterableDataset, or batch_size=None), so a "
                "run could not go on inside an epoch; wrap its data in a class with `num_batches` and "
                "`batches(*, epoch, skip)` instead"
            )
        self._loader, self._seed = loader, seed

    def __len__(self) -> int:
        return len(self._loader)

    def order(self, epoch: int) -> list[list[int]]:
        sampler = self._loader.batch_sampler
        seed = position_seed("order", self._seed, epoch=epoch)
        owners = (self._loader, sampler, getattr(sampler, "sampler", None))
        for generator in {
            id(g): g for o in owners if (g := getattr(o, "generator", None))
        }.values():
            generator.manual_seed(seed)
        with preserved_rng():
            seed_generators("order", self._seed, epoch=epoch)
            return [list(group) for group in cast("Sequence[list[int]]", sampler)]

    def check(self, ranks: int) -> None:
        for group in self.order(0) if ranks > 1 else ():
            _check_shares(len(group), ranks)

    def read(self, groups: list[list[int]], *, epoch: int, world: World) -> Iterator[Any]:
        groups = [_share(group, world) for group in groups]
        old = self._loader
        workers_seed = position_seed("data", self._seed, epoch=epoch)
        loader = DataLoader(
            old.dataset,
            batch_sampler=cast("Any", groups),
            num_workers=old.num_workers,
            collate_fn=old.collate_fn,
            pin_memory=old.pin_memory,
            timeout=old.timeout,
            prefetch_factor=old.prefetch_factor,
            worker_init_fn=old.worker_init_fn,
            multiprocessing_context=old.multiprocessing_context,
            generator=torch.Generator().manual_seed(workers_seed),
        )
        return iter(loader)


def _share(group: list[int], world: World) -> list[int]:
    """This rank's contiguous share of a batch; shares differ by at most one sample."""
    first, stop = (len(group) * rank // world.size for rank in (world.rank, world.rank + 1))
    return group[first:stop]


def _share_of_batch(batch: Any, world: World) -> Any:
    if world.size == 1:
        return batch
    _check_shares(num_samples(batch), world.size)
    return split_batch(batch, world.size)[world.rank]


def _check_shares(samples: int, ranks: int) -> None:
    if samples < ranks:
        raise InputError(
            f"a batch has {samples} samples, expected at least one for each of {ranks} ranks; set drop_last or "
            "another batch_size"
        )


_Source = _FromItems | _FromLoader
