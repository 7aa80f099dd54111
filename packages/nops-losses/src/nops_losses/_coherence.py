"""How far the phases of prediction and truth agree, shell by shell."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_pair, reduce
from nops_losses._shell_errors import (
    ShellWeights,
    compared_shells,
    kept_bins,
    mean_over,
    nyquist_of,
)
from nops_losses._spectrum_plan import Bins, bin_sums, checked_lengths, plan_for
from nops_losses._transform import (
    Detrend,
    Reading,
    Window,
    check_sides,
    coefficients,
    mode_energy,
)


def coherence_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    lengths: Sequence[float] | None = None,
    bins: Bins = "linear",
    k_range: tuple[float, float] | None = None,
    shell_weights: ShellWeights | None = None,
    floor: float | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    window: Window = "none",
    detrend: Detrend = "none",
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Mean over shells of 1 − the real coherence of prediction and truth.

    In shell j it is (Re Σ Fp·conj(Ft) + 2e) / √((Σ|Fp|² + 2e)(Σ|Ft|² + 2e)), sums over the modes of
    the shell and the channels, conjugate modes counted. The error is 0 for equal fields, 1 for
    unrelated ones, 2 for pred = −target. **Blind to amplitude**: the companion of
    `log_spectrum_error`, which is blind to phase. Shells and floor e are chosen as there.

    Args:
        pred: Predicted field, axes (..., channel, *grid), any unit, at least 8 cells per grid axis.
        target: True field, same shape and unit; it gets no gradient.
        lengths: This and the following options as in `log_spectrum_error`.
        bins: "linear", "log" or edges.
        k_range: Smallest and largest centre of the shells that are compared, radians per length.
        shell_weights: Weight ≥ 0 of each shell, as a function of its wavenumber [K].
        floor: Share of the truth's energy outside the mean.
        mask: True where there is fluid.
        window: "none", "hann" or "tukey".
        detrend: "none" or "mean".
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over the leading axes, "none" keeps them.

    Returns:
        Dimensionless, in [0, 2] up to rounding, float32 (float64 for float64 fields); 0 where the
        truth is constant in space. Its gradient is finite at a zero prediction.

    Raises:
        ValueError: As `log_spectrum_error`.
        TypeError: If a field is not real floating point.

    Source:
        Fourier shell correlation, Saxton and Baumeister, J. Microscopy 127 (1982) 127, of one
        spectrum against the other.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    check_sides(pred, spatial_dims=spatial_dims)
    reading = Reading(spatial_dims, mask, window, detrend)
    p = coefficients(pred, reading, name="pred")
    t = coefficients(target.detach(), reading, name="target")
    sizes = tuple(pred.shape[-spatial_dims:])
    parts = torch.stack(_quadratics(p, t, spatial_dims))
    plan = plan_for(sizes, lengths=lengths, bins=bins, like=parts)
    cross, energy, truth = bin_sums(parts, plan, spatial_dims=spatial_dims)
    nyquist = nyquist_of(sizes, checked_lengths(lengths, sizes))
    kept = kept_bins(plan.centres, zero=plan.zero, nyquist=nyquist, k_range=k_range)
    shells = compared_shells(
        energy,
        truth,
        wavenumber=plan.wavenumber,
        kept=kept,
        zero=plan.zero,
        floor=floor,
        shell_weights=shell_weights,
    )
    # Energies are half the sums of |F|², so that the 2 of the numerator and of the root cancel.
    size = shells.pred.sqrt() * shells.target.sqrt()
    return reduce(mean_over(shells, 1.0 - (cross[..., kept] + shells.floor) / size), reduction)


def _quadratics(p: Tensor, t: Tensor, spatial_dims: int) -> tuple[Tensor, Tensor, Tensor]:
    """Re F_p conj(F_t), |F_p|² and |F_t|² of each mode, summed over channels."""
    product = torch.view_as_real(p) * torch.view_as_real(t)
    real, imaginary = product.sum(-spatial_dims - 2).unbind(-1)
    energy = mode_energy(p, components="sum", spatial_dims=spatial_dims)
    truth = mode_energy(t, components="sum", spatial_dims=spatial_dims)
    return real + imaginary, energy, truth
