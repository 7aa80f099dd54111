import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import Spectrum, energy_spectrum
from torch.testing import assert_close

TURN = 2 * math.pi
CASES = [
    ((16,), None),
    ((15,), (3.0,)),
    ((1, 6), None),
    ((16, 8), None),
    ((15, 9), (2.0, 5.0)),
    ((8, 15), (12.0, 6.0)),
    ((7, 6, 5), None),
    ((6, 8, 5), (1.0, 2.0, 0.7)),
    ((15, 17, 19), (2.0, 1.0, 3.0)),
]


def grid(*sizes):
    """Coordinates 2πj/n on each axis, in float64."""
    axes = [torch.arange(n, dtype=torch.float64) * (TURN / n) for n in sizes]
    return torch.meshgrid(*axes, indexing="ij")


def counts_of(sizes, lengths=None):
    """Modes per shell: an impulse has |F|² = 1/n² in each of its n modes, so E = count / 2n²."""
    field = torch.zeros(1, *sizes, dtype=torch.float64)
    field.view(-1)[0] = 1.0
    energy = energy_spectrum(field, lengths=lengths, spatial_dims=len(sizes)).energy
    return (energy * 2 * math.prod(sizes) ** 2).round(decimals=6).tolist()


def written_afresh(field, lengths):
    """The definition in NumPy: all modes of the complex transform, one by one."""
    sizes = field.shape[1:]
    power = 0.5 * (np.abs(np.fft.fftn(field, axes=range(1, field.ndim), norm="forward")) ** 2)
    spacing = max(TURN / length for length in lengths)
    energy = np.zeros(sum(sizes) + 2)
    for mode in product(*(range(n) for n in sizes)):
        signed = [m if 2 * m <= n else m - n for m, n in zip(mode, sizes, strict=True)]
        wave = [TURN * m / length for m, length in zip(signed, lengths, strict=True)]
        energy[math.floor(math.hypot(*wave) / spacing + 0.5 + 1e-9)] += power[:, *mode].sum()
    return energy


class TestGoldenValues:
    def test_three_waves(self):
        x1, x2 = grid(8, 8)
        field = 3 * x2.cos() + (2 * x1).cos() + 0.5 * (x1 + x2).cos()
        # a²/4 each: 9/4 and, at |k| = 1.41, 1/16 in shell 1; 1/4 in shell 2
        energy = energy_spectrum(field[None]).energy
        expected = torch.tensor([0, 2.3125, 0.25, 0, 0, 0, 0], dtype=torch.float64)
        assert_close(energy, expected, rtol=0, atol=1e-15)

    @pytest.mark.parametrize(
        ("mode", "shell", "energy"),
        [
            ((5, 0), 3, 0.25),  # |k|/dk = 2.5: a tie goes up
            ((20, 0), 10, 0.25),
            ((3, 4), 4, 0.25),
            ((0, 32), 32, 0.5),
            ((64, 0), 32, 0.5),
            ((64, 32), 45, 0.5),
        ],
    )
    def test_a_wave_in_a_channel_of_12_by_6(self, mode, shell, energy):
        x1, x2 = grid(128, 64)
        field = (mode[0] * x1 + mode[1] * x2).cos()[None]
        got = energy_spectrum(field, lengths=(12, 6))
        expected = torch.zeros(46, dtype=torch.float64)
        expected[shell] = energy
        assert_close(got.energy, expected, rtol=0, atol=1e-14)
        assert_close(got.wavenumber[shell].item(), shell * TURN / 6)

    @pytest.mark.parametrize(
        ("sizes", "lengths", "shells", "first"),
        [
            ((8, 8), None, 7, [1, 8, 12, 16, 22, 4, 1]),
            ((128, 64), (12, 6), 46, [1, 14, 22, 38, 54, 62]),
            ((128, 64), None, 73, [1, 8, 12, 16, 32, 28]),
            ((16, 16, 16), None, 15, [1, 18, 62, 98, 210, 350]),
        ],
    )
    def test_modes_per_shell(self, sizes, lengths, shells, first):
        counts = counts_of(sizes, lengths)
        assert len(counts) == shells
        assert counts[: len(first)] == first
        assert sum(counts) == math.prod(sizes)


