"""Log-variances kept in a range, with a gradient that leads back into it."""

import math
from typing import Any, Literal, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_choice

# Variances from 1.234e-4 to 148.4: beyond, exp() swamps a KL divergence, or nothing is drawn apart.
LOW, HIGH = -9.0, 5.0


def bound_log_variance(
    lnvar: Float[Tensor, "*axes"],
    *,
    low: float = LOW,
    high: float = HIGH,
    mode: Literal["restoring", "hard"] = "restoring",
) -> Float[Tensor, "*axes"]:
    """clamp(l, low, high), whose gradient outside the range is the part that leads back.

    A plain clamp has gradient 0 outside, so that nothing ever pulls back what has left the range.
    "restoring" passes the gradient g inside as it is, max(g, 0) above and min(g, 0) below: a descent
    step then moves l towards the range, or not at all.

    Args:
        lnvar: Log-variance l, any shape, dimensionless.
        low: Lower end of the range.
        high: Upper end, above `low`.
        mode: "restoring", or "hard" for the gradient of a plain clamp.

    Returns:
        The clamped values, shape and type of `lnvar`. Works under `torch.func.grad` and `vmap`.

    Raises:
        ValueError: If `low` is not below `high`, one is not finite, or `mode` is unknown.
    """
    check_choice("mode", mode, ("restoring", "hard"))
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"need finite low < high, got low={low}, high={high}.")
    if mode == "hard":
        return lnvar.clamp(low, high)
    return restoring_clamp(lnvar, low, high)


def restoring_clamp(values: Tensor, low: float, high: float) -> Tensor:
    """clamp(values, low, high) that passes outside only what a descent step leads back by."""
    bounded = _RestoringClamp.apply(values, low, high)
    assert isinstance(bounded, Tensor)
    return bounded


@no_type_check  # the compiler cannot trace checks of annotations inside of it
class _RestoringClamp(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, low: float, high: float) -> Tensor:
        return values.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        values, ctx.low, ctx.high = inputs
        ctx.save_for_backward(values)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (values,), (grad,) = ctx.saved_tensors, grads
        below = torch.where(values < ctx.low, grad.clamp(max=0), grad)
        return torch.where(values > ctx.high, grad.clamp(min=0), below), None, None
