"""The difference of two fields in mean and standard deviation over space."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import mean_std_penalty
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


class TestByHand:
    def test_two_frames_of_two_channels(self):
        target = torch.tensor([[[1.0, 3.0], [2.0, 2.0]], [[0.0, 4.0], [-1.0, 1.0]]])
        pred = torch.tensor([[[5.0, 5.0], [0.0, 6.0]], [[4.0, 0.0], [-3.0, 3.0]]])
        # means 5−2, 3−2; 2−2, 0−0. deviations 0−1, 3−0; 2−2, 3−1
        expected = torch.tensor([[3 + 1.0, 1 + 3.0], [0.0, 2.0]])
        got = mean_std_penalty(pred, target, spatial_dims=1, reduction="none")
        assert_close(got, expected)
        assert mean_std_penalty(pred, target, spatial_dims=1) == 2.5

    def test_a_scaled_and_shifted_wave(self):
        x = torch.arange(32, dtype=torch.float64) * (2 * math.pi / 32)
        wave = (3 * x).sin()[None, :, None] * torch.ones(1, 32, 8, dtype=torch.float64)
        # mean off by 0.25, deviation √½ twice as large
        got = mean_std_penalty(2 * wave - 0.25, wave)
        assert_close(got.item(), 0.25 + math.sqrt(0.5))


class TestDefinition:
    def test_up_to_the_last_cell_it_is_the_published_formula(self, fields):
        pred, target = fields(0, 3, 4, 2, 6, 5), fields(1, 3, 4, 2, 6, 5)
        axes, cells = (3, 4), 30
        mean = (target.mean(axes) - pred.mean(axes)).abs().mean()
        spread = (target.std(axes) - pred.std(axes)).abs().mean()
        expected = mean + math.sqrt((cells - 1) / cells) * spread
        assert_close(mean_std_penalty(pred, target), expected)

    @given(seed=seeds, factor=st.floats(-1e3, 1e3), shift=st.floats(-10, 10))
    def test_units_offsets_and_places(self, fields, seed, factor, shift):
        pred, target = fields(seed, 2, 3, 5, 4), fields(seed + 1, 2, 3, 5, 4)
        moved = (factor * pred + shift).roll((1, 2), (-2, -1)).flip(-1)
        got = mean_std_penalty(moved, factor * target + shift)
        assert_close(got, abs(factor) * mean_std_penalty(pred, target), rtol=1e-8, atol=1e-12)

    def test_it_sees_no_places(self, fields):
        target = fields(0, 2, 8, 8)
        assert mean_std_penalty(target.roll(3, -1).mT, target) < 1e-14

    @pytest.mark.parametrize(("dims", "shape"), [(1, (2, 3, 4, 5)), (2, (2, 3, 4)), (3, (2, 3))])
    def test_spatial_dims_say_which_axes_lead(self, fields, dims, shape):
        pred, target = fields(0, 2, 3, 4, 5, 6), fields(1, 2, 3, 4, 5, 6)
        got = mean_std_penalty(pred, target, spatial_dims=dims, reduction="none")
        assert got.shape == shape
        flat = [u.flatten(-dims) for u in (pred, target)]
        assert_close(got, mean_std_penalty(*flat, spatial_dims=1, reduction="none"))


class TestMask:
    def test_masked_cells_do_not_count(self, fields):
        pred, target = fields(0, 2, 3, 4, 5), fields(1, 2, 3, 4, 5)
        mask = torch.ones(4, 5, dtype=torch.bool)
        mask[1:3, 2:] = False
        kept = mean_std_penalty(pred[..., mask], target[..., mask], spatial_dims=1)
        pred[..., 1, 2], target[..., 2, 3] = math.nan, math.inf
        pred.requires_grad_()
        got = mean_std_penalty(pred, target, mask=mask)
        assert_close(got, kept)
        got.backward()
        assert torch.equal(pred.grad[..., ~mask], torch.zeros(2, 3, 6, dtype=torch.float64))
        assert pred.grad.isfinite().all()

    def test_without_cells_it_is_zero_with_gradient_zero(self, fields):
        pred = fields(0, 2, 3, 4, 5).requires_grad_()
        mask = torch.zeros(4, 5, dtype=torch.bool)
        got = mean_std_penalty(pred, fields(1, 2, 3, 4, 5), mask=mask)
        assert got == 0
        got.backward()
        assert torch.equal(pred.grad, torch.zeros(2, 3, 4, 5, dtype=torch.float64))


class TestDifferentiation:
    def test_gradient_matches_differences(self, fields):
        pred, target = (
            fields(0, 2, 2, 3, 4).requires_grad_(),
            fields(1, 2, 2, 3, 4).requires_grad_(),
        )
        mask = fields(2, 3, 4) > -1
        assert torch.autograd.gradcheck(
            lambda p: mean_std_penalty(p, target.detach(), mask=mask), pred
        )
        mean_std_penalty(pred, target).backward()
        assert target.grad is None

    @pytest.mark.parametrize("level", [0.0, 2.0])
    def test_a_constant_frame_gets_the_gradient_of_its_mean(self, level):
        pred = torch.full((1, 4, 4), level, requires_grad=True)
        mean_std_penalty(pred, torch.eye(4)[None] - 1).backward()
        assert_close(pred.grad, torch.full((1, 4, 4), 1 / 16))

    @pytest.mark.parametrize("level", [0.1, 3e7])
    def test_a_frame_constant_up_to_rounding_gets_a_small_one(self, level):
        pred = torch.full((1, 7, 9), level, requires_grad=True)  # its mean is not it in float32
        mean_std_penalty(pred, torch.zeros(1, 7, 9)).backward()
        # |∂σ/∂u| ≤ 1/√n in norm for any frame
        assert (pred.grad - 1 / 63).norm() <= 1.001 / math.sqrt(63)

    def test_a_perfect_prediction_stays(self, fields):
        pred = fields(0, 2, 4, 4).requires_grad_()
        mean_std_penalty(pred, pred).backward()
        assert torch.equal(pred.grad, torch.zeros(2, 4, 4, dtype=torch.float64))


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_fields_are_computed_in_float32(self, fields, dtype, autocast):
        pred, target = ((300 * fields(i, 2, 8, 12)).to(dtype) for i in range(2))
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            got = mean_std_penalty(pred, target)
        assert got.dtype == torch.float32
        assert_close(got, mean_std_penalty(pred.float(), target.float()), rtol=0, atol=0)

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    def test_compiles(self, fields):
        pred, target, mask = fields(0, 2, 8, 8), fields(1, 2, 8, 8), fields(2, 8, 8) > -1
        compiled = torch.compile(mean_std_penalty, backend="eager", fullgraph=True)
        expected = mean_std_penalty(pred, target, mask=mask)
        assert_close(compiled(pred, target, mask=mask), expected, rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("shapes", "options", "says"),
        [
            (((2, 4, 4), (1, 4, 4)), {}, "need one shape"),
            (((4, 4), (4, 4)), {}, "spatial_dims=2 needs at least 3 axes"),
            (((2, 4, 4), (2, 4, 4)), {"reduction": "sum"}, "reduction must be"),
            (
                ((2, 4, 4), (2, 4, 4)),
                {"mask": torch.ones(3, dtype=torch.bool)},
                r"mask of shape \(3,\)",
            ),
        ],
    )
    def test_what_does_not_fit(self, shapes, options, says):
        with pytest.raises(ValueError, match=says):
            mean_std_penalty(*map(torch.zeros, shapes), **options)

    def test_fields_that_are_not_real(self):
        with pytest.raises(TypeError, match=r"torch\.int32"):
            mean_std_penalty(*(torch.zeros(2, 4, 4, dtype=torch.int32),) * 2)
