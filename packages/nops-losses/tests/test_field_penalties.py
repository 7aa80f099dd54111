"""Totals, border values and signs of fields at points."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import boundary_penalty, conservation_penalty, positivity_penalty
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def column(*values):
    """One sample of one channel."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None]


class TestConservation:
    def test_by_hand(self):
        field, reference = column(2.0, 3.0, 4.0, 4.0), column(1.0, 3.0, 1.0, 5.0)
        # 13 against 10; rms 3 over 4 points
        assert_close(conservation_penalty(field, reference, eps=0.0).item(), 3 / 12)
        got = conservation_penalty(field, reference, scale="integral", eps=0.0)
        assert_close(got.item(), 3 / 10)
        assert_close(conservation_penalty(field, reference, eps=3.0).item(), 3 / 15)

    def test_each_sample_against_its_own_reference(self):
        field, reference = (
            torch.ones(2, 4, 1),
            torch.tensor([1.0, 2.0]).view(2, 1, 1).expand(2, 4, 1),
        )
        # 4 against 4, and 4 against 8 (rms 2): (0 + 4/8)/2; the first batch's is no measure
        assert_close(conservation_penalty(field, reference).item(), 0.25)

    def test_volumes_by_hand(self):
        field, reference = column(2.0, 1.0), column(1.0, 1.0)
        volume = torch.tensor([3.0, 1.0])
        # totals 7 and 4; ΣV = 4, rms 1
        assert_close(conservation_penalty(field, reference, cell_volume=volume).item(), 3 / 4)
        each = volume.expand(1, 2)
        assert_close(conservation_penalty(field, reference, cell_volume=each).item(), 3 / 4)
        weighted = column(1.0, 3.0)  # rms √((3 + 9)/4) = √3; totals 7 and 6
        got = conservation_penalty(field, weighted, cell_volume=volume, eps=0.0)
        assert_close(got.item(), 1 / (4 * math.sqrt(3)))

    @given(seed=seeds, shift=st.integers(1, 11), scale=st.sampled_from(["rms", "integral"]))
    def test_a_translation_keeps_the_total(self, fields, seed, shift, scale):
        reference = fields(seed, 2, 12, 3) + 1
        got = conservation_penalty(reference.roll(shift, 1), reference, scale=scale)
        assert got < 1e-13
        assert conservation_penalty(reference + 0.1, reference, scale=scale) > 1e-3

    @given(seed=seeds, factor=st.floats(1e-3, 1e3), volume=st.floats(1e-3, 1e3))
    def test_has_no_unit(self, fields, seed, factor, volume):
        field, reference = fields(seed, 2, 12, 3), fields(seed + 1, 2, 12, 3)
        for scale in ("rms", "integral"):
            expected = conservation_penalty(field, reference, scale=scale, eps=0.0)
            got = conservation_penalty(
                factor * field, factor * reference, scale=scale, eps=0.0, cell_volume=volume
            )
            assert_close(got, expected, rtol=1e-9, atol=0)

    @pytest.mark.parametrize("scale", ["rms", "integral"])
    def test_a_reference_whose_total_is_zero(self, scale):
        reference = column(1.0, -1.0)
        field = column(2.0, -1.0).requires_grad_()
        got = conservation_penalty(field, reference, scale=scale)
        assert_close(got.item(), 0.5 if scale == "rms" else 1e8)
        got.backward()
        assert field.grad.isfinite().all()
        assert conservation_penalty(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), scale=scale) == 0

    def test_points_left_out_are_in_no_sum_and_empty_samples_in_no_mean(self):
        field, reference = (
            torch.tensor([[2.0, 9.0], [5.0, 5.0]]),
            torch.tensor([[1.0, 7.0], [1.0, 1.0]]),
        )
        mask = torch.tensor([[True, False], [False, False]])
        # 2 against 1, over one point of rms 1
        for eps in (0.0, 1e-8):
            got = conservation_penalty(field[..., None], reference[..., None], mask=mask, eps=eps)
            assert_close(got.item(), 1.0)

    def test_no_gradient_reaches_the_reference(self, fields):
        field, reference = (fields(i, 2, 5, 1).requires_grad_() for i in range(2))
        conservation_penalty(field, reference).backward()
        assert reference.grad is None
        assert field.grad.abs().min() > 0

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("shape", "options", "says"),
        [
            ((2, 4, 1), {}, r"field and reference need one shape, got \(2, 4, 1\) and \(2, 5, 1\)"),
            ((2, 5, 1), {"scale": "sum"}, "scale='sum' is unknown; choose one of rms, integral"),
            ((2, 5, 1), {"eps": -1.0}, "eps must be finite and not negative"),
            (
                (2, 5, 1),
                {"cell_volume": torch.ones(4)},
                r"one number per point, \(5,\).*got \(4,\)",
            ),
        ],
    )
    def test_refuses(self, shape, options, says):
        with pytest.raises(ValueError, match=says):
            conservation_penalty(torch.ones(shape), torch.ones(2, 5, 1), **options)


