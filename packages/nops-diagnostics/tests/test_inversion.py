"""Separability by hand, and that the pictures of an inversion show what they say."""

import math

import pytest
import torch
from nops_diagnostics import (
    jeffries_matusita,
    plot_error_bars,
    plot_parameters_over_time,
    plot_patterns,
    plot_recovery,
)


def test_jeffries_matusita_of_two_normals_by_hand():
    # variances 2/3·{1.5, 1.5}: rows -1, 0, 1 have variance 1; shifted by 4, B = 16/8 = 2
    rows = torch.tensor([-1.0, 0.0, 1.0])
    values = torch.cat([rows, rows + 4])[:, None]
    found = jeffries_matusita(values, ["b"] * 3 + ["a"] * 3)
    assert found == {("a", "b"): pytest.approx(math.sqrt(2 * (1 - math.exp(-2))))}
    # variances 1 and 4 about one mean: B = ½ ln(2.5 / 2)
    wide = jeffries_matusita(torch.cat([rows, 2 * rows])[:, None], ["a"] * 3 + ["b"] * 3)
    assert wide["a", "b"] == pytest.approx(math.sqrt(2 * (1 - math.exp(-0.5 * math.log(1.25)))))


def test_it_ignores_units_and_kinds_with_too_few_rows():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    values[:15] += 1
    kinds = ["oak"] * 15 + ["beech"] * 13 + ["rare"] * 2
    turn = torch.tensor([[2.0, 1.0], [0.0, -3.0]], dtype=torch.float64)
    found, other = (jeffries_matusita(v, kinds) for v in (values, values @ turn + 7))
    assert list(found) == [("beech", "oak")]
    assert found["beech", "oak"] == pytest.approx(other["beech", "oak"])
    assert 0 < found["beech", "oak"] < math.sqrt(2)
    with pytest.raises(ValueError, match="need a kind per sample"):
        jeffries_matusita(values, kinds[1:])
    flat = torch.stack([values[:, 0], values[:, 0]], 1)
    with pytest.raises(ValueError, match="linearly"):
        jeffries_matusita(torch.zeros_like(flat), kinds)


def test_pictures_have_a_panel_per_parameter_and_skip_what_is_unknown():
    truth = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    truth[:, 1] = torch.nan
    names, units = ("a", "b", "c"), ("km", "", "m")
    figure = plot_recovery(truth + 0.1, truth, names=names, units=units, bound=[0.1, 0.1, 0.1])
    shown = [axes.get_xlabel() for axes in figure.axes if axes.get_visible()]
    assert shown == ["true a (km)", "true c (m)"]
    with pytest.raises(ValueError, match="expected"):
        plot_recovery(truth, truth, names=names[:2], units=units)
    large = plot_recovery(4e6 * truth, 4e6 * truth, names=names, units=units).axes[0]
    assert large.get_xlabel() == "true a ($10^{6}$ km)"
    assert large.lines[0].get_xdata() == pytest.approx(4 * truth[:, 0])
    over = plot_parameters_over_time(
        [1, 2, 2], truth[:3], truth[:3], names=names, units=units, xlabel="year"
    )
    assert [axes.get_ylabel() for axes in over.axes] == ["a (km)", "b", "c (m)"]
    lines = plot_patterns(torch.eye(2), torch.tensor([0.75, 0.25]), channels=["x", "y"]).axes[0]
    assert [t.get_text() for t in lines.get_legend().get_texts()] == [
        "pattern 1: 75%",
        "pattern 2: 25%",
    ]
    bars = plot_error_bars({"model": 2.0, "none": 0.0, "mean": 30.0}, ylabel="error").axes[0]
    assert [patch.get_height() for patch in bars.patches] == [2.0, 30.0]
