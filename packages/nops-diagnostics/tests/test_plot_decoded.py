"""Figures of decoded predictions: what lines there are, and what is refused."""

import numpy as np
import pytest
import torch
from nops_diagnostics import decoded_errors, plot_decoded_errors, plot_profiles, rollout_errors


@pytest.fixture
def errors():
    generator = torch.Generator().manual_seed(0)
    target, pred, decoded = torch.randn(3, 5, 4, 1, 16, generator=generator)
    parts = {
        name: rollout_errors(
            values,
            target,
            initial=target[:, 0],
            reconstruction=decoded,
            previous_truth=True,
            spatial_dims=1,
        )
        for name, values in {"latent": pred, "one_step": decoded}.items()
    }
    return decoded_errors(parts, bootstrap=10)


def test_every_prediction_and_baseline_is_a_line_of_its_values(errors):
    axes = plot_decoded_errors(errors, frame_interval=0.5).axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    names = {"latent", "one step", "zero", "persistence", "previous truth", "reconstruction"}
    assert set(lines) == names
    np.testing.assert_allclose(lines["latent"].get_xdata(), [0.5, 1.0, 1.5, 2.0])
    values = errors.per_lead["previous_truth"].value
    np.testing.assert_allclose(lines["previous truth"].get_ydata(), values)
    assert len({line.get_color() for line in lines.values()}) == len(names)


def test_profiles_show_each_field_at_each_lead():
    truth = torch.stack([torch.zeros(4), torch.arange(4.0)])
    figure = plot_profiles(
        {"truth": truth, "latent": 100 * truth}, lead_times=[1, 2], origin=1.0, spacing=0.5
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["lead 1", "lead 2"]
    line = figure.axes[1].get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), [1.0, 1.5, 2.0, 2.5])
    np.testing.assert_allclose(line.get_ydata(), [0.0, 1.0, 2.0, 3.0])
    assert figure.axes[1].get_ylim() == (-1.5, 4.5)  # twice the truth's range


@pytest.mark.parametrize("leads", [[], [0], [3]])
def test_leads_outside_are_refused(leads):
    with pytest.raises(ValueError, match="leads within it"):
        plot_profiles({"truth": torch.zeros(2, 4)}, lead_times=leads)


def test_panels_of_profiles_may_have_titles():
    fields = {"truth": torch.zeros(2, 4)}
    figure = plot_profiles(fields, lead_times=(1, 2), titles=("u", "v"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["u", "v"]
    with pytest.raises(ValueError, match="titles must be 2"):
        plot_profiles(fields, lead_times=(1, 2), titles=("u",))
