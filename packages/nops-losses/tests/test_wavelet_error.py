import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import wavelet_error
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)
FIFTH = (2 * math.log(1.2)) ** 2  # 0.132964600


def haar_pair():
    """Two fields of 4 cells whose details are (−1, −2, 0) and (−2, −4, 0)."""
    target = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
    return 2 * target + 7, target


class TestByHand:
    def test_energies(self):
        pred, target = haar_pair()
        # the empty third band is dropped, the others are four times too strong
        got = wavelet_error(pred, target, wavelet="haar", levels=1)
        assert_close(got.item(), math.log(4) ** 2)

    def test_coefficients(self):
        pred, target = haar_pair()
        target[0, 0, 0] = 2.0  # details −½, −3/2, ½ against −2, −4, 0
        options = {"wavelet": "haar", "levels": 1, "energy_weight": 0.0, "coefficient_weight": 3.0}
        expected = 3 * (1.5 / 0.5 + 2.5 / 1.5 + 0.5 / 0.5) / 3
        assert_close(wavelet_error(pred, target, **options).item(), expected)

    def test_both_parts_are_added(self):
        pred, target = haar_pair()
        options = {"wavelet": "haar", "levels": 1, "energy_weight": 0.5, "coefficient_weight": 2.0}
        expected = 0.5 * math.log(4) ** 2 + 2.0 * 1.0
        assert_close(wavelet_error(pred, target, **options).item(), expected)

    def test_channels_share_their_energy(self):
        _, target = haar_pair()
        target = torch.cat([target, -target])
        pred = target * torch.tensor([1.0, 3.0], dtype=torch.float64).view(2, 1, 1)
        got = wavelet_error(pred, target, wavelet="haar", levels=1)
        assert_close(got.item(), math.log((1 + 9) / 2) ** 2)

    @pytest.mark.parametrize("boundary", ["periodic", "symmetric"])
    @pytest.mark.parametrize("undecimated", [False, True])
    @pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym4"])
    def test_a_fifth_too_strong(self, fields, wavelet, undecimated, boundary):
        target = fields(0, 2, 3, 16, 32)
        options = {"wavelet": wavelet, "undecimated": undecimated, "boundary": boundary}
        assert_close(wavelet_error(1.2 * target, target, **options).item(), FIFTH)
        options |= {"energy_weight": 0.0, "coefficient_weight": 1.0}
        assert_close(wavelet_error(1.2 * target, target, **options).item(), 0.2)

    @pytest.mark.parametrize("sizes", [(64,), (16, 8), (8, 16, 8), (8, 8, 8, 8)])
    def test_any_number_of_grid_axes(self, fields, sizes):
        target = fields(0, 2, 3, 2, *sizes)
        got = wavelet_error(1.2 * target, target, spatial_dims=len(sizes), reduction="none")
        assert_close(got, torch.full((2, 3), FIFTH, dtype=torch.float64))

    def test_only_the_scale_that_differs_counts(self, fields):
        cells = fields(0, 1, 8, 8)
        coarse = cells.repeat_interleave(2, 1).repeat_interleave(2, 2)
        fine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).repeat(8, 8)
        # of the six bands the three finest hold `fine` in the last alone, and are else empty
        got = wavelet_error(coarse + 2 * fine, coarse + fine, wavelet="haar", levels=2)
        assert_close(got.item(), math.log(4) ** 2 / 4)


class TestLevels:
    @pytest.mark.parametrize(
        ("sizes", "options", "levels"),
        [
            ((64, 64), {}, 4),
            ((256, 128), {}, 4),
            ((32, 64), {}, 3),
            ((8, 64), {}, 1),
            ((24, 64), {}, 2),  # 6 cells are left
            ((20, 64), {}, 2),
            ((36, 64), {"wavelet": "db4"}, 2),
            ((15, 64), {"undecimated": True}, 1),
            ((37, 64), {"boundary": "symmetric"}, 3),
        ],
    )
    def test_without_a_number(self, fields, sizes, options, levels):
        pred, target = fields(0, 1, *sizes), fields(1, 1, *sizes)
        expected = wavelet_error(pred, target, levels=levels, **options)
        assert torch.equal(wavelet_error(pred, target, **options), expected)
        other = wavelet_error(pred, target, levels=levels % 2 + 1, **options)
        assert not torch.isclose(other, expected)


