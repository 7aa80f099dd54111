"""PDEBench's measures: hand values, Parseval's identity, oracles on waves, edges."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import brmse, crmse, frmse, max_error, mse, nrmse
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)
METRICS = [crmse, brmse, max_error, frmse]

# One frame of 3 x 3 cells; the differences are 1 … 9.
TARGET = torch.zeros(1, 3, 3)
PRED = torch.arange(1.0, 10.0).reshape(1, 3, 3)


def exact(*values):
    return torch.tensor(values, dtype=torch.float64)


def wave(k, *, shift=0.0, points=64):
    """sin 2 pi k (x - shift) on [0, 1), one channel."""
    x = torch.arange(points, dtype=torch.float64) / points
    return torch.sin(2 * torch.pi * k * (x - shift))[None]


def test_hand_values():
    assert_close(crmse(PRED, TARGET), exact(5.0).squeeze())  # 45 / 9
    outer = [1, 2, 3, 4, 6, 7, 8, 9]  # all but the 5 in the middle
    assert_close(brmse(PRED, TARGET), exact(math.sqrt(sum(v * v for v in outer) / 8)).squeeze())
    assert_close(max_error(PRED, TARGET), exact(9.0).squeeze())
    assert_close(max_error(-PRED, TARGET), exact(9.0).squeeze())


def test_the_boundary_of_a_grid_of_3_by_4_has_10_cells():
    error = torch.zeros(1, 3, 4)
    error[0, 0, 0] = 10.0
    assert_close(brmse(error, torch.zeros_like(error)), exact(math.sqrt(100 / 10)).squeeze())
    error[0, 1, 1:3] = 1e6  # inside
    assert_close(brmse(error, torch.zeros_like(error)), exact(math.sqrt(100 / 10)).squeeze())


def test_the_boundary_in_one_and_three_dimensions():
    line = exact(3.0, 100.0, 100.0, 4.0)[None]
    got = brmse(line, torch.zeros_like(line), spatial_dims=1)
    assert_close(got, exact(math.sqrt(25 / 2)).squeeze())
    box = torch.zeros(1, 3, 3, 3)
    box[0, 1, 1, 1] = 7.0
    assert brmse(box, torch.zeros_like(box), spatial_dims=3) == 0


def test_frames_are_averaged_after_the_root_but_for_the_maximum(fields):
    pred, target = fields(0, 2, 3, 4, 5), fields(1, 2, 3, 4, 5)
    for metric in (crmse, brmse):
        each = metric(pred, target, reduction="none")
        assert each.shape == (2, 3)
        assert_close(metric(pred, target), each.mean())
        assert_close(each[1, 2], metric(pred[1, 2:], target[1, 2:]))
    each = max_error(pred, target, reduction="none")
    assert each.shape == (2, 3)
    assert max_error(pred, target) == each.max()
    bands = frmse(pred, target, reduction="none")
    assert bands.shape == (2, 3, 3)
    assert_close(frmse(pred, target), bands.mean((0, 1)))


@given(SEEDS, st.sampled_from([(40,), (31,), (12, 12), (9, 30), (6, 7, 8)]))
def test_squared_band_errors_sum_to_the_mean_squared_error(fields, seed, grid):
    pred, target = fields(seed, 2, 3, *grid), fields(seed + 1, 2, 3, *grid)
    bands = frmse(pred, target, spatial_dims=len(grid), reduction="none")
    expected = mse(pred, target, spatial_dims=len(grid), reduction="none")
    assert_close(bands.square().sum(-1), expected)


@pytest.mark.parametrize(("k", "band"), [(0, 0), (3, 0), (4, 1), (11, 1), (12, 2), (31, 2)])
def test_a_wave_lands_in_its_band(k, band):
    x = torch.arange(64, dtype=torch.float64) / 64
    error = torch.cos(2 * torch.pi * k * x)[None]
    expected = exact(0.0, 0.0, 0.0)
    expected[band] = 1.0 if k == 0 else math.sqrt(0.5)
    got = frmse(error, torch.zeros_like(error), spatial_dims=1)
    assert_close(got, expected, atol=1e-12, rtol=1e-12)


def test_bands_are_rings_not_squares():
    x = 2 * torch.pi * torch.arange(32, dtype=torch.float64) / 32
    error = torch.cos(3 * x[:, None] + 3 * x[None, :])[None]  # |k| = 4.24, in the second band
    got = frmse(error, torch.zeros_like(error))
    assert_close(got, exact(0.0, math.sqrt(0.5), 0.0), atol=1e-12, rtol=1e-12)


def test_a_coarse_grid_has_nothing_in_the_high_band(fields):
    pred, target = fields(0, 1, 1, 12), fields(1, 1, 1, 12)  # |k| up to 6
    got = frmse(pred, target, spatial_dims=1)
    assert got[2] == 0
    assert got[1] > 0
    own = frmse(pred, target, spatial_dims=1, edges=(0.0, 2.0))
    assert own.shape == (2,)


@given(SEEDS, st.floats(1e-3, 1e3))
def test_errors_are_in_the_unit_of_the_field_and_nrmse_has_none(fields, seed, unit):
    pred, target = fields(seed, 2, 2, 6, 7), fields(seed + 1, 2, 2, 6, 7)
    for metric in METRICS:
        assert_close(metric(unit * pred, unit * target), unit * metric(pred, target))
    assert_close(nrmse(unit * pred, unit * target), nrmse(pred, target))


@given(SEEDS)
def test_a_conserved_error_is_within_the_error_and_blind_to_moving(fields, seed):
    pred, target = fields(seed, 2, 2, 6, 7), fields(seed + 1, 2, 2, 6, 7)
    rmse = mse(pred, target, reduction="none").sqrt()
    assert (crmse(pred, target, reduction="none") <= rmse * (1 + 1e-12)).all()
    moved = target.roll((1, 2), (-2, -1))
    assert_close(crmse(moved, target), exact(0.0).squeeze(), atol=1e-14, rtol=0)
    assert (max_error(pred, target, reduction="none") >= rmse).all()


# Holding a wave of k periods while it moves by s: 2 |sin pi k s|, from
# sin a - sin b = 2 cos((a + b) / 2) sin((a - b) / 2), whose cosine has the wave's own mean square.
@pytest.mark.parametrize(("k", "expected"), [(1, 0.3128689301), (3, 0.9079809995)])
def test_persistence_of_an_advected_wave(k, expected):
    target = wave(k, shift=0.05)
    got = nrmse(wave(k), target, spatial_dims=1)
    assert float(got) == pytest.approx(2 * abs(math.sin(math.pi * k * 0.05)), rel=1e-12)
    assert float(got) == pytest.approx(expected, abs=5e-11)
    for unit in (1e-6, 1e6):
        assert_close(nrmse(unit * wave(k), unit * target, spatial_dims=1), got)


def test_a_zero_field_scores_exactly_one(fields):
    target = fields(0, 3, 2, 8, 8)
    for convention in ("pdebench", "pooled"):
        assert nrmse(torch.zeros_like(target), target, convention=convention) == 1


def test_what_is_not_finite_shows():
    broken = PRED.clone()
    broken[0, 0, 0] = torch.nan
    for metric in METRICS:
        assert metric(broken, TARGET).isnan().any()


def test_the_input_keeps_its_type_and_the_sum_its_digits():
    # In float32 a mean of 1e8 cannot show a difference of 1.
    target = torch.full((1, 4, 4), 1e8)
    pred = target + 8.0
    assert crmse(pred, target) == 8.0
    assert crmse(pred, target).dtype == torch.float64
    assert target.dtype == torch.float32


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("metric", METRICS)
def test_shapes_that_do_not_fit_are_refused(metric):
    with pytest.raises(ValueError, match="pred and target need one shape"):
        metric(PRED, TARGET[..., :2])
    with pytest.raises(ValueError, match="reduction='sum' is unknown"):
        metric(PRED, TARGET, reduction="sum")


@pytest.mark.parametrize("edges", [(), (-1.0, 4.0), (4.0, 0.0), (1.0, 1.0)])
def test_edges_that_make_no_bands_are_refused(edges):
    with pytest.raises(ValueError, match="expected rising wave numbers"):
        frmse(PRED, TARGET, edges=edges)
