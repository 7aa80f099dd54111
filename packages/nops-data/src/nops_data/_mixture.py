"""Several data sets as one, of which a batch holds samples of one alone."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from nops_data._loader import fetch
from nops_data._sampler import Draw


class TaskMixture:
    """Data sets of several tasks, such as `Windows` of files on different grids.

    Samples are numbered through the tasks in the order given, as `BalancedSampler` draws them. A
    batch is that of its task's own data set with its name under `task`.

    Args:
        datasets: By task name; each as `loader` takes it, with batches that are dictionaries.

    Raises:
        ValueError: If there is none, or one is empty.
    """

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        if not datasets or not all(len(dataset) for dataset in datasets.values()):
            sizes = {name: len(dataset) for name, dataset in datasets.items()}
            raise ValueError(f"datasets: found {sizes}, expected at least one sample of each task")
        self.datasets = dict(datasets)
        self._ends = list(itertools.accumulate(self.sizes.values()))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Draw | int) -> dict[str, Any]:
        """One sample and its `task`; a plain index means epoch 0."""
        draw = index if isinstance(index, Draw) else Draw(0, index)
        name, own = self._own(draw)
        return self._labelled(name, self.datasets[name][own])

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each task, for `BalancedSampler`."""
        return {name: len(dataset) for name, dataset in self.datasets.items()}

    def batch(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """The batch of one task.

        Raises:
            ValueError: If the draws are of several tasks.
            IndexError: If one is out of range.
        """
        owned = [self._own(draw) for draw in draws]
        names = sorted({name for name, _ in owned})
        if len(names) != 1:
            raise ValueError(
                f"batch: found samples of {names}, expected one task; draw with BalancedSampler"
            )
        return self._labelled(names[0], fetch(self.datasets[names[0]], [own for _, own in owned]))

    def close(self) -> None:
        """Close the files this process opened; the next read opens them again."""
        for dataset in self.datasets.values():
            if hasattr(dataset, "close"):
                dataset.close()

    def _own(self, draw: Draw) -> tuple[str, Draw]:
        """The task of a draw, and the draw within its data set."""
        if not 0 <= draw.index < len(self):
            raise IndexError(f"sample {draw.index} of {len(self)} (tasks {list(self.datasets)})")
        task = bisect.bisect_right(self._ends, draw.index)
        first = self._ends[task - 1] if task else 0
        return list(self.datasets)[task], Draw(draw.epoch, draw.index - first)

    def _labelled(self, name: str, batch: Any) -> dict[str, Any]:
        if not isinstance(batch, Mapping) or "task" in batch:
            found = f"keys {sorted(batch)}" if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"task {name!r}: found a batch of {found}, expected a dictionary without 'task'"
            )
        return {**batch, "task": name}
