"""Metrics: values worked by hand, conventions, properties, edges."""

import math

import nops_losses
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import mse, nmse, nrmse, relative_l2, skill, vrmse
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)
METRICS = [mse, nmse, vrmse, nrmse]

# One frame of 2 x 2 cells: differences 0, 2, 0, 2, so MSE = 8 / 4 = 2.
# <target^2> = (1 + 0 + 9 + 4) / 4 = 3.5; mean 1.5, deviations -.5, -1.5, 1.5, .5, square sum 5.
PRED = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
TARGET = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])


def test_hand_values():
    assert_close(mse(PRED, TARGET), torch.tensor(2.0, dtype=torch.float64))
    assert_close(nmse(PRED, TARGET), torch.tensor(2.0 / 3.5, dtype=torch.float64))
    assert_close(vrmse(PRED, TARGET), torch.tensor(math.sqrt(2.0 / 1.25), dtype=torch.float64))
    assert_close(
        vrmse(PRED, TARGET, ddof=1), torch.tensor(math.sqrt(2.0 / (5 / 3)), dtype=torch.float64)
    )
    assert_close(nrmse(PRED, TARGET), torch.tensor(math.sqrt(2.0 / 3.5), dtype=torch.float64))


def test_eps_is_added_to_the_square_not_to_the_root():
    assert_close(nmse(PRED, TARGET, eps=0.5), torch.tensor(2.0 / 4.0, dtype=torch.float64))
    assert_close(vrmse(PRED, TARGET, eps=0.75), torch.tensor(1.0, dtype=torch.float64))


def test_nrmse_conventions_differ_as_they_should():
    # Frame 0: error 2, size 1, ratio 2. Frame 1: error 1, size 4, ratio 1/4.
    target = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 4.0)])
    pred = target + torch.tensor([2.0, 1.0]).view(2, 1, 1, 1)
    assert_close(nrmse(pred, target), torch.tensor((2 + 0.25) / 2, dtype=torch.float64))
    pooled = math.sqrt((4 * 4.0 + 4 * 1.0) / (4 * 1.0 + 4 * 16.0))
    assert_close(
        nrmse(pred, target, convention="pooled"), torch.tensor(pooled, dtype=torch.float64)
    )
    the_well = (math.sqrt(4 / (1 + 1e-7)) + math.sqrt(1 / (16 + 1e-7))) / 2
    got = nrmse(pred, target, convention="the_well")
    assert_close(got, torch.tensor(the_well, dtype=torch.float64), rtol=1e-14, atol=0)
    assert got != nrmse(pred, target)


def test_the_mean_field_scores_the_wells_figure_only_with_its_ddof(fields):
    target = fields(0, 3, 2, 16, 16)
    mean = target.mean((-2, -1), keepdim=True).expand_as(target)
    assert_close(vrmse(mean, target), torch.tensor(1.0, dtype=torch.float64))
    got = vrmse(mean, target, ddof=1)
    assert_close(got, torch.tensor(math.sqrt(255 / 256), dtype=torch.float64))
    assert round(float(got), 3) == 0.998


def test_against_the_wells_formula_in_numpy(fields):
    pred, target = fields(1, 2, 5, 3, 8, 9), fields(2, 2, 5, 3, 8, 9)
    x, y = pred.numpy(), target.numpy()
    error = np.mean((x - y) ** 2, axis=(-2, -1))
    well = np.sqrt(error / (np.std(y, axis=(-2, -1), ddof=1) ** 2 + 1e-7))
    got = vrmse(pred, target, ddof=1, eps=1e-7, reduction="none")
    assert_close(got, torch.from_numpy(well), rtol=1e-13, atol=0)


@pytest.mark.parametrize("metric", METRICS)
@given(seed=SEEDS)
def test_zero_only_for_equal_fields(metric, fields, seed):
    target = fields(seed, 2, 3, 6, 5)
    assert metric(target, target) == 0.0
    assert metric(target + 1e-3 * fields(seed + 1, 2, 3, 6, 5), target) > 0.0


