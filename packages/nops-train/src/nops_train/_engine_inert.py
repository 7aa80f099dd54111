"""The start-up check on the first batch: no enabled term may train nothing."""

from typing import Any

import torch
from torch import Tensor

from nops_train._engine_batch import split_batch, to_device
from nops_train._engine_rng import preserved_rng, seed_generators
from nops_train._engine_shard import judge_in_parts
from nops_train._engine_step import Stepper
from nops_train._inert import check_inert_terms, reached_parameters
from nops_train._protocols import BatchSource

BATCHES = 3  # a batch with a non-finite loss tells nothing; after this many the step rule judges


def check_start(
    stepper: Stepper, source: BatchSource, *, device: torch.device, seed: int, accumulate: int
) -> str | None:
    """Run the inert-term check on the first batch with all terms active, and leave no trace.

    Generators, gradients, buffers, deferred updates and the order of the data are as before.

    Args:
        stepper: Its task, weighting and parameters are checked.
        source: Its first batches are read.
        device: Where the model computes.
        seed: Start of the draws in the check.
        accumulate: Micro-batches per step; the check computes on the first.

    Returns:
        A warning where no batch had a finite loss, so that nothing could be checked; else None.

    Raises:
        InertTermError: If an enabled term is missing or reaches no trained parameter.
    """
    with preserved_rng():
        seed_generators("check", seed, epoch=0)
        for number, batch in enumerate(source.batches(epoch=0, skip=0)):
            if number == BATCHES:
                break
            chunk = split_batch(to_device(batch, device), accumulate)[0]
            if _check(stepper, chunk):
                return None
    return (
        "the loss was not finite on the first batches; the terms could not be checked for inertness"
    )


def _check(stepper: Stepper, chunk: Any) -> bool:
    stepper.buffers.remember()
    stepper.offer_residuals(None)
    try:
        return _judge(stepper, chunk)
    finally:
        stepper.buffers.find_changing()
        stepper.discard()


def _judge(stepper: Stepper, chunk: Any) -> bool:
    if stepper.sharded:
        return judge_in_parts(stepper, chunk)
    terms = stepper.weighting.terms
    enabled = [name for name, weight in terms.items() if weight != 0]
    reached: set[str] = set()
    last: dict[str, Tensor] = {}
    # Small gradients vanish in fp16 without a loss scale: that is no inert term.
    autocast = stepper.precision.name != "fp16"
    active = frozenset(terms)
    for losses in stepper.windows(chunk, epoch=0, step=0, active=active, autocast=autocast):
        if not all(bool(value.isfinite()) for value in losses.values()):
            return False
        for name in losses.keys() - reached:
            last[name] = losses[name]
            if reached_parameters(losses[name], stepper.parameters):
                reached.add(name)
        if reached.issuperset(enabled):
            return True
    check_inert_terms(
        last, stepper.parameters, enabled=[name for name in enabled if name not in reached]
    )
    return True
