import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import relative_l2
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def test_by_hand():
    target = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 2.0]]]])
    pred = torch.tensor([[[[3.0, 5.0]]], [[[1.0, 2.0]]]])
    # 1/5 and 1/2: a norm for each sample, then their mean
    assert_close(relative_l2(pred, target, reduction="none"), torch.tensor([0.2, 0.5]))
    assert_close(relative_l2(pred, target), torch.tensor(0.35))


def test_one_norm_over_channels_and_space():
    target = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    pred = torch.tensor([3.0, 6.0]).view(1, 2, 1, 1)
    assert_close(relative_l2(pred, target), torch.tensor(0.4))


def test_of_a_wave_and_a_smaller_one():
    x = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    target = x.cos().view(1, 64)
    pred = target + 0.1 * (10 * x).cos()
    assert_close(relative_l2(pred, target, spatial_dims=1).item(), 0.1)


def test_spatial_dims_say_which_axes_lead(fields):
    pred, target = fields(0, 2, 3, 4, 5, 6), fields(1, 2, 3, 4, 5, 6)
    assert relative_l2(pred, target, reduction="none").shape == (2, 3)
    assert relative_l2(pred, target, spatial_dims=1, reduction="none").shape == (2, 3, 4)
    assert relative_l2(pred, target, spatial_dims=3, reduction="none").shape == (2,)


@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_has_no_unit(fields, seed, factor):
    pred, target = fields(seed, 2, 3, 4, 4), fields(seed + 1, 2, 3, 4, 4)
    assert_close(relative_l2(factor * pred, factor * target), relative_l2(pred, target))


def test_gradient_matches_differences_and_skips_the_target(fields):
    pred, target = fields(0, 2, 2, 3, 3).requires_grad_(), fields(1, 2, 2, 3, 3)
    assert torch.autograd.gradcheck(lambda p: relative_l2(p, target), pred)
    relative_l2(pred, target.requires_grad_()).backward()
    assert target.grad is None


def test_gradient_is_zero_at_the_target(fields):
    target = fields(0, 2, 1, 4, 4)
    pred = target.clone().requires_grad_()
    relative_l2(pred, target).backward()
    assert torch.equal(pred.grad, torch.zeros_like(pred))


def test_zero_target_gives_the_absolute_norm():
    pred = torch.tensor([[[3.0, 4.0]]]).requires_grad_()
    error = relative_l2(pred, torch.zeros(1, 1, 2))
    assert error.item() == 5.0
    error.backward()
    assert_close(pred.grad, torch.tensor([[[0.6, 0.8]]]))


def test_masked_cells_do_not_count(fields):
    pred, target = fields(0, 2, 3, 4, 5), fields(1, 2, 3, 4, 5)
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[1:3, 2:] = False
    kept = relative_l2(pred[..., mask], target[..., mask], spatial_dims=1)
    pred[..., 1, 2], target[..., 2, 3] = math.nan, math.inf
    pred.requires_grad_()
    error = relative_l2(pred, target, mask=mask)
    assert_close(error, kept)
    error.backward()
    assert torch.equal(pred.grad[..., ~mask], torch.zeros(2, 3, 6, dtype=torch.float64))


def test_a_mask_per_sample(fields):
    pred, target = fields(0, 2, 3, 4, 5), fields(1, 2, 3, 4, 5)
    mask = fields(2, 2, 1, 4, 5) > 0
    got = relative_l2(pred, target, mask=mask, reduction="none")
    for sample in range(2):
        alone = relative_l2(pred[sample], target[sample], mask=mask[sample, 0])
        assert_close(got[sample], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32(dtype, fields):
    pred, target = ((300 * fields(i, 2, 1, 8, 8)).to(dtype) for i in range(2))
    got = relative_l2(pred, target)
    assert got.dtype == torch.float32
    assert_close(got, relative_l2(pred.float(), target.float()), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
def test_compiles(fields):
    pred, target = fields(0, 2, 1, 8, 8), fields(1, 2, 1, 8, 8)
    compiled = torch.compile(relative_l2, backend="eager", fullgraph=True)
    assert_close(compiled(pred, target), relative_l2(pred, target))


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_unequal_shapes(self):
        with pytest.raises(ValueError, match=r"\(1, 4, 4\) and \(1, 4, 1\)"):
            relative_l2(torch.zeros(1, 4, 4), torch.zeros(1, 4, 1))

    def test_a_missing_channel_axis(self):
        with pytest.raises(ValueError, match="pass spatial_dims"):
            relative_l2(torch.zeros(4, 4), torch.zeros(4, 4))

    def test_no_grid_axes(self):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            relative_l2(torch.zeros(4), torch.zeros(4), spatial_dims=0)

    def test_a_mask_of_another_grid(self):
        field = torch.zeros(1, 1, 4, 4)
        with pytest.raises(ValueError, match=r"mask of shape \(3, 4\)"):
            relative_l2(field, field, mask=torch.ones(3, 4, dtype=torch.bool))

    def test_an_unknown_reduction(self):
        field = torch.zeros(1, 1, 4, 4)
        with pytest.raises(ValueError, match="'sum'"):
            relative_l2(field, field, reduction="sum")

    def test_complex_fields(self):
        field = torch.zeros(1, 1, 4, 4, dtype=torch.complex64)
        with pytest.raises(TypeError, match="complex64"):
            relative_l2(field, field)