@pytest.mark.parametrize("metric", [nmse, vrmse, nrmse])
@given(seed=SEEDS, factor=st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(metric, fields, seed, factor):
    pred, target = fields(seed, 2, 3, 6, 5), fields(seed + 1, 2, 3, 6, 5)
    assert_close(metric(factor * pred, factor * target), metric(pred, target))


@given(seed=SEEDS, offset=st.floats(-10, 10))
def test_vrmse_ignores_an_offset_and_nmse_does_not(fields, seed, offset):
    pred, target = fields(seed, 2, 1, 6, 5), fields(seed + 1, 2, 1, 6, 5)
    assert_close(vrmse(pred + offset, target + offset), vrmse(pred, target), rtol=1e-9, atol=0)
    if abs(offset) > 3:
        assert nmse(pred + offset, target + offset) < nmse(pred, target)


@given(seed=SEEDS)
def test_a_zero_prediction_scores_exactly_one(fields, seed):
    target = fields(seed, 2, 3, 6, 5)
    zero = torch.zeros_like(target)
    one = torch.tensor(1.0, dtype=torch.float64)
    assert nrmse(zero, target) == one
    assert nrmse(zero, target, convention="pooled") == one
    assert_close(nmse(zero, target), one, rtol=1e-15, atol=0)


@pytest.mark.parametrize("metric", METRICS)
def test_no_reduction_keeps_leading_axes_and_channels(metric, fields):
    pred, target = fields(3, 2, 4, 3, 6, 5), fields(4, 2, 4, 3, 6, 5)
    kept = metric(pred, target, reduction="none")
    assert kept.shape == (2, 4, 3)
    assert_close(kept.mean(), metric(pred, target))
    single = metric(pred[1, 2, :1], target[1, 2, :1])
    assert_close(kept[1, 2, 0], single)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_any_number_of_space_axes(metric, fields, spatial_dims):
    shape = (4, 6, 5)[:spatial_dims]
    pred, target = fields(5, 2, 3, *shape), fields(6, 2, 3, *shape)
    flat = metric(pred.flatten(2), target.flatten(2), spatial_dims=1)
    assert_close(metric(pred, target, spatial_dims=spatial_dims), flat)


@pytest.mark.parametrize("metric", METRICS)
def test_gradients(metric, fields):
    pred = fields(7, 2, 1, 3, 3).requires_grad_()
    target = fields(8, 2, 1, 3, 3)
    assert torch.autograd.gradcheck(lambda p: metric(p, target), (pred,))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_types_are_summed_in_float64(metric, fields, dtype):
    pred, target = fields(9, 2, 1, 64, 64).to(dtype), fields(10, 2, 1, 64, 64).to(dtype)
    got = metric(pred, target)
    assert got.dtype == torch.float64
    assert_close(got, metric(pred.double(), target.double()), rtol=0, atol=0)


def test_degenerate_targets_say_so():
    one, zero = torch.ones(1, 4, 4), torch.zeros(1, 4, 4)
    assert nmse(one, zero).isinf()
    assert nmse(zero, zero).isnan()
    assert vrmse(2 * one, one).isinf()
    assert nrmse(one, zero, convention="the_well").isfinite()


def test_skill_by_hand():
    got = skill(torch.tensor([0.0, 1.0, 3.0, 1.0]), torch.tensor([2.0, 4.0, 2.0, 1.0]))
    assert_close(got, torch.tensor([1.0, 0.75, -0.5, 0.0]))
    edge = skill(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert edge[0] == -math.inf
    assert edge[1].isnan()


def test_relative_l2_is_the_one_of_the_losses():
    assert relative_l2 is nops_losses.relative_l2


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found():
    a = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) and \(2, 1, 4, 4\)"):
        mse(a, a[:, :1])
    with pytest.raises(ValueError, match="axes of space"):
        nmse(a[0, 0], a[0, 0])
    with pytest.raises(ValueError, match="spatial_dims must be at least 1"):
        mse(a, a, spatial_dims=0)
    with pytest.raises(ValueError, match="reduction='sum'"):
        mse(a, a, reduction="sum")
    with pytest.raises(ValueError, match=r"convention='mean'.*pdebench, pooled, the_well"):
        nrmse(a, a, convention="mean")
    with pytest.raises(ValueError, match="pooled"):
        nrmse(a, a, convention="pooled", reduction="none")
    with pytest.raises(ValueError, match="ddof=1"):
        vrmse(a[..., :1, :1], a[..., :1, :1], ddof=1)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        skill(torch.ones(2), torch.ones(3))
