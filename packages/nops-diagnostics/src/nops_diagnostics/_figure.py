"""One visual style for every plot, set on the figure itself: no global matplotlib state."""

import io
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from torch import Tensor

WIDTH = 7.2  # inches; two columns of a journal page
DPI = 200
FONT = 9.0
SMALL = 8.0
INK = "#222222"
FAINT = "#d9d9d9"

# Okabe and Ito's palette, told apart by every common kind of colour vision; line styles repeat the
# distinction for print in grey.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY, GREY = "#CC79A7", "#E69F00", "#56B4E9", "#6F6F6F"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
BASELINES = {
    "persistence": (ORANGE, DASHES[1]),
    "mean": (GREEN, DASHES[3]),
    "zero": (GREY, DASHES[2]),
    "noise_floor": (PURPLE, DASHES[1]),
}


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure in inches, drawn by Agg."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white", dpi=100)
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def style_axes(axes: Axes, *, xlabel: str, ylabel: str, title: str = "") -> None:
    """Labels, two spines, small outward ticks and a faint grid."""
    axes.set_xlabel(xlabel, fontsize=FONT, color=INK)
    axes.set_ylabel(ylabel, fontsize=FONT, color=INK)
    if title:
        axes.set_title(title, fontsize=FONT, color=INK, loc="left", fontweight="bold")
    axes.tick_params(labelsize=SMALL, colors=INK, width=0.6, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.6, color=INK)
    axes.grid(True, which="major", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def add_legend(axes: Axes, **options: Any) -> None:
    """A small legend on a white plate, if there is anything to name."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=SMALL, framealpha=0.85, edgecolor=FAINT, handlelength=2.4, **options)


def log_scale_if_positive(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic ordinate where every finite value is above zero and they span a factor of 5.

    Over less than two decades the ticks at 2 and 5 are labelled as well.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or min(finite) <= 0 or max(finite) <= 5 * min(finite):
        return
    axes.set_yscale("log")
    label_decades(axes, narrow=bool(max(finite) < 100 * min(finite)))


def label_decades(axes: Axes, *, narrow: bool) -> None:
    """Small ticks on a logarithmic ordinate, with those at 2 and 5 labelled if it is narrow."""
    axes.yaxis.set_minor_formatter(FuncFormatter(_two_and_five) if narrow else NullFormatter())
    axes.tick_params(which="minor", labelsize=SMALL, colors=INK, width=0.4, length=2)


def power_of(symbol: str, exponent: float) -> str:
    """`symbol` to a power as a factor in a formula, simple fractions as such; nothing for 0."""
    fraction = Fraction(exponent).limit_denominator(9)
    simple = math.isclose(fraction, exponent, rel_tol=1e-9)
    return f"{symbol}^{{{fraction if simple else format(exponent, '.3g')}}}\\," if exponent else ""


def whole_steps(axes: Axes) -> None:
    """Ticks of the abscissa at round whole numbers only."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, steps=[1, 2, 5, 10]))


def style_of(index: int) -> dict[str, Any]:
    """Colour and line style of the `index`-th line of a family."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": DASHES[index % len(DASHES)],
    }


def styles_of(
    names: Iterable[str], order: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Colour and line style of each line, by the place of its name in `order`, or after all of it."""
    drawn = list(names)
    places = list(dict.fromkeys([*(order or ()), *drawn]))
    return {name: style_of(places.index(name)) for name in drawn}


def with_unit(name: str, unit: str) -> str:
    """`name (unit)`, or `name` for what has no unit."""
    return f"{name} ({unit})" if unit else name


def _two_and_five(value: float, _position: int) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    digit = round(value / 10.0**exponent)
    return rf"${digit}\times10^{{{exponent}}}$" if digit in (2, 5) else ""


def to_numpy(values: Tensor) -> np.ndarray:
    """A float64 array on the CPU, free of the graph."""
    return values.detach().to("cpu").double().numpy()
