"""The exponential integral, and the light that a layer of absorbing matter takes from all sides."""

import math
from typing import Any

import torch
from torch import Tensor

from nops_physics._once import once

EULER_GAMMA = 0.57721566490153286
SWITCH, AT_SWITCH = (
    1.0,
    0.219383934395520274,
)  # the power series below, the continued fraction above
TERMS = {torch.float32: (10, 20), torch.float64: (20, 90)}  # series, fraction: to rounding at 1


def exponential_integral(x: Tensor) -> Tensor:
    """E1(x), the integral of exp(-t)/t from x to infinity, for x > 0; infinite at 0.

    float32 and float64, to a few roundings. Not differentiable: its derivative is -exp(-x)/x.

    Source:
        Abramowitz and Stegun, "Handbook of Mathematical Functions", 5.1.11; the continued fraction
        is the even part of 5.1.22.
    """
    series, depth = TERMS[x.dtype]
    # one of both is E1(SWITCH); choosing between them takes longer than this product
    return _series(x, series) * _fraction(x, depth) / AT_SWITCH


def _series(x: Tensor, terms: int) -> Tensor:
    """-gamma - ln x - sum of (-x)^n / (n n!), by Horner."""
    small = x.clamp(max=SWITCH)
    total = torch.zeros_like(small)
    for n in range(terms, 0, -1):
        total = total.add_((-1.0) ** (n + 1) / (n * math.factorial(n))).mul_(small)
    return total - torch.log(small) - EULER_GAMMA


def _fraction(x: Tensor, depth: int) -> Tensor:
    """exp(-x) / (x + 1 - 1/(x + 3 - 4/(x + 5 - ...))), from the inside out."""
    large = x.clamp(min=SWITCH)
    tail = large + (2 * depth + 1)
    for n in range(depth, 0, -1):
        tail = (large + (2 * n - 1)).sub_(tail.reciprocal_(), alpha=n * n)
    return torch.exp(-large) / tail


def absorbed_with_slope(k: Tensor) -> tuple[Tensor, Tensor]:
    """`absorbed_share` and its slope, without a graph of its own."""
    decay = torch.exp(-k)
    rest = k * exponential_integral(k.clamp(min=torch.finfo(k.dtype).tiny))
    slope = decay - rest
    return k * slope - torch.expm1(-k), 2 * slope


class _Absorbed(torch.autograd.Function):
    """1 - tau(k) with its slope 2 exp(-k) - 2 k E1(k), finite at 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(k: Tensor) -> tuple[Tensor, Tensor]:
        return absorbed_with_slope(k)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], *inputs)
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx, *grads: Any) -> Tensor:
        slope, k = ctx.saved_tensors
        return once(grads[0] * slope, grads[0], k)

    @staticmethod
    def jvp(ctx, *grad_inputs: Tensor) -> tuple[Tensor, None]:
        slope = ctx.saved_tensors[0]
        return grad_inputs[0] * slope, None


def absorbed_share(k: Tensor) -> Tensor:
    """Share of isotropic light that a layer of optical depth k absorbs: 1 - tau(k).

    tau(k) = (1 - k) exp(-k) + k^2 E1(k) is the share let through. Exactly 0 at k = 0, with the
    slope 2 there; differentiable once.

    Source:
        Allen et al., "Interaction of isotropic light with a compact plant leaf", JOSA 59 (1969).
    """
    return _Absorbed.apply(k)[0]
