"""What the engine trains and validates: rollouts of a few steps, in units of training."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from nops_models import StepModel
from nops_schedules import fade_in, grown_length
from torch import Tensor

from turbulence.gradients import GradientNorms
from turbulence.terms import Function, per_sample

Batch = Mapping[str, Tensor]
FADED = ("predFieldError", "predLSIM")


@dataclass(frozen=True, kw_only=True)
class FlowTask:
    """Terms and metrics of rollouts of all frames of a batch but those that the model starts from.

    Batches hold normalised `frames` [B, n + steps, C, H, W], n being the model's `previous_frames`,
    and `parameters` [B, P].

    Attributes:
        model: One step of the flow.
        terms: By name, from `make_terms`.
        metrics_of: By name, from `make_metrics`; a function that has several names, or is a term
            too, is computed once.
        val_weights: Weights at the end of training, of the metric `val_loss`: so the schedule does
            not move it.
        fade: Epochs over which the frames after the first predicted one fade in.
        growth: Epochs over which training rollouts grow from one step to all of a batch.
        grows_linearly: Whether by one step at a time, else their frames double.
        gradients: Measures gradients at the prediction, as further metrics; None where none are asked for.
        noise: Deviation of the noise on the frames that a rollout starts from, in training.
    """

    model: StepModel
    terms: Mapping[str, Function]
    metrics_of: Mapping[str, Function]
    val_weights: Mapping[str, float]
    fade: tuple[float, float] = (-1, 0)
    growth: tuple[int, int] = (-1, 0)
    grows_linearly: bool = False
    gradients: GradientNorms | None = None
    noise: float = 0.0

    def losses(
        self, batch: Batch, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """The active terms, each the mean over samples, frames and channels."""
        start = self._start(batch)
        if self.noise:
            start = start + self.noise * torch.randn_like(start)
        pred, target = self._rollout(batch, start, steps=self._steps(batch, epoch))
        factor = fade_in(epoch, self.fade)
        return {
            name: faded(self.terms[name](pred, target), factor if name in FADED else 1.0).mean()
            for name in sorted(active)
        }

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        """Every metric [B], and `val_loss`, the total at the weights of the end."""
        pred, target = self._rollout(batch, self._start(batch))
        weights = {name: weight for name, weight in self.val_weights.items() if weight > 0}
        wanted = (*self.metrics_of.values(), *(self.terms[name] for name in weights))
        values = {f: per_sample(f(pred, target)) for f in dict.fromkeys(wanted)}
        found = {name: values[function] for name, function in self.metrics_of.items()}
        if self.gradients is not None:
            found |= self.gradients(pred, target)
        total = torch.zeros_like(found["field_error"])
        for name, weight in weights.items():
            total = total + weight * values[self.terms[name]]
        return {**found, "val_loss": total}

    def _start(self, batch: Batch) -> Tensor:
        return self.model.state_of(batch["frames"][:, : self.model.config.previous_frames])

    def _steps(self, batch: Batch, epoch: int) -> int:
        """Steps of a training rollout: a sequence is its last given frame and the predicted ones."""
        longest = batch["frames"].shape[1] - self.model.config.previous_frames + 1
        linear = self.grows_linearly
        return grown_length(epoch, self.growth, longest=longest, linear=linear) - 1

    def _rollout(
        self, batch: Batch, start: Tensor, steps: int | None = None
    ) -> tuple[Tensor, Tensor]:
        target = batch["frames"][:, self.model.config.previous_frames :][:, :steps]
        parameters = batch["parameters"]
        given = parameters if parameters.shape[1] else None
        return self.model.rollout(start, given, num_steps=target.shape[1]), target


def faded(values: Tensor, factor: float) -> Tensor:
    """Values `[sample, time, ...]` with those after the first time multiplied by a factor."""
    if factor == 1.0 or values.ndim < 2:
        return values
    return torch.cat([values[:, :1], factor * values[:, 1:]], dim=1)
