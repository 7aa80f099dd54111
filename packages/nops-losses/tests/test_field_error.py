import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import field_error
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def modes(n):
    """A target of two families of waves, and it with a small wave added, axes (channel, *grid)."""
    x1, x2 = torch.meshgrid(
        *[torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)] * 2, indexing="ij"
    )
    target = sum(m**-1.5 * ((m * x2 + m).cos() + (m * x1 + 2 * m).cos()) for m in range(1, n // 2))
    return (target + 0.1 * (3 * x2 + 2 * x1).cos())[None], target[None]


class TestByHand:
    def test_two_frames_of_two_channels(self):
        target = torch.tensor([[[1.0, 1.0], [2.0, 4.0]], [[0.0, 3.0], [5.0, 5.0]]])
        pred = torch.tensor([[[2.0, 0.0], [2.0, 2.0]], [[0.0, 0.0], [5.0, 6.0]]])
        # (1+1)/(1+1), (0+4)/(4+16); (0+9)/(0+9), (0+1)/(25+25)
        expected = torch.tensor([[1.0, 0.2], [1.0, 0.02]])
        got = field_error(pred, target, spatial_dims=1, eps_rel=0.0, reduction="none")
        assert_close(got, expected)
        assert_close(field_error(pred, target, spatial_dims=1, eps_rel=0.0).item(), 0.555)

    def test_a_small_wave_on_many(self):
        pred, target = modes(16)
        # the wave has 0.1²/2, the target Σ (m⁻³/2 + m⁻³/2)
        by_hand = 0.005 / sum(m**-3.0 for m in range(1, 8))
        assert by_hand == pytest.approx(4.190387e-3, rel=1e-6)
        assert field_error(pred, target).item() == pytest.approx(by_hand, rel=1e-7)

    def test_a_fifth_too_strong(self):
        _, target = modes(16)
        assert field_error(1.2 * target, target).item() == pytest.approx(0.04, rel=1e-7)
        rooted = field_error(1.2 * target, target, squared=False, eps_rel=0.0)
        assert_close(rooted.item(), 0.2)

    def test_channel_weights(self):
        target = torch.ones(1, 2, 4)
        pred = torch.tensor([2.0, 3.0]).view(1, 2, 1).expand(1, 2, 4)  # errors 1 and 4
        got = field_error(pred, target, channel_weights=(3, 1), spatial_dims=1, eps_rel=0.0)
        assert_close(got.item(), (3 * 1 + 1 * 4) / 4)
        apart = field_error(
            pred, target, channel_weights=[3, 1], spatial_dims=1, eps_rel=0.0, reduction="none"
        )
        assert_close(apart, torch.tensor([[1.5, 2.0]]))

    def test_the_relative_floor_is_of_the_channel_over_all_frames(self):
        target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[3.0, 3.0], [0.0, 0.0]]])
        pred = target + 1
        # channel 0: m = (1 + 9)/2 = 5; channel 1 is 0 everywhere: the error itself
        got = field_error(pred, target, spatial_dims=1, eps_rel=0.2, reduction="none")
        assert_close(got, torch.tensor([[1 / 2, 1.0], [1 / 10, 1.0]]))
        got = field_error(pred, target, spatial_dims=1, eps_rel=0.2, eps_abs=2.0, reduction="none")
        assert_close(got, torch.tensor([[1 / 4, 0.5], [1 / 12, 0.5]]))


class TestLegacy:
    @pytest.mark.parametrize("scale", [1.0, 1e-4])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_the_published_formula_bit_for_bit(self, fields, dtype, scale):
        pred, target = ((scale * fields(i, 3, 4, 2, 24, 17)).to(dtype) for i in range(2))
        error = torch.mean((pred - target) ** 2, dim=(-2, -1))
        expected = torch.mean(error / (torch.mean(target**2, dim=(-2, -1)) + 1e-8))
        assert torch.equal(field_error(pred, target, legacy=True), expected)

    def test_halves_the_error_of_weak_fields(self):
        target = torch.full((1, 8, 8), 1e-4, dtype=torch.float64)
        assert_close(field_error(1.2 * target, target, legacy=True).item(), 0.02)
        assert_close(field_error(1.2 * target, target, eps_rel=0.0).item(), 0.04)


