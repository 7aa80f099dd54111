"""Field and spectrum error over lead time, the pair that a spectrum-aware loss trades."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from nops_losses import field_error
from torch import Tensor

from nops_diagnostics._bootstrap import Estimate, bootstrap_estimate
from nops_diagnostics._figure import (
    WIDTH,
    add_legend,
    log_scale_if_positive,
    new_figure,
    style_axes,
    styles_of,
    to_numpy,
    whole_steps,
    with_unit,
)
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


def plot_lead_errors(
    results: Mapping[str, LeadErrors],
    *,
    frame_interval: float | None = None,
    time_unit: str = "",
    order: Sequence[str] | None = None,
) -> Figure:
    """Field error and spectrum error over lead time, a panel each, one line per result.

    Args:
        results: By name, in drawing order, from `lead_errors`.
        frame_interval: Physical time between frames; the abscissa counts steps if None.
        time_unit: Of `frame_interval`, for the label.
        order: Names whose place decides colour and dashes, so that a name looks alike in several
            figures; those drawn and not in it follow. None takes those drawn here.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no result.
    """
    if not results:
        raise ValueError("there is nothing to draw: results is empty.")
    figure = new_figure(WIDTH, 2.9)
    panels = figure.subplots(1, 2)
    label = "lead time (steps)" if frame_interval is None else with_unit("lead time", time_unit)
    for panel, part in zip(panels, ("field", "spectrum"), strict=True):
        for name, style in styles_of(results, order).items():
            result = results[name]
            estimate: Estimate = getattr(result, part)
            value, low, high = map(to_numpy, (estimate.value, estimate.low, estimate.high))
            leads = np.arange(1, len(value) + 1) * (frame_interval or 1.0)
            panel.plot(leads, value, linewidth=1.5, label=name, **style)
            panel.fill_between(leads, low, high, color=style["color"], alpha=0.15, linewidth=0)
        style_axes(panel, xlabel=label, ylabel=f"{part} error")
        log_scale_if_positive(panel, [y for line in panel.lines for y in line.get_ydata()])
        if frame_interval is None:
            whole_steps(panel)
    add_legend(panels[0], loc="best")
    return figure


def _same(values: Tensor) -> Tensor:
    return values
