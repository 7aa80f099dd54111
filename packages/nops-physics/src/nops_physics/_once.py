"""A gradient that is computed with slopes made beforehand, and so has no gradient of its own."""

from typing import Any, NoReturn

import torch
from torch import Tensor


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx, *grads: Any) -> NoReturn:
        raise RuntimeError("these forward models are differentiable once, not twice")

    @staticmethod
    def jvp(ctx, *tangents: Any) -> NoReturn:
        raise RuntimeError("these forward models are differentiable once, not twice")


def once(gradient: Tensor, *inputs: Tensor) -> Tensor:
    """The gradient, from which none can be taken.

    `once_differentiable` alone refuses derivatives by the gradient that came in, but takes the
    gradient for a constant of the inputs.

    Args:
        gradient: Of a function.
        inputs: What that function was given.
    """
    return _Once.apply(gradient, *inputs) if torch.is_grad_enabled() else gradient
