"""Temporal stability: rates by hand, runs that blow up, freeze and end."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import temporal_stability
from torch.testing import assert_close


def path(*values: float) -> torch.Tensor:
    """Frames of 2 x 3 equal cells in one channel, `[1, time, 1, 2, 3]`."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1, 1).expand(1, -1, 1, 2, 3)


def test_rates_by_hand():
    target = torch.zeros(1, 3, 2, 1, 2)
    target[0, 1] = torch.tensor([[[1.0, -3.0]], [[0.0, 0.0]]])  # mean |change| 1
    target[0, 2] = torch.tensor([[[1.0, -3.0]], [[4.0, 8.0]]])  # 3
    got = temporal_stability(target, target, frame_interval=0.5)
    expected = torch.tensor([[2.0, 6.0]], dtype=torch.float64)
    assert_close(got.predicted, expected)
    assert_close(got.reference, expected)
    assert_close(got.time, torch.tensor([1.0, 1.5], dtype=torch.float64))  # leads 2 and 3


def test_runs_that_blow_up_freeze_and_last():
    # the truth changes by 1, 2, 1: rates from 0.5 to 4 are stable
    target = path(0, 1, 3, 4)
    runs = torch.cat(
        [
            path(0, 4, 8, 9, 10),  # 4 is not above 4
            path(0, 1, 5.5, 6, 7),  # 4.5 at lead 3
            path(0, 1, 1.25, 2, 3),  # 0.25 at lead 3
            path(0, 1, 2, math.inf, math.nan),  # from lead 4
        ]
    )
    got = temporal_stability(runs, target, frame_interval=0.1)
    assert_close(got.stable_fraction, torch.tensor([1.0, 0.5, 0.25, 0.25], dtype=torch.float64))
    assert got.first_unstable.tolist() == pytest.approx([math.inf, 0.3, 0.3, 0.4])


def test_a_run_that_comes_back_stays_unstable():
    got = temporal_stability(path(0, 9, 10, 11), path(0, 1, 2, 3), frame_interval=1.0)
    assert got.stable_fraction.tolist() == [0.0, 0.0, 0.0]
    assert got.first_unstable.tolist() == [2.0]


def test_the_band_is_of_the_range_over_all_samples():
    target = torch.cat([path(0, 1, 2), path(0, 3, 6)])
    run = path(0, 3.3, 4.2)  # 3.3 and 0.9
    wide = temporal_stability(run, target, frame_interval=1.0, band=(0.8, 1.2))
    assert wide.stable_fraction.tolist() == [1.0, 1.0]
    narrow = temporal_stability(run, target, frame_interval=1.0, band=(1.0, 1.2))
    assert narrow.stable_fraction.tolist() == [1.0, 0.0]
    narrow = temporal_stability(run, target, frame_interval=1.0, band=(0.8, 1.05))
    assert narrow.stable_fraction.tolist() == [0.0, 0.0]


@given(seed=st.integers(0, 2**31 - 1), factor=st.floats(1e-3, 1e3), interval=st.floats(0.01, 10))
def test_units_scale_rates_and_times_alone(fields, seed, factor, interval):
    pred, target = fields(seed, 3, 6, 1, 4, 4), fields(seed + 1, 3, 6, 1, 4, 4)
    one = temporal_stability(pred, target, frame_interval=1.0, band=(0.9, 1.1))
    two = temporal_stability(
        factor * pred, factor * target, frame_interval=interval, band=(0.9, 1.1)
    )
    assert_close(two.predicted, one.predicted * (factor / interval))
    assert_close(two.first_unstable, one.first_unstable * interval)
    assert torch.equal(two.stable_fraction, one.stable_fraction)


def test_short_types_and_other_dimensions(fields):
    field = fields(0, 2, 4, 3, 8)
    got = temporal_stability(field.half(), field.half(), frame_interval=1.0, spatial_dims=1)
    expected = field.half().double().diff(dim=1).abs().mean((2, 3))
    assert_close(got.predicted, expected)
    assert got.stable_fraction.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(0, 2, 4, 1, 4, 4)
    with pytest.raises(ValueError, match="leading axes"):
        temporal_stability(field[0], field[0], frame_interval=1.0)
    with pytest.raises(ValueError, match=r"target has shape \(2, 1, 1, 4, 4\).*two frames"):
        temporal_stability(field, field[:, :1], frame_interval=1.0)
    with pytest.raises(ValueError, match=r"\(2, 4, 1, 4, 4\) and \(2, 4, 1, 4, 2\)"):
        temporal_stability(field, field[..., :2], frame_interval=1.0)
    with pytest.raises(ValueError, match=r"frame_interval=0\.0"):
        temporal_stability(field, field, frame_interval=0.0)
    with pytest.raises(ValueError, match=r"band=\(1\.5, 2\.0\)"):
        temporal_stability(field, field, frame_interval=1.0, band=(1.5, 2.0))
    with pytest.raises(ValueError, match="target holds values that are not finite"):
        temporal_stability(field, field * math.nan, frame_interval=1.0)
