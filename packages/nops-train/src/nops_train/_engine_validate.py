"""One pass over the validation set: means of the task's metrics, and no trace left behind."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nops_train._engine_batch import num_samples, to_device
from nops_train._engine_shard import explained, in_step
from nops_train._errors import InputError
from nops_train._precision import Precision
from nops_train._protocols import BatchSource, Task
from nops_train._shards import is_sharded, reshard
from nops_train._world import World

Look = Callable[[Any], Any] | None


class Validator:
    """Computes a task's metrics in eval mode, without gradients, in the precision of training.

    Args:
        task: Gives the metrics.
        model: Each of its modules is put back into its own mode afterwards.
        precision: Autocast as in training.
        device: Where batches go.
        world: The ranks, each of which validates its share.
    """

    def __init__(
        self,
        *,
        task: Task,
        model: nn.Module,
        precision: Precision,
        device: torch.device,
        world: World,
    ) -> None:
        self._world = world
        self._task, self._model = task, model
        self._precision, self._device = precision, device

    def run(
        self, source: BatchSource, *, between: Callable[[], None] | None, look: Look = None
    ) -> dict[str, float]:
        """Mean of each metric over all samples of all ranks, summed in float64.

        Args:
            source: The validation set; its epoch 0 is read, so each validation sees the same batches.
            between: Called before each batch; it may raise to stop. None: nothing is called.
            look: Called with the first batch, on the device.

        Raises:
            InputError: If there is no batch, or a metric is neither a scalar nor one value per sample.
        """
        sums: dict[str, Tensor] = {}
        samples = 0
        with evaluating(self._model), torch.no_grad():
            for batch, counts in self._batches(source):
                if between is not None:
                    between()
                if not samples:
                    self._show(batch, look)
                size = self._add(
                    sums if counts else {}, batch
                )  # a repeated one only keeps the step
                samples += size if counts else 0
        mine = ({name: float(value) for name, value in sums.items()}, samples)
        return _means(self._world.gather(mine))

    def check(
        self, source: BatchSource, *, monitor: str, terms: Collection[str], look: Look = None
    ) -> None:
        """Compute the metrics of one batch, so that a wrong name is told before training.

        Args:
            source: The validation set.
            monitor: Metric that decides the best model.
            terms: Names that a metric must not have.
            look: As in `run`.

        Raises:
            InputError: If `monitor` is no metric, or a metric has one of the names.
        """
        sums: dict[str, Tensor] = {}
        with evaluating(self._model), torch.no_grad(), explained():
            for batch, _ in self._batches(source):
                self._add(sums, batch)
                self._show(batch, look)
                break
        if monitor not in sums:
            raise InputError(f"train.monitor is {monitor}; task.metrics returned {sorted(sums)}")
        if shared := sums.keys() & set(terms):
            raise InputError(f"the weighting observes terms and metrics: {sorted(shared)} are both")

    def _batches(self, source: BatchSource) -> Iterator[tuple[Any, bool]]:
        """This rank's batches, each with whether it counts; as many on every rank of a sharded model."""
        batches = source.batches(epoch=0, skip=0)
        if is_sharded(self._model):
            return in_step(batches, self._world)
        return ((batch, True) for batch in batches)

    def _show(self, batch: Any, look: Look) -> None:
        if look is not None:
            with self._precision.autocast():
                look(to_device(batch, self._device))

    def _add(self, sums: dict[str, Tensor], batch: Any) -> int:
        batch = to_device(batch, self._device)
        size = num_samples(batch)
        with self._precision.autocast():
            metrics = self._task.metrics(batch)
        for name, value in metrics.items():
            total = _total(name, torch.as_tensor(value).detach().double(), size)
            sums[name] = sums[name] + total if name in sums else total
        return size


def _means(shares: list[tuple[dict[str, float], int]]) -> dict[str, float]:
    """Means over all samples, of each rank's sums and number of samples, added in the order of ranks."""
    samples = sum(count for _, count in shares)
    if not samples:
        raise InputError("the validation set gave no batch")
    names = dict.fromkeys(name for sums, _ in shares for name in sums)
    return {name: sum(sums.get(name, 0.0) for sums, _ in shares) / samples for name in names}


def _total(name: str, value: Tensor, size: int) -> Tensor:
    if value.dim() == 0:
        return value * size
    if value.shape == (size,):
        return value.sum()
    raise InputError(
        f"task.metrics returned {name} of shape {tuple(value.shape)}, expected a scalar or one value per "
        f"sample ({size},)"
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; after it each module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        reshard(model)