class TestConvention:
    @pytest.mark.parametrize(("sizes", "lengths"), CASES)
    def test_shells_sum_to_half_the_mean_square(self, fields, sizes, lengths):
        field = fields(0, 2, 3, *sizes) + 0.5
        energy = energy_spectrum(field, lengths=lengths, spatial_dims=len(sizes)).energy
        space = tuple(range(2, field.ndim))
        expected = 0.5 * field.square().sum(1, keepdim=True).mean(space).squeeze(1)
        assert_close(energy.sum(-1), expected, rtol=1e-13, atol=0)

    @given(
        seed=st.integers(0, 2**31 - 1),
        sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
        data=st.data(),
    )
    def test_shells_sum_whatever_the_grid(self, fields, seed, sizes, data):
        lengths = [data.draw(st.floats(0.1, 10)) for _ in sizes]
        field = fields(seed, 1, *sizes)
        energy = energy_spectrum(field, lengths=lengths, spatial_dims=len(sizes)).energy
        assert_close(energy.sum(), 0.5 * field.square().mean(), rtol=1e-12, atol=0)

    @pytest.mark.parametrize(("sizes", "lengths"), CASES)
    def test_equals_the_definition_written_afresh(self, fields, sizes, lengths):
        field = fields(1, 2, *sizes)
        energy = energy_spectrum(field, lengths=lengths, spatial_dims=len(sizes)).energy.numpy()
        expected = written_afresh(field.numpy(), lengths or (TURN,) * len(sizes))
        np.testing.assert_allclose(energy, expected[: energy.size], rtol=1e-12, atol=1e-17)
        assert not expected[energy.size :].any()

    @pytest.mark.parametrize(
        ("sizes", "lengths", "stretch"),
        [((128, 64), None, (2, 2)), ((64, 128), None, (2, 2)), ((128, 64), (12, 6), (1, 2))],
    )
    def test_each_mode_is_in_its_shell_alone(self, sizes, lengths, stretch):
        x1, x2 = (torch.arange(n, dtype=torch.float64) * (TURN / n) for n in sizes)
        k2 = torch.arange(sizes[1] // 2 + 1)
        for k1 in range(-sizes[0] // 2 + 1, sizes[0] // 2 + 1):
            rows, columns = torch.exp(1j * k1 * x1), torch.exp(1j * k2[:, None] * x2)
            waves = torch.einsum("x,ky->kxy", rows.real, columns.real)
            waves = (waves - torch.einsum("x,ky->kxy", rows.imag, columns.imag))[:, None]
            energy = energy_spectrum(waves, lengths=lengths).energy
            # floor(2|k|/dk) in whole numbers, then (2j − 1) <= 2|k|/dk < 2j + 1
            square = (stretch[0] * k1) ** 2 + (stretch[1] * k2).square()
            shell = torch.tensor([(math.isqrt(s) + 1) // 2 for s in square.tolist()])
            assert torch.equal(energy.argmax(-1), shell)
            inside = energy.gather(-1, shell[:, None])[:, 0]
            assert_close(inside, 0.5 * waves.square().mean((1, 2, 3)), rtol=1e-12, atol=0)

    @pytest.mark.parametrize(
        ("sizes", "lengths"),
        [
            ((16, 8), (TURN, TURN)),
            ((8, 16), (12.0, 6.0)),
            ((15, 9), (2.0, 5.0)),
            ((6, 8, 5), (1.0, 2.0, 0.7)),
        ],
    )
    def test_each_mode_is_in_one_shell_and_stays_there_when_axes_are_exchanged(
        self, sizes, lengths
    ):
        dims, space = len(sizes), grid(*sizes)
        for mode in product(*(range(n) for n in sizes)):
            wave = sum(m * x for m, x in zip(mode, space, strict=True)).cos()[None]
            energy = energy_spectrum(wave, lengths=lengths, spatial_dims=dims).energy
            inside = energy > 1e-12
            assert inside.sum() == 1
            assert_close(energy[inside][0], 0.5 * wave.square().mean(), rtol=1e-12, atol=0)
            turned = energy_spectrum(
                wave.permute(0, *range(dims, 0, -1)), lengths=lengths[::-1], spatial_dims=dims
            ).energy
            assert torch.equal(turned > 1e-12, inside)

    def test_wavenumbers_are_in_radians_per_length(self, fields):
        field = fields(0, 1, 8, 8)
        assert energy_spectrum(field).wavenumber.tolist() == list(range(7))
        stretched = energy_spectrum(field, lengths=(4.0, 2.0)).wavenumber
        assert_close(stretched, math.pi * torch.arange(len(stretched), dtype=torch.float64))

    @pytest.mark.parametrize("unit", [1.0, 0.1, 0.7, math.pi])
    @pytest.mark.parametrize(("first", "second"), [(1, 2), (4, 3), (6, 5)])
    def test_ties_go_up_whatever_the_rounding(self, first, second, unit):
        sizes, smaller = (41, 43), min(first, second)
        expected = [0] * 100
        for k1, k2 in product(*(range(-(n // 2), n // 2 + 1) for n in sizes)):
            # r = scale |k|/dk has a whole square; j - 1/2 <= |k|/dk means 2j scale - scale <= 2r
            scale = first * second
            two_radii = math.isqrt(4 * ((k1 * smaller * second) ** 2 + (k2 * smaller * first) ** 2))
            expected[(two_radii + scale) // (2 * scale)] += 1
        counts = counts_of(sizes, (first * unit, second * unit))
        assert counts == expected[: len(counts)]

    def test_channels_are_summed_and_leading_axes_kept(self, fields):
        field = fields(0, 4, 3, 2, 8, 6)
        energy = energy_spectrum(field).energy
        assert energy.shape[:2] == (4, 3)
        apart = energy_spectrum(field.unsqueeze(3)).energy
        assert_close(apart.sum(2), energy, rtol=1e-13, atol=0)


class TestInvariance:
    def test_shifts_mirrors_and_exchanged_axes_change_nothing(self, fields):
        field = fields(0, 2, 12, 9)
        expected = energy_spectrum(field, lengths=(3.0, 2.0)).energy
        for same in (field.roll((3, 4), (1, 2)), field.flip(1), field.flip(2)):
            assert_close(energy_spectrum(same, lengths=(3.0, 2.0)).energy, expected)
        turned = energy_spectrum(field.transpose(1, 2), lengths=(2.0, 3.0)).energy
        assert_close(turned, expected)

    @given(seed=st.integers(0, 2**31 - 1), factor=st.floats(1e-3, 1e3))
    def test_energy_has_the_unit_of_the_field_squared(self, fields, seed, factor):
        field = fields(seed, 1, 6, 5)
        got = energy_spectrum(factor * field).energy
        assert_close(got, factor**2 * energy_spectrum(field).energy, rtol=1e-12, atol=0)

    def test_a_finer_grid_sees_the_same_waves(self):
        spectra = []
        for n in (16, 33):
            x1, x2 = grid(n, n)
            field = (3 * x1 + 2 * x2).cos() + 0.3 * (5 * x2).sin() + 0.2
            spectra.append(energy_spectrum(field[None]).energy[:8])
        assert_close(*spectra, rtol=0, atol=1e-15)


class TestDifferentiation:
    def test_first_and_second_derivatives(self, fields):
        field = fields(0, 2, 1, 4, 5).requires_grad_()

        def energy(u):
            return energy_spectrum(u, lengths=(2.0, 1.0)).energy

        assert torch.autograd.gradcheck(energy, field)
        assert torch.autograd.gradgradcheck(energy, field)

    def test_gradient_of_a_zero_field_is_zero(self):
        field = torch.zeros(1, 8, 8, requires_grad=True)
        energy_spectrum(field).energy.sum().backward()
        assert torch.equal(field.grad, torch.zeros(1, 8, 8))


class TestPrecision:
    def test_float32_stays_close_to_float64(self, fields):
        field = fields(0, 2, 2, 64, 48)
        got = energy_spectrum(field.float())
        assert got.energy.dtype == got.wavenumber.dtype == torch.float32
        # float32 transform of 64x48 and sums over up to 200 modes
        assert_close(got.energy.double(), energy_spectrum(field).energy, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_fields_are_computed_in_float32(self, fields, dtype, autocast):
        field = (100 * fields(0, 1, 20, 48)).to(dtype)  # 20 and 48: no powers of two
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            got = energy_spectrum(field).energy
        assert_close(got, energy_spectrum(field.float()).energy, rtol=0, atol=0)


class TestPlans:
    def test_a_plan_first_made_in_inference_mode_serves_training(self, fields):
        field = fields(0, 1, 5, 11)
        with torch.inference_mode():
            energy_spectrum(field)
        field.requires_grad_()
        energy_spectrum(field).energy.sum().backward()
        assert_close(field.grad, field.detach() / 55)  # d(½⟨u²⟩)/du

    def test_changing_a_result_in_place_leaves_the_plan_alone(self, fields):
        field = fields(0, 1, 8, 8)
        energy_spectrum(field).wavenumber.zero_()
        assert energy_spectrum(field).wavenumber[-1] == 6

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    def test_compiles(self, fields):
        field = fields(0, 1, 8, 6)
        compiled = torch.compile(energy_spectrum, backend="eager", fullgraph=True, dynamic=False)
        got = compiled(field)
        assert isinstance(got, Spectrum)
        assert_close(got.energy, energy_spectrum(field).energy, rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_a_missing_channel_axis(self):
        with pytest.raises(ValueError, match=r"\(8, 8\).*spatial_dims=2.*at least 3"):
            energy_spectrum(torch.zeros(8, 8))

    def test_an_empty_axis(self):
        with pytest.raises(ValueError, match=r"grid of \(8, 0\)"):
            energy_spectrum(torch.zeros(1, 8, 0))

    @pytest.mark.parametrize("lengths", [(1.0,), (1.0, 0.0), (1.0, -2.0), (1.0, math.nan)])
    def test_lengths_that_are_none(self, lengths):
        with pytest.raises(ValueError, match="one positive extent for each of the 2"):
            energy_spectrum(torch.zeros(1, 8, 8), lengths=lengths)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
    def test_fields_that_are_not_real(self, dtype):
        with pytest.raises(TypeError, match=str(dtype)):
            energy_spectrum(torch.zeros(1, 8, 8, dtype=dtype))
