import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import structure_function
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def written_afresh(u, r, order, *, periodic, mask):
    """One channel along its last axis, pair by pair."""
    total, pairs = 0.0, 0
    for row in np.ndindex(u.shape[:-1]):
        for here in range(u.shape[-1]):
            ahead = here + r
            if ahead >= u.shape[-1] and not periodic:
                continue
            ahead %= u.shape[-1]
            if mask[row][here] and mask[row][ahead]:
                total += abs(u[row][ahead] - u[row][here]) ** order
                pairs += 1
    return total / pairs


class TestByHand:
    def test_a_wave(self):
        x = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
        separation, value = structure_function(
            (5 * x).cos()[None], separations=(1, 2, 4), spatial_dims=1
        )
        # 4 sin²(5r/2) ⟨sin²⟩ = 1 − cos 5r
        assert_close(separation, torch.tensor([[1, 2, 4]]) * (2 * math.pi / 64), check_dtype=False)
        assert_close(value, 1 - (5 * separation).cos(), rtol=1e-12, atol=0)
        expected = torch.tensor([[0.118079, 0.444430, 1.382683]], dtype=torch.float64)
        assert_close(value, expected, rtol=1e-5, atol=0)

    def test_each_component_along_its_axis(self):
        # u₀ climbs by 3 along axis 0, u₁ by 5 along axis 1; across, both would change by 100
        i, j = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
        field = torch.stack([3 * i + 100 * j, 5 * j + 100 * i])
        got = structure_function(
            field, separations=(1, 2), periodic=False, order=3, lengths=(4, 12)
        )
        assert_close(got.value, torch.tensor([[27.0, 216.0], [125.0, 1000.0]]))
        assert_close(got.separation, torch.tensor([[1.0, 2.0], [2.0, 4.0]]))

    def test_a_scalar_along_every_axis(self):
        i, j = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
        got = structure_function(
            torch.stack([3 * i + 5 * j, i]), kind="scalar", separations=(2,), periodic=False
        )
        assert_close(got.value, torch.tensor([[[36.0], [100.0]], [[4.0], [0.0]]]))

    @pytest.mark.parametrize(
        ("size", "cells"), [(64, [1, 2, 4, 8, 16]), (63, [1, 2, 4, 8]), (8, [1, 2]), (3, [1])]
    )
    def test_separations_without_a_choice(self, size, cells):
        got = structure_function(torch.ones(1, size), lengths=(size,), spatial_dims=1)
        assert got.separation.tolist() == [cells]


class TestDefinition:
    @pytest.mark.parametrize("periodic", [True, False])
    @pytest.mark.parametrize("order", [1, 2, 3.5])
    def test_equals_the_sum_over_pairs(self, fields, periodic, order):
        field, mask = fields(0, 2, 3, 5, 6), fields(1, 3, 5, 6) > -0.5
        options = {"order": order, "separations": (1, 2), "periodic": periodic, "mask": mask}
        got = structure_function(field, kind="scalar", spatial_dims=2, **options).value
        assert got.shape == (2, 3, 2, 2)
        for sample, channel, axis, place in np.ndindex(2, 3, 2, 2):
            u, kept = field[sample, channel].numpy(), mask[channel].numpy()
            u, kept = np.moveaxis(u, axis, -1), np.moveaxis(kept, axis, -1)
            expected = written_afresh(u, place + 1, order, periodic=periodic, mask=kept)
            assert got[sample, channel, axis, place].item() == pytest.approx(expected, rel=1e-12)

    def test_three_dimensions(self, fields):
        field = fields(0, 2, 3, 4, 5, 6)
        got = structure_function(field, spatial_dims=3, separations=(1, 3)).value
        assert got.shape == (2, 3, 2)
        for axis in range(3):
            one = structure_function(
                field[:, axis : axis + 1].movedim(2 + axis, -1).flatten(0, 3)[:, None],
                spatial_dims=1,
                separations=(1, 3),
            ).value
            assert_close(got[:, axis], one.view(2, -1, 2).mean(1))

    @pytest.mark.parametrize("periodic", [True, False])
    def test_masked_is_unmasked_on_the_pairs_in_common(self, fields, periodic):
        field = fields(0, 2, 2, 8, 12)
        mask = torch.ones(8, 12, dtype=torch.bool)
        mask[:, 7:] = False
        # every pair along axis 0 of the columns left, and those within them along axis 1
        got = structure_function(field, mask=mask, separations=(1, 3), periodic=periodic).value
        left = field[..., :7]
        along = structure_function(left, separations=(1, 3), periodic=periodic).value
        within = structure_function(left, separations=(1, 3), periodic=False).value
        assert_close(got[..., 0, :], along[..., 0, :])
        assert_close(got[..., 1, :], within[..., 1, :])

    def test_a_mask_of_true_changes_nothing(self, fields):
        field = fields(0, 2, 2, 8, 12)
        expected = structure_function(field).value
        got = structure_function(field, mask=torch.ones(12, dtype=torch.bool)).value
        assert_close(got, expected)

    def test_masked_values_are_never_seen(self, fields):
        field, mask = fields(0, 2, 6, 6), torch.ones(6, 6, dtype=torch.bool)
        mask[2, 3] = False
        expected = structure_function(field, mask=mask).value
        field[:, 2, 3] = math.nan
        field.requires_grad_()
        got = structure_function(field, mask=mask).value
        assert torch.equal(got, expected)
        got.sum().backward()
        assert torch.equal(field.grad[:, 2, 3], torch.zeros(2, dtype=torch.float64))

    def test_no_pair_gives_nan_and_leaves_gradients_finite(self, fields):
        field = fields(0, 1, 8).requires_grad_()
        mask = torch.tensor([True, False] * 4)
        got = structure_function(field, mask=mask, separations=(1, 2), spatial_dims=1).value
        assert got[0, 0].isnan()
        assert got[0, 1].isfinite()
        got[0, 1].backward()
        assert field.grad.isfinite().all()

    @given(seed=seeds, shift=st.integers(0, 11), factor=st.floats(1e-3, 1e3))
    def test_rolls_offsets_and_signs_do_not_matter_and_units_do(self, fields, seed, shift, factor):
        field = fields(seed, 2, 8, 12)
        expected = structure_function(field, order=3).value
        same = -factor * field.roll((shift, shift), (1, 2)) + 5
        got = structure_function(same, order=3).value
        assert_close(got, factor**3 * expected, rtol=1e-8, atol=0)


