import copy
import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nops_models import SpectralConv
from torch.testing import assert_close


def drawn(normal, *, channels=(2, 3), modes=3, seed=0):
    """A convolution whose weights come from a generator of their own."""
    layer = SpectralConv(*channels, modes=modes).double()
    layer.weight.data.copy_(normal(seed, *layer.weight.shape))
    return layer


def written_afresh(field, layer):
    """The definition in NumPy for one sample [C, H, W]: cosines summed one by one, no FFT."""
    _, height, width = field.shape
    pairs = layer.weight.detach().numpy()
    weight = pairs[..., 0, :] + 1j * pairs[..., 1, :]
    y, x = np.arange(height)[:, None] / height, np.arange(width)[None, :] / width
    out = np.zeros((layer.out_channels, height, width))
    for row in range(1 - layer.modes, layer.modes):
        for column in range(layer.modes):
            if 2 * abs(row) >= height or 2 * column >= width:
                continue
            wave = np.exp(2j * math.pi * (row * y + column * x))
            coefficient = (field * wave.conj()).mean((1, 2))
            factor = weight[row, column]
            if column == 0:
                factor = (factor + weight[-row, column].conj()) / 2
            mirrored = 1 if column == 0 else 2  # the wave −k, not stored, is its conjugate
            part = (coefficient @ factor)[:, None, None] * wave
            out += mirrored * part.real
    return out


class TestOneWave:
    """e^{ik·x} ↦ (a + ib)·e^{ik·x}: cos ↦ a·cos − b·sin, sin ↦ a·sin + b·cos."""

    @pytest.mark.parametrize(("rows", "columns"), [(0, 1), (2, 1), (-2, 1), (-1, 2), (1, 2)])
    def test_is_multiplied_by_its_weight(self, wave, rows, columns):
        layer = SpectralConv(1, 1, modes=3).double()
        layer.weight.data.zero_()
        layer.weight.data[rows, columns, 0, :, 0] = torch.tensor([0.5, -2.0])
        cosine, sine = (wave(8, rows, columns, phase) for phase in (0.0, -math.pi / 2))
        assert_close(layer(cosine), 0.5 * cosine + 2.0 * sine, rtol=0, atol=1e-14)
        assert_close(layer(sine), 0.5 * sine - 2.0 * cosine, rtol=0, atol=1e-14)
        other = wave(8, -rows, columns) if rows else wave(8, 1, columns)
        assert_close(layer(other), torch.zeros_like(other), rtol=0, atol=1e-14)

    def test_along_height_sees_both_signs(self, wave):
        """R(k) = 3 + i and R(−k) = 1: (3 + i + 1)/2 = 2 + i/2 acts."""
        layer = SpectralConv(1, 1, modes=3).double()
        layer.weight.data.zero_()
        layer.weight.data[2, 0, 0, :, 0] = torch.tensor([3.0, 1.0])
        layer.weight.data[-2, 0, 0, 0, 0] = 1.0
        cosine, sine = (wave(8, 2, 0, phase) for phase in (0.0, -math.pi / 2))
        assert_close(layer(cosine), 2.0 * cosine - 0.5 * sine, rtol=0, atol=1e-14)
        assert_close(layer(sine), 2.0 * sine + 0.5 * cosine, rtol=0, atol=1e-14)

    def test_the_mean_is_multiplied_by_the_real_part(self):
        layer = SpectralConv(1, 1, modes=2).double()
        layer.weight.data[0, 0, 0, :, 0] = torch.tensor([-3.0, 7.0])
        field = torch.full((1, 1, 5, 4), 2.0, dtype=torch.float64)
        assert_close(layer(field), -3.0 * field, rtol=0, atol=1e-14)

    @pytest.mark.parametrize(("rows", "columns"), [(3, 0), (0, 3), (3, 1), (-3, 2), (4, 4)])
    def test_beyond_the_modes_vanishes(self, wave, normal, rows, columns):
        layer = drawn(normal, channels=(1, 2))
        result = layer(wave(8, rows, columns))
        assert_close(result, torch.zeros_like(result), rtol=0, atol=1e-14)

    def test_channels_are_mixed_by_the_matrix(self, wave):
        """Inputs (cos, 2 cos), R = [[1, 10], [100, 1000]] from in to out: 201 and 2010 of cos."""
        layer = SpectralConv(2, 2, modes=2).double()
        layer.weight.data.zero_()
        layer.weight.data[1, 1, :, 0, :] = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
        cosine = wave(6, 1, 1)
        result = layer(torch.cat((cosine, 2 * cosine), dim=1))
        assert_close(result, torch.cat((201 * cosine, 2010 * cosine), dim=1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("modes", [1, 3, 6])
@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (5, 16), (12, 3), (1, 4), (4, 1)])
def test_equals_the_definition_written_afresh(normal, modes, shape):
    layer = drawn(normal, modes=modes)
    field = normal(1, 2, 2, *shape)
    expected = np.stack([written_afresh(sample.numpy(), layer) for sample in field])
    assert_close(layer(field), torch.from_numpy(expected), rtol=0, atol=1e-12)


