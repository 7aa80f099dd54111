"""Spectra along time: how each wave number's energy goes, and the energy of each frequency."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from nops_diagnostics._figure import (
    FAINT,
    FONT,
    INK,
    SMALL,
    WIDTH,
    add_legend,
    new_figure,
    power_of,
    style_axes,
    styles_of,
    to_numpy,
    whole_steps,
    with_unit,
)
from nops_diagnostics._plot_fields import (
    ERRORS,
    VALUES,
    check_fields,
    scale_energy,
    shells,
    spectrum_line,
    squared,
    wave_label,
)
from nops_diagnostics._spectra import SpaceWindow, empty_share
from nops_diagnostics._temporal_spectrum import Window, temporal_spectrum

FACTOR = 10.0  # ratio to the reference where its colours end
MIN_PANEL = 1.9  # inches


def plot_temporal_spectrum(
    fields: Mapping[str, Float[Tensor, "sample time channel *space"]],
    *,
    frame_interval: float,
    compensate: float = 2.0,
    band: tuple[float, float] = (0.05, 0.95),
    window: Window = "none",
    spatial_dims: int = 2,
    unit: str = "",
    time_unit: str = "",
    order: Sequence[str] | None = None,
) -> Figure:
    """Energy by frequency of several trajectories, from the time series at every point.

    Lines are means over samples of `temporal_spectrum`, summed over channels; bands run between
    quantiles over samples. Frequency 0 is left out; the range is that of the first field.

    Args:
        fields: By name, in drawing order, the reference first; one shape.
        frame_interval: Physical time between frames.
        compensate: Energies are multiplied by `f ** compensate`.
        band: The two quantiles.
        window: See `temporal_spectrum`; named on the figure.
        spatial_dims: Number of trailing axes that are space.
        unit: Of the field, for the label.
        time_unit: Of `frame_interval`, for the label.
        order: Names whose place decides colour and dashes, so that a name looks alike in several
            figures; those drawn and not in it follow. None takes those drawn here.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no field, shapes differ or there are fewer than two frames.

    Source:
        Kohl, Chen and Thuerey, arXiv 2309.01745, figures of f^2-weighted temporal spectra.
    """
    check_fields(fields, spatial_dims=spatial_dims)
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    for name, style in styles_of(fields, order).items():
        spectrum = temporal_spectrum(
            fields[name], frame_interval=frame_interval, window=window, spatial_dims=spatial_dims
        )
        frequency, energies = (to_numpy(part[..., 1:]) for part in spectrum)
        energies = energies * frequency**compensate
        spectrum_line(axes, frequency, energies, band=band, style=style, label=name)
    style_axes(
        axes,
        xlabel=f"frequency (cycles / {time_unit or 'time'})",
        ylabel=f"${power_of('f', compensate)}E(f)$" + squared(unit),
        title="no window" if window == "none" else "Hann window",
    )
    axes.set_xscale("log")
    scale_energy([axes], empty=empty_share(next(iter(fields.values()))))
    add_legend(axes, loc="best")
    return figure


def plot_spectrum_evolution(
    fields: Mapping[str, Float[Tensor, "sample time channel *space"]],
    *,
    frame_interval: float | None = None,
    compensate: float = 0.0,
    lengths: tuple[float, ...] | None = None,
    window: SpaceWindow = "none",
    spatial_dims: int = 2,
    unit: str = "",
    length_unit: str = "",
    time_unit: str = "",
) -> Figure:
    """The energy spectrum over lead time: the first field's own, the others' ratio to it.

    Energies per shell are summed over channels and averaged over samples before the ratio; shells
    from 1 to the smallest Nyquist wave number. Colours of ratios end at a tenth and at ten times.
    Grey is what is not finite, or where the first field is empty: holds no more than the share of its energy that `spectrum_error` leaves out, 1e-10 for float32.

    Args:
        fields: By name, the reference first; without the initial state, one shape.
        frame_interval: Physical time between frames; the abscissa counts steps if None.
        compensate: Energies of the first panel are multiplied by `k ** compensate`.
        lengths: Physical extent of each axis; None counts cycles per domain.
        window: As in `plot_spectra`.
        spatial_dims: Number of trailing axes that are space.
        unit: Of the field, for the label.
        length_unit: Of `lengths`, for the label.
        time_unit: Of `frame_interval`, for the label.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no field or shapes differ.
    """
    check_fields(fields, spatial_dims=spatial_dims)
    names = list(fields)
    options = {"lengths": lengths, "window": window, "spatial_dims": spatial_dims}
    k, energies = _evolutions(fields, options)
    empty = empty_share(fields[names[0]]) * energies[0].sum(-1, keepdims=True)
    energies[0][~(energies[0] > empty)] = np.nan
    figure = new_figure(max(WIDTH, MIN_PANEL * len(names) + 1.0), 2.9)
    panels = list(figure.subplots(1, len(names), squeeze=False, sharex=True, sharey=True).flat)
    leads = np.arange(1, energies.shape[1] + 1) * (frame_interval or 1.0)
    first = energies[0] * k**compensate
    _image(panels[0], leads, k, first, limits=_limits(first), colours=VALUES)
    label = f"${power_of('k', compensate)}E(k)$" + squared(unit)
    _colour_bar(figure, panels[:1], label=label, extend="neither")
    ratios = energies[1:] / energies[0]
    for panel, ratio in zip(panels[1:], ratios, strict=True):
        _image(panel, leads, k, ratio, limits=(1 / FACTOR, FACTOR), colours=ERRORS)
    if len(names) > 1:
        _colour_bar(figure, panels[1:], label=f"energy / energy of {names[0]}", extend="both")
    wave = wave_label(lengths=lengths, length_unit=length_unit, window=window)
    time = "lead time (steps)" if frame_interval is None else with_unit("lead time", time_unit)
    for panel, name in zip(panels, names, strict=True):
        style_axes(panel, xlabel=time, ylabel=wave, title=name)
        panel.grid(False)
        panel.label_outer()
        if frame_interval is None:
            whole_steps(panel)
    panels[0].set_yscale("log")
    return figure


def _evolutions(
    fields: Mapping[str, Tensor], options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers `[shell]` and mean energies `[field, time, shell]`, one lead at a time."""
    k, rows = np.zeros(0), []
    for field in fields.values():
        frames = [shells(u, **options) for u in field.unbind(1)]
        k = frames[0][0]
        rows.append(np.stack([energy.mean(0) for _, energy in frames]))
    return k, np.stack(rows)


