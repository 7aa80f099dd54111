"""Scores over lead time: skill, errors and correlation, with their intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nops_diagnostics._bootstrap import Estimate
from nops_diagnostics._correlation import CorrelationTime
from nops_diagnostics._figure import (
    BASELINES,
    BLUE,
    FONT,
    GREY,
    INK,
    SMALL,
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
from nops_diagnostics._format import METRIC_NAMES
from nops_diagnostics._rollout_scores import RolloutScores

LOWEST_SKILL = -1.0  # twice the baseline's error; below it the axis would hide all that is good


def plot_skill(
    scores: RolloutScores, *, frame_interval: float | None = None, time_unit: str = ""
) -> Figure:
    """Skill over lead time against each baseline, with bootstrap bands.

    Args:
        scores: From `rollout_scores`.
        frame_interval: Physical time between frames; the abscissa counts steps if None.
        time_unit: Of `frame_interval`, for the label.

    Returns:
        A figure of one panel; skills below -1 run out of it, and it says so.
    """
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    leads = _leads(scores.lead_times, frame_interval)
    for name, estimate in scores.skill.items():
        colour, dashes = BASELINES[name]
        label = f"over {_plain(name)}"
        _line_with_band(axes, leads, estimate, color=colour, linestyle=dashes, label=label)
    axes.axhline(0.0, color=INK, linewidth=0.8)
    style_axes(
        axes, xlabel=_lead_label(frame_interval, time_unit), ylabel="skill, 1 − MSE / baseline MSE"
    )
    _limit_skill(axes, scores)
    _finish_leads(axes, frame_interval)
    add_legend(axes, loc="best")
    return figure


def plot_metric(
    scores: RolloutScores,
    *,
    metric: str = "nmse",
    frame_interval: float | None = None,
    time_unit: str = "",
    unit: str = "",
) -> Figure:
    """One metric over lead time, the model with its bootstrap band beside the baselines.

    Args:
        scores: From `rollout_scores`.
        metric: A key of `scores.metrics`.
        frame_interval: Physical time between frames; the abscissa counts steps if None.
        time_unit: Of `frame_interval`, for the label.
        unit: Of the metric, for the label; nothing for dimensionless ones.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If the metric was not scored.
    """
    if metric not in scores.metrics:
        raise ValueError(f"metric={metric!r} was not scored; there is {sorted(scores.metrics)}.")
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    leads = _leads(scores.lead_times, frame_interval)
    for name, rivals in scores.baselines.items():
        if metric in rivals:
            colour, dashes = BASELINES[name]
            style = {"color": colour, "linestyle": dashes, "linewidth": 1.3}
            axes.plot(leads, to_numpy(rivals[metric].value), label=_plain(name), **style)
    _line_with_band(axes, leads, scores.metrics[metric], color=BLUE, label="model")
    name = with_unit(METRIC_NAMES.get(metric, metric), unit)
    style_axes(axes, xlabel=_lead_label(frame_interval, time_unit), ylabel=name)
    log_scale_if_positive(axes, [y for line in axes.lines for y in np.asarray(line.get_ydata())])
    _finish_leads(axes, frame_interval)
    add_legend(axes, loc="best")
    return figure


def plot_correlation(
    results: dict[str, CorrelationTime],
    *,
    frame_interval: float,
    threshold: float = 0.8,
    time_unit: str = "",
    order: Sequence[str] | None = None,
) -> Figure:
    """Correlation over lead time, with the threshold and each crossing and its interval.

    Args:
        results: By name of the model, from `correlation_time`.
        frame_interval: The one they were computed with.
        threshold: The one they were computed with.
        time_unit: Of `frame_interval`, for the label.
        order: Names whose place decides colour and dashes, so that a name looks alike in several
            figures; those drawn and not in it follow. None takes those drawn here.

    Returns:
        The figure; `figure.savefig(path)` writes it.
    """
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    axes.axhline(threshold, color=GREY, linewidth=0.9, linestyle=(0, (1.2, 1.2)))
    for name, style in styles_of(results, order).items():
        result = results[name]
        curve = np.concatenate([[1.0], to_numpy(result.curve)])
        axes.plot(np.arange(len(curve)) * frame_interval, curve, linewidth=1.6, **style, label=name)
        spread = [[max(result.time - result.low, 0.0)], [max(result.high - result.time, 0.0)]]
        axes.errorbar(
            [result.time],
            [threshold],
            xerr=spread,
            fmt=">" if result.censored else "o",
            color=style["color"],
            markersize=5,
            capsize=3,
        )
    style_axes(axes, xlabel=with_unit("lead time", time_unit), ylabel="correlation with the truth")
    axes.set_ylim(top=1.02)
    axes.set_xlim(left=0.0)
    add_legend(axes, loc="best")
    return figure


def _leads(lead_times: tuple[int, ...], frame_interval: float | None) -> np.ndarray:
    return np.asarray(lead_times, dtype=float) * (frame_interval or 1.0)


def _lead_label(frame_interval: float | None, time_unit: str) -> str:
    return "lead time (steps)" if frame_interval is None else with_unit("lead time", time_unit)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _line_with_band(axes: Axes, leads: np.ndarray, estimate: Estimate, **style: Any) -> None:
    axes.plot(leads, to_numpy(estimate.value), linewidth=1.6, **_marked(leads), **style)
    axes.fill_between(
        leads,
        to_numpy(estimate.low),
        to_numpy(estimate.high),
        color=style["color"],
        alpha=0.2,
        linewidth=0,
    )


def _marked(leads: np.ndarray) -> dict[str, Any]:
    """Dots where there are few leads, so that a single one is seen at all."""
    return {"marker": "o", "markersize": 3.5} if len(leads) <= 12 else {}


def _limit_skill(axes: Axes, scores: RolloutScores) -> None:
    """Top at 1, bottom at the data or at -1 with a note."""
    values = [v for e in scores.skill.values() for v in e.value.tolist() if not math.isnan(v)]
    lowest = min(values, default=0.0)
    axes.set_ylim(max(min(lowest, 0.0), LOWEST_SKILL) - 0.06, 1.04)
    if lowest < LOWEST_SKILL:
        axes.text(
            0.01,
            0.03,
            "part of a curve lies below −1",
            transform=axes.transAxes,
            fontsize=SMALL,
            color=INK,
        )


def _finish_leads(axes: Axes, frame_interval: float | None) -> None:
    axes.margins(x=0.02)
    if frame_interval is None:
        whole_steps(axes)
    axes.xaxis.label.set_fontsize(FONT)
