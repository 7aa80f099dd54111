"""Temporal spectra: closed forms, Parseval, windows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import temporal_spectrum
from torch.testing import assert_close


def series(values: torch.Tensor) -> torch.Tensor:
    """`values [time]` at each of 2 x 3 cells, `[1, time, 1, 2, 3]`."""
    return values.double().view(1, -1, 1, 1, 1).expand(1, -1, 1, 2, 3)


@pytest.mark.parametrize("frames", [12, 13])
def test_a_wave_lies_at_its_frequency(frames):
    time = 0.5 * torch.arange(frames, dtype=torch.float64)
    turn = 2 * math.pi / (0.5 * frames)
    field = series(3 * torch.cos(2 * turn * time + 0.3) + torch.sin(5 * turn * time) + 7)
    frequency, energy = temporal_spectrum(field, frame_interval=0.5)
    assert_close(frequency, torch.arange(frames // 2 + 1, dtype=torch.float64) / (0.5 * frames))
    expected = torch.zeros(1, frames // 2 + 1, dtype=torch.float64)
    expected[0, [0, 2, 5]] = torch.tensor([49 / 2, 9 / 4, 1 / 4], dtype=torch.float64)
    assert_close(energy, expected, rtol=1e-12, atol=1e-14)


@given(
    seed=st.integers(0, 2**31 - 1),
    frames=st.integers(2, 9),
    spatial_dims=st.integers(1, 3),
)
def test_energies_sum_to_half_the_mean_square(fields, seed, frames, spatial_dims):
    field = fields(seed, 2, frames, 3, *(4,) * spatial_dims) + 0.5
    energy = temporal_spectrum(field, frame_interval=0.1, spatial_dims=spatial_dims).energy
    expected = 0.5 * 3 * field.square().flatten(1).mean(1)
    assert_close(energy.sum(1), expected, rtol=1e-12, atol=0)


def test_is_the_mean_over_points_not_the_spectrum_of_the_mean(fields):
    field = fields(0, 1, 8, 1, 3, 4)
    points = [
        temporal_spectrum(field[..., i : i + 1, j : j + 1], frame_interval=1.0).energy
        for i in range(3)
        for j in range(4)
    ]
    assert_close(temporal_spectrum(field, frame_interval=1.0).energy, torch.stack(points).mean(0))


def test_hann_stops_the_leak_of_a_trend_and_keeps_the_energy(fields):
    drift = series(torch.arange(64.0))
    plain, tapered = (
        temporal_spectrum(drift, frame_interval=1.0, window=window).energy[0]
        for window in ("none", "hann")
    )
    assert tapered[20] < 1e-3 * plain[20]
    noise = fields(1, 1, 4096, 1, 2, 4)
    energy = temporal_spectrum(noise, frame_interval=1.0, window="hann").energy
    assert energy.sum().item() == pytest.approx(0.5, rel=0.03)  # 32,768 numbers of variance 1


def test_hann_against_numpy(fields):
    field = fields(2, 2, 9, 1, 2, 2)
    taper = np.sin(np.pi * (np.arange(9) + 0.5) / 9) ** 2
    u = field.numpy() - field.numpy().mean(1, keepdims=True)
    f = np.fft.fft(u * taper.reshape(1, 9, 1, 1, 1), axis=1) / 9
    power = 0.5 * (np.abs(f) ** 2).mean((2, 3, 4)) / np.mean(taper**2)
    expected = np.stack([power[:, 0], *(power[:, m] + power[:, -m] for m in range(1, 5))], 1)
    got = temporal_spectrum(field, frame_interval=1.0, window="hann").energy
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_short_types_and_samples_that_break(fields):
    field = fields(3, 2, 6, 1, 4, 4).half()
    expected = temporal_spectrum(field.double(), frame_interval=1.0).energy
    assert torch.equal(temporal_spectrum(field, frame_interval=1.0).energy, expected)
    field[1, 3, 0, 0, 0] = math.inf
    got = temporal_spectrum(field, frame_interval=1.0).energy
    assert torch.equal(got[0], expected[0])
    assert not got[1].isfinite().any()


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(4, 2, 6, 1, 4, 4)
    with pytest.raises(ValueError, match="leading axes"):
        temporal_spectrum(field[0], frame_interval=1.0)
    with pytest.raises(ValueError, match="got 1 frames"):
        temporal_spectrum(field[:, :1], frame_interval=1.0)
    with pytest.raises(ValueError, match=r"frame_interval=-1\.0"):
        temporal_spectrum(field, frame_interval=-1.0)
    with pytest.raises(ValueError, match="window='tukey'"):
        temporal_spectrum(field, frame_interval=1.0, window="tukey")
