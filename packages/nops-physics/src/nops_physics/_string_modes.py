"""Modes of a damped string whose ends are held: what the wave equation does to a sine."""

import torch
from torch import Tensor

NEAR = 1e-4  # below this angle sin(a)/a comes from its series, to rounding
NOTHING = 1e-300  # squared size that counts as 0, where a root has no slope


def mode_response(squared: Tensor, damping: float | Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions of q'' + damping q' + squared q = 0 that start from (1, 0) and from (0, 1).

    Of either kind, swinging or creeping. q' of the first is -squared times the second, q' of the
    second is the first less damping times the second.

    Args:
        squared: Squared frequency of the undamped mode, float64.
        damping: Rate, at least 0.
        t: Times from 0 on, float64; all broadcast.

    Returns:
        The first and the second solution at each time, float64, differentiable in all arguments.
    """
    excess = squared - damping**2 / 4
    near = excess.abs().sqrt().detach() * t < NEAR
    # each branch is given numbers that it can take, so that no gradient of the other is NaN
    root = torch.where(near, 1.0, excess).abs().sqrt()
    creeping = (excess < 0) & ~near
    fall = torch.exp(-damping / 2 * t)
    slow = torch.exp(torch.where(creeping, (root - damping / 2) * t, 0.0))
    fast = torch.expm1(torch.where(creeping, -2 * root * t, 0.0))  # of the slow one, less 1
    swung = fall * torch.cos(root * t), fall * torch.sin(root * t) / root
    crept = slow * (1 + fast / 2), -slow * fast / (2 * root)
    turned = excess * t.square()
    series = fall * (1 - turned / 2), fall * t * (1 - turned / 6)
    cosine, second = (
        torch.where(near, c, torch.where(creeping, b, a))
        for a, b, c in zip(swung, crept, series, strict=True)
    )
    return cosine + damping / 2 * second, second


def hold_modes(after: Tensor, before: Tensor, *, work: Tensor, squared: Tensor) -> Tensor:
    """Modes (u, v) after a step, scaled back where they are larger than before it and `work` together.

    The size of a mode is sqrt(v^2 + squared u^2), the root of twice its energy per mass.

    Args:
        after: `[2, *batch, mode]`, float64.
        before: The same before the step.
        work: What the push can add to the size, at least 0, `[*batch, mode]`.
        squared: Squared frequency of each mode, `[mode]`.
    """

    def size(modes: Tensor) -> Tensor:
        return (modes[1].square() + squared * modes[0].square()).clamp(min=NOTHING).sqrt()

    most, found = size(before) + work, size(after)
    return after * torch.where(found > most, most / found, torch.ones_like(found))


def standing_wave(
    x: Tensor, t: float | Tensor, *, wave: float, squared: float, damping: float
) -> tuple[Tensor, Tensor]:
    """The free motion from rest and sin(wave x): it and its rate of change, float64.

    `x` and `t` broadcast; `squared` is the squared frequency.
    """
    time = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    frequency = torch.full((), squared, dtype=torch.float64, device=x.device)
    first, second = mode_response(frequency, damping, time)
    shape = torch.sin(wave * x.double())
    return first * shape, -squared * second * shape
