"""An averaged copy of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nops_train._shards import exchange, is_shard, own_rows, rows_like


class WeightAverage:
    """Exponential moving average of a module's trained parameters.

    After update number n (0-based), a <- d a + (1 - d) p with d = min(decay, (1 + n) / (10 + n)): the
    first updates weigh more, so that a short run's average does not remember the initial weights
    (TensorFlow's `ExponentialMovingAverage(num_updates=...)`). Buffers are not averaged.

    Of a sharded parameter each rank averages its own rows.

    Args:
        parameters: Trained parameters by name; they start the average.
        decay: Weight of the past, in (0, 1), dimensionless.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self._parameters = dict(parameters)
        self.average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def restart(self) -> None:
        """Begin again with the present parameters, as when it was made."""
        self.num_updates = 0
        for name, average in self.average.items():
            own_rows(average).copy_(own_rows(self._parameters[name].detach()))

    @torch.no_grad()
    def update(self) -> None:
        """Take the present parameters into the average."""
        decay = self._next_decay()
        for name, average in self.average.items():
            own_rows(average).lerp_(own_rows(self._parameters[name].detach()), 1.0 - decay)

    @torch.no_grad()
    def update_unless(self, bad: Tensor) -> None:
        """The same, but the average stays where `bad` (bool, scalar, on the device) is true.

        The update is counted: whoever reads `bad` later lowers `num_updates` by one.
        """
        decay = self._next_decay()
        for name, average in self.average.items():
            moved = average.lerp(self._parameters[name].detach(), 1.0 - decay)
            average.copy_(torch.where(bad, average, moved))

    def _next_decay(self) -> float:
        count = self.num_updates
        self.num_updates += 1
        return min(self.decay, (1 + count) / (10 + count))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module computes with the average; after it, with its own weights again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            if is_shard(parameter):  # its owner knows the memory, so that has to stay
                exchange(parameter, self.average[name])
            else:
                parameter.data, self.average[name] = self.average[name], parameter.data

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of its updates."""
        return {"num_updates": self.num_updates, "average": dict(self.average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; a name or shape that differs is an error.

        Raises:
            ValueError: If the averaged parameters are not those of this module.
        """
        average: dict[str, Tensor] = state["average"]
        if average.keys() != self.average.keys():
            raise ValueError(
                f"the averaged weights are of other parameters: {sorted(average)}, "
                f"expected {sorted(self.average)}"
            )
        self.num_updates = int(state["num_updates"])
        for name, value in average.items():
            own_rows(self.average[name]).copy_(own_rows(rows_like(value, self.average[name])))
