"""Distance between the energy spectra of prediction and truth."""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from nops_losses import energy_spectrum
from torch import Tensor

from nops_diagnostics._layout import as_double, check_choice, check_pair
from nops_diagnostics._metrics import Reduction

# By input type: the share of the energy outside shell 0 below which a shell counts as empty, and
# the share of the whole energy that rounding the input puts there, (4 eps)^2.
FLOORS = {torch.float64: (1e-20, 8e-31)}
FLOOR = (1e-10, 2.3e-13)  # float32 and below
SpaceWindow = Literal["none", "hann", "tukey"]


def spectrum_error(
    pred: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    *,
    lengths: tuple[float, ...] | None = None,
    window: SpaceWindow = "none",
    spatial_dims: int = 2,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*kept"]:
    """Mean over wave-number shells of the squared difference of log energies.

    `mean_j (ln(Ep_j + e) - ln(Et_j + e))^2` over the shells from 1 up to the smallest Nyquist wave
    number whose energy in the truth exceeds `e`: a share 1e-10 (1e-20 for float64 input) of the
    truth's energy outside shell 0, plus what rounding of the input leaves there. Energies are
    summed over channels. For `pred = (1 + a) target` it is `(2 ln(1 + a))^2` in any unit and on
    any grid. Blind to phase and to the mean.

    A figure beside the loss `nops_losses.log_spectrum_error`, which has the same formula: this one
    also takes grids below 8 cells, computes float32 fields in float64, and then does not count
    shells that hold their rounding alone.

    Args:
        pred: Prediction `[*leading, channel, *space]` any unit.
        target: Reference, same shape and unit.
        lengths: Physical extent of each axis of space; 2 pi each if None.
        window: `"none"` for periodic fields; `"hann"` or `"tukey"` tapers others, less the mean of
            each frame.
        spatial_dims: Number of trailing axes that are space.
        reduction: `"none"` keeps `[*leading]`, `"mean"` averages it.

    Returns:
        Dimensionless float64; 0 for equal spectra and where the truth is constant in space.
        NaN where the prediction is not finite.

    Raises:
        ValueError: If the shapes differ, have too few axes or do not fit `lengths`, or the window
            is unknown.

    Source:
        Logarithmic spectral distance, Gray and Markel, IEEE Trans. ASSP 24 (1976) 380, in nats.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    check_choice("reduction", reduction, ("mean", "none"))
    grid = target.shape[-spatial_dims:]
    options = {"lengths": lengths, "spatial_dims": spatial_dims, **tapering(window)}
    k, p = energy_spectrum(as_double(pred), **options)
    _, t = energy_spectrum(as_double(target), **options)
    of_varying, of_all = empty_share(target), FLOORS.get(target.dtype, FLOOR)[1]
    floor = of_varying * t[..., 1:].sum(-1, keepdim=True) + of_all * t.sum(-1, keepdim=True)
    kept = inside_nyquist(k, grid=tuple(grid), lengths=lengths)
    p, t = p[..., kept], t[..., kept]
    used = t > floor
    ratio = (p + floor).log() - (t + floor).log()
    error = torch.where(used, ratio.square(), 0.0).sum(-1) / used.sum(-1).clamp(min=1)
    return error.mean() if reduction == "mean" else error


def tapering(window: SpaceWindow) -> dict[str, Any]:
    """Options of the transforms: with a window the mean is taken out, so that it does not leak."""
    return {"window": window, "detrend": "none" if window == "none" else "mean"}


def empty_share(field: Tensor) -> float:
    """Share of a field's energy outside shell 0 below which a shell counts as empty."""
    return FLOORS.get(field.dtype, FLOOR)[0]


def inside_nyquist(
    wavenumber: Tensor, *, grid: tuple[int, ...], lengths: tuple[float, ...] | None
) -> Tensor:
    """Which shells lie above 0 and not above the smallest Nyquist wave number of the axes."""
    extents = lengths or (2.0 * math.pi,) * len(grid)
    nyquist = math.pi * min(n / length for n, length in zip(grid, extents, strict=True))
    return (wavenumber > 0) & (wavenumber <= nyquist * (1.0 + 1e-6))  # float32 wave numbers
