"""The loss terms of a step, by name."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from nops_data import Normaliser
from nops_losses import (
    QuerySample,
    boundary_penalty,
    conservation_penalty,
    divergence_penalty,
    inverse_decoding_loss,
    inverse_encoding_loss,
    latent_diversity_penalty,
    latent_norm_penalty,
    latent_spectrum_error,
    positivity_penalty,
)
from torch import Tensor

from upt_inverse.config_loss import LossConfig
from upt_inverse.geometry import FieldMap, Geometry
from upt_inverse.states import TIME, States
from upt_inverse.step import Fields, Known, TrainingStep

Term = Callable[[TrainingStep], Tensor]


class Terms:
    """Each term as a function of a step.

    Args:
        loss: The loss section.
        geometry: Grid of the data.
        fields: Channels by field.
        normaliser: Back to the data's units.
        num_steps: Index of a trajectory's last frame.
    """

    def __init__(
        self,
        loss: LossConfig,
        *,
        geometry: Geometry,
        fields: FieldMap,
        normaliser: Normaliser,
        num_steps: int,
    ) -> None:
        self._loss, self._geometry, self._fields = loss, geometry, fields
        self._normaliser, self._num_steps = normaliser, num_steps

    def compute(self, step: TrainingStep, active: frozenset[str]) -> dict[str, Tensor]:
        """The active terms of a step, scalars."""
        return {name: self._by_name[name](step) for name in self._by_name if name in active}

    @property
    def _by_name(self) -> Mapping[str, Term]:
        return {
            "L_forward": self._forward,
            "L_inv_enc": self._inverse_encoding,
            "L_inv_dec": self._inverse_decoding,
            "L_rollout": self._rollout,
            "L_forward_latent": self._forward_latent,
            "L_spec": self._spectrum,
            "L_latent_norm": lambda step: latent_norm_penalty(step.latent),
            "L_latent_diversity": lambda step: latent_diversity_penalty(step.latent),
            "L_divergence": self._divergence,
            "L_conservation": self._conservation,
            "L_boundary": self._boundary,
            "L_positivity": self._positivity,
        }

    def _forward(self, step: TrainingStep) -> Tensor:
        return _field_error(step.predicted.some, step.next_latent, step.states, 1, step.queries)

    def _inverse_encoding(self, step: TrainingStep) -> Tensor:
        condition = step.states.condition(-1)
        if self._loss.detach_latent:  # a decode of its own: that of other terms has a gradient
            known = step.decode(
                step.query_positions,
                step.latent.detach(),
                condition=condition,
                chunk_size=self._loss.chunk_size,
            )
        else:
            known = step.decoded.some
        return _field_error(known, step.latent, step.states, 0, step.queries, self._not_first(step))

    def _inverse_decoding(self, step: TrainingStep) -> Tensor:
        if self._loss.preset == "seed":
            return self._returned(step, ahead=0)
        return self._returned(step, ahead=1)

    def _returned(self, step: TrainingStep, *, ahead: int) -> Tensor:
        """A latent against what is encoded of its decode."""
        states = step.states
        latent, readout = (
            (step.next_latent, step.predicted) if ahead else (step.latent, step.decoded)
        )
        is_truth = self._loss.reencode == "truth"
        return inverse_decoding_loss(
            latent,
            Known({}),
            step.encode,
            states.positions,
            decoded=states.at(ahead) if is_truth else readout.all,
            history=states.before(ahead),
            encoder_condition=states.condition(ahead),
            detach_target=ahead == 0,
            detach_decoded=self._loss.reencode == "detached",
            mask=self._not_last(step) if ahead else self._not_first(step),
        )

    def _not_first(self, step: TrainingStep) -> Tensor | None:
        """Samples whose present was stepped to: the first state has no condition to decode with."""
        return step.states.index(0) > 0 if TIME in step.states.names else None

    def _not_last(self, step: TrainingStep) -> Tensor | None:
        """Samples whose next state is stepped from: the last has no condition to encode with."""
        if TIME not in step.states.names:
            return None
        return step.states.index(1) < self._num_steps

    def _rollout(self, step: TrainingStep) -> Tensor:
        """Mean over the states 2 to K of a latent unroll, each at points of its own, decoded at once."""
        aheads = range(2, self._loss.rollout_horizon + 1)
        conditions = [step.states.condition(ahead - 1) for ahead in aheads]
        latents = [step.next_latent]
        for condition in conditions:
            latents.append(step.model.step(latents[-1], condition=condition))
        samples = [self._rollout_sample(step, ahead) for ahead in aheads]
        fields = step.decode(
            torch.cat([_positions_of(step.everywhere, sample) for sample in samples]),
            torch.cat(latents[1:]),
            condition=_joined(conditions),
            chunk_size=self._loss.chunk_size,
        )
        parts = {name: values.chunk(len(aheads)) for name, values in fields.items()}
        errors = [
            _field_error(
                {name: part[i] for name, part in parts.items()},
                latents[i + 1],
                step.everywhere,
                ahead,
                samples[i],
            )
            for i, ahead in enumerate(aheads)
        ]
        return torch.stack(errors).mean()

    def _rollout_sample(self, step: TrainingStep, ahead: int) -> QuerySample | None:
        """Where a state of the unroll is compared; None: everywhere."""
        count = max(1, round(self._loss.rollout_queries * self._geometry.num_points))
        return step.points(ahead, count=count) if count < self._geometry.num_points else None

    def _forward_latent(self, step: TrainingStep) -> Tensor:
        target = step.target_latent
        return torch.nn.functional.mse_loss(step.next_latent.to(target.dtype), target)

    def _spectrum(self, step: TrainingStep) -> Tensor:
        return latent_spectrum_error(step.next_latent, step.target_latent)

    # ---- physics, in the data's units ----

    def _physical(self, fields: Fields) -> Fields:
        joined = self._fields.join(fields)
        return self._fields.split(self._normaliser.denormalise(joined, channel_dim=-1))

    def _divergence(self, step: TrainingStep) -> Tensor:
        name = self._loss.divergence_field
        assert name is not None
        return divergence_penalty(
            self._physical(step.predicted_grid)[name],
            grid_shape=self._geometry.shape,
            spacing=self._geometry.spacing,
            periodic=self._geometry.periodic,
        )

    def _conservation(self, step: TrainingStep) -> Tensor:
        now, then = (self._physical(fields) for fields in step.judged)
        scale = self._loss.conservation_scale
        return _mean(conservation_penalty(then[name], now[name], scale=scale) for name in now)

    def _boundary(self, step: TrainingStep) -> Tensor:
        sides: Any = [
            (axis, end)
            for axis, periodic in enumerate(self._geometry.periodic)
            for end in ("low", "high")
            if not periodic
        ]
        options = {"grid_shape": self._geometry.shape, "value": self._loss.boundary_value}
        fields = self._physical(step.predicted_grid)
        return _mean(boundary_penalty(f, sides=sides, **options) for f in fields.values())

    def _positivity(self, step: TrainingStep) -> Tensor:
        least, fields = self._loss.positivity_minimum, self._physical(step.judged[1])
        return _mean(positivity_penalty(field, minimum=least) for field in fields.values())


def _field_error(
    pred: Fields,
    latent: Tensor,
    states: States,
    ahead: int,
    sample: QuerySample | None,
    mask: Tensor | None = None,
) -> Tensor:
    """Mean over fields of the mean squared error over all points: the inverse encoding loss of any state.

    Of a sample, each point counts with the inverse of its chance to be drawn (Horvitz and Thompson).
    """
    truth, where = states.at(ahead), states.positions
    return inverse_encoding_loss(truth, latent, Known(pred), where, sample=sample, mask=mask)


def _positions_of(states: States, sample: QuerySample | None) -> Tensor:
    """`[B, Q, d]`."""
    if sample is None:
        return states.positions.expand(states.values.shape[0], -1, -1)
    return sample.gather(states.positions)


def _joined(conditions: list[Tensor | None]) -> Tensor | None:
    """Conditions of several states below each other; a model has one for each, or for none."""
    known = [condition for condition in conditions if condition is not None]
    return torch.cat(known) if known else None


def _mean(values: object) -> Tensor:
    return torch.stack(list(values)).mean()  # type: ignore[call-overload]
