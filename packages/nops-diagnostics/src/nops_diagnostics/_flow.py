"""Energy, enstrophy and divergence of velocity fields, and how far a rollout drifts in them."""

import math
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import as_double, check_axes, check_pair


class FlowQuantities(NamedTuple):
    """What a velocity field holds, each `[*leading]` in float64.

    Attributes:
        energy: Half the mean square of the velocity, its unit squared.
        enstrophy: Half the mean square of the vorticity, per time unit squared.
        divergence: Root mean square of the divergence, per time unit.
    """

    energy: Tensor
    enstrophy: Tensor
    divergence: Tensor


class FlowDrift(NamedTuple):
    """Where a rollout stands against the truth, each `[*leading]`, dimensionless, float64.

    Attributes:
        energy: Energy over the truth's, less 1.
        enstrophy: Enstrophy over the truth's, less 1.
        divergence: Root mean square divergence over the root mean square vorticity of the truth.
    """

    energy: Tensor
    enstrophy: Tensor
    divergence: Tensor


def flow_quantities(
    velocity: Float[Tensor, "*shape"],
    *,
    lengths: tuple[float, ...] | None = None,
    spatial_dims: int = 2,
) -> FlowQuantities:
    """Energy, enstrophy and divergence per frame of a velocity on a periodic grid.

    Derivatives are taken of the trigonometric interpolant; on an axis with an even number of cells
    the highest wave has none.

    Args:
        velocity: `[*leading, channel, *space]`; channel i is the component along axis i of space.
        lengths: Physical extent of each axis of space; 2 pi each if None.
        spatial_dims: Number of trailing axes that are space, 2 or 3.

    Returns:
        One value per frame and quantity, `[*leading]`.

    Raises:
        ValueError: If there are not as many channels as axes of space, 2 or 3, or `lengths` are not
            one positive number for each.
    """
    check_axes("velocity", velocity, spatial_dims=spatial_dims)
    channels = velocity.shape[-spatial_dims - 1]
    if spatial_dims not in (2, 3) or channels != spatial_dims:
        raise ValueError(
            f"velocity has shape {tuple(velocity.shape)}: a flow in 2 or 3 dimensions has one "
            f"channel for each; found {channels} channels and spatial_dims={spatial_dims}."
        )
    sizes = tuple(velocity.shape[-spatial_dims:])
    axes = tuple(range(-spatial_dims, 0))
    waves = torch.fft.rfftn(as_double(velocity).contiguous(), dim=axes, norm="forward")
    u = waves.unbind(-spatial_dims - 1)
    k = _wave_numbers(sizes, lengths or (2 * math.pi,) * spatial_dims, device=velocity.device)
    pairs = combinations(range(spatial_dims), 2)
    vorticity = [k[i] * u[j] - k[j] * u[i] for i, j in pairs]
    divergence = sum(k[i] * u[i] for i in range(1, spatial_dims)) + k[0] * u[0]
    return FlowQuantities(
        energy=0.5 * _mean_square(u, sizes),
        enstrophy=0.5 * _mean_square(vorticity, sizes),
        divergence=_mean_square([divergence], sizes).sqrt(),
    )


def flow_drift(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    lengths: tuple[float, ...] | None = None,
    spatial_dims: int = 2,
) -> FlowDrift:
    """How far energy, enstrophy and divergence of a rollout are from the truth's, per frame.

    Args:
        pred: Velocities `[*leading, channel, *space]` in physical units: normalised channels have
            no divergence.
        target: True velocities, same shape and unit. Of a flow that conserves something, the
            initial state expanded to that shape shows the drift from it.
        lengths: Physical extent of each axis of space; 2 pi each if None.
        spatial_dims: Number of trailing axes that are space, 2 or 3.

    Returns:
        0 in energy and enstrophy where they are kept, and NaN or infinite where the truth has none;
        NaN where the prediction is not finite.

    Raises:
        ValueError: If the shapes differ, or as `flow_quantities`.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    p, t = (
        flow_quantities(velocity, lengths=lengths, spatial_dims=spatial_dims)
        for velocity in (pred, target)
    )
    return FlowDrift(
        energy=p.energy / t.energy - 1.0,
        enstrophy=p.enstrophy / t.enstrophy - 1.0,
        divergence=p.divergence / (2.0 * t.enstrophy).sqrt(),
    )


def _wave_numbers(
    sizes: tuple[int, ...], lengths: tuple[float, ...], *, device: torch.device
) -> list[Tensor]:
    """Radians per length along each axis of what rfftn stores, 0 for an axis' highest even wave."""
    if len(lengths) != len(sizes) or not all(0 < length < math.inf for length in lengths):
        raise ValueError(
            f"lengths needs one positive extent for each of {len(sizes)} axes, got {lengths}."
        )
    numbers = []
    for axis, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        last = axis == len(sizes) - 1
        frequencies = torch.fft.rfftfreq if last else torch.fft.fftfreq
        k = frequencies(size, d=length / (2 * math.pi * size), dtype=torch.float64, device=device)
        if size % 2 == 0:
            k[size // 2] = 0.0
        numbers.append(k.view(-1, *(1,) * (len(sizes) - 1 - axis)))
    return numbers


def _mean_square(waves: list[Tensor] | tuple[Tensor, ...], sizes: tuple[int, ...]) -> Tensor:
    """Mean over space of the squares, summed over components, by Parseval's identity."""
    size = sizes[-1]
    times = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64, device=waves[0].device)
    times[0] = 1.0
    if size % 2 == 0:
        times[-1] = 1.0
    power = torch.stack([torch.view_as_real(wave).square().sum(-1) for wave in waves]).sum(0)
    return (power * times).flatten(-len(sizes)).sum(-1)
