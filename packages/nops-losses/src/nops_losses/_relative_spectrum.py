"""The relative log spectrum error as published, and its ratio over our own spectra."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_choice, check_pair, reduce
from nops_losses._shell_errors import Per, kept_bins, nyquist_of, pooled
from nops_losses._spectrum_plan import bin_sums, checked_lengths, plan_for
from nops_losses._transform import (
    Detrend,
    Reading,
    Window,
    check_sides,
    coefficients,
    mode_energy,
)

EMPTY = 1e-8  # the published guard of an empty annulus


def relative_log_spectrum_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    estimator: Literal["legacy", "sum", "mean"] = "legacy",
    power: float = 2,
    channels: Literal["average", "energy"] = "average",
    epsilon: float = 1e-10,
    per: Per = "sequence",
    lengths: Sequence[float] | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    window: Window = "none",
    detrend: Detrend = "none",
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Mean squared difference of log spectra over the mean squared log of the truth's.

    With L = ln(S + ε) it is mean(Lp − Lt)² / (mean(Lt²) + ε), means over shells and over the axes
    that `per` names. **It depends on unit and resolution**, because ln S crosses 0: the same
    20 % of amplitude error gives 1.2e-3 for a field of the tests, 3.8e-4 for a hundred times the
    field. Use it to compare with published numbers, and `log_spectrum_error` to train. Blind to
    phase.

    Args:
        pred: Predicted field, axes (..., channel, *grid), at least 8 cells per grid axis.
        target: True field, same shape and unit; it gets no gradient.
        estimator: "legacy" is the published S, in two dimensions only: the unscaled transform of
            the channels' average, |F|^power averaged over annuli 0.5, 1.5, …, min(n)//2 + ½ of
            integer wavenumbers, times their area. On grids that are not square the published code
            exchanges the axes of its wavenumbers; that is not reproduced. "sum" and "mean" take
            the shells of `energy_spectrum` from 1 to the smallest Nyquist wavenumber instead, in
            any dimension.
        power: Exponent of |F|, at least 1 (published: 2, and 1 for buoyant flow); other than 2 with
            "legacy" alone.
        channels: "average" transforms the mean of the channels, for which u and −u cancel;
            "energy" adds the channels' |F|^power.
        epsilon: ε, in the unit of S within the logarithm.
        per: "frame" makes a ratio for every leading index; "sequence" averages numerator and
            denominator over the axis before the channels, "batch" over all leading axes.
        lengths: Physical extent of each grid axis, not with "legacy".
        mask: This, `window` and `detrend` as in `energy_spectrum`.
        window: "none", "hann" or "tukey".
        detrend: "none" or "mean".
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over the leading axes, "none" keeps those left by `per`.

    Returns:
        Dimensionless, at least 0, float32 (float64 for float64 fields). In float32 the rounding in
        empty shells counts as energy.

    Raises:
        ValueError: If shapes differ, an axis is missing or short, an option is unknown, or
            "legacy" is asked for in other than two dimensions or with `lengths`.
        TypeError: If a field is not real floating point.

    Source:
        "Spectrum error" of Oommen et al., arXiv 2409.08477.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    check_sides(pred, spatial_dims=spatial_dims)
    check_choice("channels", channels, ("average", "energy"))
    _check_estimator(estimator, power, lengths, spatial_dims)
    reading = Reading(spatial_dims, mask, window, detrend)
    options = _Options(estimator, power, channels, epsilon, lengths)
    p = _log_spectrum(pred, reading, options, name="pred")
    t = _log_spectrum(target.detach(), reading, options, name="target")
    error = pooled((p - t).square(), per, channel_axis=False).mean(-1)
    size = pooled(t.square(), per, channel_axis=False).mean(-1)
    return reduce(error / (size + epsilon), reduction)


class _Options(NamedTuple):
    estimator: Literal["legacy", "sum", "mean"]
    power: float
    channels: Literal["average", "energy"]
    epsilon: float
    lengths: Sequence[float] | None


def _log_spectrum(field: Tensor, reading: Reading, options: _Options, *, name: str) -> Tensor:
    modes = coefficients(field, reading, name=name)
    if options.channels == "average":
        modes = modes.mean(-reading.spatial_dims - 1, keepdim=True)
    sizes = tuple(field.shape[-reading.spatial_dims :])
    if options.estimator == "legacy":
        height = _annuli(modes, options.power, sizes)
    else:
        height = _shells(modes, options.lengths, options.estimator, sizes)
    return (height + options.epsilon).log()


def _check_estimator(
    estimator: str, power: float, lengths: Sequence[float] | None, spatial_dims: int
) -> None:
    check_choice("estimator", estimator, ("legacy", "sum", "mean"))
    if not 1 <= power < math.inf:
        raise ValueError(f"power is an exponent of |F|, at least 1; got {power}.")
    if estimator != "legacy":
        if power != 2:
            raise ValueError(f"power={power} needs estimator='legacy'; energies have power 2.")
        return
    if spatial_dims != 2:
        raise ValueError(
            f"estimator='legacy' is defined in two dimensions, got spatial_dims={spatial_dims}: "
            "its annuli would cost a power of k. Use estimator='sum'."
        )
    if lengths is not None:
        raise ValueError(
            f"estimator='legacy' counts integer wavenumbers and takes no lengths, got "
            f"{tuple(lengths)}. Use estimator='sum'."
        )


def _annuli(modes: Tensor, power: float, sizes: tuple[int, ...]) -> Tensor:
    """S of each annulus 1 … min(n)//2: the mean of |F|^power times the area π(k₂² − k₁²)."""
    unscaled = modes * math.prod(sizes)
    if power == 2:
        height = mode_energy(unscaled, components="sum", spatial_dims=2)
    else:  # |F| has gradient 0 at 0
        height = unscaled.abs().pow(power).sum(-3)
    plan = plan_for(sizes, lengths=None, like=height)
    rings = slice(1, min(sizes) // 2 + 1)
    sums = 2.0 * bin_sums(height, plan, spatial_dims=2)[..., rings]  # the plan has energies ½|F|²
    area = 2.0 * torch.pi * plan.wavenumber[rings]
    return sums / (plan.modes[rings] + EMPTY) * area


def _shells(
    modes: Tensor,
    lengths: Sequence[float] | None,
    estimator: Literal["sum", "mean"],
    sizes: tuple[int, ...],
) -> Tensor:
    power = mode_energy(modes, components="sum", spatial_dims=len(sizes))
    plan = plan_for(sizes, lengths=lengths, estimator=estimator, like=power)
    nyquist = nyquist_of(sizes, checked_lengths(lengths, sizes))
    kept = kept_bins(plan.centres, zero=plan.zero, nyquist=nyquist, k_range=None)
    return bin_sums(power, plan, spatial_dims=len(sizes))[..., kept]
