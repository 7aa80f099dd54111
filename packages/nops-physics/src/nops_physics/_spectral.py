"""Wavenumbers of periodic grids and the one sampler of random fields with a given spectrum.

Spectra are in the layout of `torch.fft.rfftn`: the last axis holds the non-negative half.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nops_physics._transforms import grid_of, modes_of

TIE_GUARD = 1e-9  # half-integer radii occur with unequal lengths; rounding must not decide them


def grid_dims(shape: Sequence[int]) -> tuple[int, ...]:
    """The trailing axes that a grid of this shape takes, as negative numbers."""
    return tuple(range(-len(shape), 0))


def domain_lengths(shape: Sequence[int], lengths: Sequence[float] | None) -> tuple[float, ...]:
    """The domain's length per axis; None is the unit square, cube, and so on."""
    if lengths is None:
        return (1.0,) * len(shape)
    if len(lengths) != len(shape) or not all(0 < length < math.inf for length in lengths):
        raise ValueError(
            f"lengths needs a positive number per grid axis, got {tuple(lengths)} "
            f"for a grid of shape {tuple(shape)}"
        )
    return tuple(float(length) for length in lengths)


def check_shape(shape: Sequence[int], *, smallest: int = 1) -> tuple[int, ...]:
    """The grid's shape as a tuple, if every side has at least `smallest` cells."""
    if not shape or any(side < smallest for side in shape):
        raise ValueError(
            f"shape needs at least {smallest} cells per axis, got {tuple(shape)}; "
            f"the smallest grid is {(smallest,) * max(len(shape), 1)}"
        )
    return tuple(shape)


def corners(shape: Sequence[int], lengths: Sequence[float]) -> Tensor:
    """First corners of the cells [point, axis], last axis fastest, in the unit of length, float64."""
    sides = zip(shape, lengths, strict=True)
    axes = [torch.arange(side, dtype=torch.float64) * (length / side) for side, length in sides]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def cycles(shape: Sequence[int], lengths: Sequence[float]) -> list[Tensor]:
    """Wavenumber along each axis in cycles per unit length, float64, shaped to broadcast."""
    per_axis = []
    for axis, (side, length) in enumerate(zip(shape, lengths, strict=True)):
        last = axis == len(shape) - 1
        frequency = torch.fft.rfftfreq if last else torch.fft.fftfreq
        values = frequency(side, d=length / side, dtype=torch.float64)
        per_axis.append(values.view(-1, *[1] * (len(shape) - 1 - axis)))
    return per_axis


def cosine_modes(side: int, *, device: torch.device | None = None) -> Tensor:
    """Orthonormal cosines of no flux at both ends, one a row, at the centres of cells, float64."""
    mode = torch.arange(side, device=device)
    turns = mode[:, None] * (2 * mode + 1) % (4 * side)  # whole numbers, so that no digit is lost
    cosines = torch.cos(turns.double() * (math.pi / (2 * side))) * math.sqrt(2 / side)
    cosines[0] = math.sqrt(1 / side)
    return cosines


def squared_cycles(shape: Sequence[int], lengths: Sequence[float]) -> Tensor:
    """|k|^2 per mode, k in cycles per unit length, float64."""
    total = torch.zeros((), dtype=torch.float64)
    for values in cycles(shape, lengths):
        total = total + values.square()
    return total


def mode_weights(shape: Sequence[int]) -> Tensor:
    """How often a stored mode occurs in the full spectrum: 2, but 1 on self-conjugate planes.

    Those are the last axis' zero and, for an even side, its Nyquist wavenumber.
    """
    weights = torch.full((shape[-1] // 2 + 1,), 2.0, dtype=torch.float64)
    weights[0] = 1.0
    if shape[-1] % 2 == 0:
        weights[-1] = 1.0
    return weights


def shell_numbers(shape: Sequence[int], lengths: Sequence[float]) -> Tensor:
    """Shell of each mode: j holds j - 1/2 <= |k|/dk < j + 1/2, dk = 2 pi over the shortest length.

    A mode on the border of two shells belongs to the upper one, on every machine.
    """
    radius = squared_cycles(shape, lengths).sqrt() * min(lengths)
    return torch.floor(radius + 0.5 + TIE_GUARD).long()


def inside_nyquist(shape: Sequence[int]) -> Tensor:
    """Whether each mode is off the Nyquist wavenumber of every even side: it has derivatives."""
    inside = torch.ones((), dtype=torch.bool)
    for side, values in zip(shape, cycles(shape, shape), strict=True):
        inside = inside & (2 * values.abs() * side < side - 0.5)
    return inside


def random_modes(channels: int, *, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Independent complex normal modes of a real field, E|z|^2 = 1 each: [channel, *modes].

    They are the transform of white noise on the grid, so the Hermitian symmetry of a real field
    holds exactly, self-conjugate modes included.
    """
    noise = torch.randn(channels, *shape, generator=generator, dtype=torch.float64)
    return modes_of(noise, num_dims=len(shape), norm="ortho")


def field_of_modes(modes: Tensor, amplitude: Tensor, *, shape: Sequence[int]) -> Tensor:
    """The real field with these modes times `amplitude`, whose square is the variance per mode.

    The ensemble variance at every point is the sum of amplitude^2 over the full spectrum.
    """
    return grid_of(modes * amplitude, shape=shape, norm="forward")
