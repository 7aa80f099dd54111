"""How often each code of each table is used."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from nops_diagnostics._codebook_usage import CodebookUsage
from nops_diagnostics._figure import BLUE, FONT, GREY, INK, WIDTH, new_figure, style_axes

COLUMNS = 3


def plot_usage(usage: Mapping[str, CodebookUsage]) -> Figure:
    """Share of each code among the chosen ones, the most used first, a panel per table.

    A line marks the share 1/K of an even use.

    Args:
        usage: By name of the table, one at least.

    Returns:
        A figure with a panel for each table.

    Raises:
        ValueError: If there is none.
    """
    if not usage:
        raise ValueError("usage is empty: there is no table to draw.")
    rows = math.ceil(len(usage) / COLUMNS)
    figure = new_figure(WIDTH, 0.4 + 1.5 * rows)
    panels = np.atleast_1d(figure.subplots(rows, COLUMNS, squeeze=False)).ravel()
    for axes, (name, one) in zip(panels, usage.items(), strict=False):
        counts = np.sort(one.counts.cpu().numpy())[::-1]
        shares = counts / max(int(counts.sum()), 1)
        axes.bar(np.arange(1, len(shares) + 1), shares, width=0.9, color=BLUE)
        axes.axhline(1 / len(shares), color=GREY, linewidth=0.9, linestyle=(0, (5, 1.5)))
        style_axes(axes, xlabel="", ylabel="")
        axes.set_title(name, fontsize=FONT, color=INK, loc="left")
    for axes in panels[len(usage) :]:
        axes.set_visible(False)
    figure.supxlabel("code, by use", fontsize=FONT, color=INK)
    figure.supylabel("share", fontsize=FONT, color=INK)
    return figure
