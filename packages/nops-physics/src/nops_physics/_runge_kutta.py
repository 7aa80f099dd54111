"""The classical Runge-Kutta step of order 4, plain and with an integrating factor.

An `increment` is the rate of change times the step. Every factor `alpha` of a stage is a power of
2, hence exact.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def runge_kutta_4(state: Tensor, increment: Callable[[Tensor], Tensor]) -> Tensor:
    """One step of an autonomous equation."""
    return runge_kutta_4_in_time(state, lambda stage, _: increment(stage))


def runge_kutta_4_in_time(state: Tensor, increment: Callable[[Tensor, float], Tensor]) -> Tensor:
    """One step; `increment` takes a stage and how much of the step is over there: 0, 1/2 or 1."""
    k1 = increment(state, 0.0)
    k2 = increment(torch.add(state, k1, alpha=0.5), 0.5)
    k3 = increment(torch.add(state, k2, alpha=0.5), 0.5)
    k4 = increment(state + k3, 1.0)
    return state + torch.add(k1 + k4, k2 + k3, alpha=2.0) / 6


def damped_runge_kutta_4(
    modes: Tensor, *, half: Tensor, first: Tensor, increment: Callable[[Tensor], Tensor]
) -> Tensor:
    """One step of modes that also decay, the decay without error.

    Args:
        modes: The state.
        half: What half a step of decay multiplies the modes with, of their type.
        first: The increment at `modes`, which a caller may have made from what it had at hand.
        increment: The increment without the decay, for the further stages.
    """
    damped = half * modes
    first = half * first
    second = increment(torch.add(damped, first, alpha=0.5))
    third = increment(torch.add(damped, second, alpha=0.5))
    fourth = increment(half * (damped + third))
    middle = torch.add(first, second + third, alpha=2.0)
    return torch.add(half * torch.add(damped, middle, alpha=1 / 6), fourth, alpha=1 / 6)
