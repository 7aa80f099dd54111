"""Which parts of the model each loss term trains: gradients, not intentions."""

from collections.abc import Mapping
from typing import Any

import torch
from nops_train import check_inert_terms
from torch import Tensor, nn

from upt_inverse.task import UptTask

GROUPS = {
    "encoder": "E",
    "approximator": "A",
    "decoder": "G",
    "conditioner": "conditioner",
}


def gradient_reach(
    task: UptTask, batch: Mapping[str, Tensor], terms: Mapping[str, float]
) -> dict[str, tuple[str, ...]]:
    """For each term, the groups of parameters with a finite gradient that is not zero everywhere.

    Args:
        task: Of the run; its model is left as it was.
        batch: A training batch on the model's device.
        terms: Base weights by name; all of these are computed, those still at 0 by schedule too.

    Returns:
        `E` (encoder), `A` (approximator), `G` (decoder) and `conditioner`, by term.

    Raises:
        InertTermError: If a term reaches nothing.
    """
    model = task.forecaster.model
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        losses = task.losses(batch, epoch=0, step=0, active=frozenset(terms))
        reached = check_inert_terms(losses, trained, enabled=list(terms))
    return {term: _groups(names) for term, names in reached.items()}


def _groups(names: tuple[str, ...]) -> tuple[str, ...]:
    found = {name.partition(".")[0] for name in names}
    return tuple(label for part, label in GROUPS.items() if part in found)


class WholeStep(nn.Module):
    """A training step as one module, whose memory can be foretold.

    Args:
        model: Counted as parameters.
        task: Its losses are the output.
        terms: Which of them.
    """

    def __init__(self, model: nn.Module, task: UptTask, terms: Mapping[str, float]) -> None:
        super().__init__()
        self.model, self._task, self._terms = model, task, frozenset(terms)

    def forward(self, frames: Tensor, start: Tensor, parameters: Tensor) -> Tensor:
        """The sum of the losses of a batch."""
        batch: dict[str, Any] = {"frames": frames, "start": start, "parameters": parameters}
        losses = self._task.losses(batch, epoch=0, step=0, active=self._terms)
        return torch.stack(list(losses.values())).sum()