def _limits(energy: np.ndarray) -> tuple[float, float]:
    """What the energies span; a decade where there is none, or one value alone."""
    seen = energy[np.isfinite(energy)]
    high = float(seen.max()) if seen.size else 1.0
    low = float(seen.min()) if seen.size else 0.1
    return (low, high) if low < high else (0.1 * high, high)


def _image(
    panel: Axes,
    leads: np.ndarray,
    k: np.ndarray,
    values: np.ndarray,
    *,
    limits: tuple[float, float],
    colours: str,
) -> None:
    half = 0.5 * leads[0]
    sides = np.append(leads - half, leads[-1] + half)
    edges = np.append(k - 0.5 * k[0], k[-1] + 0.5 * k[0])
    shown = np.ma.masked_invalid(values).T
    panel.pcolormesh(
        sides,
        edges,
        np.ma.maximum(shown, limits[0] * 1e-3),  # LogNorm has no colour for 0
        norm=LogNorm(*limits),
        cmap=colormaps[colours].with_extremes(bad=FAINT),
        rasterized=True,
    )
    panel.set_facecolor(FAINT)


def _colour_bar(figure: Figure, panels: list[Axes], *, label: str, extend: str) -> None:
    bar = figure.colorbar(panels[0].collections[0], ax=panels, extend=extend, pad=0.03)
    bar.set_label(label, fontsize=FONT, color=INK)
    bar.ax.tick_params(which="both", labelsize=SMALL, colors=INK, width=0.6, length=3)
    bar.outline.set_linewidth(0.5)  # pyright: ignore
