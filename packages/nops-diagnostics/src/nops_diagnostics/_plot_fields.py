"""Pictures of rollouts beside the truth, and their energy spectra."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nops_losses import energy_spectrum
from torch import Tensor

from nops_diagnostics._figure import (
    FAINT,
    FONT,
    INK,
    SMALL,
    WIDTH,
    add_legend,
    label_decades,
    new_figure,
    power_of,
    style_axes,
    styles_of,
    to_numpy,
    with_unit,
)
from nops_diagnostics._format import MISSING, format_number
from nops_diagnostics._layout import as_double, check_axes, check_pair, pick_leads
from nops_diagnostics._spectra import SpaceWindow, empty_share, inside_nyquist, tapering

VALUES, ERRORS = "viridis", "RdBu_r"  # both even in lightness and safe for colour-blind readers
MAX_PANELS = 3  # side by side
MAX_HEIGHT = 6.0  # inches, of the three rows of fields


def plot_rollout(
    pred: Float[Tensor, "time height width"],
    target: Float[Tensor, "time height width"],
    *,
    lead_times: Sequence[int],
    field_name: str = "field",
    unit: str = "",
    titles: Sequence[str] | None = None,
) -> Figure:
    """Truth, rollout and error of one trajectory and channel at chosen lead times.

    Truth and rollout share one colour scale, the range of the truth over the leads shown; errors
    share another, symmetric about zero and no wider than that range. A colour bar with pointed
    ends says that values lie beyond it; cells that are not finite are grey. The first axis of
    space points up.

    Args:
        pred: Rollout without the initial state; frame `j` is lead time `j + 1`.
        target: Truth at the same times, same shape and unit.
        lead_times: Which leads, 1-based and increasing, one column each.
        field_name: Name of the channel, for the colour bar.
        unit: Of the channel, for the colour bar.
        titles: Of the columns, one each; None: "lead" and its number.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If the shapes differ, a lead lies outside the rollout, or titles are not one for
            each lead.
    """
    check_pair(pred, target, spatial_dims=2)
    leads = pick_leads(len(target), tuple(lead_times))
    titles = [f"lead {lead}" for lead in leads] if titles is None else titles
    if len(titles) != len(leads):
        raise ValueError(f"titles must be {len(leads)}, one for each lead, got {list(titles)}.")
    index = [lead - 1 for lead in leads]
    truth, rollout = to_numpy(target[index]), to_numpy(pred[index])
    with np.errstate(invalid="ignore"):
        error = rollout - truth
    height, width = truth.shape[1:]
    shape = min(height / width, 2.0)
    cell = min((WIDTH - 1.3) / len(leads), MAX_HEIGHT / (3 * shape))  # one picture is no page high
    figure = new_figure(len(leads) * cell + 1.3, 3 * cell * shape + 0.5)
    axes = figure.subplots(3, len(leads), squeeze=False)
    low, high = float(truth.min()), float(truth.max())
    span = _error_span(error, low=low, high=high)
    for row, (name, frames, limits, colours) in enumerate(
        (
            ("truth", truth, (low, high), VALUES),
            ("rollout", rollout, (low, high), VALUES),
            ("error", error, (-span, span), ERRORS),
        )
    ):
        _image_row(axes[row], frames, name=name, limits=limits, colours=colours)
    for column, title in enumerate(titles):
        axes[0, column].set_title(title, fontsize=FONT, color=INK)
        axes[2, column].set_xlabel(
            f"rel. L2 {_relative_error(error[column], truth[column])}", fontsize=SMALL, color=INK
        )
    label = with_unit(field_name, unit)
    _colour_bar(figure, axes[:2], label=label, values=rollout, low=low, high=high)
    label = with_unit("rollout − truth", unit)
    _colour_bar(figure, axes[2:], label=label, values=error, low=-span, high=span)
    return figure


def plot_spectra(
    fields: Mapping[str, Float[Tensor, "sample time channel *space"]],
    *,
    lead_times: Sequence[int] | None = None,
    compensate: float = 0.0,
    band: tuple[float, float] = (0.05, 0.95),
    lengths: tuple[float, ...] | None = None,
    window: SpaceWindow = "none",
    spatial_dims: int = 2,
    unit: str = "",
    length_unit: str = "",
    order: Sequence[str] | None = None,
) -> Figure:
    """Energy spectra of several fields, one panel per chosen lead time or one for all frames.

    Lines are means over samples of the energy per shell, summed over channels (pass
    `field[:, :, i : i + 1]` for one of them); bands run between quantiles over samples. Shells
    from 1 to the smallest Nyquist wave number are shown, in the range of the first field.

    Args:
        fields: By name, in drawing order, the reference first, such as
            `{"truth": target, "rollout": pred}`; without the initial state, one shape.
        lead_times: Which leads, 1-based and increasing. None draws one panel of all frames, in
            which lines are means and bands quantiles over samples and frames.
        compensate: Energies are multiplied by `k ** compensate`; 5/3 makes an inertial range flat.
        band: The two quantiles.
        lengths: Physical extent of each axis; None counts cycles per domain.
        window: `"none"` for periodic fields. `"hann"` or `"tukey"` for others: each frame's mean
            is taken out, the rest tapered and its energy divided by the window's mean square; the
            figure names it.
        spatial_dims: Number of trailing axes that are space.
        unit: Of the field, for the label.
        length_unit: Of `lengths`, for the label.
        order: Names whose place decides colour and dashes, so that a name looks alike in several
            figures; those drawn and not in it follow. None takes those drawn here.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no field, shapes differ, a lead lies outside them, or the window
            is unknown.
    """
    check_fields(fields, spatial_dims=spatial_dims)
    panels = _frames(fields, lead_times)
    columns = 2 if len(panels) == 4 else min(len(panels), MAX_PANELS)
    rows = -(-len(panels) // columns)
    figure = new_figure(WIDTH, 0.4 + 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    energy = f"${power_of('k', compensate)}E(k)$" + squared(unit)
    options = {"lengths": lengths, "window": window, "spatial_dims": spatial_dims}
    for axes, (title, frames) in zip(grid.flat, panels.items(), strict=False):
        for name, style in styles_of(frames, order).items():
            k, energies = shells(frames[name], **options)
            spectrum_line(axes, k, energies * k**compensate, band=band, style=style, label=name)
        style_axes(axes, xlabel="", ylabel="", title=title)
        axes.label_outer()
    grid[0, 0].set_xscale("log")
    empty = empty_share(next(iter(fields.values())))
    scale_energy(list(grid.flat[: len(panels)]), empty=empty)
    wave = wave_label(lengths=lengths, length_unit=length_unit, window=window)
    figure.supxlabel(wave, fontsize=FONT, color=INK)
    figure.supylabel(energy, fontsize=FONT, color=INK)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    add_legend(grid[0, 0], loc="lower left")
    return figure


def _frames(
    fields: Mapping[str, Tensor], lead_times: Sequence[int] | None
) -> dict[str, dict[str, Tensor]]:
    """By panel and name the frames `[sample, channel, *space]` that are drawn."""
    if lead_times is None:
        return {"": {name: field.flatten(0, 1) for name, field in fields.items()}}
    leads = pick_leads(next(iter(fields.values())).shape[1], tuple(lead_times))
    return {
        f"lead {lead}": {name: field[:, lead - 1] for name, field in fields.items()}
        for lead in leads
    }


def wave_label(
    *, lengths: tuple[float, ...] | None, length_unit: str, window: SpaceWindow = "none"
) -> str:
    """The label of wave numbers with their unit, and the window if there is one."""
    per = f"rad / {length_unit}" if length_unit else "rad / length"
    label = with_unit("wave number", "cycles per domain" if lengths is None else per)
    return label if window == "none" else f"{label}, {window.capitalize()} window"


def squared(unit: str) -> str:
    """The label's part that names the square of `unit`."""
    if not unit:
        return ""
    return f" in {unit}²" if unit.isalpha() else f" in ({unit})²"


