"""The energy spectrum: how much of a field's mean square lies at which wavenumber."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_axes, to_working_dtype

TIE_GUARD = 1e-9  # half-integer radii occur with unequal lengths; rounding must not decide them
NUM_PLANS = 32


class Spectrum(NamedTuple):
    """Energy per shell of wavenumbers.

    Attributes:
        wavenumber: Centres of the shells [K], radians per length.
        energy: Energy of each shell [..., K], in the field's unit squared.
    """

    wavenumber: Tensor
    energy: Tensor


def energy_spectrum(
    field: Float[Tensor, "*axes"],
    *,
    lengths: Sequence[float] | None = None,
    spatial_dims: int = 2,
) -> Spectrum:
    """Energy per spherical shell of wavenumbers, summed over channels.

    With F = rfftn(u, norm="forward") and dk = maxᵢ 2π/Lᵢ, shell j holds the modes with
    j − ½ ≤ |k|/dk < j + ½, and E_j = Σ_shell ½ Σ_c |F_c|², conjugate modes counted. A mode on the
    border of two shells belongs to the upper one, on every machine. Hence Σ_j E_j = ½⟨|u|²⟩
    exactly: shell 0 is the mean, the corners of the wavenumber box are included. It is energy per
    shell; divide by dk for a density.

    Args:
        field: Periodic field u, axes (..., channel, *grid), any unit; any grid sizes.
        lengths: Physical extent of each grid axis, in the order of the axes; None is 2π each, for
            which wavenumbers are integers.
        spatial_dims: Number of grid axes at the end.

    Returns:
        `Spectrum(wavenumber [K], energy [..., K])`, float32 (float64 for float64 fields). It is
        differentiable, its gradient finite at a zero field. Half-precision fields are computed in
        float32.

    Raises:
        ValueError: If an axis is missing or empty, or `lengths` are not one positive number per
            grid axis.
        TypeError: If the field is not real floating point.

    Source:
        Pope, "Turbulent Flows" (2000), section 6.5; discrete shells as in arXiv 2309.01745.
    """
    check_axes(field, name="field", spatial_dims=spatial_dims)
    values = to_working_dtype(field, name="field")
    sizes = tuple(field.shape[-spatial_dims:])
    # A compiled graph holds the plan's own arithmetic; a cache lookup would break it.
    plan_of = _build_plan if torch.compiler.is_compiling() else _cached_plan
    plan = plan_of(sizes, _checked_lengths(lengths, sizes), values.device, values.dtype)
    with torch.autocast(values.device.type, enabled=False):
        axes = tuple(range(-spatial_dims, 0))
        # MKL refuses an expanded view (stride 0) in some releases of torch
        transform = torch.fft.rfftn(values.contiguous(), dim=axes, norm="forward")
        coefficients = torch.view_as_real(transform)
        power = coefficients.square().sum((-1, -spatial_dims - 2))
        power = power.flatten(-spatial_dims) * plan.weight
        shells = power.new_zeros(*power.shape[:-1], plan.wavenumber.numel())
        return Spectrum(plan.wavenumber.clone(), shells.index_add(-1, plan.shell, power))


class _Plan(NamedTuple):
    """What depends on grid and lengths alone, flat over the modes that rfftn stores."""

    shell: Tensor
    weight: Tensor
    wavenumber: Tensor


def _checked_lengths(lengths: Sequence[float] | None, sizes: tuple[int, ...]) -> tuple[float, ...]:
    if 0 in sizes:
        raise ValueError(f"every grid axis needs a cell, got a grid of {sizes}.")
    if lengths is None:
        return (2 * math.pi,) * len(sizes)
    if len(lengths) != len(sizes) or not all(0 < length < math.inf for length in lengths):
        raise ValueError(
            f"lengths needs one positive extent for each of the {len(sizes)} grid axes, "
            f"got {tuple(lengths)}."
        )
    return tuple(float(length) for length in lengths)


@lru_cache(maxsize=NUM_PLANS)
def _cached_plan(
    sizes: tuple[int, ...], lengths: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> _Plan:
    with torch.inference_mode(False):  # an inference tensor could not serve a later backward pass
        return _build_plan(sizes, lengths, device, dtype)


def _build_plan(
    sizes: tuple[int, ...], lengths: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> _Plan:
    shell = torch.floor(_radius(sizes, lengths) + 0.5 + TIE_GUARD).long()
    spacing = 2 * math.pi / min(lengths)
    wavenumber = spacing * torch.arange(_num_shells(sizes, lengths), dtype=torch.float64)
    weight = 0.5 * _multiplicity(sizes[-1]).expand(shell.shape)
    return _Plan(
        shell.flatten().to(device), weight.flatten().to(device, dtype), wavenumber.to(device, dtype)
    )


def _num_shells(sizes: tuple[int, ...], lengths: tuple[float, ...]) -> int:
    """One more than the shell of the corner mode, the farthest of all."""
    corner = [
        size // 2 * (min(lengths) / length) for size, length in zip(sizes, lengths, strict=True)
    ]
    return math.floor(math.hypot(*corner) + 0.5 + TIE_GUARD) + 1


def _radius(sizes: tuple[int, ...], lengths: tuple[float, ...]) -> Tensor:
    """|k|/dk of each mode that rfftn stores, in float64."""
    square = torch.zeros((), dtype=torch.float64)
    last = len(sizes) - 1
    for axis, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
        frequencies = torch.fft.rfftfreq if axis == last else torch.fft.fftfreq
        mode = frequencies(size, d=1 / size, dtype=torch.float64)
        scaled = mode * (min(lengths) / length)
        square = square + scaled.square().view(-1, *(1,) * (last - axis))
    return square.sqrt()


def _multiplicity(size: int) -> Tensor:
    """How many modes each stored column of a real transform of `size` points stands for."""
    columns = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)
    columns[0] = 1.0
    if size % 2 == 0:
        columns[-1] = 1.0
    return columns
