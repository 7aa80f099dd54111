"""The log spectrum error of each axis's marginal spectrum."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._anisotropy import (
    AnisotropicSpectrum,
    centres_of,
    grid_of,
    marginals,
    power_of,
)
from nops_losses._checks import check_pair, reduce
from nops_losses._shell_errors import (
    Per,
    ShellWeights,
    compared_shells,
    kept_bins,
    mean_over,
    pooled,
)
from nops_losses._spectrum_error import check_same_spectrum
from nops_losses._transform import Components, Detrend, Reading, Window, check_sides


def anisotropic_spectrum_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"] | AnisotropicSpectrum,
    *,
    lengths: Sequence[float] | None = None,
    k_range: tuple[float, float] | None = None,
    per: Per = "frame",
    shell_weights: ShellWeights | None = None,
    components: Components = "sum",
    floor: float | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    window: Window = "none",
    detrend: Detrend = "none",
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Mean over the axes of the log spectrum error of each axis's marginal E(k_i).

    Where `log_spectrum_error` compares all directions together, this tells a jet along one axis
    from one along another. For pred = (1 + a) target it is (2 ln(1 + a))², unless the truth is
    constant along an axis, which then contributes 0. Blind to phase.

    Args:
        pred: Predicted field, axes (..., channel, *grid), any unit, at least 8 cells per grid axis.
        target: True field, same shape and unit; it gets no gradient. Or the `AnisotropicSpectrum`
            of it, made before with the same options.
        lengths: Physical extent of each grid axis; None is 2π each.
        k_range: Smallest and largest k_i that are compared, radians per length; None is all above
            0 up to the Nyquist wavenumber of each axis.
        per: This and the following options as in `log_spectrum_error`.
        shell_weights: Weight ≥ 0 of each k_i, as a function of it [K].
        components: "sum" or "each".
        floor: Share of the truth's energy at k_i > 0.
        mask: True where there is fluid.
        window: "none", "hann" or "tukey".
        detrend: "none" or "mean".
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over the leading axes, "none" keeps those left by `per`.

    Returns:
        Dimensionless, at least 0, float32 (float64 for float64 fields).

    Raises:
        ValueError: As `log_spectrum_error`.
        TypeError: If a field is not real floating point.

    Source:
        The logarithmic spectral distance of `log_spectrum_error`, by direction.
    """
    check_sides(pred, spatial_dims=spatial_dims)
    reading = Reading(spatial_dims, mask, window, detrend)
    grid = grid_of(pred, lengths, spatial_dims)
    if isinstance(target, AnisotropicSpectrum):
        truths = target.energies
    else:
        check_pair(pred, target, spatial_dims=spatial_dims)
        truths = marginals(power_of(target.detach(), components, reading, name="target"), grid)[1]
    found = marginals(power_of(pred, components, reading, name="pred"), grid)
    apart = components == "each"
    errors = []
    for axis, (wavenumber, energy, truth) in enumerate(zip(*found, truths, strict=True)):
        check_same_spectrum(truth, energy, name=f"target.energies[{axis}]")
        centres = centres_of(grid, axis)
        shells = compared_shells(
            pooled(energy, per, channel_axis=apart),
            pooled(truth.detach(), per, channel_axis=apart),
            wavenumber=wavenumber,
            kept=kept_bins(centres, zero=0, nyquist=centres[-1], k_range=k_range),
            zero=0,
            floor=floor,
            shell_weights=shell_weights,
        )
        errors.append(mean_over(shells, (shells.pred.log() - shells.target.log()).square()))
    error = torch.stack(errors).mean(0)
    return reduce(error.mean(-1) if apart else error, reduction)
