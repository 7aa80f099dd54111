"""Figures of a flow's budgets and modes: what their lines hold."""

import numpy as np
import pytest
import torch
from nops_diagnostics import (
    FlowDrift,
    flow_drift,
    plot_flow_drift,
    plot_proper_modes,
    proper_modes,
)
from nops_diagnostics._figure import png_bytes


def test_drift_holds_mean_and_band(fields):
    truth = fields(0, 4, 5, 2, 8, 8)
    results = {"half": flow_drift(0.5 * truth, truth), "noisy": flow_drift(truth + 0.1, truth)}
    figure = plot_flow_drift(results, frame_interval=0.5, time_unit="s")
    for panel, part in zip(figure.axes, FlowDrift._fields, strict=True):
        for line, (name, result) in zip(panel.lines, results.items(), strict=False):
            assert line.get_label() == name
            np.testing.assert_allclose(line.get_xdata(), np.arange(1, 6) * 0.5)
            np.testing.assert_allclose(line.get_ydata(), getattr(result, part).mean(0))
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), -0.75)  # (1/2)² − 1
    corners = np.concatenate([path.vertices for path in figure.axes[2].collections[1].get_paths()])
    band = np.quantile(results["noisy"].divergence.numpy(), 0.95, axis=0)
    assert corners[:, 1].max() == pytest.approx(band.max())
    assert figure.get_supxlabel() == "lead time (s)"
    assert plot_flow_drift(results).get_supxlabel() == "lead time (steps)"


def test_modes_hold_the_energies_of_each_channel(fields):
    truth, pred = fields(1, 3, 4, 2, 8, 8), 0.5 * fields(2, 3, 4, 2, 8, 8)
    figure = plot_proper_modes(
        {"truth": truth, "model": pred}, channels=("velocity_x", "velocity_y"), unit="m"
    )
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["velocity_x", "velocity_y"]
    assert figure.get_supylabel() == "mean square in m²"
    for i, panel in enumerate(figure.axes):
        for line, field in zip(panel.lines, (truth, pred), strict=True):
            np.testing.assert_allclose(line.get_ydata(), proper_modes(field).energy[i, :11])
            np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 12))


def test_a_field_that_is_not_finite_is_named_so(fields):
    truth = fields(3, 2, 3, 1, 8, 8)
    broken = truth.clone()
    broken[0, 0, 0, 0, 0] = torch.nan
    figure = plot_proper_modes({"truth": truth, "model": broken})
    assert [line.get_label() for line in figure.axes[0].lines] == ["truth", "model (not finite)"]
    assert figure.axes[0].get_title(loc="left") == "channel 1"
    png_bytes(figure)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(4, 2, 3, 2, 8, 8)
    with pytest.raises(ValueError, match="one or more fields"):
        plot_proper_modes({"truth": field, "model": field[:1]})
    with pytest.raises(ValueError, match="each of 2 channels"):
        plot_proper_modes({"truth": field}, channels=("speed",))
    with pytest.raises(ValueError, match="sample and time"):
        plot_flow_drift({"model": flow_drift(field[0], field[0])})
    with pytest.raises(ValueError, match="sample and time"):
        plot_flow_drift({})
