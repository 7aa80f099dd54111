"""Marginal spectra, the axes' preference and angle bins; the error between marginals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import (
    AnisotropicSpectrum,
    anisotropic_spectrum,
    anisotropic_spectrum_error,
    energy_spectrum,
    log_spectrum_error,
)
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)
TURN = 2 * math.pi


class TestMarginals:
    def test_one_wave_along_either_axis(self, grid):
        x1, x2 = grid(16, 12)
        for field, own in (((5 * x1).cos(), 0), ((5 * x2).cos(), 1)):
            got = anisotropic_spectrum(field[None])
            expected = torch.zeros_like(got.energies[own])
            expected[5] = 0.25
            assert_close(got.energies[own], expected, rtol=0, atol=1e-15)
            assert_close(got.energies[1 - own][0].item(), 0.25)
            assert got.ratio[5].item() == pytest.approx(1 - 2 * own, abs=1e-12)

    @given(seed=SEEDS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3), data=st.data())
    def test_each_sums_to_half_the_mean_square(self, fields, seed, sizes, data):
        lengths = [data.draw(st.floats(0.1, 10)) for _ in sizes]
        field = fields(seed, 2, 2, *sizes)
        got = anisotropic_spectrum(field, lengths=lengths, spatial_dims=len(sizes))
        space = tuple(range(2, field.ndim))
        expected = 0.5 * field.square().mean(space).sum(1)
        for energies, k, n, length in zip(
            got.energies, got.wavenumbers, sizes, lengths, strict=True
        ):
            assert_close(energies.sum(-1), expected, rtol=1e-12, atol=0)
            assert_close(k, TURN / length * torch.arange(n // 2 + 1, dtype=torch.float64))

    def test_written_afresh(self, fields):
        field = fields(0, 2, 6, 8, 5)
        power = 0.5 * (np.abs(np.fft.fftn(field, axes=(1, 2, 3), norm="forward")) ** 2).sum(0)
        got = anisotropic_spectrum(field, spatial_dims=3)
        assert got.ratio is None
        for axis, n in enumerate(power.shape):
            line = power.sum(tuple({0, 1, 2} - {axis}))
            folded = [line[sorted({m, -m % n})].sum() for m in range(n // 2 + 1)]
            np.testing.assert_allclose(got.energies[axis], folded, rtol=1e-12)

    def test_in_one_dimension_it_is_the_spectrum(self, fields):
        field = fields(0, 3, 2, 15)
        got = anisotropic_spectrum(field, spatial_dims=1, lengths=(2.0,))
        k, energy = energy_spectrum(field, spatial_dims=1, lengths=(2.0,))
        assert_close(got.energies[0], energy, rtol=1e-13, atol=0)
        assert_close(got.wavenumbers[0], k)

    def test_channels_apart(self, fields):
        field = fields(0, 2, 3, 8, 9)
        each = anisotropic_spectrum(field, components="each", sectors=3)
        whole = anisotropic_spectrum(field, sectors=3)
        assert each.ratio.shape[:2] == (2, 3)
        for apart, together in (
            (each.energies[0], whole.energies[0]),
            (each.energies[1], whole.energies[1]),
            (each.sectors, whole.sectors),
        ):
            assert_close(apart.sum(1), together, rtol=1e-12, atol=0)


class TestRatio:
    def test_of_an_isotropic_field(self, fields):
        ratio = anisotropic_spectrum(fields(0, 400, 1, 32, 32)).ratio.mean(0)
        assert ratio.abs().max() < 0.05

    def test_is_cosine_of_twice_the_angle(self, grid):
        x1, x2 = grid(16, 16)
        field = (3 * x1 + 4 * x2).cos()  # |k| = 5, (9 − 16)/25
        ratio = anisotropic_spectrum(field[None]).ratio
        assert ratio[5].item() == pytest.approx(-7 / 25)
        # The same wave on axes of other lengths: k = (3, 4) · (1, ½), shell ⌊√13 + ½⌋ = 4
        stretched = anisotropic_spectrum(field[None], lengths=(TURN, 2 * TURN)).ratio
        assert stretched[4].item() == pytest.approx((9 - 4) / 13)

    @given(seed=SEEDS)
    def test_lies_within_one_and_changes_sign_with_the_axes(self, fields, seed):
        field = fields(seed, 2, 9, 8)
        ratio = anisotropic_spectrum(field).ratio
        assert ratio.abs().max() <= 1 + 1e-12
        turned = anisotropic_spectrum(field.transpose(1, 2)).ratio
        assert_close(turned, -ratio, rtol=0, atol=1e-12)

    def test_of_a_zero_field_is_zero_and_has_a_gradient(self):
        field = torch.zeros(1, 8, 8, requires_grad=True)
        got = anisotropic_spectrum(field, sectors=4)
        assert not got.ratio.any()
        (got.ratio.sum() + got.sectors.sum()).backward()
        assert field.grad.isfinite().all()


class TestSectors:
    @pytest.mark.parametrize(
        ("mode", "sector"),
        [
            ((3, 0), 0),
            ((3, 1), 0),
            ((1, 3), 1),
            ((0, 3), 2),
            ((-1, 3), 2),
            ((-3, 1), 3),
            ((2, 2), 1),
        ],
    )
    def test_of_one_wave_by_hand(self, grid, mode, sector):
        # Four bins of 45°, borders belong to the upper one
        x1, x2 = grid(16, 16)
        got = anisotropic_spectrum((mode[0] * x1 + mode[1] * x2).cos()[None], sectors=4).sectors
        expected = torch.zeros(4, dtype=torch.float64)
        expected[sector] = 0.25
        assert_close(got, expected, rtol=0, atol=1e-15)

    @given(seed=SEEDS, sizes=st.tuples(st.integers(2, 9), st.integers(2, 9)))
    def test_they_sum_to_the_energy_beside_the_mean(self, fields, seed, sizes):
        field = fields(seed, 3, *sizes)
        got = anisotropic_spectrum(field, sectors=5, lengths=(1.0, 3.0)).sectors.sum()
        fluctuation = field - field.mean((1, 2), keepdim=True)
        assert_close(got, 0.5 * fluctuation.square().sum(0).mean(), rtol=1e-11, atol=1e-15)

    def test_a_mirrored_field_has_them_in_reverse(self, fields):
        # 3 bins and angles off their borders: only modes at angle 0 would stay behind
        field = fields(0, 1, 8, 6)
        field = field - field.mean(2, keepdim=True)  # nothing at k₂ = 0
        expected = anisotropic_spectrum(field, sectors=3).sectors
        mirrored = anisotropic_spectrum(field.flip(1), sectors=3).sectors
        assert_close(mirrored, expected.flip(0), rtol=1e-12, atol=0)


class TestError:
    def test_is_the_mean_over_axes(self, grid):
        x1, x2 = grid(16, 16)
        target = ((2 * x1).cos() + (3 * x2).cos())[None]
        pred = (2 * (2 * x1).cos() + (3 * x2).cos())[None]
        got = anisotropic_spectrum_error(pred, target)
        assert_close(got.item(), math.log(4) ** 2 / 2)

    def test_sees_what_the_shells_do_not(self, grid):
        x1, x2 = grid(16, 16)
        jet, other = 4 * (3 * x1).cos() + (3 * x2).cos(), (3 * x1).cos() + 4 * (3 * x2).cos()
        assert log_spectrum_error(jet[None], other[None]) < 1e-20
        got = anisotropic_spectrum_error(jet[None], other[None])
        assert_close(got.item(), math.log(16) ** 2)

    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_of_a_scaled_field(self, fields, dims):
        target = fields(0, 2, *(8, 9, 10)[:dims])
        got = anisotropic_spectrum_error(1.2 * target, target, spatial_dims=dims)
        assert_close(got.item(), (2 * math.log(1.2)) ** 2, rtol=1e-12, atol=0)

    def test_options_hold_for_every_axis(self, fields):
        pred, target = fields(0, 2, 3, 1, 12, 10), fields(1, 2, 3, 1, 12, 10)
        p, t = (anisotropic_spectrum(u, lengths=(1.0, 2.0)) for u in (pred, target))
        parts = []
        for axis in (0, 1):
            k = p.wavenumbers[axis]
            inside = (k >= 6) & (k <= 13)
            energies = [s.energies[axis].mean(1)[:, inside].log() for s in (p, t)]
            squares = (energies[0] - energies[1]).square()
            parts.append((k[inside] * squares).sum(-1) / k[inside].sum())
        got = anisotropic_spectrum_error(
            pred,
            target,
            lengths=(1.0, 2.0),
            k_range=(6, 13),
            per="sequence",
            shell_weights=lambda k: k,
            reduction="none",
        )
        assert_close(got, torch.stack(parts).mean(0), rtol=1e-12, atol=0)

    def test_channels_apart(self, fields):
        pred, target = fields(0, 2, 3, 8, 8), fields(1, 2, 3, 8, 8)
        got = anisotropic_spectrum_error(pred, target, components="each")
        alone = [anisotropic_spectrum_error(pred[:, [c]], target[:, [c]]) for c in range(3)]
        assert_close(got, torch.stack(alone).mean(), rtol=1e-12, atol=0)

    def test_a_truth_made_before_saves_its_transform(self, fields, operations):
        pred, target = fields(0, 2, 8, 8), fields(1, 2, 8, 8)
        truth = anisotropic_spectrum(target)
        assert isinstance(truth, AnisotropicSpectrum)
        expected = anisotropic_spectrum_error(pred, target)
        assert_close(anisotropic_spectrum_error(pred, truth), expected, rtol=0, atol=0)
        names = operations(lambda: anisotropic_spectrum_error(pred, truth))
        assert names.count("aten._fft_r2c.default") == 1


class TestMachinery:
    def test_derivatives(self, fields):
        field = fields(0, 2, 4, 5).requires_grad_()

        def parts(u):
            got = anisotropic_spectrum(u, sectors=3, lengths=(2.0, 1.0))
            return *got.energies, got.ratio, got.sectors

        assert torch.autograd.gradcheck(parts, field)
        assert torch.autograd.gradgradcheck(parts, field)

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    def test_compiles(self, fields):
        field = fields(0, 1, 8, 6)

        def parts(u):
            got = anisotropic_spectrum(u, sectors=3)
            return *got.energies, got.ratio, got.sectors

        compiled = torch.compile(parts, backend="eager", fullgraph=True, dynamic=False)
        for got, expected in zip(compiled(field), parts(field), strict=True):
            assert_close(got, expected, rtol=0, atol=0)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(("sectors", "dims"), [(-1, 2), (4, 3), (4, 1)])
    def test_angle_bins_that_are_none(self, sectors, dims):
        with pytest.raises(ValueError, match=f"sectors={sectors} with spatial_dims={dims}"):
            anisotropic_spectrum(torch.zeros(1, 8, 8, 8), sectors=sectors, spatial_dims=dims)

    @pytest.mark.usefixtures("unchecked")
    def test_a_truth_of_another_grid(self, fields):
        truth = anisotropic_spectrum(fields(0, 1, 8, 10))
        with pytest.raises(ValueError, match=r"target.energies\[0\] has shape \(5,\).*\(6,\)"):
            anisotropic_spectrum_error(fields(0, 1, 10, 10), truth)
