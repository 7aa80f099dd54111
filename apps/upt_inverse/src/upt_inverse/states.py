"""A batch of windows as the states that encoder, approximator and decoder see."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from nops_losses import QuerySample
from torch import Tensor

from upt_inverse.geometry import FieldMap

TIME = "time"


@dataclass(frozen=True, kw_only=True)
class States:
    """States of a window at some points.

    State s of a trajectory is encoded, and stepped from, under the condition of s; what a step from s
    yields is decoded under that same condition.

    Attributes:
        values: Normalised `[sample, time, point, channel]`.
        positions: `[point, axis]`, or `[sample, point, axis]`.
        fields: Channels by field.
        history: States that the encoder reads.
        start: Index of the first frame in its trajectory `[sample]`.
        parameters: Scalars of the trajectory `[sample, parameter]`.
        names: What conditions the model: `time`, or one column of `parameters` each, in order.
    """

    values: Tensor
    positions: Tensor
    fields: FieldMap
    history: int
    start: Tensor
    parameters: Tensor
    names: Sequence[str] = ()

    @property
    def present(self) -> int:
        """Place in the window of the last state that the encoder reads at first."""
        return self.history - 1

    def at(self, ahead: int) -> dict[str, Tensor]:
        """Fields `ahead` steps after the present."""
        return self.fields.split(self.frame(ahead))

    def frame(self, ahead: int) -> Tensor:
        """The same, channels side by side `[sample, point, channel]`."""
        return self.values[:, self.present + ahead]

    def read(self, ahead: int) -> dict[str, Tensor]:
        """What the encoder reads `ahead` steps after the present: the history up to it."""
        return self._stacked(ahead, self.history) or {}

    def before(self, ahead: int) -> dict[str, Tensor] | None:
        """The same without the state `ahead` itself; None for a history of one."""
        return self._stacked(ahead - 1, self.history - 1)

    def _stacked(self, ahead: int, count: int) -> dict[str, Tensor] | None:
        last = self.present + ahead
        states = [self.fields.split(self.values[:, k]) for k in range(last - count + 1, last + 1)]
        if not states:
            return None
        return {name: torch.cat([s[name] for s in states], dim=-1) for name in states[0]}

    def index(self, ahead: int) -> Tensor:
        """Index of a state in its trajectory `[sample]`."""
        return self.start + (self.present + ahead)

    def condition(self, ahead: int) -> Tensor | None:
        """The numbers of a state `[sample, condition]`; None if the model has none."""
        if not self.names:
            return None
        rest = iter(self.parameters.unbind(1))
        index = self.index(ahead).to(self.parameters).clamp(min=0)
        return torch.stack([index if name == TIME else next(rest) for name in self.names], dim=1)

    def gathered(self, sample: QuerySample) -> "States":
        """The same at the points of a sample."""
        frames = [sample.gather(frame) for frame in self.values.unbind(1)]
        return States(
            values=torch.stack(frames, dim=1),
            positions=sample.gather(self.positions),
            fields=self.fields,
            history=self.history,
            start=self.start,
            parameters=self.parameters,
            names=self.names,
        )
