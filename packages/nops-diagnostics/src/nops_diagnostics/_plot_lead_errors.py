"""Field and spectrum error over lead time, drawn side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nops_diagnostics._bootstrap import Estimate
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
from nops_diagnostics._lead_errors import LeadErrors


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
