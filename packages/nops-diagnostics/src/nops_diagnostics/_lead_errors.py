"""Field and spectrum error over lead time, the pair that a spectrum-aware loss trades."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from nops_losses import field_error
from torch import Tensor

from nops_diagnostics._bootstrap import Estimate, bootstrap_estimate
from nops_diagnostics._layout import as_double, check_pair
from nops_diagnostics._spectra import SpaceWindow, spectrum_error


@dataclass(frozen=True, kw_only=True)
class LeadErrors:
    """Both errors per lead time, `Estimate`s with float64 tensors `[lead]`, dimensionless.

    Attributes:
        field: Squared error over the truth's mean square, averaged over channels and samples.
        spectrum: Mean squared difference of log energies, averaged over samples.
    """

    field: Estimate
    spectrum: Estimate

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists under `field` and `spectrum`, as JSON takes them."""
        return {"field": self.field.as_dict(), "spectrum": self.spectrum.as_dict()}


def lead_errors(
    pred: Float[Tensor, "sample time channel *space"],
    target: Float[Tensor, "sample time channel *space"],
    *,
    lengths: tuple[float, ...] | None = None,
    window: SpaceWindow = "none",
    centre: bool = False,
    spatial_dims: int = 2,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> LeadErrors:
    """`field_error` and `spectrum_error` per lead time, with bootstrap intervals over samples.

    Args:
        pred: Rollout without the initial state: frame `j` is lead `j + 1`. Any unit; say which, for
            the field error sees offsets: normalised and physical fields give other figures.
        target: Truth at the same times, same shape and unit.
        lengths: Physical extent of each axis of space; 2 pi each if None.
        window: Of the spectra, see `spectrum_error`.
        centre: Measure the truth from its mean over space in the field error.
        spatial_dims: Number of trailing axes that are space.
        bootstrap: Number of resamples, the same ones for both errors.
        confidence: Coverage aimed at by the intervals.
        seed: Of the resampling.

    Returns:
        Errors per lead; a sample that is not finite makes them NaN from there on.

    Raises:
        ValueError: If the shapes differ or have too few axes.

    Source:
        Oommen et al., arXiv 2409.08477, field and spectrum error.
    """
    check_pair(pred, target, spatial_dims=spatial_dims, leading=2)
    fields, spectra = [], []
    for p, t in zip(pred.unbind(1), target.unbind(1), strict=True):
        options = {"spatial_dims": spatial_dims, "reduction": "none"}
        error = field_error(as_double(p), as_double(t), centre=centre, **options)
        fields.append(error.mean(-1))
        spectra.append(spectrum_error(p, t, lengths=lengths, window=window, **options))
    options = {"num_resamples": bootstrap, "confidence": confidence, "seed": seed}
    return LeadErrors(
        field=bootstrap_estimate(_same, torch.stack(fields, dim=1), **options),
        spectrum=bootstrap_estimate(_same, torch.stack(spectra, dim=1), **options),
    )


def _same(values: Tensor) -> Tensor:
    return values
