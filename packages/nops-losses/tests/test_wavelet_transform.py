import math

import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses._wavelet_transform import SCALING, details_of, inside_of, plan_transform
from torch.testing import assert_close

WAVELETS = sorted(SCALING)
# the peer says so; the few cells of a test are the point
near_the_border = pytest.mark.filterwarnings("ignore:Level value of")
# 4 eps: sums of eight products of numbers below 1
ROUNDING = 1e-15


def transform(sizes, wavelet="db2", *, levels=1, boundary="periodic", undecimated=False):
    return plan_transform(
        sizes, wavelet=wavelet, levels=levels, boundary=boundary, undecimated=undecimated
    )


def peer(field, wavelet, *, levels, mode):
    """PyWavelets' details in our order: per level, finest first, orientations in binary."""
    axes = tuple(range(2, field.ndim))
    approximation, *details = pywt.wavedecn(field.numpy(), wavelet, mode, levels, axes=axes)
    return approximation, [[level[key] for key in sorted(level)] for level in reversed(details)]


class TestFilters:
    @pytest.mark.parametrize("wavelet", WAVELETS)
    def test_are_orthonormal_to_their_even_shifts(self, wavelet):
        taps = SCALING[wavelet]
        for shift in range(0, len(taps), 2):
            pairs = zip(taps[shift:], taps, strict=False)
            got = math.fsum(left * right for left, right in pairs)
            assert got == pytest.approx(float(shift == 0), abs=ROUNDING)

    @pytest.mark.parametrize(
        ("wavelet", "moments"), [("haar", 1), ("db2", 2), ("db4", 4), ("sym4", 4)]
    )
    def test_details_of_polynomials_vanish(self, wavelet, moments):
        taps = SCALING[wavelet]
        assert math.fsum(taps) == pytest.approx(math.sqrt(2), abs=ROUNDING)
        for power in range(moments):
            got = math.fsum((-1) ** m * m**power * tap for m, tap in enumerate(taps))
            assert got == pytest.approx(0, abs=ROUNDING * len(taps) ** power)
        assert abs(math.fsum((-1) ** m * m**moments * tap for m, tap in enumerate(taps))) > 0.1

    @pytest.mark.parametrize("wavelet", WAVELETS)
    def test_are_those_of_the_peer(self, wavelet):
        # its sym4 is good to twelve digits
        assert SCALING[wavelet] == pytest.approx(pywt.Wavelet(wavelet).rec_lo, abs=2e-12)


