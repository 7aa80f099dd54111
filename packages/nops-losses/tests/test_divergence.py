"""The divergence by central differences: what it is zero for, its order, and which cells count."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import divergence_penalty
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def points(*components):
    """Components on a grid as one sample of points, (1, point, axis)."""
    return torch.stack([part.flatten() for part in components], dim=-1)[None]


def coordinates(*sizes):
    axes = [torch.arange(n, dtype=torch.float64) for n in sizes]
    return torch.meshgrid(*axes, indexing="ij")


def written_afresh(velocity, sizes, spacing, periodic, keep):
    """|divergence| of one sample cell by cell, NaN where a cell does not count."""
    field = velocity.reshape(*sizes, len(sizes)).numpy()
    kept = keep.reshape(sizes).numpy()
    found = np.full(sizes, np.nan)
    for cell in np.ndindex(*sizes):
        total, whole = 0.0, kept[cell]
        for axis, (size, step) in enumerate(zip(sizes, spacing, strict=True)):
            ends = []
            for shift in (1, -1):
                place = list(cell)
                place[axis] += shift
                if not 0 <= place[axis] < size:
                    whole = whole and periodic[axis]
                    place[axis] %= size
                whole = whole and kept[tuple(place)]
                ends.append(field[(*place, axis)])
            total += (ends[0] - ends[1]) / (2 * step)
        if whole:
            found[cell] = abs(total)
    return found


class TestByHand:
    def test_linear_fields(self):
        x, y = coordinates(4, 5)
        options = {"grid_shape": (4, 5), "spacing": 1.0}
        assert divergence_penalty(points(x, -y), **options) == 0
        assert divergence_penalty(points(x, y), **options) == 2
        assert divergence_penalty(points(y, x), **options) == 0
        assert divergence_penalty(points(-x, -y), power=3, **options) == 8

    def test_spacing_is_physical_and_of_its_axis(self):
        i, j = coordinates(4, 5)
        # per cell 1 and 1: ∂₀ = 1/0.5, ∂₁ = 1/0.25
        velocity, options = points(i, j), {"grid_shape": (4, 5)}
        assert divergence_penalty(velocity, spacing=(0.5, 0.25), **options) == 6
        assert divergence_penalty(velocity, spacing=0.5, power=2, **options) == 16

    def test_one_axis_cell_by_cell(self):
        velocity = torch.tensor([0.0, 1.0, 4.0, 2.0])[None, :, None]
        options = {"grid_shape": (4,), "spacing": 0.5}
        # inside: 4 − 0, 2 − 1; across the border: 1 − 2, 0 − 4; each over 2h = 1
        assert divergence_penalty(velocity, **options) == 2.5
        assert divergence_penalty(velocity, periodic=True, **options) == 2.5
        assert divergence_penalty(velocity, power=2, **options) == 8.5
        assert divergence_penalty(velocity, power=2, periodic=[True], **options) == (17 + 17) / 4

    def test_three_axes(self):
        x, y, z = coordinates(3, 4, 5)
        options = {"grid_shape": (3, 4, 5), "spacing": (1.0, 2.0, 4.0)}
        assert divergence_penalty(points(x, y, z), **options) == 1.75
        assert divergence_penalty(points(z, x, y), **options) == 0

    def test_each_sample_by_itself(self):
        x, y = coordinates(4, 5)
        velocity = torch.cat([points(x, y), points(x, -y), points(3 * x, y)])
        got = divergence_penalty(velocity, grid_shape=(4, 5), spacing=1.0, reduction="none")
        assert got.tolist() == [2, 0, 4]


class TestStreamFunction:
    @given(seed=seeds)
    def test_differences_of_one_cancel(self, seed):
        # v = (D₁ψ, −D₀ψ): the differences commute, whatever ψ and the spacings
        generator = torch.Generator().manual_seed(seed)
        psi = torch.randn(8, 9, generator=generator, dtype=torch.float64)

        def slope(field, axis, step):
            return (field.roll(-1, axis) - field.roll(1, axis)) / (2 * step)

        velocity = points(slope(psi, 1, 0.3), -slope(psi, 0, 0.7))
        options = {"grid_shape": (8, 9), "spacing": (0.7, 0.3)}
        assert divergence_penalty(velocity, periodic=True, **options) < 1e-13
        assert divergence_penalty(velocity, **options) < 1e-13
        # the spacings of the other axes would leave something
        swapped = {"grid_shape": (8, 9), "spacing": (0.3, 0.7)}
        assert divergence_penalty(velocity, periodic=True, **swapped) > 0.1

    @pytest.mark.parametrize("periodic", [True, False, (True, False)])
    def test_second_order_in_the_spacing(self, periodic):
        def error(n):
            # ψ = sin(x + 2y): exact derivatives, whose differences do not cancel
            axis = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
            x, y = torch.meshgrid(axis, axis, indexing="ij")
            velocity = points(2 * (x + 2 * y).cos(), -(x + 2 * y).cos())
            h = 2 * math.pi / n
            return divergence_penalty(velocity, grid_shape=(n, n), spacing=h, periodic=periodic)

        order = math.log2(error(64) / error(128))
        assert order == pytest.approx(2.0, abs=0.03)


class TestDefinition:
    @pytest.mark.parametrize("periodic", [(False, False), (True, True), (True, False)])
    @pytest.mark.parametrize("masked", [False, True])
    def test_equals_the_sum_cell_by_cell(self, fields, periodic, masked):
        sizes, spacing = (5, 7), (0.4, 1.5)
        velocity = fields(0, 3, 35, 2)
        mask = fields(1, 3, 35) > -1.4 if masked else torch.ones(3, 35, dtype=torch.bool)
        options = {"grid_shape": sizes, "spacing": spacing, "periodic": periodic, "power": 1.5}
        options["mask"] = mask if masked else None
        each = [
            written_afresh(v, sizes, spacing, periodic, keep) ** 1.5
            for v, keep in zip(velocity, mask, strict=True)
        ]
        assert not masked or all(0 < np.isfinite(one).sum() < 35 for one in each)
        got = divergence_penalty(velocity, **options)
        assert got.item() == pytest.approx(np.nanmean(each), rel=1e-12)
        apart = divergence_penalty(velocity, reduction="none", **options)
        assert apart.tolist() == pytest.approx([np.nanmean(one) for one in each], rel=1e-12)

    @given(seed=seeds, factor=st.floats(1e-3, 1e3), shift=st.integers(0, 8))
    def test_offsets_rolls_and_units(self, fields, seed, factor, shift):
        velocity = fields(seed, 2, 6 * 9, 2)
        options = {"grid_shape": (6, 9), "periodic": True}
        expected = divergence_penalty(velocity, spacing=(1.0, 2.0), **options)
        moved = velocity.unflatten(1, (6, 9)).roll(shift, 2).flatten(1, 2) + 3
        got = divergence_penalty(factor * moved, spacing=(factor, 2 * factor), **options)
        assert_close(got, expected, rtol=1e-9, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("shape", "options", "says"),
        [
            ((1, 20, 3), {}, r"3 components and grid_shape=\(4, 5\)"),
            ((1, 21, 2), {}, r"grid_shape=\(4, 5\) has 20 cells, but there are 21 points"),
            ((20, 2), {}, r"axes \(sample, point, channel\).*\(20, 2\)"),
            ((0, 20, 2), {}, "none empty"),
            ((1, 20, 2), {"grid_shape": (10, 2)}, r"spans 3 cells, got grid_shape=\(10, 2\)"),
            ((1, 20, 2), {"grid_shape": (-4, -5)}, "points: the fields must be a whole grid"),
            ((1, 20, 2), {"spacing": 0.0}, "spacing must be positive"),
            ((1, 20, 2), {"spacing": (1.0,)}, "spacing is one value, or one for each of 2 axes"),
            ((1, 20, 2), {"periodic": (True,) * 3}, "periodic is one value"),
            ((1, 20, 2), {"power": 0.5}, "power must be at least 1"),
            ((1, 20, 2), {"reduction": "sum"}, "reduction must be 'mean' or 'none'"),
        ],
    )
    def test_what_does_not_fit(self, shape, options, says):
        with pytest.raises(ValueError, match=says):
            divergence_penalty(
                torch.zeros(shape), **{"grid_shape": (4, 5), "spacing": 1.0, **options}
            )
