"""Training curves from the event log of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nops_diagnostics._figure import (
    FONT,
    GREY,
    INK,
    VERMILION,
    WIDTH,
    add_legend,
    log_scale_if_positive,
    new_figure,
    style_axes,
    style_of,
    whole_steps,
)
from nops_diagnostics._format import heading_of
from nops_diagnostics._series import Event, Series, read_series

COLUMNS = 2
FEW = 4  # names that fit into a panel; more are set below it
BELOW = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.25), "ncols": COLUMNS}
LINE = 0.2  # inches of a legend's line


def plot_training(events: Sequence[Event]) -> Figure:
    """Training curves: raw, weight and weighted value of each term, and what steers training.

    Panels: raw terms, weights, weighted terms with their sum, validation metrics with a line at
    the best one, learning rate, gradient norm with a mark for each skipped step; a panel without any event is left out. Thin
    lines are `train` events, thick ones the means of `epoch` events.

    Args:
        events: Objects of the run's `events.jsonl`, in order; any kinds may be missing.

    Returns:
        The figure; with no event at all it says so.
    """
    panels = [panel for panel in _PANELS if panel.has_data(events)]
    if not panels:
        return _empty_figure()
    rows = -(-len(panels) // COLUMNS)
    figure = new_figure(WIDTH, 2.3 * rows + 0.2)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for panel, axes in zip(panels, grid.flat, strict=False):
        panel.draw(axes, events)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    lines = sum(max(_lines_below(axes) for axes in row) for row in grid)
    figure.set_figheight(figure.get_figheight() + LINE * lines)
    last = max(event["step"] for event in events if isinstance(event.get("step"), int))
    for axes in grid.flat:
        axes.set_xlim(-0.03 * max(last, 1), 1.03 * max(last, 1))
    if lines:
        figure.draw_without_rendering()  # the layout has to know of legends below panels
    return figure


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One panel: which key of which events it draws, and what it adds to the lines."""

    title: str
    label: str
    key: str
    kinds: tuple[str, ...] = ("train", "epoch")
    add: Callable[[Axes, Sequence[Event]], None] | None = None
    logarithmic: bool = True

    def has_data(self, events: Sequence[Event]) -> bool:
        return any(read_series(events, kind=kind, key=self.key) for kind in self.kinds)

    def draw(self, axes: Axes, events: Sequence[Event]) -> None:
        styles: dict[str, dict[str, Any]] = {}
        values: list[float] = []
        for kind in self.kinds:
            for name, series in read_series(events, kind=kind, key=self.key).items():
                style = styles.setdefault(name, style_of(len(styles)))
                _draw_series(axes, series, kind=kind, style=style)
                values.extend(series.value)
        for name, style in styles.items():
            axes.plot([], [], linewidth=1.6, label=heading_of(name), **style)
        if self.add is not None:
            self.add(axes, events)
        style_axes(axes, xlabel="optimizer step", ylabel=self.label, title=self.title)
        if self.logarithmic:
            log_scale_if_positive(axes, values)
        elif all(value >= 0 for value in values):
            axes.set_ylim(bottom=0.0)
        whole_steps(axes)
        axes.margins(y=0.12)
        names = axes.get_legend_handles_labels()[1]
        if names != [heading_of(self.key)]:
            add_legend(axes, **(BELOW if len(names) > FEW else {"loc": "best"}))


def _lines_below(axes: Axes) -> int:
    """How many lines the legend below a panel takes, if it is there."""
    names = len(axes.get_legend_handles_labels()[1])
    return -(-names // COLUMNS) if names > FEW else 0


def _add_total(axes: Axes, events: Sequence[Event]) -> None:
    """The sum of the weighted terms, where there are several."""
    if len(axes.get_legend_handles_labels()[1]) < 2:
        return
    for kind in ("train", "epoch"):
        terms = read_series(events, kind=kind, key="weighted")
        totals: dict[int, float] = {}
        for series in terms.values():
            for step, value in zip(series.step, series.value, strict=True):
                totals[step] = totals.get(step, 0.0) + value
        total = Series(step=tuple(totals), value=tuple(totals.values()))
        _draw_series(axes, total, kind=kind, style={"color": GREY, "linestyle": "-"})
    axes.plot([], [], linewidth=1.6, color=GREY, label="total")


def _add_best(axes: Axes, events: Sequence[Event]) -> None:
    """A line at the last validation that was better than all before."""
    best = [event["step"] for event in events if event.get("best") is True]
    if best:
        axes.axvline(best[-1], color=GREY, linewidth=0.9, linestyle=":", label="best")


def _add_skipped(axes: Axes, events: Sequence[Event]) -> None:
    """A mark at the foot of the panel for each step that changed nothing."""
    steps = [event["step"] for event in events if event.get("event") == "skipped"]
    if steps:
        foot = axes.get_xaxis_transform()
        style = {"color": VERMILION, "linestyle": "", "marker": "^", "markersize": 5}
        label = f"{len(steps)} skipped"
        axes.plot(steps, [0.03] * len(steps), transform=foot, label=label, **style)


_PANELS = (
    _Panel(title="Raw terms", label="unweighted value", key="raw"),
    _Panel(title="Weights", label="weight", key="weight", logarithmic=False),
    _Panel(title="Weighted terms", label="weight × value", key="weighted", add=_add_total),
    _Panel(title="Validation", label="metric", key="metrics", kinds=("validation",), add=_add_best),
    _Panel(title="Learning rate", label="learning rate", key="learning_rate", logarithmic=False),
    _Panel(
        title="Gradient norm", label="norm before clipping", key="gradient_norm", add=_add_skipped
    ),
)


def _draw_series(axes: Axes, series: Series, *, kind: str, style: dict[str, Any]) -> None:
    """Thin for single steps, thick for means, dots for validations and where there are few."""
    look: dict[str, Any] = {"linewidth": 1.6, "markersize": 3.5}
    if kind == "train":
        look = {"linewidth": 0.9, "alpha": 0.55, "markersize": 2}
    if kind == "validation" or len(series.step) < 3:
        look["marker"] = "o"
    axes.plot(series.step, series.value, **look, **style)


def _empty_figure() -> Figure:
    figure = new_figure(WIDTH, 1.0)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no training events recorded", ha="center", fontsize=FONT, color=INK)
    return figure
