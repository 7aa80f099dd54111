"""Spectra along time hold the data they are given, with labels, and grey where there is none."""

import math

import numpy as np
import pytest
import torch
from nops_diagnostics import (
    plot_anisotropic_spectra,
    plot_spectra,
    plot_spectrum_evolution,
    plot_temporal_spectrum,
    temporal_spectrum,
)
from nops_diagnostics._figure import png_bytes, power_of
from nops_losses import anisotropic_spectrum, energy_spectrum


def image(axes):
    """Colours' values `[shell, time]` of one panel, masked where it is grey."""
    mesh = axes.collections[0]
    return np.ma.asarray(mesh.get_array()).reshape(mesh.get_coordinates().shape[0] - 1, -1)


@pytest.mark.parametrize("window", ["none", "hann"])
def test_temporal_spectrum_holds_mean_and_band(fields, window):
    target, pred = fields(0, 3, 10, 2, 4, 4), 0.5 * fields(1, 3, 10, 2, 4, 4)
    figure = plot_temporal_spectrum(
        {"truth": target, "model": pred}, frame_interval=0.5, window=window, time_unit="s"
    )
    (axes,) = figure.axes
    for line, field in zip(axes.lines, (target, pred), strict=True):
        f, energy = temporal_spectrum(field, frame_interval=0.5, window=window)
        np.testing.assert_allclose(line.get_xdata(), f[1:])
        np.testing.assert_allclose(line.get_ydata(), (energy.mean(0) * f**2)[1:])
    assert len(axes.collections) == 2
    assert axes.get_title(loc="left") == {"none": "no window", "hann": "Hann window"}[window]
    assert axes.get_xlabel() == "frequency (cycles / s)"
    assert axes.get_ylabel() == "$f^{2}\\,E(f)$"
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_temporal_spectrum_without_compensation_names_the_unit(fields):
    field = {"truth": fields(2, 1, 6, 1, 4, 4)}
    figure = plot_temporal_spectrum(field, frame_interval=1.0, compensate=0.0, unit="K")
    assert figure.axes[0].get_ylabel() == "$E(f)$ in K²"
    assert figure.axes[0].get_xlabel() == "frequency (cycles / time)"


def test_evolution_holds_the_reference_and_ratios(fields):
    target, pred = fields(3, 3, 5, 2, 16, 16), 0.5 * fields(4, 3, 5, 2, 16, 16)
    figure = plot_spectrum_evolution(
        {"truth": target, "model": pred}, frame_interval=0.5, compensate=5 / 3, time_unit="s"
    )
    k, truth = energy_spectrum(target)
    _, model = energy_spectrum(pred)
    shells = slice(1, 9)
    expected = (truth.mean(0) * k ** (5 / 3))[:, shells].T
    np.testing.assert_allclose(image(figure.axes[0]), expected, rtol=1e-12)
    ratio = (model.mean(0) / truth.mean(0))[:, shells].T
    np.testing.assert_allclose(image(figure.axes[1]), ratio, rtol=1e-12)
    corners = figure.axes[1].collections[0].get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], np.arange(0.25, 3.0, 0.5))
    np.testing.assert_allclose(corners[:, 0, 1], np.arange(0.5, 9))
    assert figure.axes[1].collections[0].get_clim() == (0.1, 10.0)
    titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    assert titles == ["truth", "model"]
    labels = {axes.get_ylabel() for axes in figure.axes}
    assert labels >= {"$k^{5/3}\\,E(k)$", "energy / energy of truth"}
    assert figure.axes[0].get_xlabel() == "lead time (s)"


def test_evolution_is_grey_where_there_is_nothing_to_compare(fields):
    x = torch.arange(16) * (2 * math.pi / 16)
    # waves 1 and 3 in float32: 2, 4 and up hold its rounding alone
    wave = (torch.cos(x) + 0.1 * torch.cos(3 * x)).expand(1, 4, 1, 16, 16)
    pred = wave.clone() * 2
    pred[:, 3] = math.nan
    figure = plot_spectrum_evolution({"truth": wave, "model": pred})
    mask = np.ma.getmaskarray(image(figure.axes[0]))
    assert not mask[[0, 2]].any()
    assert mask[[1, 3, 4, 5, 6, 7]].all()
    ratio = image(figure.axes[1])
    np.testing.assert_allclose(ratio[[0, 2], :3], 4.0, rtol=1e-5)
    assert np.ma.getmaskarray(ratio)[:, 3].all()
    assert figure.axes[0].get_xlabel() == "lead time (steps)"
    png_bytes(figure)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_fields_without_waves_can_be_drawn(value):
    field = torch.full((2, 3, 1, 8, 8), value)
    png_bytes(plot_spectrum_evolution({"truth": field, "model": field}))
    png_bytes(plot_temporal_spectrum({"truth": field}, frame_interval=1.0))


