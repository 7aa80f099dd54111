"""What the engine asks of a weighting that looks at gradients, beside its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nops_train._engine_batch import num_samples
from nops_train._errors import InputError
from nops_train._precision import Precision
from nops_train._world import World


def balance(
    owner: Any,
    losses: Mapping[str, Tensor],
    params: Sequence[Tensor],
    *,
    chunk: Any,
    precision: Precision,
    world: World,
    epoch: int,
    step: int,
) -> None:
    """Let a weighting measure the terms of a step's first micro-batch; one without `balance` does nothing.

    Under fp16 small gradients survive; one that takes those of residuals, which are not small, sees them
    as they come. Where several ranks make the step, it gets this rank's parts of the means over all of their first
    micro-batches, and what sums a tensor over the ranks.

    Args:
        owner: The weighting in charge.
        losses: Raw terms of `chunk`, means over its samples.
        params: What is trained.
        chunk: This rank's first micro-batch.
        precision: Of the step.
        world: The ranks.
        epoch: 0-based.
        step: 0-based.
    """
    if not hasattr(owner, "balance"):
        return
    options: dict[str, Any] = {"epoch": epoch, "step": step}
    if world.active:
        own = num_samples(chunk)
        part = own / int(world.sum(torch.tensor(own)))
        losses = {name: part * value for name, value in losses.items()}
        options["reduce"] = world.sum
    if hasattr(owner, "note_residuals"):
        owner.balance(losses, params, **options)
        return
    with precision.measurable(losses, params) as measured:
        owner.balance(measured, params, **options)


def share(weighting: Any, world: World) -> bool:
    """Tell a weighting that sums over ranks how; whether it does, and the ranks have to keep in step."""
    if not world.active or not hasattr(weighting, "share"):
        return False
    weighting.share(world.sum)
    return True


def check_scale(owner: Any, precision: Precision) -> None:
    """Refuse fp16 with a weighting whose gradients do not grow with the loss.

    Raises:
        InputError: With its class.
    """
    if precision.scaler.is_enabled() and not getattr(owner, "homogeneous", True):
        raise InputError(
            f"train.precision: {type(owner).__name__} divides gradients by their own size, so the loss scale "
            "of fp16 does not pass through it; choose bf16 or fp32"
        )