class TestProperties:
    @settings(max_examples=15)
    @given(
        height=st.integers(5, 12),
        width=st.integers(5, 12),
        shift=st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    )
    def test_commutes_with_every_shift(self, normal, height, width, shift):
        layer = drawn(normal, modes=4)
        field = normal(1, 1, 2, height, width)
        moved = layer(field.roll(shift, (2, 3)))
        assert_close(moved, layer(field).roll(shift, (2, 3)), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("factors", [(2, 2), (3, 2), (1, 5)])
    def test_a_resolved_field_has_one_result_on_every_grid(self, normal, factors):
        """Waves |k| ≤ 3 on 7×8 and on finer grids: equal where the grids meet."""
        layer = drawn(normal, modes=4)
        coefficients = torch.view_as_complex(normal(1, 1, 2, 7, 4, 2))
        shapes = ((7, 8), (7 * factors[0], 8 * factors[1]))
        coarse, fine = (self.field(coefficients, *shape) for shape in shapes)
        assert_close(fine[..., :: factors[0], :: factors[1]], coarse, rtol=0, atol=1e-12)
        result = layer(fine)[..., :: factors[0], :: factors[1]]
        assert_close(result, layer(coarse), rtol=0, atol=1e-12)

    @staticmethod
    def field(coefficients, height, width):
        """The field of coefficients |k₁| ≤ 3, 0 ≤ k₂ ≤ 3 on a grid."""
        spread = coefficients.new_zeros(*coefficients.shape[:-2], height, width // 2 + 1)
        for row in range(-3, 4):
            spread[..., row, :4] = coefficients[..., row, :]
        return torch.fft.irfft2(spread, s=(height, width), norm="forward")

    def test_a_new_layer_keeps_the_power_of_kept_waves(self):
        torch.manual_seed(0)
        layer = SpectralConv(64, 64, modes=8)
        field = torch.randn(4, 64, 15, 15)  # all waves but those of row or column 0 are kept whole
        ratio = layer(field).square().mean() / field.square().mean()
        assert 0.9 < ratio < 1.1


class TestModesBeyondTheGrid:
    def test_keep_all_and_say_so_once(self, normal, caplog):
        layer = drawn(normal, modes=40)
        with caplog.at_level(logging.WARNING, "nops_models"):
            layer(normal(1, 1, 2, 11, 8))
            layer(normal(2, 1, 2, 11, 8))
        assert [record.getMessage() for record in caplog.records] == [
            "modes=40 is beyond a grid of 11x8, which has 6 wavenumbers by 4: all it has are kept."
        ]

    def test_as_many_as_the_grid_has_keep_all_in_silence(self, normal, caplog):
        layer = drawn(normal, channels=(1, 1), modes=5)
        layer.weight.data.zero_()
        layer.weight.data[:, :, 0, 0, 0] = 1.0
        field = normal(1, 1, 1, 9, 9)
        assert_close(layer(field), field, rtol=0, atol=1e-14)
        assert not caplog.records


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("weights", ["float32", "own"])
    def test_half_features_without_autocast(self, normal, dtype, weights):
        layer = drawn(normal, channels=(2, 2)).float()
        layer.weight.data.copy_(layer.weight.data.to(dtype))
        field = normal(1, 1, 2, 9, 12).to(dtype)
        expected = layer(field.float())
        result = (layer.to(dtype) if weights == "own" else layer)(field)
        assert result.dtype == dtype
        assert_close(result, expected.to(dtype))  # rounded once, at the end

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_autocast_stays_outside(self, normal, dtype):
        layer = drawn(normal).float()
        field = normal(1, 1, 2, 9, 12).float()
        with torch.autocast("cpu", dtype=dtype):
            result = layer(field)
        assert result.dtype == torch.float32
        assert torch.equal(result, layer(field))

    def test_float64_stays_float64(self, normal):
        assert drawn(normal)(normal(1, 1, 2, 4, 4)).dtype == torch.float64


class TestModule:
    @pytest.mark.parametrize("shape", [(5, 4), (4, 5), (2, 3)])
    def test_gradients_match_differences(self, normal, shape):
        layer = drawn(normal, channels=(2, 1), modes=2)
        field = normal(1, 1, 2, *shape).requires_grad_()

        def of_weight(field, weight):
            return torch.func.functional_call(layer, {"weight": weight}, field)

        weight = layer.weight.detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(of_weight, (field, weight))

    def test_every_weight_learns_but_the_imaginary_part_of_the_mean(self, normal):
        layer = drawn(normal)
        layer(normal(1, 1, 2, 8, 8)).pow(3).sum().backward()
        still = layer.weight.grad == 0
        assert still[0, 0, :, 1].all()
        still[0, 0, :, 1] = False
        assert not still.any()

    def test_stores_pairs_of_real_numbers(self):
        layer = SpectralConv(2, 3, modes=4)
        assert layer.weight.shape == (7, 4, 2, 2, 3)
        assert layer.weight.dtype == torch.float32
        assert "2, 3, modes=4" in repr(layer)
        assert torch.equal(copy.deepcopy(layer).weight, layer.weight)

    @pytest.mark.usefixtures("unchecked")
    def test_refuses_what_cannot_be(self):
        with pytest.raises(ValueError, match="got 1, 0 and 3"):
            SpectralConv(1, 0, modes=3)
        with pytest.raises(ValueError, match=r"\(sample, 2, height, width\), got \(1, 3, 4, 4\)"):
            SpectralConv(2, 2, modes=3)(torch.zeros(1, 3, 4, 4))
