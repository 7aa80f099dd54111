"""Several tasks in one run: batches of each, terms and metrics by task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from nops_data import Normaliser, balanced_rounds
from nops_train import InputError, join_world
from torch import Tensor

from upt_inverse.build import Bundle
from upt_inverse.config import UptConfig
from upt_inverse.task import Batch, UptTask


class MixedBatches:
    """Training: rounds of batches, one of each task, normalised by the statistics of its own.

    Args:
        config: Of the run.
        bundles: By task.

    Raises:
        InputError: If a task has fewer windows than a batch.
    """

    def __init__(self, config: UptConfig, bundles: Mapping[str, Bundle]) -> None:
        train, world = config.train, join_world()
        self._bundles = bundles
        try:
            self._rounds = balanced_rounds(
                {name: bundle.windows for name, bundle in bundles.items()},
                batch_size=train.batch_size,
                seed=train.seed,
                rounds=config.rounds,
                rank=world.rank,
                world_size=world.size,
                num_workers=train.num_workers,
                device=train.device,
            )
        except ValueError as error:
            raise InputError(
                f"train.{str(error).partition(': ')[2]} ({_sizes(bundles)})"
            ) from error

    @property
    def num_batches(self) -> int:
        """Rounds, one optimizer step each."""
        return self._rounds.num_batches

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[dict[str, Batch]]:
        """The rounds of an epoch after the first `skip`, batches by task."""
        for found in self._rounds.batches(epoch=epoch, skip=skip):
            yield {name: self._normalised(name, batch) for name, batch in found.items()}

    def _normalised(self, name: str, batch: Batch) -> dict[str, Tensor]:
        bundle = self._bundles[name]
        normaliser: Normaliser = bundle.normaliser
        axis = -1 - len(bundle.geometry.shape)
        return {**batch, "frames": normaliser.normalise(batch["frames"], channel_dim=axis)}


def _sizes(bundles: Mapping[str, Bundle]) -> str:
    return ", ".join(
        f"{name} has {len(bundle.windows)} windows" for name, bundle in bundles.items()
    )


class MixedValidation:
    """Validation: the batches of one task after those of another, each with the name of its `task`."""

    def __init__(self, bundles: Mapping[str, Bundle]) -> None:
        self._sources = {name: bundle.valid for name, bundle in bundles.items()}
        self.num_batches = sum(source.num_batches for source in self._sources.values())

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[dict[str, Any]]:
        """The batches after the first `skip`."""
        parts = (
            ({**batch, "task": name} for batch in source.batches(epoch=epoch))
            for name, source in self._sources.items()
        )
        return islice(chain.from_iterable(parts), skip, None)


@dataclass(frozen=True, kw_only=True)
class MixedTask:
    """Terms `<task>.<term>`, one task after the other; metrics of each, and their means over tasks.

    Attributes:
        tasks: By name.
        samples: Validation trajectories of each, on all ranks.
    """

    tasks: Mapping[str, UptTask]
    samples: Mapping[str, int]

    def losses(
        self, batch: Mapping[str, Batch], *, epoch: int, step: int, active: frozenset[str]
    ) -> Iterator[dict[str, Tensor]]:
        """The active terms of a batch of each task; the graph of one is gone before the next is made."""
        for name, task in self.tasks.items():
            own = frozenset(
                term.partition(".")[2] for term in active if term.partition(".")[0] == name
            )
            if own:
                found = task.losses(batch[name], epoch=epoch, step=step, active=own)
                yield {f"{name}.{term}": value for term, value in found.items()}

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Of a batch of one task, such that the mean over the samples of all tasks is that of its own.

        `<task>.<metric>` is the mean over that task's trajectories, `<metric>` the mean of these
        over the tasks.
        """
        own, total = batch["task"], sum(self.samples.values())
        found = {}
        for metric, value in self.tasks[own].metrics(batch).items():
            scaled = value * (total / self.samples[own])
            for name in self.tasks:
                found[f"{name}.{metric}"] = scaled if name == own else torch.zeros_like(value)
            found[metric] = scaled / len(self.tasks)
        return found
