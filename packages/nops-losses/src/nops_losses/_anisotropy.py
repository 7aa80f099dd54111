"""Spectra by direction: one marginal per axis, and how far each shell prefers the first axis."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._spectrum_plan import (
    NUM_PLANS,
    TIE_GUARD,
    bin_sums,
    checked_lengths,
    may_cache,
    multiplicity,
    plan_for,
    signed_modes,
)
from nops_losses._transform import (
    Components,
    Detrend,
    Reading,
    Window,
    coefficients,
    mode_energy,
)


class AnisotropicSpectrum(NamedTuple):
    """Energy by direction.

    Attributes:
        wavenumbers: For each grid axis i its wavenumbers k_i ≥ 0 [K_i], radians per length.
        energies: For each grid axis the energy at each k_i [..., K_i], field's unit squared.
        ratio: Preference of each shell of `energy_spectrum` [..., K]: 1 where all its energy
            varies along the first axis alone, −1 along the second; 0 for an empty shell and for
            shell 0. None unless the grid has two axes.
        sectors: Energy in each angle bin [..., sectors], without the mean; None unless asked for.
    """

    wavenumbers: tuple[Tensor, ...]
    energies: tuple[Tensor, ...]
    ratio: Tensor | None
    sectors: Tensor | None


def anisotropic_spectrum(
    field: Float[Tensor, "*axes"],
    *,
    lengths: Sequence[float] | None = None,
    sectors: int = 0,
    components: Components = "sum",
    mask: Bool[Tensor, "..."] | None = None,
    window: Window = "none",
    detrend: Detrend = "none",
    spatial_dims: int = 2,
) -> AnisotropicSpectrum:
    """Energy at each wavenumber of each axis, the axes' preference per shell, and angle bins.

    The marginal of axis i is E(k_i) = Σ ½|F|² over all modes with ±k_i, so each marginal sums to
    ½⟨|u|²⟩. The ratio of a shell is Σ P (k₁² − k₂²)/|k|² / Σ P with P = |F|² and the shells of
    `energy_spectrum`; it is 0 for an isotropic field. Angles are those of k in [0, π).

    Args:
        field: Periodic field, axes (..., channel, *grid), any unit; any grid sizes.
        lengths: Physical extent of each grid axis, in the order of the axes; None is 2π each.
        sectors: Number of equal angle bins on [0, π), two dimensions only: bin m holds
            m π/n ≤ angle < (m + 1) π/n of (k₁, k₂). The Nyquist mode of an axis stands for
            both signs and is divided evenly between its two angles. 0 is no bins.
        components: "sum" adds the channels; "each" keeps the channel axis.
        mask: True where there is fluid; as in `energy_spectrum`.
        window: "none", "hann" or "tukey".
        detrend: "none" or "mean".
        spatial_dims: Number of grid axes at the end.

    Returns:
        `AnisotropicSpectrum`, float32 (float64 for float64 fields), differentiable, its gradient
        finite at a zero field. The ratio of a shell that holds rounding alone is arbitrary.

    Raises:
        ValueError: As `energy_spectrum`, or if `sectors` is negative or asked for in other than
            two dimensions.
        TypeError: If the field is not real floating point.

    Source:
        Directional spectra as in Pope, "Turbulent Flows" (2000), section 6.5.
    """
    if sectors < 0 or (sectors and spatial_dims != 2):
        raise ValueError(
            f"sectors={sectors} with spatial_dims={spatial_dims}: angle bins need two dimensions "
            "and a number of at least 0."
        )
    power = power_of(field, components, Reading(spatial_dims, mask, window, detrend))
    grid = grid_of(field, lengths, spatial_dims)
    wavenumbers, energies = marginals(power, grid)
    return AnisotropicSpectrum(
        wavenumbers,
        energies,
        _ratio(power, grid) if spatial_dims == 2 else None,
        _sector_sums(power, grid, sectors) if sectors else None,
    )


class Grid(NamedTuple):
    """Cells and physical extent of each grid axis."""

    sizes: tuple[int, ...]
    lengths: tuple[float, ...]


def grid_of(field: Tensor, lengths: Sequence[float] | None, spatial_dims: int) -> Grid:
    """The grid of a field, its lengths checked."""
    sizes = tuple(field.shape[-spatial_dims:])
    return Grid(sizes, checked_lengths(lengths, sizes))


def power_of(
    field: Tensor, components: Components, reading: Reading, *, name: str = "field"
) -> Tensor:
    """|F|² of each stored mode."""
    modes = coefficients(field, reading, name=name)
    return mode_energy(modes, components=components, spatial_dims=reading.spatial_dims)


def marginals(power: Tensor, grid: Grid) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Wavenumbers [K_i] and energies [..., K_i] of each axis."""
    build = _cached_fold if may_cache(power) else _build_fold
    plan = build(grid, power.device, power.dtype)
    weighted, dims = power * plan.weight, len(grid.sizes)
    energies = []
    for axis, (fold, wavenumber) in enumerate(zip(plan.folds, plan.wavenumbers, strict=True)):
        others = tuple(i - dims for i in range(dims) if i != axis)
        line = weighted.sum(others) if others else weighted
        empty = line.new_zeros(*line.shape[:-1], wavenumber.numel())
        energies.append(empty.index_add(-1, fold, line))
    return tuple(wavenumber.clone() for wavenumber in plan.wavenumbers), tuple(energies)