class TestInvariance:
    @given(seed=seeds, shift=st.tuples(st.integers(0, 14), st.integers(0, 10)))
    def test_undecimated_energies_do_not_see_a_roll(self, fields, seed, shift):
        pred, target = fields(seed, 2, 15, 11), fields(seed + 1, 2, 15, 11)
        expected = wavelet_error(pred, target, undecimated=True)
        got = wavelet_error(pred.roll(shift, (1, 2)), target, undecimated=True)
        assert_close(got, expected, rtol=1e-10, atol=0)
        assert wavelet_error(target.roll(shift, (1, 2)), target, undecimated=True) < 1e-20

    @given(seed=seeds, factor=st.floats(1e-6, 1e6))
    def test_has_no_unit(self, fields, seed, factor):
        pred, target = fields(seed, 2, 8, 8), fields(seed + 1, 2, 8, 8)
        options = {"coefficient_weight": 0.5}
        got = wavelet_error(factor * pred, factor * target, **options)
        assert_close(got, wavelet_error(pred, target, **options), rtol=1e-12, atol=0)

    def test_spatial_dims_say_which_axes_lead(self, fields):
        pred, target = fields(0, 2, 3, 8, 8, 8), fields(1, 2, 3, 8, 8, 8)
        for dims, shape in ((1, (2, 3, 8)), (2, (2, 3)), (3, (2,))):
            got = wavelet_error(pred, target, spatial_dims=dims, reduction="none")
            assert got.shape == shape
            assert_close(wavelet_error(pred, target, spatial_dims=dims), got.mean())


class TestEdges:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym4"])
    def test_a_constant_target_has_no_error(self, fields, wavelet, dtype):
        target = torch.full((2, 1, 16, 16), 0.1, dtype=dtype)
        pred = fields(0, 2, 1, 16, 16).to(dtype).requires_grad_()
        got = wavelet_error(pred, target, wavelet=wavelet, coefficient_weight=1.0)
        assert got.item() == 0
        got.backward()
        assert torch.equal(pred.grad, torch.zeros_like(pred))

    def test_a_prediction_of_zeros(self, fields):
        pred = torch.zeros(1, 8, 8, dtype=torch.float64, requires_grad=True)
        error = wavelet_error(pred, fields(0, 1, 8, 8), coefficient_weight=1.0, floor=1e-6)
        error.backward()
        assert 0 < error.item() < math.log(1e6) ** 2 + 1
        assert pred.grad.isfinite().all()

    def test_the_floor_drops_weak_bands(self):
        target = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
        pred = target + torch.tensor([[0.0, 3.0], [0.0, 3.0]])  # details −4, −2, 0
        options = {"wavelet": "haar", "levels": 1}
        weak = (math.log(16 + 1e-20) / 2) ** 2 * 4 / 2
        assert_close(wavelet_error(pred, target, **options).item(), weak)
        # 1 of 5 is not above a quarter; the strong band is equal
        assert wavelet_error(pred, target, floor=0.25, **options).item() == 0

    def test_the_floor_is_a_share_of_the_details(self):
        pred, target = haar_pair()
        got = wavelet_error(pred, target + 1000, wavelet="haar", levels=1, floor=0.1)
        # e = 0.5: (4 + e)/(1 + e) and (16 + e)/(4 + e)
        expected = (math.log(4.5 / 1.5) ** 2 + math.log(16.5 / 4.5) ** 2) / 2
        assert got.item() == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("constant", [False, True])
    def test_what_is_not_finite_stays(self, fields, value, constant):
        target = torch.ones(1, 8, 8) if constant else fields(0, 1, 8, 8).float()
        broken = target.clone()
        broken[0, 2, 3] = value
        assert not wavelet_error(broken, target).isfinite()
        assert wavelet_error(target, broken).isnan()


class TestMask:
    @pytest.mark.parametrize("boundary", ["periodic", "symmetric"])
    def test_masked_cells_do_not_count(self, fields, boundary):
        pred, target = fields(0, 2, 3, 32, 32), fields(1, 2, 3, 32, 32)
        mask = torch.ones(32, 32, dtype=torch.bool)
        mask[10:14, 3:9] = False
        options = {"mask": mask, "coefficient_weight": 0.3, "boundary": boundary, "levels": 2}
        expected = wavelet_error(pred, target, **options)
        pred[..., 11, 4], target[..., 12, 8] = math.nan, math.inf
        pred[..., 10, 3] = 1e6
        pred.requires_grad_()
        got = wavelet_error(pred, target, **options)
        assert_close(got, expected, rtol=0, atol=0)
        got.backward()
        assert torch.equal(pred.grad[..., ~mask], torch.zeros(2, 3, 24, dtype=torch.float64))

    def test_cells_that_are_far_from_the_mask_all_count(self, fields):
        # with haar and a hole of whole blocks, what is left is a field without these blocks
        pred, target = fields(0, 1, 16, 8), fields(1, 1, 16, 8)
        mask = torch.ones(16, 1, dtype=torch.bool)
        mask[4:8] = False
        options = {"wavelet": "haar", "levels": 2}
        rows = mask[:, 0]
        expected = wavelet_error(pred[:, rows], target[:, rows], **options)
        assert_close(wavelet_error(pred, target, mask=mask, **options), expected)

    def test_a_mask_per_sample(self, fields):
        pred, target = fields(0, 2, 2, 16, 16), fields(1, 2, 2, 16, 16)
        mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
        mask[0, 0, 3, 3] = mask[1, 0, 8:, 10] = False
        got = wavelet_error(pred, target, mask=mask, reduction="none")
        for sample in range(2):
            alone = wavelet_error(pred[sample], target[sample], mask=mask[sample, 0])
            assert_close(got[sample], alone)

    def test_a_frame_of_walls_has_no_error(self, fields):
        pred, target = fields(0, 1, 16, 16).requires_grad_(), fields(1, 1, 16, 16)
        got = wavelet_error(pred, target, mask=torch.zeros(16, 16, dtype=torch.bool))
        assert got.item() == 0
        got.backward()
        assert torch.equal(pred.grad, torch.zeros_like(pred))


