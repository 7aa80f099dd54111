"""The coherence error: phases alone, shell by shell."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import coherence_error, log_spectrum_error
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)


def test_is_one_less_the_cosine_of_a_shift(grid):
    x1, _ = grid(16, 16)
    target = ((2 * x1).cos() + (3 * x1).cos())[None]
    pred = ((2 * x1 + 0.4).cos() + (3 * x1 + 1.1).cos())[None]
    expected = 1 - (math.cos(0.4) + math.cos(1.1)) / 2
    assert_close(coherence_error(pred, target).item(), expected)
    weighted = coherence_error(pred, target, shell_weights=lambda k: k)
    assert_close(weighted.item(), 1 - (2 * math.cos(0.4) + 3 * math.cos(1.1)) / 5)
    assert_close(coherence_error(pred, target, k_range=(3, 3)).item(), 1 - math.cos(1.1))


@given(seed=SEEDS, factor=st.floats(0.01, 100))
def test_amplitude_is_not_seen(fields, seed, factor):
    target = fields(seed, 2, 8, 9)
    assert abs(coherence_error(factor * target, target)) < 1e-14
    assert_close(coherence_error(-factor * target, target).item(), 2.0)
    assert log_spectrum_error(1.5 * target, target) > 0.1


def test_unrelated_fields(fields):
    got = coherence_error(fields(0, 64, 1, 32, 32), fields(1, 64, 1, 32, 32))
    assert got.item() == pytest.approx(1, abs=0.02)


def test_equal_fields_agree_down_to_the_floor(grid):
    # float32: shell 3 has 2e-10 of the energy, twice the floor
    x1, _ = grid(16, 16)
    field = ((2 * x1).cos() + 1.4e-5 * (3 * x1).cos())[None].float()
    assert coherence_error(field, field).abs() < 1e-6


def test_channels_share_a_shell(fields):
    # The second channel of the prediction is the mirror image of the first one's phases
    u = fields(0, 1, 8, 8)
    target = torch.cat([u, u])
    pred = torch.cat([u, -u])
    assert_close(coherence_error(pred, target).item(), 1.0)


def test_of_lengths_and_edges_by_hand(fields):
    pred, target = fields(0, 1, 8, 12), fields(1, 1, 8, 12)
    k1, k2 = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in (8, 12))
    radius = torch.hypot(math.pi * k1[:, None], 2 * math.pi * k2[None, :])  # lengths 2 and 1
    p, t = torch.fft.fft2(pred[0]), torch.fft.fft2(target[0])
    errors = []
    for low, high in ((3, 9), (9, 11)):
        ring = (radius >= low) & (radius < high)
        cross = (p * t.conj())[ring].sum().real
        errors.append(1 - cross / (p[ring].norm() * t[ring].norm()))
    got = coherence_error(pred, target, lengths=(2.0, 1.0), bins=[3, 9, 11])
    assert_close(got, torch.stack(errors).mean(), rtol=1e-12, atol=0)


def test_a_mask_fills_both_fields(fields):
    pred, target = fields(0, 2, 1, 8, 8), fields(1, 2, 1, 8, 8)
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[2:4, 3:] = False
    filled = []
    for field in (pred, target):
        copy = field.clone()
        for sample in copy.flatten(0, 1):
            sample[~mask] = sample[mask].mean()
        filled.append(copy)
        field[..., ~mask] = math.nan
    got = coherence_error(pred, target, mask=mask, window="hann", detrend="mean")
    expected = coherence_error(*filled, window="hann", detrend="mean")
    assert_close(got, expected, rtol=1e-11, atol=0)


def test_a_constant_truth_counts_nothing(fields):
    assert coherence_error(fields(0, 1, 15, 9), torch.full((1, 15, 9), 0.1).double()) == 0
