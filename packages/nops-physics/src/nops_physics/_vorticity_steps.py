"""Time steps and start states of the vorticity core, each sample by its own stability."""

import math

import torch
from torch import Tensor

from nops_physics._random_field import random_field
from nops_physics._vorticity import VorticityCore


def random_vorticity(
    core: VorticityCore,
    *,
    peak_wavenumber: float,
    rms_vorticity: float,
    generator: torch.Generator,
) -> Tensor:
    """One field [1, *grid] with energy (k/k_p)^4 exp(-2 (k/k_p)^2) per shell, k in periods.

    Without the modes that the 2/3 rule removes, and of exactly this root mean square.
    """
    drawn = random_field(
        lambda k: (k / peak_wavenumber) ** 6 * torch.exp(-2 * (k / peak_wavenumber) ** 2),
        shape=core.shape,
        amplitude="gaussian",
        generator=generator,
    )
    field = core.field(core.modes(drawn) * core.kept)
    return field * (rms_vorticity / field.square().mean((-2, -1), keepdim=True).sqrt())


def advance_stably(
    core: VorticityCore, modes: Tensor, *, damping: Tensor, forcing: Tensor | None, duration: float
) -> Tensor:
    """Modes [sample, *modes] after a time, in the fewest equal steps that keep each sample stable.

    A sample's steps depend on itself alone; those that need equally many go together. One that
    grows faster on the way is begun again with the step it needs; what overflows is returned as it
    is.

    Args:
        core: Of the grid.
        modes: Vorticity, of kept modes alone.
        damping: Rate per mode, [*modes] or [sample, *modes].
        forcing: As `VorticityCore.advance` takes it.
        duration: Time to cover.
    """
    stable = core.stable_step(core.speed(core.velocity(modes)))
    counts = [_num_steps(duration, float(step)) for step in stable]
    results: list[Tensor] = [modes[:0]] * len(modes)
    waiting = set(range(len(modes)))
    while waiting:
        num_steps = min(counts[sample] for sample in waiting)
        group = [sample for sample in sorted(waiting) if counts[sample] == num_steps]
        advanced, fastest = core.advance(
            modes[group],
            damping=damping[group] if damping.ndim == modes.ndim else damping,
            forcing=forcing,
            step=duration / num_steps,
            num_steps=num_steps,
        )
        needed = core.stable_step(fastest)
        for sample, result, stable_step in zip(group, advanced, needed.tolist(), strict=True):
            if duration / num_steps <= stable_step * (1 + 1e-9) or not stable_step > 0:
                results[sample] = result
                waiting.remove(sample)
            else:
                counts[sample] = max(num_steps + 1, _num_steps(duration, stable_step))
    return torch.stack(results)


def _num_steps(duration: float, stable: float) -> int:
    """1 where the state overflowed: there is no step for it."""
    return max(1, math.ceil(duration / stable * (1 - 1e-12))) if stable > 0 else 1
