"""Errors between the energy spectra of prediction and truth, shell by shell."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_pair, reduce
from nops_losses._shell_errors import (
    Per,
    Shells,
    ShellWeights,
    compared_shells,
    kept_bins,
    mean_over,
    nyquist_of,
    pooled,
)
from nops_losses._spectrum import Spectrum
from nops_losses._spectrum_plan import Bins, Estimator, Plan, bin_sums, checked_lengths, plan_for
from nops_losses._transform import (
    Components,
    Detrend,
    Reading,
    Window,
    check_sides,
    coefficients,
    mode_energy,
)


def log_spectrum_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"] | Spectrum,
    *,
    lengths: Sequence[float] | None = None,
    estimator: Estimator = "sum",
    bins: Bins = "linear",
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
    """Mean over shells of the squared difference of log energies: the recommended spectral loss.

    Mean over kept shells j of (ln(Ep_j + e) − ln(Et_j + e))². For pred = (1 + a) target it is
    (2 ln(1 + a))², whatever the unit, the grid or the amplitude. **Blind to phase**: a shifted
    prediction scores 0, so a pointwise or coherence term has to stand beside it.

    A shell counts if the truth has more than e = `floor` Σ_{j≥1} Et_j in it, plus what rounding
    leaves there: a dealiased truth is empty in the last third, and asking for exactly nothing there
    would be the whole loss. A truth without such shells, constant in space, contributes 0.

    Args:
        pred: Predicted field, axes (..., channel, *grid), any unit, at least 8 cells per grid axis.
        target: True field, same shape and unit; it gets no gradient. Or the `Spectrum` of it, made
            before with the same options, which saves its transform.
        lengths: As in `energy_spectrum`, and so `estimator`, `bins`, `mask`, `window`, `detrend`.
        estimator: "sum" or "mean" of a shell's modes.
        bins: "linear", "log" or edges.
        k_range: Smallest and largest centre of the shells that are compared, radians per length;
            None is all above 0 up to the smallest Nyquist wavenumber π min_i(n_i/L_i).
        per: "frame" compares the spectrum of every leading index; "sequence" first averages the
            energies over the axis before the channels, "batch" over all leading axes.
        shell_weights: Weight ≥ 0 of each shell, as a function of its wavenumber [K]; None is
            equal weights.
        components: "sum" compares the energy of all channels together; "each" compares channel by
            channel and averages, so that no channel's unit drowns another.
        floor: Share of the truth's energy outside the mean; None is 1e-10, 1e-20 for float64.
        mask: True where there is fluid; both fields are filled elsewhere.
        window: "none", "hann" or "tukey".
        detrend: "none" or "mean".
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over the leading axes, "none" keeps those left by `per`.

    Returns:
        Dimensionless, at least 0, float32 (float64 for float64 fields). Its gradient is finite at
        a zero prediction; a field that is not finite gives NaN.

    Raises:
        ValueError: If shapes differ, an axis is missing or short, no shell lies in `k_range`, or
            an option is unknown.
        TypeError: If a field is not real floating point.

    Source:
        Logarithmic spectral distance, Gray and Markel, IEEE Trans. ASSP 24 (1976) 380, in nats.
    """
    grid = _Grid(lengths, estimator, bins, Reading(spatial_dims, mask, window, detrend))
    shells = _compare(pred, target, grid, components, per, k_range, floor, shell_weights)
    error = mean_over(shells, (shells.pred.log() - shells.target.log()).square())
    return reduce(error if components == "sum" else error.mean(-1), reduction)


def binned_spectral_power_error(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"] | Spectrum,
    *,
    lengths: Sequence[float] | None = None,
    estimator: Estimator = "sum",
    bins: Bins = "linear",
    k_range: tuple[float, float] | None = None,
    per: Per = "frame",
    shell_weights: ShellWeights | None = None,
    floor: float | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    window: Window = "none",
    detrend: Detrend = "none",
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Mean over channels and shells of (1 − (Ep_j + e)/(Et_j + e))², energies of each channel.

    It asks most where the prediction has too much energy and at most 1 where it has too little;
    `log_spectrum_error` treats both alike. For pred = (1 + a) target it is (1 − (1 + a)²)². Blind
    to phase. Shells and floor e are chosen as there, for each channel.

    Args:
        pred: Predicted field, axes (..., channel, *grid), any unit, at least 8 cells per grid axis.
        target: True field, same shape and unit; it gets no gradient. Or the `Spectrum` of it, made
            before with the same options and `components="each"`.
        lengths: This and the following options as in `log_spectrum_error`.
        estimator: "sum" or "mean" of a shell's modes.
        bins: "linear", "log" or edges.
        k_range: Smallest and largest centre of the shells that are compared, radians per length.
        per: "frame", "sequence" or "batch".
        shell_weights: Weight ≥ 0 of each shell, as a function of its wavenumber [K].
        floor: Share of the truth's energy outside the mean.
        mask: True where there is fluid.
        window: "none", "hann" or "tukey".
        detrend: "none" or "mean".
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over leading axes and channels, "none" keeps both.

    Returns:
        Dimensionless, at least 0, float32 (float64 for float64 fields).

    Raises:
        ValueError: As `log_spectrum_error`.
        TypeError: If a field is not real floating point.

    Source:
        Binned spectral power loss, Chakraborty et al., arXiv 2502.00472.
    """
    grid = _Grid(lengths, estimator, bins, Reading(spatial_dims, mask, window, detrend))
    shells = _compare(pred, target, grid, "each", per, k_range, floor, shell_weights)
    return reduce(mean_over(shells, (1.0 - shells.pred / shells.target).square()), reduction)