class TestBoundary:
    def test_ones_on_three_by_four_cells(self):
        field = torch.ones(1, 12, 1, requires_grad=True)
        got = boundary_penalty(field, grid_shape=(3, 4))
        assert got == 1
        got.backward()
        # 2·3 + 2·4 − 4 = 10 border cells, corners once; (1, 1) and (1, 2) lie inside
        share = torch.full((3, 4), 0.2)
        share[1, 1:3] = 0
        assert_close(field.grad, share.view(1, 12, 1))

    @pytest.mark.parametrize(
        ("sizes", "count"), [((5,), 2), ((2, 2), 4), ((5, 7), 20), ((3, 4, 5), 60 - 6)]
    )
    def test_each_border_cell_counts_once(self, sizes, count):
        field = torch.zeros(1, math.prod(sizes), 1, requires_grad=True)
        boundary_penalty(field, grid_shape=sizes, value=-1.0).backward()
        grads = field.grad.flatten()
        assert grads.count_nonzero() == count
        assert_close(grads[grads != 0], torch.full((count,), 2 / count))

    def test_sides_by_hand(self):
        field = torch.arange(6.0).view(1, 6, 1)  # rows (0, 1, 2) and (3, 4, 5)
        cases = {
            ((0, "low"),): (0 + 1 + 4) / 3,
            ((0, "high"),): (9 + 16 + 25) / 3,
            ((1, "low"),): 9 / 2,
            ((1, "high"),): (4 + 25) / 2,
            ((0, "low"), (1, "high")): (0 + 1 + 4 + 25) / 4,
        }
        for sides, expected in cases.items():
            got = boundary_penalty(field, grid_shape=(2, 3), sides=sides)
            assert got.item() == pytest.approx(expected)
        got = boundary_penalty(field, grid_shape=(2, 3), sides=[(0, "low")], value=1.0)
        assert got.item() == pytest.approx(2 / 3)

    def test_what_lies_inside_is_never_seen(self):
        field = torch.ones(1, 12, 1)
        field[0, 5] = math.nan
        field.requires_grad_()
        got = boundary_penalty(field, grid_shape=(3, 4), value=3.0)
        assert got == 4
        got.backward()
        assert field.grad.isfinite().all()
        assert field.grad[0, 5] == 0

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("sizes", "options", "says"),
        [
            ((1, 12), {}, r"axis 0 of grid_shape=\(1, 12\) has one cell"),
            ((3, 5), {}, "has 15 cells, but there are 12 points"),
            ((3, 4), {"sides": ()}, "sides is 'all', or some of"),
            ((3, 4), {"sides": [(2, "low")]}, "sides is 'all', or some of"),
            ((3, 4), {"sides": [(1, "left")]}, "sides is 'all', or some of"),
            ((3, 4), {"sides": [(1, "low")] * 2}, "each once"),
        ],
    )
    def test_refuses(self, sizes, options, says):
        with pytest.raises(ValueError, match=says):
            boundary_penalty(torch.ones(1, 12, 1), grid_shape=sizes, **options)

    def test_a_periodic_axis_is_left_out_by_its_sides(self):
        sides = [(1, "low"), (1, "high")]
        assert boundary_penalty(torch.ones(1, 12, 1), grid_shape=(1, 12), sides=sides) == 1


class TestPositivity:
    def test_by_hand(self):
        field = column(-1.0, 0.0, 2.0, -3.0).requires_grad_()
        got = positivity_penalty(field)
        assert got == 1
        got.backward()
        assert field.grad.flatten().tolist() == [-0.25, 0, 0, -0.25]
        # below 1: 2, 1, 0, 4
        assert positivity_penalty(field, minimum=1.0) == 7 / 4

    @given(seed=seeds, factor=st.floats(1e-3, 1e3))
    def test_is_half_of_what_is_missing_from_the_magnitude(self, fields, seed, factor):
        field = factor * fields(seed, 2, 5, 3)
        expected = (field.abs().mean() - field.mean()) / 2
        assert_close(positivity_penalty(field), expected, rtol=1e-9, atol=0)
