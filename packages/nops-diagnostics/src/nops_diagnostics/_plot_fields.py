"""Pictures of rollouts beside the truth, and their energy spectra."""

from collections.abc import Mapping, Sequence

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
    new_figure,
    style_axes,
    style_of,
    to_numpy,
    with_unit,
)
from nops_diagnostics._format import MISSING, format_number
from nops_diagnostics._layout import as_double, check_axes, check_pair, pick_leads
from nops_diagnostics._spectra import inside_nyquist

VALUES, ERRORS = "viridis", "RdBu_r"  # both even in lightness and safe for colour-blind readers
MAX_PANELS = 3  # spectra side by side


def plot_rollout(
    pred: Float[Tensor, "time height width"],
    target: Float[Tensor, "time height width"],
    *,
    lead_times: Sequence[int],
    field_name: str = "field",
    unit: str = "",
    lead_name: str = "lead",
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
        lead_name: Word before the number of each column.

    Raises:
        ValueError: If the shapes differ or a lead lies outside the rollout.
    """
    check_pair(pred, target, spatial_dims=2)
    leads = pick_leads(len(target), tuple(lead_times))
    index = [lead - 1 for lead in leads]
    truth, rollout = to_numpy(target[index]), to_numpy(pred[index])
    with np.errstate(invalid="ignore"):
        error = rollout - truth
    height, width = truth.shape[1:]
    cell = (WIDTH - 1.3) / len(leads)
    figure = new_figure(WIDTH, 3 * cell * min(height / width, 2.0) + 0.5)
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
    for column, lead in enumerate(leads):
        axes[0, column].set_title(f"{lead_name} {lead}", fontsize=FONT, color=INK)
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
    lead_times: Sequence[int],
    compensate: float = 0.0,
    band: tuple[float, float] = (0.05, 0.95),
    lengths: tuple[float, ...] | None = None,
    spatial_dims: int = 2,
    unit: str = "",
    length_unit: str = "",
) -> Figure:
    """Energy spectra of several fields at chosen lead times, one panel per lead.

    Lines are means over samples of the energy per shell, summed over channels (pass
    `field[:, :, i : i + 1]` for one of them); bands run between quantiles over samples. Shells
    from 1 to the smallest Nyquist wave number are shown, in the range of the first field.

    Args:
        fields: By name, in drawing order, the reference first, such as
            `{"truth": target, "rollout": pred}`; without the initial state, one shape.
        lead_times: Which leads, 1-based and increasing.
        compensate: Energies are multiplied by `k ** compensate`; 5/3 makes an inertial range flat.
        band: The two quantiles.
        lengths: Physical extent of each axis; None counts cycles per domain.
        spatial_dims: Number of trailing axes that are space.
        unit: Of the field, for the label.
        length_unit: Of `lengths`, for the label.

    Raises:
        ValueError: If there is no field, shapes differ or a lead lies outside them.
    """
    _check_fields(fields, spatial_dims=spatial_dims)
    first = next(iter(fields.values()))
    leads = pick_leads(first.shape[1], tuple(lead_times))
    columns = min(len(leads), MAX_PANELS)
    rows = -(-len(leads) // columns)
    figure = new_figure(WIDTH, 0.4 + 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    power = f"k^{{{compensate:.3g}}}\\," if compensate else ""
    energy = f"${power}E(k)$" + _squared(unit)
    per = f"rad / {length_unit}" if length_unit else "rad / length"
    wave = with_unit("wave number", "cycles per domain" if lengths is None else per)
    for axes, lead in zip(grid.flat, leads, strict=False):
        for index, (name, field) in enumerate(fields.items()):
            k, energies = _shells(field[:, lead - 1], lengths=lengths, spatial_dims=spatial_dims)
            _spectrum_line(axes, k, energies * k**compensate, band=band, index=index, label=name)
        style_axes(axes, xlabel="", ylabel="", title=f"lead {lead}")
        axes.label_outer()
    grid[0, 0].set_xscale("log")
    _scale_energy(list(grid.flat[: len(leads)]))
    figure.supxlabel(wave, fontsize=FONT, color=INK)
    figure.supylabel(energy, fontsize=FONT, color=INK)
    for axes in grid.flat[len(leads) :]:
        axes.set_visible(False)
    add_legend(grid[0, 0], loc="lower left")
    return figure


def _squared(unit: str) -> str:
    if not unit:
        return ""
    return f" in {unit}²" if unit.isalpha() else f" in ({unit})²"


def _check_fields(fields: Mapping[str, Tensor], *, spatial_dims: int) -> None:
    shapes = {name: tuple(field.shape) for name, field in fields.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"need one or more fields of one shape, got {shapes}.")
    for name, field in fields.items():
        check_axes(name, field, spatial_dims=spatial_dims, leading=2)


def _shells(
    frame: Tensor, *, lengths: tuple[float, ...] | None, spatial_dims: int
) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers `[shell]` and energies `[sample, shell]` inside the Nyquist limit."""
    spectrum = energy_spectrum(as_double(frame), lengths=lengths, spatial_dims=spatial_dims)
    grid = tuple(frame.shape[-spatial_dims:])
    kept = inside_nyquist(spectrum.wavenumber, grid=grid, lengths=lengths)
    return to_numpy(spectrum.wavenumber[kept]), to_numpy(spectrum.energy[:, kept])


def _spectrum_line(
    axes: Axes,
    k: np.ndarray,
    energies: np.ndarray,
    *,
    band: tuple[float, float],
    index: int,
    label: str,
) -> None:
    style = style_of(index)
    axes.plot(k, energies.mean(0), linewidth=1.5, label=label, **style)
    if len(energies) > 1 and np.isfinite(energies).all():
        low, high = np.quantile(energies, band, axis=0)
        axes.fill_between(k, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _scale_energy(panels: Sequence[Axes]) -> None:
    """Show what the first field spans, at most 12 decades of it; linear if it has no energy."""
    truth = np.concatenate([np.asarray(axes.lines[0].get_ydata(), float) for axes in panels])
    drawn = [np.asarray(line.get_ydata(), float) for axes in panels for line in axes.lines]
    truth, drawn = truth[truth > 0], np.concatenate(drawn)
    if not truth.size:
        return
    highest = min(np.max(drawn[np.isfinite(drawn)]), 1e4 * truth.max())
    panels[0].set_ylim(max(truth.min(), 1e-12 * truth.max()) / 3.0, 3.0 * highest)
    panels[0].set_yscale("log")  # after the limits: nothing is left to be scaled automatically


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
