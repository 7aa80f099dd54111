"""Energy by direction: a spectrum along each axis, and the preference of each shell."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nops_losses import anisotropic_spectrum, energy_spectrum
from torch import Tensor

from nops_diagnostics._figure import (
    FONT,
    INK,
    WIDTH,
    add_legend,
    new_figure,
    style_axes,
    styles_of,
    to_numpy,
)
from nops_diagnostics._layout import as_double
from nops_diagnostics._plot_fields import (
    check_fields,
    scale_energy,
    spectrum_line,
    squared,
    wave_label,
)
from nops_diagnostics._spectra import SpaceWindow, empty_share, inside_nyquist, tapering


def plot_anisotropic_spectra(
    fields: Mapping[str, Float[Tensor, "sample time channel *space"]],
    *,
    band: tuple[float, float] = (0.05, 0.95),
    lengths: tuple[float, ...] | None = None,
    window: SpaceWindow = "none",
    spatial_dims: int = 2,
    unit: str = "",
    length_unit: str = "",
    order: Sequence[str] | None = None,
) -> Figure:
    """Energy over the wave number along each axis; in two dimensions also each shell's preference.

    Lines are means over samples and frames of `anisotropic_spectrum`, summed over channels; bands
    run between quantiles. A panel per axis shows E(k_i), energies at ±k_i added and those along
    the other axes summed. The last panel shows the ratio Σ P (k₁² − k₂²)/|k|² / Σ P per shell: 1
    where all energy varies along the first axis, −1 along the second, about 0 for isotropic
    fields; shells in which the first field has rounding alone are left out.

    Args:
        fields: By name, in drawing order, the reference first; one shape.
        band: The two quantiles.
        lengths: Physical extent of each axis; None counts cycles per domain.
        window: As in `plot_spectra`.
        spatial_dims: Number of trailing axes that are space.
        unit: Of the field, for the label.
        length_unit: Of `lengths`, for the label.
        order: Names whose place decides colour and dashes, so that a name looks alike in several
            figures; those drawn and not in it follow. None takes those drawn here.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If there is no field, shapes differ, or the window is unknown.
    """
    check_fields(fields, spatial_dims=spatial_dims)
    shown = spatial_dims + (spatial_dims == 2)
    figure = new_figure(WIDTH, 2.7)
    panels = list(figure.subplots(1, shown, squeeze=False)[0])
    empty = empty_share(next(iter(fields.values())))
    options = {"lengths": lengths, **tapering(window)}
    kept = None
    for name, style in styles_of(fields, order).items():
        frames = as_double(fields[name].flatten(0, 1))
        line: dict[str, Any] = {"band": band, "style": style, "label": name}
        found = anisotropic_spectrum(frames, spatial_dims=spatial_dims, **options)
        for axis in range(spatial_dims):
            k, energies = to_numpy(found.wavenumbers[axis]), to_numpy(found.energies[axis])
            inner = slice(1, len(k) - 1)
            spectrum_line(panels[axis], k[inner], energies[:, inner], **line)
        if found.ratio is not None:
            kept = _shells(frames, options, empty) if kept is None else kept
            k, inside = kept
            ratios = to_numpy(found.ratio)[:, inside]
            spectrum_line(panels[-1], k, ratios, **line)
    wave = wave_label(lengths=lengths, length_unit=length_unit, window=window)
    _finish(panels, spatial_dims=spatial_dims, energy=f"energy{squared(unit)}", empty=empty)
    figure.supxlabel(wave, fontsize=FONT, color=INK)
    return figure


def _shells(frames: Tensor, options: dict[str, Any], empty: float) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers of the shells that hold energy, and which they are."""
    k, energy = energy_spectrum(frames, **options)
    held = to_numpy(energy.mean(0))
    inside = inside_nyquist(k, grid=tuple(frames.shape[-2:]), lengths=options["lengths"])
    inside = inside.cpu().numpy() & (held > max(empty, 1e-12) * held.max(initial=0.0))
    return to_numpy(k)[inside], inside


def _finish(panels: list[Axes], *, spatial_dims: int, energy: str, empty: float) -> None:
    for axis, panel in enumerate(panels[:spatial_dims]):
        title = f"along axis {axis + 1}"
        style_axes(panel, xlabel="", ylabel=energy if axis == 0 else "", title=title)
        panel.set_xscale("log")
        scale_energy([panel], empty=empty)
    if len(panels) > spatial_dims:
        style_axes(panels[-1], xlabel="", ylabel="", title="preference for axis 1")
        panels[-1].set_xscale("log")
        panels[-1].set_ylim(-1.05, 1.05)
        panels[-1].axhline(0.0, color=INK, linewidth=0.8)
    add_legend(panels[0], loc="lower left")
