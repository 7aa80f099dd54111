"""The figure of energies by direction: what its lines hold."""

import math

import numpy as np
import pytest
import torch
from nops_diagnostics import plot_anisotropic_spectra


def waves(n: int = 32) -> torch.Tensor:
    """`[sample, time, channel, n, n]`: cos(5 x_1) + 0.5 cos(3 x_2), a sample and two frames."""
    x = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    field = torch.cos(5 * x)[:, None] + 0.5 * torch.cos(3 * x)
    return field.expand(1, 2, 1, n, n).contiguous()


def test_a_wave_along_one_axis_is_in_its_panel_alone() -> None:
    figure = plot_anisotropic_spectra({"truth": waves(), "half": 0.5 * waves()})
    first, second, ratio = figure.axes
    k, energy = (np.asarray(part, dtype=float) for part in first.lines[0].get_data())
    assert energy[k == 5] == pytest.approx(0.25)  # ½ of the mean of cos²
    assert energy[k == 3] == pytest.approx(0.0, abs=1e-20)
    k, energy = (np.asarray(part, dtype=float) for part in second.lines[0].get_data())
    assert energy[k == 3] == pytest.approx(0.25 / 4)
    assert energy[k == 5] == pytest.approx(0.0, abs=1e-20)
    k, preference = (np.asarray(part, dtype=float) for part in ratio.lines[0].get_data())
    assert dict(zip(k.tolist(), preference.tolist(), strict=True)) == pytest.approx({3: -1, 5: 1})
    halves = np.asarray(first.lines[1].get_ydata(), dtype=float)
    assert halves.max() == pytest.approx(0.25 / 4)


def test_three_dimensions_have_a_panel_per_axis_and_no_ratio() -> None:
    field = torch.randn(1, 2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    assert len(plot_anisotropic_spectra({"truth": field}, spatial_dims=3).axes) == 3


def test_physical_lengths_are_physical_wave_numbers() -> None:
    figure = plot_anisotropic_spectra({"truth": waves()}, lengths=(math.pi, 2 * math.pi))
    k, energy = (np.asarray(part, dtype=float) for part in figure.axes[0].lines[0].get_data())
    assert k[energy.argmax()] == pytest.approx(10.0)  # five waves in half the length


def test_fields_of_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        plot_anisotropic_spectra({"truth": waves(), "model": waves(16)})
