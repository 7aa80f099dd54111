"""A loss schedule over epochs: weights, what was watched, and what was done about it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nops_diagnostics._figure import (
    BLUE,
    FAINT,
    FONT,
    GREEN,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    WIDTH,
    add_legend,
    log_scale_if_positive,
    new_figure,
    style_axes,
    style_of,
    whole_steps,
)

MARKS: dict[str, dict[str, Any]] = {
    "adaptation": {"marker": "^", "color": GREEN},
    "rollback": {"marker": "v", "color": VERMILION},
    "skipped_nonfinite": {"marker": "x", "color": ORANGE},
}
NAMES = {"adaptation": "adapted", "rollback": "rolled back", "skipped_nonfinite": "not finite"}
END: dict[str, Any] = {"color": GREEN, "linewidth": 0.9, "linestyle": ":"}
SHADES = {"WARMUP": FAINT, "PAUSED": "#f3e2b8", "HELD": "#f6d3c4"}
SHADE_NAMES = {"WARMUP": "warm-up", "PAUSED": "paused", "HELD": "held"}


@runtime_checkable
class Schedule(Protocol):
    """What is drawn: one entry per epoch in each field but `events`; such as `nops_schedules.simulate` gives.

    Events have a `kind` and an `epoch`. None stands for no value.
    """

    epochs: Sequence[int]
    weights: Sequence[Mapping[str, float]]
    monitored: Sequence[float | None]
    smoothed: Sequence[float | None]
    thresholds: Sequence[float | None]
    states: Sequence[str]
    events: Sequence[Any]


def plot_schedule(simulation: Schedule, *, metric: str = "monitored metric") -> Figure:
    """Weights over epochs above, the monitored metric with its average and its threshold below.

    Weights hold from an epoch's validation to the next one. Components of equal weights share a line.
    Warm-up, pauses and held weights are shaded; triangles mark adaptations (up) and rollbacks (down),
    crosses values that were not finite, a vertical line the end of the transition.

    Args:
        simulation: From `nops_schedules.simulate`, or anything with its fields.
        metric: Name of the monitored metric, for the label.

    Returns:
        A figure of two panels over one abscissa; without any epoch it says so.
    """
    if not simulation.epochs:
        return _empty_figure()
    figure = new_figure(WIDTH, 4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_weights(above, simulation)
    _draw_metric(below, simulation)
    for axes in (above, below):
        _shade(axes, simulation)
        for epoch in _epochs_of(simulation, "complete"):
            axes.axvline(epoch, **END)
    _mark_events(above, simulation)
    style_axes(above, xlabel="", ylabel="weight", title="Weights")
    style_axes(below, xlabel="epoch", ylabel=metric, title="What decides")
    last = simulation.epochs[-1]
    below.set_xlim(simulation.epochs[0] - 0.5, last + 0.5 + 0.02 * max(last, 1))
    whole_steps(below)
    for axes in (above, below):
        add_legend(axes, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return figure


def _draw_weights(axes: Axes, simulation: Schedule) -> None:
    series: dict[tuple[float, ...], list[str]] = {}
    names = dict.fromkeys(name for weights in simulation.weights for name in weights)
    for name in names:
        values = tuple(weights.get(name, math.nan) for weights in simulation.weights)
        series.setdefault(values, []).append(name)
    for index, (values, shared) in enumerate(series.items()):
        axes.plot(
            simulation.epochs,
            values,
            drawstyle="steps-post",
            linewidth=1.6,
            label="\n".join(shared),
            **style_of(index),
        )
    axes.set_ylim(bottom=-0.12 * max(1e-9, *(max(values) for values in series)) if series else None)


def _draw_metric(axes: Axes, simulation: Schedule) -> None:
    monitored, smoothed, thresholds = (
        [math.nan if value is None else value for value in values]
        for values in (simulation.monitored, simulation.smoothed, simulation.thresholds)
    )
    dots = {"linestyle": "", "marker": "o", "markersize": 2.5}
    axes.plot(simulation.epochs, monitored, color=SKY, label="as measured", **dots)
    axes.plot(simulation.epochs, smoothed, color=BLUE, linewidth=1.6, label="smoothed")
    known = [pair for pair in zip(simulation.epochs, thresholds, strict=True) if pair[1] == pair[1]]
    if known:
        style = {"color": VERMILION, "linestyle": "--", "linewidth": 1.0}
        epochs, values = zip(*known, strict=True)
        axes.plot(epochs, values, drawstyle="steps-pre", label="threshold", **style)
    log_scale_if_positive(axes, monitored)


def _shade(axes: Axes, simulation: Schedule) -> None:
    """Bands of the states in which nothing moves."""
    pairs = zip(simulation.epochs, simulation.states, strict=True)
    for state, run in itertools.groupby(pairs, key=lambda pair: pair[1]):
        epochs = [epoch for epoch, _ in run]
        if state in SHADES:
            axes.axvspan(
                epochs[0] - 0.5,
                epochs[-1] + 0.5,
                color=SHADES[state],
                alpha=0.6,
                linewidth=0,
                zorder=0,
            )


def _mark_events(axes: Axes, simulation: Schedule) -> None:
    foot = axes.get_xaxis_transform()
    for kind, mark in MARKS.items():
        epochs = _epochs_of(simulation, kind)
        if epochs:
            label = f"{NAMES[kind]} ({len(epochs)})"
            options = {"linestyle": "", "markersize": 4.5, "transform": foot, "clip_on": False}
            axes.plot(epochs, [0.035] * len(epochs), label=label, **options, **mark)
    for state in dict.fromkeys(simulation.states):
        if state in SHADES:
            axes.fill_between([], [], color=SHADES[state], alpha=0.6, label=SHADE_NAMES[state])
    if _epochs_of(simulation, "complete"):
        axes.plot([], [], label="complete", **END)


def _epochs_of(simulation: Schedule, kind: str) -> list[int]:
    return [event.epoch for event in simulation.events if event.kind == kind]


def _empty_figure() -> Figure:
    figure = new_figure(WIDTH, 1.0)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no epoch recorded", ha="center", fontsize=FONT, color=INK)
    return figure
