"""Decoded predictions over lead time: their errors, and profiles on one axis."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from nops_diagnostics._decoded_errors import DecodedErrors
from nops_diagnostics._figure import (
    DASHES,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALETTE,
    PURPLE,
    WIDTH,
    add_legend,
    log_scale_if_positive,
    new_figure,
    style_axes,
    style_of,
    to_numpy,
    whole_steps,
    with_unit,
)

RIVALS = {
    "persistence": (ORANGE, DASHES[1]),
    "previous_truth": (PURPLE, DASHES[3]),
    "reconstruction": (GREEN, DASHES[2]),
    "zero": (GREY, DASHES[2]),
    "mean": (INK, DASHES[3]),
}
LINES = tuple(colour for colour in PALETTE if colour not in {c for c, _ in RIVALS.values()})


def plot_decoded_errors(
    errors: DecodedErrors, *, frame_interval: float | None = None, time_unit: str = ""
) -> Figure:
    """NRMSE per lead: predictions as full lines with their bootstrap bands, baselines broken.

    Args:
        errors: From `decoded_errors`.
        frame_interval: Physical time between frames; the abscissa counts steps if None.
        time_unit: Of `frame_interval`, for the label.

    Returns:
        The figure; `figure.savefig(path)` writes it.
    """
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    leads = np.asarray(errors.lead_times, dtype=float) * (frame_interval or 1.0)
    values: list[float] = []
    for name, estimate in errors.per_lead.items():
        line = to_numpy(estimate.value)
        values.extend(line.tolist())
        label = name.replace("_", " ")
        if name in errors.predictions:
            colour = LINES[errors.predictions.index(name) % len(LINES)]
            style = {"color": colour, "linewidth": 1.6, "marker": "o", "markersize": 3.5}
            axes.plot(leads, line, label=label, **style)
            low, high = to_numpy(estimate.low), to_numpy(estimate.high)
            axes.fill_between(leads, low, high, color=colour, alpha=0.2, linewidth=0)
        else:
            colour, dashes = RIVALS[name]
            axes.plot(leads, line, label=label, color=colour, linestyle=dashes, linewidth=1.3)
    steps = frame_interval is None
    label = "lead time (steps)" if steps else with_unit("lead time", time_unit)
    style_axes(axes, xlabel=label, ylabel="nRMSE")
    log_scale_if_positive(axes, values)
    if steps:
        whole_steps(axes)
    add_legend(axes, loc="best", ncols=2)
    return figure


def plot_profiles(
    fields: Mapping[str, Float[Tensor, "time point"]],
    *,
    lead_times: Sequence[int],
    origin: float = 0.0,
    spacing: float = 1.0,
    field_name: str = "field",
    unit: str = "",
    length_unit: str = "",
    titles: Sequence[str] | None = None,
) -> Figure:
    """A field on one axis at some leads, one panel each: the truth in black, the rest in colour.

    Args:
        fields: By name, frame `j` being lead `j + 1`; the first is the truth. Same shapes.
        lead_times: Which leads, 1-based.
        origin: Coordinate of the first point.
        spacing: Distance between points.
        field_name: For the ordinate.
        unit: Of the field.
        length_unit: Of the coordinate.
        titles: Of the panels, one each; None: "lead" and its number.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no field, shapes differ, a lead lies outside, or titles are not one for
            each lead.
    """
    shapes = {tuple(values.shape) for values in fields.values()}
    steps = next(iter(shapes))[0] if shapes else 0
    if len(shapes) != 1 or not lead_times or not all(1 <= lead <= steps for lead in lead_times):
        raise ValueError(
            f"need fields of one shape (time, point) and leads within it, got {sorted(shapes)} and "
            f"{list(lead_times)}."
        )
    titles = [f"lead {lead}" for lead in lead_times] if titles is None else titles
    if len(titles) != len(lead_times):
        raise ValueError(
            f"titles must be {len(lead_times)}, one for each lead, got {list(titles)}."
        )
    figure = new_figure(WIDTH, 2.6)
    panels = figure.subplots(1, len(lead_times), sharey=True, squeeze=False)[0]
    for lead, title, axes in zip(lead_times, titles, panels, strict=True):
        for index, (name, values) in enumerate(fields.items()):
            line = to_numpy(values[lead - 1])
            place = origin + spacing * np.arange(len(line))
            style = {"color": INK, "linestyle": "-"} if index == 0 else style_of(index - 1)
            axes.plot(place, line, linewidth=1.2, label=name, **style)
        ylabel = with_unit(field_name, unit) if lead == lead_times[0] else ""
        xlabel = with_unit("x", length_unit)
        style_axes(axes, xlabel=xlabel, ylabel=ylabel, title=title)
    _limit(panels[0], next(iter(fields.values())))
    add_legend(panels[-1], loc="best")
    return figure


def _limit(axes: object, truth: Tensor) -> None:
    """Twice the truth's range, so that a rollout that diverges does not hide it."""
    low, high = float(truth.min()), float(truth.max())
    middle, reach = (low + high) / 2, max(high - low, torch.finfo(torch.float32).tiny)
    if math.isfinite(middle):
        axes.set_ylim(middle - reach, middle + reach)  # type: ignore[attr-defined]