class _Grid(NamedTuple):
    lengths: Sequence[float] | None
    estimator: Estimator
    bins: Bins
    reading: Reading


def _compare(
    pred: Tensor,
    target: Tensor | Spectrum,
    grid: _Grid,
    components: Components,
    per: Per,
    k_range: tuple[float, float] | None,
    floor: float | None,
    shell_weights: ShellWeights | None,
) -> Shells:
    dims = grid.reading.spatial_dims
    check_sides(pred, spatial_dims=dims)
    energy, plan = _energy(pred, grid, components, name="pred")
    if isinstance(target, Spectrum):
        truth = target.energy.detach()
        check_same_spectrum(truth, energy, name="target.energy")
    else:
        check_pair(pred, target, spatial_dims=dims)
        truth, _ = _energy(target.detach(), grid, components, name="target")
    sizes = tuple(pred.shape[-dims:])
    nyquist = nyquist_of(sizes, checked_lengths(grid.lengths, sizes))
    apart = components == "each"
    return compared_shells(
        pooled(energy, per, channel_axis=apart),
        pooled(truth, per, channel_axis=apart),
        wavenumber=plan.wavenumber,
        kept=kept_bins(plan.centres, zero=plan.zero, nyquist=nyquist, k_range=k_range),
        zero=plan.zero,
        floor=floor,
        shell_weights=shell_weights,
    )


def check_same_spectrum(truth: Tensor, energy: Tensor, *, name: str) -> None:
    """Raise unless a spectrum made before has the shape that the prediction's has."""
    if truth.shape != energy.shape:
        raise ValueError(
            f"{name} has shape {tuple(truth.shape)}, the prediction's is {tuple(energy.shape)}: "
            "make it with the same grid, lengths, bins and components."
        )


def _energy(
    field: Tensor, grid: _Grid, components: Components, *, name: str
) -> tuple[Tensor, Plan]:
    dims = grid.reading.spatial_dims
    modes = coefficients(field, grid.reading, name=name)
    power = mode_energy(modes, components=components, spatial_dims=dims)
    sizes = field.shape[-dims:]
    plan = plan_for(
        sizes, lengths=grid.lengths, bins=grid.bins, estimator=grid.estimator, like=power
    )
    return bin_sums(power, plan, spatial_dims=dims), plan