class TestCentred:
    @given(seed=seeds, offset=st.floats(-100, 100))
    def test_does_not_see_an_offset(self, fields, seed, offset):
        pred, target = fields(seed, 2, 3, 5, 4), fields(seed + 1, 2, 3, 5, 4)
        got = field_error(pred + offset, target + offset, centre=True)
        assert_close(got, field_error(pred, target, centre=True), rtol=1e-9, atol=0)

    def test_is_over_the_variance(self, fields):
        pred, target = fields(0, 2, 3, 5, 4), 3 + fields(1, 2, 3, 5, 4)
        expected = (pred - target).square().mean((-2, -1)) / target.var((-2, -1), correction=0)
        got = field_error(pred, target, centre=True, eps_rel=0.0, reduction="none")
        assert_close(got, expected)

    def test_a_constant_target_gives_the_square_error(self):
        target = torch.full((1, 7, 9), 0.1)  # its mean over 63 cells is not 0.1 in float32
        assert_close(field_error(target + 2, target, centre=True).item(), 4.0)


class TestConvention:
    @given(seed=seeds, factor=st.floats(1e-6, 1e6))
    def test_has_no_unit(self, fields, seed, factor):
        pred, target = fields(seed, 2, 3, 4, 4), fields(seed + 1, 2, 3, 4, 4)
        got = field_error(factor * pred, factor * target)
        assert_close(got, field_error(pred, target), rtol=1e-12, atol=0)

    def test_spatial_dims_say_which_axes_lead(self, fields):
        pred, target = fields(0, 2, 3, 4, 5, 6), fields(1, 2, 3, 4, 5, 6)
        for dims, shape in ((1, (2, 3, 4, 5)), (2, (2, 3, 4)), (3, (2, 3))):
            got = field_error(pred, target, spatial_dims=dims, reduction="none")
            assert got.shape == shape

    def test_one_frame_without_leading_axes(self, fields):
        pred, target = fields(0, 3, 4, 5), fields(1, 3, 4, 5)
        got = field_error(pred, target, eps_rel=0.3, reduction="none")
        expected = (pred - target).square().mean((1, 2)) / (1.3 * target.square().mean((1, 2)))
        assert_close(got, expected)

    @given(seed=seeds)
    def test_no_weight_changes_a_mean_of_equals(self, fields, seed):
        target = fields(seed, 2, 3, 4, 4)
        weights = fields(seed + 1, 3).abs().tolist()
        got = field_error(1.5 * target, target, channel_weights=weights, eps_rel=0.0)
        assert_close(got.item(), 0.25)

    def test_sees_where_things_are(self, fields):
        target = fields(0, 2, 1, 8, 8)
        # two independent fields of one variance differ by twice it
        assert field_error(target.roll(3, -1), target).item() == pytest.approx(2, rel=0.3)

    def test_nan_stays(self, fields):
        target = fields(0, 2, 1, 4, 4)
        broken = target.clone()
        broken[0, 0, 1, 1] = math.nan
        assert field_error(broken, target).isnan()
        assert field_error(target, broken).isnan()


