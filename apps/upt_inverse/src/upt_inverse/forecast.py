"""Decoded predictions of whole trajectories: free rollouts, single steps, reconstructions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from nops_losses import sample_queries
from nops_models import UPT
from torch import Tensor

from upt_inverse.geometry import FieldMap, Geometry, flattened, gridded
from upt_inverse.states import States

Mode = Literal["latent", "image"]
SUPERNODE_SEED = 0  # predictions are functions of weights and data alone


@dataclass(frozen=True, kw_only=True)
class Forecaster:
    """What a model predicts of normalised frames `[sample, time, channel, *grid]`.

    Attributes:
        model: E, A and G.
        geometry: Grid of the frames.
        fields: Channels by field.
        condition: What conditions the model.
        ranges: Lowest value and width of each scalar among those, `[2, parameter]`: they map to 0
            and 1.
    """

    model: UPT
    geometry: Geometry
    fields: FieldMap
    condition: Sequence[str]
    ranges: Tensor

    def states(self, frames: Tensor, start: Tensor, parameters: Tensor) -> States:
        """A window as states at every point."""
        low, width = self.ranges.to(parameters)
        return States(
            values=flattened(frames),
            positions=self.geometry.positions.to(frames.device),
            fields=self.fields,
            history=self.model.config.history,
            start=start,
            parameters=(parameters - low) / width,
            names=self.condition,
        )

    def rollout(
        self,
        states: States,
        *,
        steps: int,
        mode: Mode = "latent",
        queries: Tensor | None = None,
        chunk_size: int | None = None,
    ) -> Tensor:
        """The model's own states 1 to `steps` after the present `[sample, time, query, channel]`.

        Raises:
            ValueError: If the steps go beyond the time table.
        """
        decoded = self.model.rollout(
            states.read(0),
            states.positions,
            steps=steps,
            mode=mode,
            query_positions=queries,
            condition=states.condition(0),
            chunk_size=chunk_size,
            supernodes=self.supernodes(states),
        )
        return self.fields.join(decoded)

    def single_steps(self, states: States) -> Tensor:
        """Each later state from the true one before it `[sample, time, point, channel]`."""
        return torch.stack([self._after(states, ahead) for ahead in self._leads(states)], dim=1)

    def _after(self, states: States, ahead: int) -> Tensor:
        condition = states.condition(ahead - 1)
        latent = self.model.step(self.encode(states, ahead - 1), condition=condition)
        return self._decoded(states, latent, condition)

    def reconstructions(self, states: States) -> Tensor:
        """Each later state encoded and decoded, nothing else `[sample, time, point, channel]`."""
        parts = [
            self._decoded(states, self.encode(states, ahead), states.condition(ahead - 1))
            for ahead in self._leads(states)
        ]
        return torch.stack(parts, dim=1)

    def encode(self, states: States, ahead: int) -> Tensor:
        """The latent of a true state."""
        return self.model.encode(
            states.read(ahead),
            states.positions,
            condition=states.condition(ahead),
            supernodes=self.supernodes(states),
        )

    def frames(self, values: Tensor) -> Tensor:
        """Values at every point as frames `[sample, time, channel, *grid]`."""
        return gridded(values, self.geometry.shape)

    def _decoded(self, states: States, latent: Tensor, condition: Tensor | None) -> Tensor:
        return self.fields.join(self.model.decode(states.positions, latent, condition=condition))

    def _leads(self, states: States) -> range:
        return range(1, states.values.shape[1] - states.present)

    def supernodes(self, states: States) -> Tensor | None:
        """The same points for every trajectory; None for a grid."""
        count = self.model.config.supernodes
        if count is None:
            return None
        generator = torch.Generator().manual_seed(SUPERNODE_SEED)
        drawn = sample_queries(self.geometry.num_points, count, generator=generator)
        return drawn.indices.to(states.values.device).expand(len(states.values), -1)
