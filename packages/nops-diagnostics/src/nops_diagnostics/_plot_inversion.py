"""Pictures of an inversion: recovered parameters, their course in time, what the physics left over."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nops_diagnostics._figure import (
    BLUE,
    GREY,
    INK,
    VERMILION,
    WIDTH,
    add_legend,
    label_decades,
    new_figure,
    style_axes,
    style_of,
    to_numpy,
    with_unit,
)

COLUMNS = 4
MOST_POINTS = 1000  # drawn of a scatter, evenly chosen


def _panels(
    count: int, *, height: float = 1.9, columns: int = COLUMNS
) -> tuple[Figure, list[Axes]]:
    columns = min(columns, max(count, 1))
    rows = -(-count // columns)
    figure = new_figure(WIDTH, height * rows + 0.2)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def plot_recovery(
    estimate: Float[Tensor, "sample parameter"],
    truth: Float[Tensor, "sample parameter"],
    *,
    names: Sequence[str],
    units: Sequence[str],
    bound: Sequence[float] | None = None,
) -> Figure:
    """Estimated over true parameters, a panel each, beside the line of equality.

    Args:
        estimate: Estimates, in physical units.
        truth: Truths, same shape and units; parameters with a truth that is not finite are left out.
        names: Of the parameters.
        units: Of the parameters; empty if dimensionless.
        bound: Standard deviation that no estimator beats by much, for each parameter in its unit;
            drawn as a band around equality.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If shapes or numbers of names differ.
    """
    if estimate.shape != truth.shape or not len(names) == len(units) == truth.shape[1]:
        raise ValueError(
            f"estimate and truth have shapes {tuple(estimate.shape)} and {tuple(truth.shape)}, "
            f"expected (sample, {len(names)}) for {', '.join(names)}."
        )
    drawn = [i for i in range(len(names)) if bool(truth[:, i].isfinite().all())]
    figure, grid = _panels(len(drawn))
    step = max(1, len(truth) // MOST_POINTS)
    for axes, i in zip(grid, drawn, strict=True):
        true, found = to_numpy(truth[::step, i]), to_numpy(estimate[::step, i])
        scale, unit = _readable(true, units[i])
        true, found = true / scale, found / scale
        ends = np.array([true.min(), true.max()])
        if bound is not None:
            width = bound[i] / scale
            axes.fill_between(
                ends, ends - width, ends + width, color=VERMILION, alpha=0.25, linewidth=0
            )
        axes.plot(true, found, ".", markersize=2, color=BLUE, alpha=0.5)
        axes.plot(ends, ends, color=INK, linewidth=0.8)
        style_axes(axes, xlabel=f"true {with_unit(names[i], unit)}", ylabel="estimated")
    return figure


def _readable(values: np.ndarray, unit: str) -> tuple[float, str]:
    """A power of a thousand that brings large or tiny values to plain ticks, and the unit with it."""
    largest = float(np.abs(values).max())
    thousands = math.floor(math.log10(largest) / 3 + 1e-9) if largest > 0 else 0
    if -1 <= thousands <= 1:  # matplotlib's ticks read well here
        return 1.0, unit
    factor = rf"$10^{{{3 * thousands}}}$"
    return 10.0 ** (3 * thousands), f"{factor} {unit}".strip()


def plot_parameters_over_time(
    time: Sequence[float],
    mean: Float[Tensor, "sample parameter"],
    sd: Float[Tensor, "sample parameter"],
    *,
    names: Sequence[str],
    units: Sequence[str],
    xlabel: str = "time",
) -> Figure:
    """Posterior means over time with a band of two standard deviations, a panel each.

    Samples are drawn where they lie in time, unconnected, so that gaps and repeats stay visible.

    Args:
        time: Of each sample.
        mean: Posterior means, in physical units.
        sd: Posterior standard deviations, alike.
        names: Of the parameters.
        units: Of the parameters; empty if dimensionless.
        xlabel: Name of the abscissa.

    Returns:
        The figure; `figure.savefig(path)` writes it.
    """
    figure, grid = _panels(len(names), columns=1)
    at = np.asarray(time, dtype=float)
    for i, axes in enumerate(grid):
        middle, width = to_numpy(mean[:, i]), 2 * to_numpy(sd[:, i])
        axes.vlines(at, middle - width, middle + width, color=BLUE, alpha=0.12, linewidth=0.7)
        axes.plot(at, middle, ".", markersize=1.5, color=BLUE)
        style_axes(axes, xlabel=xlabel, ylabel=with_unit(names[i], units[i]))
    return figure


def plot_patterns(
    patterns: Float[Tensor, "pattern channel"],
    shares: Float[Tensor, "pattern"],
    *,
    channels: Sequence[str],
) -> Figure:
    """Patterns over the channels, a line each with its share of the variance.

    Args:
        patterns: Directions, of length 1.
        shares: Of the variance, 0 to 1.
        channels: Names of the channels, written while there are few.

    Returns:
        The figure; `figure.savefig(path)` writes it.
    """
    figure = new_figure(WIDTH, 2.8)
    axes = figure.subplots()
    for i, (pattern, share) in enumerate(zip(patterns, shares.tolist(), strict=True)):
        label = f"pattern {i + 1}: {share:.0%}"
        axes.plot(to_numpy(pattern), marker=".", linewidth=1, label=label, **style_of(i))
    axes.axhline(0.0, color=GREY, linewidth=0.6)
    style_axes(axes, xlabel="channel", ylabel="loading")
    if len(channels) <= 40:
        axes.set_xticks(range(len(channels)), channels, rotation=90)
    add_legend(axes, loc="best")
    return figure


def plot_error_bars(errors: Mapping[str, float], *, ylabel: str) -> Figure:
    """One bar per error, on a logarithmic scale: a model beside what it has to beat.

    Args:
        errors: Positive errors by name; others are left out.
        ylabel: What they are, with its unit.

    Returns:
        The figure; `figure.savefig(path)` writes it.
    """
    shown = {name: value for name, value in errors.items() if value > 0 and math.isfinite(value)}
    figure = new_figure(WIDTH, 2.6)
    axes = figure.subplots()
    style: dict[str, Any] = {"color": [style_of(i)["color"] for i in range(len(shown))]}
    axes.bar(range(len(shown)), list(shown.values()), width=0.6, **style)
    axes.set_xticks(range(len(shown)), list(shown), rotation=20)
    style_axes(axes, xlabel="", ylabel=ylabel)
    if shown:
        axes.set_yscale("log")
        label_decades(axes, narrow=max(shown.values()) < 100 * min(shown.values()))
        axes.set_ylim(0.7 * min(shown.values()), 1.6 * max(shown.values()))
    return figure