class TestMask:
    @pytest.mark.parametrize("centre", [False, True])
    def test_masked_cells_do_not_count(self, fields, centre):
        pred, target = fields(0, 2, 3, 4, 5), fields(1, 2, 3, 4, 5)
        mask = torch.ones(4, 5, dtype=torch.bool)
        mask[1:3, 2:] = False
        options = {"centre": centre, "eps_rel": 0.1, "reduction": "none"}
        kept = field_error(pred[..., mask], target[..., mask], spatial_dims=1, **options)
        pred[..., 1, 2], target[..., 2, 3] = math.nan, math.inf
        pred.requires_grad_()
        error = field_error(pred, target, mask=mask, **options)
        assert_close(error, kept)
        error.sum().backward()
        assert torch.equal(pred.grad[..., ~mask], torch.zeros(2, 3, 6, dtype=torch.float64))

    def test_a_mask_per_sample_weighs_frames_by_their_cells(self):
        target = torch.tensor([[[1.0, 1.0]], [[2.0, 9.0]]])
        mask = torch.tensor([[[True, True]], [[True, False]]])
        # m = (1 + 1 + 4)/3 = 2
        got = field_error(
            target + 1, target, mask=mask, eps_rel=0.5, spatial_dims=1, reduction="none"
        )
        assert_close(got, torch.tensor([[1 / 2], [1 / 5]]))

    def test_a_frame_of_walls_has_no_error(self, fields):
        pred, target = fields(0, 2, 1, 4, 4), fields(1, 2, 1, 4, 4)
        mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
        mask[1] = False
        got = field_error(pred, target, mask=mask, eps_rel=0.0, reduction="none")
        assert_close(got[0], field_error(pred[0], target[0], eps_rel=0.0, reduction="none"))
        assert got[1].item() == 0


class TestDifferentiation:
    @pytest.mark.parametrize("squared", [True, False])
    def test_first_and_second_derivatives(self, fields, squared):
        pred, target = fields(0, 2, 2, 3, 3).requires_grad_(), fields(1, 2, 2, 3, 3)
        mask = fields(2, 3, 3) > -1

        def error(p):
            return field_error(p, target, squared=squared, centre=True, mask=mask)

        assert torch.autograd.gradcheck(error, pred)
        assert torch.autograd.gradgradcheck(error, pred)

    @pytest.mark.parametrize("squared", [True, False])
    def test_gradient_is_zero_at_the_target(self, fields, squared):
        for target in (fields(0, 2, 1, 4, 4), torch.zeros(2, 1, 4, 4)):
            pred = target.clone().requires_grad_()
            field_error(pred, target.requires_grad_(), squared=squared).backward()
            assert torch.equal(pred.grad, torch.zeros_like(pred))
            assert target.grad is None


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_fields_are_computed_in_float32(self, fields, dtype, autocast):
        pred, target = ((300 * fields(i, 2, 1, 8, 8)).to(dtype) for i in range(2))
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            got = field_error(pred, target)
        assert got.dtype == torch.float32
        assert_close(got, field_error(pred.float(), target.float()), rtol=0, atol=0)

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    def test_compiles(self, fields):
        pred, target = fields(0, 2, 1, 8, 8), fields(1, 2, 1, 8, 8)
        compiled = torch.compile(field_error, backend="eager", fullgraph=True)
        options = {"mask": fields(2, 8, 8) > 0, "channel_weights": (2.0,), "squared": False}
        assert_close(compiled(pred, target, **options), field_error(pred, target, **options))


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_unequal_shapes(self):
        with pytest.raises(ValueError, match=r"\(1, 4, 4\) and \(1, 4, 1\).*spatial_dims=2"):
            field_error(torch.zeros(1, 4, 4), torch.zeros(1, 4, 1))

    @pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0), (1.0, math.nan)])
    def test_weights_that_are_none(self, weights):
        field = torch.zeros(1, 2, 4, 4)
        with pytest.raises(ValueError, match="one weight for each of the 2 channels"):
            field_error(field, field, channel_weights=weights)

    @pytest.mark.parametrize("eps", [{"eps_rel": -1.0}, {"eps_abs": math.inf}])
    def test_an_eps_that_is_none(self, eps):
        field = torch.zeros(1, 4, 4)
        with pytest.raises(ValueError, match="eps_rel and eps_abs must be finite"):
            field_error(field, field, **eps)

    def test_legacy_with_an_eps_of_its_own(self):
        field = torch.zeros(1, 4, 4)
        with pytest.raises(ValueError, match=r"leave out eps_rel=0\.0"):
            field_error(field, field, legacy=True, eps_rel=0.0)

    def test_whole_numbers(self):
        with pytest.raises(TypeError, match="int32"):
            field_error(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int32))
