"""What the engine trains and validates: windows of trajectories, in units of training."""

from collections.abc import Mapping
from dataclasses import dataclass

from nops_data import Normaliser
from nops_diagnostics import nrmse
from nops_losses import inverse_decoding_loss
from nops_train import join_world
from torch import Tensor

from upt_inverse.config_loss import LossConfig
from upt_inverse.forecast import Forecaster
from upt_inverse.states import States
from upt_inverse.step import Draws, TrainingStep
from upt_inverse.terms import Terms

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class UptTask:
    """Terms of single steps and short unrolls; metrics of decoded rollouts of whole trajectories.

    Batches hold normalised `frames` [B, T, C, *grid], `start` [B] and `parameters` [B, P].

    Attributes:
        forecaster: Model and geometry.
        terms: By name.
        loss: The loss section.
        normaliser: Back to the data's units.
        seed: Of the draws.
        judged: Places of the channels that metrics are of.
    """

    forecaster: Forecaster
    terms: Terms
    loss: LossConfig
    normaliser: Normaliser
    seed: int
    judged: tuple[int, ...]

    def losses(
        self, batch: Batch, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """The active terms; what only others need is not computed."""
        del epoch
        states = self.states(batch)
        draws = Draws(
            seed=self.seed, rank=join_world().rank, step=step, device=states.values.device
        )
        training = TrainingStep(
            self.forecaster.model,
            states,
            self.loss,
            geometry=self.forecaster.geometry,
            draws=draws,
            active=active,
        )
        return self.terms.compute(training, active)

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """NRMSE of free latent rollouts, of single steps and of reconstructions, each [B].

        Also `inv_dec_relative`: the squared distance of a predicted latent from what is encoded of
        its decode, over its mean square.
        """
        states = self.states(batch)
        steps = states.values.shape[1] - states.history
        target = states.values[:, states.history :]
        found = {
            "rollout_nrmse": self.forecaster.rollout(states, steps=steps),
            "one_step_nrmse": self.forecaster.single_steps(states),
            "reconstruction_nrmse": self.forecaster.reconstructions(states),
        }
        errors = {name: self._nrmse(pred, target) for name, pred in found.items()}
        return {**errors, "inv_dec_relative": self._relative_return(states)}

    def states(self, batch: Batch) -> States:
        """A batch at every point."""
        return self.forecaster.states(batch["frames"], batch["start"], batch["parameters"])

    def _nrmse(self, pred: Tensor, target: Tensor) -> Tensor:
        """In the data's units, mean over times and channels [B]."""
        back = self.normaliser.denormalise
        fields = [
            back(values.float(), channel_dim=-1)[..., self.judged].transpose(-2, -1)
            for values in (pred, target)
        ]
        return nrmse(*fields, spatial_dims=1, reduction="none").mean((1, 2))

    def _relative_return(self, states: States) -> Tensor:
        model, condition = self.forecaster.model, states.condition(0)
        latent = model.step(self.forecaster.encode(states, 0), condition=condition)
        distance = inverse_decoding_loss(
            latent,
            lambda where, code: model.decode(where, code, condition=condition),
            lambda fields, where, condition=None: model.encode(
                fields, where, condition=condition, supernodes=self.forecaster.supernodes(states)
            ),
            states.positions,
            history=states.before(1),
            encoder_condition=states.condition(1),
        )
        return distance / latent.square().mean()
