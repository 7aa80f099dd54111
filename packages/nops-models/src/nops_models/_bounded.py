"""Normal latents whose log-variance stays in a range."""

from typing import Any, Literal, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

LnvarBound = Literal["restoring", "hard"]
LNVAR_RANGE = (-9.0, 5.0)  # variances from 1.234e-4 to 148.4: beyond, exp() swamps a KL divergence


def bound_lnvar(lnvar: Tensor, bounds: tuple[float, float], mode: LnvarBound) -> Tensor:
    """clamp(l, low, high); "restoring" has outside the part of the gradient that leads back."""
    if mode == "hard":
        return lnvar.clamp(*bounds)
    bounded = _RestoringClamp.apply(lnvar, *bounds)
    assert isinstance(bounded, Tensor)
    return bounded


@no_type_check  # the compiler cannot trace checks of annotations inside of it
class _RestoringClamp(torch.autograd.Function):
    """As in nops_losses, which this package does not import."""

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


def draw_normal(
    mean: Float[Tensor, "*shape"],
    lnvar: Float[Tensor, "*shape"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """One draw m + e^(l/2)·ε of N(m, e^l), with l clamped to [−9, 5].

    Args:
        mean: Means m, any shape and unit.
        lnvar: Log-variances l, same shape.
        generator: Of ε, on the device of `mean`; None is torch's own.

    Returns:
        In the unit; gradients reach m and, within its range, l.

    Raises:
        ValueError: If the shapes differ.
    """
    if mean.shape != lnvar.shape:
        raise ValueError(
            f"mean and lnvar need one shape, got {tuple(mean.shape)} and {tuple(lnvar.shape)}."
        )
    return draw(mean, lnvar.clamp(*LNVAR_RANGE), generator)


def draw(mean: Tensor, lnvar: Tensor, generator: torch.Generator | None) -> Tensor:
    """One draw of N(m, e^l), l as it is."""
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return mean + (0.5 * lnvar).exp() * noise