class TestDifferentiation:
    @pytest.mark.parametrize("order", [2.0, 3.0, 1.5])
    def test_first_and_second_derivatives(self, fields, order):
        field, mask = fields(0, 2, 4, 4).requires_grad_(), fields(1, 4, 4) > -1

        def value(u):
            return structure_function(u, order=order, mask=mask).value

        assert torch.autograd.gradcheck(value, field)
        assert torch.autograd.gradgradcheck(value, field)

    @pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
    def test_gradient_of_a_zero_field_is_zero(self, order):
        field = torch.zeros(2, 4, 4, requires_grad=True)
        structure_function(field, order=order).value.sum().backward()
        assert torch.equal(field.grad, torch.zeros(2, 4, 4))


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_fields_are_computed_in_float32(self, fields, dtype, autocast):
        field = (300 * fields(0, 2, 2, 8, 12)).to(dtype)
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            got = structure_function(field, order=3)
        assert got.value.dtype == got.separation.dtype == torch.float32
        assert_close(got, structure_function(field.float(), order=3), rtol=0, atol=0)

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    def test_compiles(self, fields):
        field, mask = fields(0, 2, 8, 8), fields(1, 8, 8) > -1
        compiled = torch.compile(structure_function, backend="eager", fullgraph=True)
        got = compiled(field, mask=mask)
        assert_close(got.value, structure_function(field, mask=mask).value, rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("shape", "options", "says"),
        [
            ((8, 8), {}, "spatial_dims=2"),
            ((3, 8, 8), {}, "3 channels and 2 grid axes.*kind='scalar'"),
            ((2, 8, 8), {"kind": "transverse"}, "kind='transverse' is unknown"),
            ((2, 8, 8), {"order": 0}, "order must be positive"),
            ((2, 8, 8), {"separations": (8,)}, r"below the 8 of the shortest axis, got \(8,\)"),
            ((2, 8, 8), {"separations": (0,)}, "at least 1"),
            ((2, 8, 8), {"separations": (1.5,)}, "whole numbers"),
            ((2, 8, 8), {"separations": ()}, "whole numbers"),
            ((2, 8, 1), {}, r"two cells on every axis, got a grid of \(8, 1\)"),
            ((2, 8, 8), {"lengths": (1.0,)}, "one positive extent for each of the 2"),
            ((2, 8, 8), {"mask": torch.ones(3, 4, dtype=torch.bool)}, r"mask of shape \(3, 4\)"),
        ],
    )
    def test_what_does_not_fit(self, shape, options, says):
        with pytest.raises(ValueError, match=says):
            structure_function(torch.zeros(shape), **options)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
    def test_fields_that_are_not_real(self, dtype):
        with pytest.raises(TypeError, match=str(dtype)):
            structure_function(torch.zeros(2, 8, 8, dtype=dtype))
