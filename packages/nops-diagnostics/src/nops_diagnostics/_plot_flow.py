"""Budgets of a flow over lead time, and the energy of its proper orthogonal modes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from nops_diagnostics._figure import (
    FONT,
    INK,
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
from nops_diagnostics._flow import FlowDrift
from nops_diagnostics._plot_fields import check_fields, scale_energy, squared
from nops_diagnostics._pod import proper_modes

PARTS = {
    "energy": "energy / truth − 1",
    "enstrophy": "enstrophy / truth − 1",
    "divergence": "divergence / vorticity",
}


def plot_flow_drift(
    results: Mapping[str, FlowDrift],
    *,
    band: tuple[float, float] = (0.05, 0.95),
    frame_interval: float | None = None,
    time_unit: str = "",
    order: Sequence[str] | None = None,
) -> Figure:
    """How far energy, enstrophy and divergence of rollouts are from the truth's, a panel each.

    Lines are means over samples, bands run between quantiles; the third panel is the root mean
    square divergence over the root mean square vorticity of the truth, both per frame.

    Args:
        results: By name, in drawing order, from `flow_drift` of `[sample, time]` frames.
        band: The two quantiles.
        frame_interval: Physical time between frames; the abscissa counts steps if None.
        time_unit: Of `frame_interval`, for the label.
        order: Names whose place decides colour and dashes, so that a name looks alike in several
            figures; those drawn and not in it follow. None takes those drawn here.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no result, or one has other axes than sample and time.
    """
    axes = {name: result.energy.ndim for name, result in results.items()}
    if set(axes.values()) != {2}:
        raise ValueError(f"need results with the axes sample and time, got {axes} axes.")
    figure = new_figure(WIDTH, 2.7)
    panels = figure.subplots(1, len(PARTS))
    for panel, (part, label) in zip(panels, PARTS.items(), strict=True):
        for name, style in styles_of(results, order).items():
            values = to_numpy(getattr(results[name], part))
            leads = np.arange(1, values.shape[1] + 1) * (frame_interval or 1.0)
            panel.plot(leads, values.mean(0), linewidth=1.5, label=name, **style)
            with np.errstate(invalid="ignore"):
                low, high = np.quantile(values, band, axis=0)
            panel.fill_between(leads, low, high, color=style["color"], alpha=0.15, linewidth=0)
        style_axes(panel, xlabel="", ylabel=label)
        if frame_interval is None:
            whole_steps(panel)
        if part == "divergence":
            log_scale_if_positive(panel, [y for line in panel.lines for y in line.get_ydata()])
        else:
            panel.axhline(0.0, color=INK, linewidth=0.8)
    label = "lead time (steps)" if frame_interval is None else with_unit("lead time", time_unit)
    figure.supxlabel(label, fontsize=FONT, color=INK)
    add_legend(panels[0], loc="best")
    return figure


def plot_proper_modes(
    fields: Mapping[str, Float[Tensor, "sample time channel *space"]],
    *,
    channels: Sequence[str] | None = None,
    spatial_dims: int = 2,
    unit: str = "",
    order: Sequence[str] | None = None,
) -> Figure:
    """Mean square that each proper orthogonal mode of the fluctuations holds, a panel per channel.

    Every field has modes of its own, from `proper_modes`: all frames of all samples are snapshots,
    and the mean over them is taken out, which leaves one mode less than snapshots. A field that is not finite is named and left out.

    Args:
        fields: By name, in drawing order, the reference first; one shape.
        channels: Their names, for the titles; None counts them.
        spatial_dims: Number of trailing axes that are space.
        unit: Of the field, for the label.
        order: Names whose place decides colour and dashes, so that a name looks alike in several
            figures; those drawn and not in it follow. None takes those drawn here.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no field, shapes differ, or `channels` has not a name for each.

    Source:
        Sirovich, "Turbulence and the dynamics of coherent structures", Q. Appl. Math. 45 (1987).
    """
    check_fields(fields, spatial_dims=spatial_dims)
    count = next(iter(fields.values())).shape[2]
    names = [f"channel {i + 1}" for i in range(count)] if channels is None else list(channels)
    if len(names) != count:
        raise ValueError(f"channels={names}: expected a name for each of {count} channels.")
    columns = min(count, len(PARTS))
    rows = -(-count // columns)
    figure = new_figure(WIDTH, 0.4 + 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    energies = {name: _energies(field, spatial_dims) for name, field in fields.items()}
    styles = styles_of(energies, order)
    for i, panel in enumerate(grid.flat):
        panel.set_visible(i < count)
        for name, style in styles.items() if i < count else ():
            energy = energies[name]
            label = name if np.isfinite(energy).all() else f"{name} (not finite)"
            modes = np.arange(1, energy.shape[1] + 1)
            panel.plot(modes, energy[i], linewidth=1.5, label=label, **style)
        style_axes(panel, xlabel="", ylabel="", title=names[i] if i < count else "")
        panel.label_outer()
    grid[0, 0].set_xscale("log")
    scale_energy(list(grid.flat[:count]), empty=1e-10)
    figure.supxlabel("mode", fontsize=FONT, color=INK)
    figure.supylabel("mean square" + squared(unit), fontsize=FONT, color=INK)
    add_legend(grid[0, 0], loc="lower left")
    return figure


def _energies(field: Tensor, spatial_dims: int) -> np.ndarray:
    """Energy `[channel, mode]`; NaN for a field that is not finite."""
    samples, frames, channels, *space = field.shape
    most = max(min(samples * frames - 1, math.prod(space)), 1)
    if not bool(field.isfinite().all()):
        return np.full((channels, most), np.nan)
    return to_numpy(proper_modes(field, num_modes=most, spatial_dims=spatial_dims).energy)
