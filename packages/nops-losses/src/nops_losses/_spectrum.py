"""The energy spectrum: how much of a field's mean square lies at which wavenumber."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._spectrum_plan import Bins, Estimator, bin_sums, plan_for
from nops_losses._transform import (
    Components,
    Detrend,
    Reading,
    Window,
    coefficients,
    mode_energy,
)


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
    estimator: Estimator = "sum",
    bins: Bins = "linear",
    components: Components = "sum",
    mask: Bool[Tensor, "..."] | None = None,
    window: Window = "none",
    detrend: Detrend = "none",
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
        estimator: "sum" as above. "mean" is the mean energy of a shell's modes times their
            expected number, 2πk·dk/(dk₁dk₂) in 2-D and 4πk²dk/(dk₁dk₂dk₃) in 3-D: without the
            ripple of the lattice, but the shells no longer sum to ½⟨|u|²⟩. Shell 0 stays a sum.
        bins: "linear" shells; "log" adds up linear shells, about 8 bins per octave; numbers are
            edges in radians per length, bin j holding edge_j ≤ |k| < edge_j+1 and modes outside
            left out (their expected number is the volume between the edges).
        components: "sum" adds the channels; "each" keeps the channel axis.
        mask: True where there is fluid; broadcasts to (..., channel, *grid). Other cells get the
            mean of the fluid cells of their channel, so the spectrum sums to ½⟨|u|²⟩ of the
            *filled* field. None is fluid everywhere.
        window: "hann", or "tukey" (a quarter of each axis tapered at either end), for fields that
            are not periodic; u² is weighted by w²/⟨w²⟩. Use it with `detrend="mean"`, or the mean
            leaks into the first shells.
        detrend: "mean" takes away each channel's mean before the window.
        spatial_dims: Number of grid axes at the end.

    Returns:
        `Spectrum(wavenumber [K], energy [..., K])`, float32 (float64 for float64 fields), energy
        [..., channel, K] for "each". It is differentiable, its gradient finite at a zero field.
        Half-precision fields are computed in float32.

    Raises:
        ValueError: If an axis is missing or empty, `lengths` are not one positive number per
            grid axis, edges do not rise, the mask does not fit, or an option is unknown.
        TypeError: If the field is not real floating point.

    Source:
        Pope, "Turbulent Flows" (2000), section 6.5; discrete shells as in arXiv 2309.01745.
    """
    modes = coefficients(field, Reading(spatial_dims, mask, window, detrend), name="field")
    power = mode_energy(modes, components=components, spatial_dims=spatial_dims)
    sizes = field.shape[-spatial_dims:]
    plan = plan_for(sizes, lengths=lengths, bins=bins, estimator=estimator, like=power)
    return Spectrum(plan.wavenumber.clone(), bin_sums(power, plan, spatial_dims=spatial_dims))
