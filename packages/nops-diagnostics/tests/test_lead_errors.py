"""Field and spectrum error per lead: by hand, beside the functions they come from, and drawn."""

import json
import math

import numpy as np
import pytest
import torch
from nops_diagnostics import lead_errors, plot_lead_errors, spectrum_error
from nops_diagnostics._figure import png_bytes
from nops_losses import field_error
from torch.testing import assert_close


def test_leads_that_grow_by_known_factors(fields):
    target = fields(0, 3, 4, 2, 8, 8)
    factor = torch.tensor([1.0, 1.1, 1.2, 1.5], dtype=torch.float64)
    got = lead_errors(target * factor.view(4, 1, 1, 1), target)
    assert_close(got.field.value, (factor - 1) ** 2, rtol=1e-7, atol=0)
    assert_close(got.spectrum.value, (2 * factor.log()) ** 2)
    assert_close(got.field.low, got.field.high)  # every sample has the same error


def test_are_means_over_samples_of_the_two_errors(fields):
    pred, target = fields(1, 5, 3, 2, 8, 8), 2 + fields(2, 5, 3, 2, 8, 8)
    got = lead_errors(pred, target, lengths=(2.0, 1.0), centre=True, bootstrap=50)
    for lead in range(3):
        p, t = pred[:, lead], target[:, lead]
        assert_close(got.field.value[lead], field_error(p, t, centre=True))
        assert_close(got.spectrum.value[lead], spectrum_error(p, t, lengths=(2.0, 1.0)))
        assert got.field.low[lead] < got.field.value[lead] < got.field.high[lead]
        assert got.spectrum.low[lead] < got.spectrum.value[lead] < got.spectrum.high[lead]
    assert json.loads(json.dumps(got.as_dict()))["field"]["value"] == got.field.value.tolist()


def test_a_sample_that_breaks_shows_from_there_on(fields):
    target = fields(3, 2, 3, 1, 8, 8)
    pred = 1.1 * target
    pred[1, 1:] = math.nan
    got = lead_errors(pred, target, bootstrap=20)
    assert got.field.value.isnan().tolist() == [False, True, True]
    assert got.spectrum.value.isnan().tolist() == [False, True, True]
    png_bytes(plot_lead_errors({"model": got}))


def test_the_plot_holds_values_and_intervals(fields):
    target = fields(4, 6, 5, 1, 8, 8)
    results = {
        name: lead_errors(target + size * fields(5, 6, 5, 1, 8, 8), target, bootstrap=50)
        for name, size in (("field", 0.1), ("schedule", 0.5))
    }
    figure = plot_lead_errors(results, frame_interval=0.5, time_unit="s")
    for panel, part in zip(figure.axes, ("field", "spectrum"), strict=True):
        assert panel.get_ylabel() == f"{part} error"
        assert panel.get_xlabel() == "lead time (s)"
        for line, (name, result) in zip(panel.lines, results.items(), strict=True):
            assert line.get_label() == name
            np.testing.assert_allclose(line.get_xdata(), np.arange(1, 6) * 0.5)
            np.testing.assert_array_equal(line.get_ydata(), getattr(result, part).value)
        corners = np.concatenate([path.vertices for path in panel.collections[0].get_paths()])
        assert corners[:, 1].max() == getattr(results["field"], part).high.max()
    assert plot_lead_errors(results).axes[0].get_xlabel() == "lead time (steps)"


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(6, 2, 3, 1, 8, 8)
    with pytest.raises(ValueError, match="leading axes"):
        lead_errors(field[0], field[0])
    with pytest.raises(ValueError, match="one shape"):
        lead_errors(field, field[:, :1])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_lead_errors({})