def centres_of(grid: Grid, axis: int) -> list[float]:
    """The wavenumbers of one axis as numbers of the host."""
    return [2 * math.pi / grid.lengths[axis] * m for m in range(grid.sizes[axis] // 2 + 1)]


class _Fold(NamedTuple):
    weight: Tensor  # [n_last//2 + 1], half the modes that a stored column stands for
    folds: tuple[Tensor, ...]  # |mode| of each stored mode of each axis
    wavenumbers: tuple[Tensor, ...]


def _build_fold(grid: Grid, device: torch.device, dtype: torch.dtype) -> _Fold:
    weight = 0.5 * multiplicity(grid.sizes[-1])
    folds = [modes.abs().long() for modes in signed_modes(grid.sizes)]
    wavenumbers = [
        torch.tensor(centres_of(grid, axis), dtype=torch.float64, device="cpu")
        for axis in range(len(grid.sizes))
    ]
    return _Fold(
        weight.to(device, dtype),
        tuple([fold.to(device) for fold in folds]),
        tuple([wavenumber.to(device, dtype) for wavenumber in wavenumbers]),
    )


@lru_cache(maxsize=NUM_PLANS)
def _cached_fold(grid: Grid, device: torch.device, dtype: torch.dtype) -> _Fold:
    with torch.inference_mode(False):  # as for the plans of shells
        return _build_fold(grid, device, dtype)


class _Angles(NamedTuple):
    slant: Tensor  # (k1² − k2²)/|k|² of each mode
    sector: Tensor  # angle bin of each mode, then of its mirror image, flat
    weight: Tensor  # half the modes that each stands for; none for the mean


def _build_angles(grid: Grid, sectors: int, device: torch.device, dtype: torch.dtype) -> _Angles:
    modes = signed_modes(grid.sizes)
    k1 = modes[0][:, None] / grid.lengths[0]
    k2 = modes[1] / grid.lengths[1]
    square = k1.square() + k2.square()
    slant = (k1.square() - k2.square()) / square.where(square > 0, 1.0)
    sector = torch.stack([_angle_bins(k1, k2, sectors), _angle_bins(-k1, k2, sectors)])
    weight = _mirror_weight(0.5 * multiplicity(grid.sizes[1]) * (square > 0), grid.sizes[0])
    return _Angles(
        slant.to(device, dtype), sector.flatten().to(device), weight.flatten().to(device, dtype)
    )


@lru_cache(maxsize=NUM_PLANS)
def _cached_angles(grid: Grid, sectors: int, device: torch.device, dtype: torch.dtype) -> _Angles:
    with torch.inference_mode(False):
        return _build_angles(grid, sectors, device, dtype)


def _angles(grid: Grid, sectors: int, like: Tensor) -> _Angles:
    build = _cached_angles if may_cache(like) else _build_angles
    return build(grid, sectors, like.device, like.dtype)


def _angle_bins(k1: Tensor, k2: Tensor, sectors: int) -> Tensor:
    turns = torch.atan2(k2, k1).remainder(torch.pi) / torch.pi
    # Angle π is angle 0; the guard keeps rounding from deciding a border.
    return torch.floor(turns * sectors + TIE_GUARD).long() % max(sectors, 1)


def _mirror_weight(weight: Tensor, rows: int) -> Tensor:
    """Weight of each mode at its own angle and at its mirror's: the first Nyquist is at both."""
    mirrored = torch.zeros_like(weight)
    if rows % 2 == 0:
        mirrored[rows // 2] = 0.5 * weight[rows // 2]
    return torch.stack([weight - mirrored, mirrored])


def _ratio(power: Tensor, grid: Grid) -> Tensor:
    shells = plan_for(grid.sizes, lengths=grid.lengths, like=power)
    slanted = torch.stack([power * _angles(grid, 0, power).slant, power])
    difference, whole = bin_sums(slanted, shells, spatial_dims=2)
    return difference / whole.where(whole > 0, 1.0)


def _sector_sums(power: Tensor, grid: Grid, sectors: int) -> Tensor:
    angles = _angles(grid, sectors, power)
    flat = power.flatten(-2)
    twice = torch.cat([flat, flat], dim=-1) * angles.weight
    return twice.new_zeros(*twice.shape[:-1], sectors).index_add(-1, angles.sector, twice)