def test_spectra_of_all_frames_in_one_panel(fields):
    target, pred = fields(5, 4, 5, 2, 16, 16), fields(6, 4, 5, 2, 16, 16)
    figure = plot_spectra({"truth": target, "model": pred}, compensate=5 / 3)
    (axes,) = figure.axes
    k, energy = energy_spectrum(target)
    expected = (energy.mean((0, 1)) * k ** (5 / 3))[1:9]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
    low, high = np.quantile((energy.flatten(0, 1) * k ** (5 / 3))[:, 1:9], (0.05, 0.95), axis=0)
    corners = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert corners[:, 1].min() == pytest.approx(low.min())
    assert corners[:, 1].max() == pytest.approx(high.max())
    assert figure.get_supylabel() == "$k^{5/3}\\,E(k)$"


def test_windowed_spectra_hold_the_tapered_energies_and_say_so(fields):
    ramp = fields(9, 2, 3, 1, 16, 16) + torch.linspace(0, 9, 16, dtype=torch.float64)
    taper = {"window": "hann", "detrend": "mean"}
    field = {"truth": ramp}
    expected = energy_spectrum(ramp, **taper).energy.mean((0, 1))[1:9]
    figure = plot_spectra(field, window="hann")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), expected)
    assert figure.get_supxlabel() == "wave number (cycles per domain), Hann window"
    marginal = anisotropic_spectrum(ramp, **taper).energies[1].mean((0, 1))[1:-1]
    figure = plot_anisotropic_spectra(field, window="hann")
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), marginal)
    evolution = energy_spectrum(ramp, **taper).energy.mean(0)[:, 1:9].T
    drawn = image(plot_spectrum_evolution(field, window="hann").axes[0])
    np.testing.assert_allclose(drawn, evolution, rtol=1e-12)


def test_spectra_end_where_the_truth_is_only_rounding(fields):
    x = torch.arange(32) * (2 * math.pi / 32)
    wave = sum(torch.cos(m * x) / m for m in range(1, 8)).expand(1, 1, 1, 32, 32)
    low, _ = plot_spectra({"truth": wave}).axes[0].get_ylim()
    assert low == pytest.approx(1 / 49 / 4 / 3, rel=1e-3)
    # a model that lost them is followed for three decades
    smooth = sum(torch.cos(m * x) / m**2 for m in range(1, 8)).expand(1, 1, 1, 32, 32)
    low, _ = plot_spectra({"truth": wave, "model": smooth}).axes[0].get_ylim()
    assert low == pytest.approx(7.0**-4 / 4 / 3, rel=1e-3)


def test_a_field_that_is_not_finite_is_named_so(fields):
    target = fields(7, 2, 4, 1, 8, 8)
    figure = plot_temporal_spectrum(
        {"truth": target, "model": target * math.nan}, frame_interval=1.0
    )
    names = [text.get_text() for text in figure.axes[0].get_legend().texts]
    assert names == ["truth", "model (not finite)"]
    png_bytes(figure)


@pytest.mark.parametrize(
    ("exponent", "text"),
    [(0, ""), (2, "k^{2}\\,"), (5 / 3, "k^{5/3}\\,"), (-0.5, "k^{-1/2}\\,"), (1.23, "k^{1.23}\\,")],
)
def test_powers_are_written_as_fractions(exponent, text):
    assert power_of("k", exponent) == text


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(8, 3, 2, 1, 8, 8)
    for plot in (plot_spectrum_evolution, lambda f: plot_temporal_spectrum(f, frame_interval=1.0)):
        with pytest.raises(ValueError, match="'model': "):
            plot({"truth": field, "model": field[:1]})
        with pytest.raises(ValueError, match="one or more fields"):
            plot({})