def check_fields(fields: Mapping[str, Tensor], *, spatial_dims: int) -> None:
    """Raise unless there are fields, of one shape with sample, time, channel and space."""
    shapes = {name: tuple(field.shape) for name, field in fields.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"need one or more fields of one shape, got {shapes}.")
    for name, field in fields.items():
        check_axes(name, field, spatial_dims=spatial_dims, leading=2)


def shells(
    frame: Tensor,
    *,
    lengths: tuple[float, ...] | None,
    spatial_dims: int,
    window: SpaceWindow = "none",
) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers `[shell]` and energies `[sample, shell]` inside the Nyquist limit."""
    options = {"lengths": lengths, "spatial_dims": spatial_dims, **tapering(window)}
    spectrum = energy_spectrum(as_double(frame), **options)
    grid = tuple(frame.shape[-spatial_dims:])
    kept = inside_nyquist(spectrum.wavenumber, grid=grid, lengths=lengths)
    return to_numpy(spectrum.wavenumber[kept]), to_numpy(spectrum.energy[:, kept])


def spectrum_line(
    axes: Axes,
    k: np.ndarray,
    energies: np.ndarray,
    *,
    band: tuple[float, float],
    style: Mapping[str, Any],
    label: str,
) -> None:
    """The mean over samples of `energies [sample, shell]`, and the band between its quantiles."""
    mean = energies.mean(0)
    label = label if np.isfinite(mean).any() else f"{label} (not finite)"
    axes.plot(k, mean, linewidth=1.5, label=label, **style)
    if len(energies) > 1 and np.isfinite(energies).all():
        low, high = np.quantile(energies, band, axis=0)
        axes.fill_between(k, low, high, color=style["color"], alpha=0.15, linewidth=0)


def scale_energy(panels: Sequence[Axes], *, empty: float) -> None:
    """Show where the first field has energy, and the others there; linear if it has none.

    Empty is what lies below the share `empty` of its largest energy, or below 12 decades; others
    are followed for four decades above and three below.
    """
    lines = [np.array([line.get_ydata() for line in axes.lines], float) for axes in panels]
    drawn = np.concatenate(lines, axis=1)  # [field, shell]
    truth = drawn[0]
    kept = (truth > 0) & (truth >= max(empty, 1e-12) * truth.max(initial=0.0))
    if not kept.any():
        return
    shown = drawn[:, kept]
    low = np.min(shown, initial=truth[kept].min(), where=shown > 1e-3 * truth[kept].min())
    high = np.max(shown, initial=truth[kept].max(), where=shown < 1e4 * truth[kept].max())
    panels[0].set_ylim(low / 3.0, 3.0 * high)
    panels[0].set_yscale("log")  # after the limits: nothing is left to be scaled automatically
    for axes in panels:
        label_decades(axes, narrow=bool(9.0 * high < 100.0 * low))


def _error_span(error: np.ndarray, *, low: float, high: float) -> float:
    """Half width of the error scale: the largest error, capped at the range of the truth."""
    finite = np.abs(error[np.isfinite(error)])
    largest = float(finite.max()) if finite.size else 0.0
    return min(largest, high - low) or 1.0


def _image_row(
    axes: np.ndarray, frames: np.ndarray, *, name: str, limits: tuple[float, float], colours: str
) -> None:
    palette = colormaps[colours].with_extremes(bad=FAINT)
    for panel, frame in zip(axes, frames, strict=True):
        panel.imshow(
            frame,
            origin="lower",
            cmap=palette,
            vmin=limits[0],
            vmax=limits[1],
            interpolation="nearest",
        )
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set(linewidth=0.5, color=INK)
    axes[0].set_ylabel(name, fontsize=FONT, color=INK)


def _colour_bar(
    figure: Figure, axes: np.ndarray, *, label: str, values: np.ndarray, low: float, high: float
) -> None:
    below, above = bool((values < low).any()), bool((values > high).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    bar = figure.colorbar(
        axes[0, 0].images[0],
        ax=axes,
        extend=extend.get((below, above), "both"),
        aspect=12 * len(axes),
        pad=0.02,
    )
    bar.set_label(label, fontsize=FONT, color=INK)
    bar.ax.tick_params(labelsize=SMALL, colors=INK, width=0.6, length=3)
    bar.outline.set_linewidth(0.5)  # pyright: ignore


def _relative_error(error: np.ndarray, truth: np.ndarray) -> str:
    size = float(np.linalg.norm(truth))
    return format_number(float(np.linalg.norm(error)) / size) if size > 0 else MISSING
