"""One batch of every task at a time, for a step that all tasks take part in."""

from collections.abc import Iterator
from typing import Any

from nops_data._balanced import BalancedSampler
from nops_data._loader import Batches


class Rounds:
    """The rounds of a `BalancedSampler` over a `TaskMixture`, each as one dictionary by task.

    A round has one batch of each task, in the order of the tasks; none of them holds samples of
    two. It is a source for the engine, and can start at any round.

    Args:
        batches: The mixture with its sampler.

    Raises:
        ValueError: If the sampler is another one.
    """

    def __init__(self, batches: Batches) -> None:
        if not isinstance(batches.sampler, BalancedSampler):
            found = type(batches.sampler).__name__
            raise ValueError(f"sampler: found {found}, expected a BalancedSampler")
        self._batches, self._sampler = batches, batches.sampler

    @property
    def num_batches(self) -> int:
        """Rounds per epoch."""
        return self._sampler.batches_per_task

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[dict[str, Any]]:
        """The rounds of an epoch after the first `skip`."""
        names = self._sampler.names
        source = self._batches.batches(epoch=epoch, skip=skip * len(names))
        for _ in range(skip, self.num_batches):
            found = [next(source) for _ in names]
            by_task = {batch["task"]: batch for batch in found}
            yield {name: _without_name(by_task[name]) for name in names}


def _without_name(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: values for key, values in batch.items() if key != "task"}
