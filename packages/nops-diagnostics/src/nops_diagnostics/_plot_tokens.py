"""Pictures of vocabularies: how often codes are used, how far features lie apart, which codes match."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nops_diagnostics._alignment import Alignment
from nops_diagnostics._figure import (
    BLUE,
    FONT,
    GREY,
    INK,
    SMALL,
    VERMILION,
    WIDTH,
    add_legend,
    new_figure,
    style_axes,
    to_numpy,
    whole_steps,
)

COLUMNS = 3
SURE = 0.05  # of q: pairs that are ringed
MOST_LABELS = 40  # codes of one side that are numbered


def plot_token_usage(
    counts: Mapping[str, Int[Tensor, "code"]], other: Mapping[str, Int[Tensor, "code"]]
) -> Figure:
    """Share of each code, a panel per quantiser: bars of the truth, dots of a model.

    Codes stand in the order of the truth's shares, the most frequent first, so that a dot to the right
    of the bars is a code that the truth never uses.

    Args:
        counts: By the quantiser's name, how often each code stands for the truth.
        other: The same of the model, same names and sizes.

    Returns:
        A figure with a panel for each quantiser.

    Raises:
        ValueError: If names or numbers of codes differ, or there is none.
    """
    sizes, found = ({k: len(v) for k, v in c.items()} for c in (counts, other))
    if not sizes or sizes != found:
        raise ValueError(f"counts have codes {sizes}, other {found}; expected the same, not empty.")
    columns = min(COLUMNS, len(counts))
    rows = -(-len(counts) // columns)
    figure = new_figure(WIDTH, 1.7 * rows + 0.3)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(counts) :]:
        axes.set_visible(False)
    for axes, name in zip(grid, counts, strict=False):
        _usage_panel(axes, name, counts[name], other[name])
    add_legend(grid[0], loc="upper right")
    return figure


def _usage_panel(axes: Axes, name: str, counts: Tensor, other: Tensor) -> None:
    order = counts.argsort(descending=True, stable=True)
    places = np.arange(len(counts))
    truth, model = (to_numpy(c[order] / c.sum().clamp(min=1)) for c in (counts, other))
    axes.bar(places, truth, width=0.9, color=GREY, alpha=0.5, label="truth")
    axes.plot(places, model, ".", color=BLUE, markersize=4, label="rollouts")
    style_axes(axes, xlabel="code, by the truth's use", ylabel="share", title=name)
    axes.set_ylim(bottom=0.0)
    whole_steps(axes)


def plot_distances(
    distances: Float[Tensor, "feature"],
    null: Float[Tensor, "feature"],
    *,
    names: Sequence[str],
    most: int = 20,
) -> Figure:
    """Wasserstein distances of the columns that lie furthest apart, each beside its null.

    Args:
        distances: Of each column.
        null: What chance gives, of each column, same unit.
        names: Of the columns.
        most: Columns to show: those with the largest distances.

    Returns:
        A figure, the largest distance on top.

    Raises:
        ValueError: If there is not one name for each, or nothing to show.
    """
    if not 1 <= len(names) == len(distances) == len(null) or most < 1:
        raise ValueError(
            f"need one name and null for each distance, got {len(names)}, {len(null)} and "
            f"{len(distances)}, and at least one to show, got {most}."
        )
    shown = distances.argsort(descending=True, stable=True)[:most]
    figure = new_figure(WIDTH, 0.19 * len(shown) + 0.8)
    axes = figure.subplots()
    places = np.arange(len(shown))
    axes.plot(to_numpy(distances[shown]), places, "o", color=BLUE, markersize=4, label="rollouts")
    axes.plot(
        to_numpy(null[shown]), places, "|", color=VERMILION, markersize=9, label="95 % of chance"
    )
    style_axes(axes, xlabel="Wasserstein-1 distance (training standard deviations)", ylabel="")
    labels: list[str] = [str(names[i]) for i in shown.tolist()]
    axes.set_yticks(places, labels, fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(left=0.0)
    add_legend(axes, loc="lower right")
    return figure


def plot_alignment(alignment: Alignment, *, names: tuple[str, str] = ("a", "b")) -> Figure:
    """Similarity of every code of one vocabulary to every one of the other, pairs on the diagonal.

    Red is alike, blue opposite, on a scale of −1 to 1. Rings are the pairs that hold at q < 0.05. Pairs come first,
    best on top; codes without a partner follow.

    Args:
        alignment: From `compute_alignment`.
        names: Of the two vocabularies.

    Returns:
        A figure with a colour bar of similarities.
    """
    rows, columns = (
        _partners_first([getattr(pair, side) for pair in alignment.pairs], numbers.tolist())
        for side, numbers in (("a", alignment.rows), ("b", alignment.columns))
    )
    place = [{n: i for i, n in enumerate(v.tolist())} for v in (alignment.rows, alignment.columns)]
    matrix = to_numpy(alignment.matrix)
    shown = matrix[np.ix_([place[0][n] for n in rows], [place[1][n] for n in columns])]
    height = min(8.0, max(2.6, 5.6 * len(rows) / len(columns)))
    figure = new_figure(WIDTH, height)
    axes = figure.subplots()
    image = axes.imshow(shown, vmin=-1.0, vmax=1.0, cmap="RdBu_r", interpolation="nearest")
    sure = [i for i, pair in enumerate(alignment.pairs) if pair.q < SURE]
    size = max(2.0, 160.0 / max(shown.shape))
    for colour, width in (("white", 2.2), (INK, 0.9)):  # seen on dark cells and on pale ones
        ring = {"color": colour, "markersize": size, "markeredgewidth": width}
        axes.plot(sure, sure, "o", fillstyle="none", **ring)
    axes.set_xlabel(f"code of {names[1]}", fontsize=FONT, color=INK)
    axes.set_ylabel(f"code of {names[0]}", fontsize=FONT, color=INK)
    _numbered(axes, columns, rows)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("similarity", fontsize=FONT, color=INK)
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    return figure


def _partners_first(paired: list[int], numbers: list[int]) -> list[int]:
    return [*paired, *(number for number in numbers if number not in set(paired))]


def _numbered(axes: Axes, columns: Sequence[int], rows: Sequence[int]) -> None:
    """The codes' own numbers as ticks, where they can be read."""
    axes.tick_params(labelsize=SMALL, colors=INK, length=0)
    for axis, numbers in ((axes.xaxis, columns), (axes.yaxis, rows)):
        step = -(-len(numbers) // MOST_LABELS)
        axis.set_ticks(range(0, len(numbers), step), [str(n) for n in numbers[::step]])
        axis.set_tick_params(rotation=90 if axis is axes.xaxis and len(numbers) > 20 else 0)