class TestDifferentiation:
    @pytest.mark.parametrize(
        "options",
        [
            {"coefficient_weight": 0.5},
            {"undecimated": True, "levels": 2},
            {"boundary": "symmetric", "wavelet": "db4", "levels": 1},
        ],
    )
    def test_first_and_second_derivatives(self, fields, options):
        pred, target = fields(0, 1, 8, 8).requires_grad_(), fields(1, 1, 8, 8)
        mask = torch.ones(8, 8, dtype=torch.bool)
        mask[0, 0] = False

        def error(p):
            return wavelet_error(p, target, mask=mask, **options)

        assert torch.autograd.gradcheck(error, pred)
        assert torch.autograd.gradgradcheck(error, pred)

    def test_no_gradient_flows_into_the_target(self, fields):
        pred, target = fields(0, 1, 8, 8).requires_grad_(), fields(1, 1, 8, 8).requires_grad_()
        wavelet_error(pred, target).backward()
        assert target.grad is None


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_fields_are_computed_in_float32(self, fields, dtype, autocast):
        pred, target = ((300 * fields(i, 2, 1, 16, 24)).to(dtype) for i in range(2))
        options = {"coefficient_weight": 0.5}
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            got = wavelet_error(pred, target, **options)
        assert got.dtype == torch.float32
        expected = wavelet_error(pred.float(), target.float(), **options)
        assert_close(got, expected, rtol=0, atol=0)

    def test_float32_stays_close_to_float64(self, fields):
        pred, target = fields(0, 2, 2, 64, 48), fields(1, 2, 2, 64, 48)
        got = wavelet_error(pred.float(), target.float()).double()
        # energies of 36 to 1,500 coefficients in float32, and logs of ratios near 1
        assert_close(got, wavelet_error(pred, target), rtol=1e-4, atol=0)

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    @pytest.mark.parametrize("undecimated", [False, True])
    def test_compiles(self, fields, undecimated):
        pred, target = fields(0, 1, 16, 16), fields(1, 1, 16, 16)
        compiled = torch.compile(wavelet_error, backend="eager", fullgraph=True, dynamic=False)
        mask = torch.ones(16, 16, dtype=torch.bool)
        mask[3, 4] = False
        options = {"mask": mask, "coefficient_weight": 1.0, "undecimated": undecimated}
        got = compiled(pred, target, **options)
        assert_close(got, wavelet_error(pred, target, **options), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("sizes", "options", "says"),
        [
            (
                (15, 16),
                {},
                r"axis 0 has 15 cells, which can be halved without remainder 0 times.*levels=None.*undecimated=True",
            ),
            ((16, 20), {"levels": 3}, r"axis 1 has 20 cells.* 2 times.*levels=3.*undecimated=True"),
            ((16, 6), {"wavelet": "db4"}, r"axis 1 has 6 cells, fewer than the 8 of db4"),
            ((16, 4), {}, r"axis 1 has 4 cells; levels=None.*needs 8.*levels=2 at most"),
            ((20, 20), {"levels": 5, "undecimated": True}, r"axis 0 has 20 cells.* 4 times"),
            ((16, 16), {"levels": 0}, "levels needs at least 1, got 0"),
            (
                (16, 16),
                {"wavelet": "db3"},
                "wavelet='db3' is unknown; choose one of haar, db2, db4, sym4",
            ),
            ((16, 16), {"boundary": "zero"}, "boundary='zero' is unknown"),
            ((16, 16), {"energy_weight": 0.0}, "not both 0, got 0.0 and 0.0"),
            ((16, 16), {"coefficient_weight": -1.0}, "not negative"),
            ((16, 16), {"floor": -1.0}, "at least 0; got -1.0"),
            ((16, 16), {"reduction": "sum"}, "'sum'"),
            ((16, 16), {"spatial_dims": 3}, "spatial_dims=3"),
            ((16, 16), {"mask": torch.ones(3, 4, dtype=torch.bool)}, r"mask of shape \(3, 4\)"),
        ],
    )
    def test_what_does_not_fit(self, sizes, options, says):
        field = torch.zeros(1, *sizes)
        with pytest.raises(ValueError, match=says):
            wavelet_error(field, field, **options)

    def test_unequal_shapes(self):
        with pytest.raises(ValueError, match=r"\(1, 8, 8\) and \(1, 8, 1\).*spatial_dims=2"):
            wavelet_error(torch.zeros(1, 8, 8), torch.zeros(1, 8, 1))

    @pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
    def test_fields_that_are_not_real(self, dtype):
        field = torch.zeros(1, 8, 8, dtype=dtype)
        with pytest.raises(TypeError, match=str(dtype)):
            wavelet_error(field, field)
