"""The gradient norm of each weighted term apart, for the steps that are logged."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from nops_train._engine_rng import preserved_rng
from nops_train._world import World

if TYPE_CHECKING:
    from nops_train._engine_step import Stepper


class TermNorms:
    """Gathers the gradient of each weighted term over the micro-batches or windows of one step.

    Each term costs a backward pass of its own, with the graph kept, and memory for one gradient. The
    step itself is not touched: gradients in `.grad` are left alone, and buffers that a recomputed
    forward pass changes (activation checkpointing) are put back.

    Args:
        parameters: Trained parameters.
        model: Its buffers are guarded.
        scaler: Loss scale of fp16, so that small gradients survive.
    """

    def __init__(self, parameters: Sequence[Tensor], *, model: nn.Module, scaler: Any) -> None:
        self._parameters = list(parameters)
        self._buffers = list(model.buffers())
        self._scaler = scaler
        self._scale = scaler.get_scale()  # before the step moves it; 1 where it is off
        self._sums: dict[str, list[Tensor | None]] = {}

    @classmethod
    def of(cls, stepper: "Stepper") -> "TermNorms":
        """For the next step of a stepper."""
        parameters = list(stepper.parameters.values())
        return cls(parameters, model=stepper.model, scaler=stepper.precision.scaler)

    def add(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], share: float) -> None:
        """Take in the terms of one micro-batch or window, before its backward pass.

        Args:
            losses: Scalars with their graph.
            weights: Weight of each.
            share: Of the micro-batch in the step's batch.
        """
        kept = [buffer.detach().clone() for buffer in self._buffers]
        with preserved_rng():
            for name, loss in losses.items():
                if loss.requires_grad:
                    self._add(name, self._scaler.scale(loss * (weights[name] * share)))
        with torch.no_grad():
            for buffer, value in zip(self._buffers, kept, strict=True):
                if not torch.equal(buffer, value):  # the graph may hold the others
                    buffer.copy_(value)

    def _add(self, name: str, weighted: Tensor) -> None:
        found = torch.autograd.grad(
            weighted, self._parameters, retain_graph=True, allow_unused=True
        )
        sums = self._sums.setdefault(name, [None] * len(found))
        for i, gradient in enumerate(found):
            before = sums[i]
            if gradient is not None:
                sums[i] = gradient.detach() if before is None else before + gradient.detach()

    def norms(self, world: World) -> dict[str, float]:
        """2-norm over all trained parameters, by term, of all ranks' step, before clipping."""
        found = {}
        for name, gradients in self._sums.items():
            parts = [g for g in gradients if g is not None]
            if world.active:  # a parameter may be reached on another rank alone
                pairs = zip(gradients, self._parameters, strict=True)
                full = [torch.zeros_like(p) if g is None else g for g, p in pairs]
                parts = [world.sum(part.contiguous()) for part in full]
            found[name] = float(get_total_norm(parts)) / self._scale
        return found
