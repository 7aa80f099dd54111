"""Before the first step: does every enabled loss term reach a parameter that is trained?"""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from nops_train._errors import InertTermError


def check_inert_terms(
    losses: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    *,
    enabled: Collection[str],
) -> dict[str, tuple[str, ...]]:
    """For each enabled term, the trained parameters that it moves.

    Gradients in `.grad` are left as they are, and the graph is kept.

    Args:
        losses: Loss terms by name, scalars with their graph.
        parameters: Trained parameters by name: those of the optimizer that require a gradient.
        enabled: Terms with a base weight above 0, those still at 0 by schedule included.

    Returns:
        Names of the parameters with a finite gradient that is not zero everywhere, by term.

    Raises:
        InertTermError: If an enabled term is missing or reaches no parameter, with its likely cause.
    """
    reached = {}
    for term in enabled:
        if term not in losses:
            raise InertTermError(not_computed(term, losses))
        reached[term] = reached_parameters(losses[term], parameters)
        if not reached[term]:
            raise InertTermError(unreached(term, _cause(losses[term], parameters)))
    return reached


def not_computed(term: str, returned: Iterable[str]) -> str:
    """What to say of an enabled term that is not among those `returned`."""
    return (
        f"{term} is enabled but was not computed: the task returned {sorted(returned)}. An input "
        f"of it is probably missing; give it, or set the weight of {term} to 0"
    )


def unreached(term: str, cause: str) -> str:
    """What to say of a term that moves nothing."""
    return (
        f"{term} reaches no trainable parameter: {cause}. "
        f"It would train nothing; mend that, or set the weight of {term} to 0"
    )


def reached_parameters(loss: Tensor, parameters: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Names of the parameters with a finite gradient of `loss` that is not zero everywhere."""
    gradients = _gradients(loss, parameters)
    return tuple(name for name, g in gradients.items() if g.isfinite().all() and g.any())


def _gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not loss.requires_grad or not parameters:
        return {}
    found = torch.autograd.grad(
        loss, list(parameters.values()), retain_graph=True, allow_unused=True
    )
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


def _cause(loss: Tensor, parameters: Mapping[str, Tensor]) -> str:
    if not loss.requires_grad:
        return (
            "it has no graph (its inputs are detached, its modules frozen, or gradients were off)"
        )
    gradients = _gradients(loss, parameters)
    if not gradients:
        return "its graph holds only modules that are not in the optimizer, or inputs"
    if all(g.isfinite().all() for g in gradients.values()):
        return f"its gradient is zero for all {len(gradients)} parameters in its graph"
    return "its gradient is not finite"
