"""Modes of a damped string whose ends are held: what the wave equation does to a sine."""

import torch
from torch import Tensor

NEAR = 1e-4  # below this angle sin(a)/a comes from its series, to rounding
NOTHING = 1e-300  # squared size that counts as 0, where a root has no slope


def mode_response(squared: Tensor, damping: float, t: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions of q'' + damping q' + squared q = 0 that start from (1, 0) and from (0, 1).

    Of either kind, swinging or creeping. q' of the first is -squared times the second, q' of the
    second is the first less damping times the second.

    Args:
        squared: Squared frequency of the undamped mode, float64, no gradient.
        damping: Rate, at least 0.
        t: Times from 0 on, float64; both broadcast.

    Returns:
        The first and the second solution at each time, float64, differentiable in `t`.
    """
    root = torch.complex(squared - damping**2 / 4, torch.zeros_like(squared)).sqrt()
    forth = torch.exp(torch.complex(-root.imag - damping / 2, root.real) * t)
    back = torch.exp(torch.complex(root.imag - damping / 2, -root.real) * t)
    angle = root * t
    near = angle.abs() < NEAR
    apart = (forth - back) / (2j * torch.where(near, torch.ones_like(root), root))
    together = torch.exp(-damping / 2 * t) * t * (1 - angle.square() / 6)
    second = torch.where(near, together, apart).real
    return (forth + back).real / 2 + damping / 2 * second, second


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