class TestCoefficients:
    def test_haar_of_four_cells_by_hand(self):
        field = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
        (details,), approximation = details_of(field, transform((2, 2), "haar"))
        assert_close(approximation.item(), 5.0)
        assert_close([d.item() for d in details], [-1.0, -2.0, 0.0], rtol=0, atol=ROUNDING)

    @near_the_border
    @pytest.mark.parametrize("wavelet", WAVELETS)
    @pytest.mark.parametrize(
        ("sizes", "levels"), [((48,), 4), ((32, 16), 3), ((8, 12), 2), ((8, 16, 8), 1)]
    )
    def test_periodic_equals_the_peer(self, fields, wavelet, sizes, levels):
        field = fields(0, 2, 3, *sizes)
        details, approximation = details_of(field, transform(sizes, wavelet, levels=levels))
        expected, expected_details = peer(field, wavelet, levels=levels, mode="periodization")
        assert_close(approximation.numpy(), expected, rtol=0, atol=1e-10)
        assert len(details) == levels
        for ours, theirs in zip(details, expected_details, strict=True):
            assert_close([d.numpy() for d in ours], theirs, rtol=0, atol=1e-10)

    @near_the_border
    @pytest.mark.parametrize("wavelet", WAVELETS)
    @pytest.mark.parametrize(("sizes", "levels"), [((37,), 3), ((16, 21), 2), ((8, 9, 10), 1)])
    def test_symmetric_equals_the_peer(self, fields, wavelet, sizes, levels):
        field = fields(0, 1, 2, *sizes)
        chosen = transform(sizes, wavelet, levels=levels, boundary="symmetric")
        details, approximation = details_of(field, chosen)
        expected, expected_details = peer(field, wavelet, levels=levels, mode="symmetric")
        assert_close(approximation.numpy(), expected, rtol=0, atol=1e-10)
        for ours, theirs in zip(details, expected_details, strict=True):
            assert_close([d.numpy() for d in ours], theirs, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("wavelet", WAVELETS)
    @pytest.mark.parametrize("sizes", [(32,), (16, 32)])
    def test_undecimated_energies_equal_the_peers(self, fields, wavelet, sizes):
        field = fields(0, 1, *sizes)
        details, _ = details_of(field, transform(sizes, wavelet, levels=3, undecimated=True))
        axes = tuple(range(1, field.ndim))
        theirs = pywt.swtn(field.numpy(), wavelet, 3, axes=axes, norm=True, trim_approx=True)
        for ours, level in zip(details, reversed(theirs[1:]), strict=True):
            expected = [(level[key] ** 2).sum() for key in sorted(level)]
            assert [d.square().sum().item() for d in ours] == pytest.approx(expected, rel=1e-10)

    def test_the_mirror_repeats_the_cell_at_the_border(self):
        # two taps on (a | a b | b): one pair starts at each even place of the field itself
        field = torch.tensor([[1.0, 5.0]], dtype=torch.float64)
        _, approximation = details_of(field, transform((2,), "haar", boundary="symmetric"))
        assert_close(approximation[0, 0].item(), 6 / math.sqrt(2))
        linear = torch.arange(16, dtype=torch.float64)[None]
        wall = details_of(linear, transform((16,), "db2", boundary="symmetric"))[0][0][0]
        assert_close(wall[0, 1:-1], torch.zeros(7, dtype=torch.float64), rtol=0, atol=1e-13)
        assert wall[0, 0].abs() > 0.1
        assert wall[0, -1].abs() > 0.1


class TestEnergy:
    @given(
        seed=st.integers(0, 2**31 - 1),
        wavelet=st.sampled_from(WAVELETS),
        halvings=st.lists(st.integers(3, 5), min_size=1, max_size=3),
        data=st.data(),
    )
    def test_is_kept_by_the_periodic_transform(self, fields, seed, wavelet, halvings, data):
        levels = data.draw(st.integers(1, min(halvings)))
        sizes = tuple(2**power for power in halvings)
        field = fields(seed, 1, *sizes)
        details, approximation = details_of(field, transform(sizes, wavelet, levels=levels))
        bands = [approximation, *(band for level in details for band in level)]
        assert sum(band.numel() for band in bands) == field.numel()
        assert_close(
            sum(band.square().sum() for band in bands), field.square().sum(), rtol=1e-12, atol=0
        )

    @given(
        seed=st.integers(0, 2**31 - 1),
        wavelet=st.sampled_from(WAVELETS),
        sizes=st.lists(st.integers(8, 15), min_size=1, max_size=2),
        levels=st.integers(1, 3),
    )
    def test_is_kept_by_the_undecimated_one_on_any_grid(self, fields, seed, wavelet, sizes, levels):
        field = fields(seed, 1, *sizes)
        chosen = transform(sizes, wavelet, levels=levels, undecimated=True)
        details, approximation = details_of(field, chosen)
        bands = [approximation, *(band for level in details for band in level)]
        assert_close(
            sum(band.square().sum() for band in bands), field.square().sum(), rtol=1e-12, atol=0
        )


class TestMasks:
    @pytest.mark.parametrize("boundary", ["periodic", "symmetric"])
    @pytest.mark.parametrize("undecimated", [False, True])
    @pytest.mark.parametrize("wavelet", ["haar", "db2", "db4"])
    def test_coefficients_inside_are_those_that_no_masked_cell_moves(
        self, fields, wavelet, boundary, undecimated
    ):
        field, mask = fields(0, 1, 32, 40), torch.ones(32, 40, dtype=torch.bool)
        mask[10:13, 20:22] = False
        chosen = transform((32, 40), wavelet, levels=2, boundary=boundary, undecimated=undecimated)
        before, _ = details_of(field, chosen)
        after, _ = details_of(field + 100 * fields(1, 1, 32, 40).where(~mask, 0.0), chosen)
        for level, inside in enumerate(inside_of(mask, chosen)):
            assert inside.any()
            for one, two in zip(before[level], after[level], strict=True):
                assert torch.equal(one == two, inside.expand(one.shape))
