import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_models import AFNOMixer
from torch.testing import assert_close


def identity(**options):
    """One channel, W = 1, b = 0: only ReLU, shrink and the halved spectrum act."""
    mixer = AFNOMixer(1, groups=1, **options).double()
    for weight in (mixer.weight1, mixer.weight2):
        weight.data.zero_()
        weight.data[0] = 1.0
    return mixer


def without_activation(mixer, weight):
    """ReLU(z) − ReLU(−z) = z: with twice the width the network is the linear map `weight`."""
    size = weight.shape[-1]
    mixer.weight1.data = torch.cat((weight, -weight), dim=-1)
    mixer.weight2.data.zero_()
    mixer.weight2.data[0, :, :size] = torch.eye(size)
    mixer.weight2.data[0, :, size:] = -torch.eye(size)
    return mixer


def written_afresh(field, mixer):
    """The definition in NumPy, for one sample [C, H, W] and all modes: complex numbers, loops."""
    channels, height, width = field.shape
    pairs = (mixer.weight1, mixer.weight2, mixer.bias1, mixer.bias2)
    real = [pair.detach().double().numpy() for pair in pairs]
    weight1, weight2, bias1, bias2 = (pair[0] + 1j * pair[1] for pair in real)

    def apart(function, z):
        return function(z.real) + 1j * function(z.imag)

    def shrink(v):
        return np.sign(v) * np.maximum(np.abs(v) - mixer.sparsity, 0)

    x = np.fft.rfft2(field, norm="forward") * 8.0  # √(8·8), the reference grid
    out = np.zeros_like(x)
    size = channels // mixer.groups
    for group in range(mixer.groups):
        block = slice(group * size, (group + 1) * size)
        for k1 in range(height):
            for k2 in range(width // 2 + 1):
                o1 = apart(
                    lambda v: np.maximum(v, 0), x[block, k1, k2] @ weight1[group] + bias1[group]
                )
                out[block, k1, k2] = apart(shrink, o1 @ weight2[group] + bias2[group])
    full = np.zeros((channels, height, width), dtype=complex)
    for k1 in range(height):
        for k2 in range(width // 2 + 1):
            mirror = out[:, -k1 % height, k2].conj()
            own = k2 == 0 or 2 * k2 == width
            full[:, k1, k2] = (out[:, k1, k2] + mirror) / 2 if own else out[:, k1, k2]
            if not own:
                full[:, -k1 % height, -k2 % width] = out[:, k1, k2].conj()
    branch = np.fft.ifft2(full, norm="forward")
    assert np.abs(branch.imag).max() < 1e-12
    return branch.real / 8.0


class TestGoldenValues:
    @pytest.mark.parametrize(
        ("rows", "columns", "phase", "sparsity", "amplitude"),
        [
            (0, 1, 0.0, 0.0, 1.0),
            (0, 1, 0.0, 0.01, 0.9975),  # coefficient ½·8 = 4, shrunk to 3.99
            (0, 1, math.pi, 0.0, 0.0),  # −cos: real part −4
            (0, 1, -math.pi / 2, 0.0, 0.0),  # sin: imaginary part −4
            (0, 1, math.pi / 2, 0.0, 1.0),  # −sin
            (1, 0, -math.pi / 2, 0.0, 0.5),  # sin along height: the rows ±1 hold ∓4i
        ],
    )
    def test_of_the_branch_on_16_by_16(self, wave, rows, columns, phase, sparsity, amplitude):
        field = wave(16, rows, columns, phase)
        branch = identity(sparsity=sparsity).branch(field)
        assert_close(branch, amplitude * field, rtol=0, atol=1e-12)

    def test_the_mixer_adds_its_input(self, wave):
        field = wave(16, 0, 1)
        assert_close(identity(sparsity=0.0)(field), 2 * field)


class TestDefinition:
    @pytest.mark.parametrize("shape", [(8, 8), (9, 7), (15, 16), (1, 4), (5, 1)])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_equals_the_definition_written_afresh(self, normal, shaken, shape, dtype):
        mixer = shaken(AFNOMixer(6, groups=2, expansion=2, sparsity=0.05).to(dtype))
        field = normal(1, 2, 6, *shape).to(dtype)
        expected = np.stack([written_afresh(sample, mixer) for sample in field.double().numpy()])
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        got = mixer.branch(field).detach().numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)

    @pytest.mark.parametrize("modes", [None, 6])
    def test_a_band_limited_field_mixes_alike_on_two_grids(self, normal, shaken, wave, modes):
        mixer = shaken(AFNOMixer(1, groups=1, modes=modes).double())
        for bias in (mixer.bias1, mixer.bias2):
            bias.data.zero_()
        waves = [(0, 1, 0.3), (2, 3, 1.0), (-5, 2, 2.0), (4, 0, 0.7), (0, 0, 0.0)]
        coarse, fine = (sum(wave(size, *w) for w in waves) for size in (16, 32))
        assert_close(mixer(fine)[..., ::2, ::2], mixer(coarse), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("modes", "kept"), [(2, {0, 1}), (4, {0, 1, 2, 3})])
    def test_modes_keep_low_wavenumbers_of_both_signs(self, wave, modes, kept):
        mixer = identity(modes=modes, sparsity=0.0)
        for rows in range(-3, 5):
            for columns in range(5):
                # phase in (0, π/2): both parts of a stored coefficient are positive and pass
                branch = mixer.branch(wave(8, rows, columns, 0.5))
                passes = branch.abs().max() > 1e-12
                assert passes == (abs(rows) in kept and columns in kept), (rows, columns)

    def test_the_reference_grid_is_the_unit_of_sparsity(self, wave):
        field = wave(16, 0, 1)
        branch = identity(sparsity=0.01, reference_grid=(2, 2)).branch(field)
        assert_close(branch, 0.99 * field, rtol=0, atol=1e-12)  # coefficient ½·2 = 1

    @pytest.mark.parametrize(("shape", "own"), [((6, 8), [0, 4]), ((6, 7), [0]), ((5, 2), [0, 1])])
    def test_what_reaches_the_inverse_is_hermitian(self, normal, shaken, monkeypatch, shape, own):
        inverse, seen = torch.fft.irfft, []

        def record(lines, **options):
            seen.append(lines)
            return inverse(lines, **options)

        monkeypatch.setattr(torch.fft, "irfft", record)
        shaken(AFNOMixer(2, groups=1).double())(normal(0, 1, 2, *shape))
        # a device may use the imaginary part of a column that should have none
        real = [k for k in range(seen[0].shape[-1]) if not seen[0].imag[..., k].any()]
        assert real == own


class TestSymmetry:
    @pytest.mark.parametrize("shape", [(8, 8), (9, 7)])
    def test_translations_commute_without_activation_and_shrink_alone(self, normal, shaken, shape):
        mixer = AFNOMixer(4, groups=2, expansion=2, sparsity=0.0).double()
        weight = normal(0, 2, 2, 2, 2)
        linear = without_activation(mixer, weight)
        field = normal(1, 1, 4, *shape)
        moved = linear(field.roll((3, 2), (2, 3)))
        assert_close(moved, linear(field).roll((3, 2), (2, 3)), rtol=0, atol=1e-12)

        relu = shaken(AFNOMixer(4, groups=2, sparsity=0.0).double())
        for bias in (relu.bias1, relu.bias2):
            bias.data.zero_()
        moved = relu(field.roll((3, 2), (2, 3)))
        assert (moved - relu(field).roll((3, 2), (2, 3))).abs().max() > 1e-2

    def test_scale_commutes_without_shrink_alone(self, normal):
        field = normal(0, 1, 1, 8, 8)
        free, shrunk = identity(sparsity=0.0), identity(sparsity=0.1)
        assert_close(free(3 * field), 3 * free(field))
        assert (shrunk(3 * field) - 3 * shrunk(field)).abs().max() > 1e-2

    def test_groups_do_not_mix(self, normal, shaken):
        mixer = shaken(AFNOMixer(6, groups=3).double())
        field = normal(0, 1, 6, 5, 4)
        changed = field.clone()
        changed[:, 2:4] += 1.0 + normal(1, 1, 2, 5, 4)
        difference = (mixer(changed) - mixer(field)).abs().amax((0, 2, 3))
        assert (difference > 1e-6).tolist() == [False, False, True, True, False, False]


class TestDifferentiation:
    @pytest.mark.parametrize("modes", [None, 2])
    @pytest.mark.parametrize("shape", [(4, 4), (5, 3)])
    def test_gradients(self, normal, shaken, shape, modes):
        mixer = shaken(AFNOMixer(2, groups=1, modes=modes, sparsity=0.01).double())
        field = normal(3, 1, 2, *shape).requires_grad_()
        names, values = zip(*mixer.named_parameters(), strict=True)

        def branch(field, *values):
            return torch.func.functional_call(mixer, dict(zip(names, values, strict=True)), field)

        assert torch.autograd.gradcheck(branch, (field, *values))


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    @pytest.mark.parametrize("size", [20, 48])
    def test_half_fields_are_mixed_in_float32(self, normal, shaken, dtype, autocast, size):
        mixer = shaken(AFNOMixer(4, groups=2))
        field = normal(0, 1, 4, size, size).to(dtype)
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            branch = mixer.branch(field)
        assert branch.dtype == dtype
        assert torch.equal(branch, mixer.branch(field.float()).to(dtype))

    def test_half_weights_are_used_in_float32(self, normal, shaken):
        mixer = shaken(AFNOMixer(4, groups=2))
        field = normal(0, 1, 4, 6, 6).bfloat16()
        rounded = AFNOMixer(4, groups=2)
        rounded.load_state_dict({n: p.bfloat16() for n, p in mixer.state_dict().items()})
        assert torch.equal(mixer.bfloat16()(field), rounded(field))

    def test_gradients_of_half_fields_flow(self, normal):
        field = normal(0, 1, 8, 6, 6).bfloat16().requires_grad_()
        AFNOMixer(8)(field).float().square().sum().backward()
        assert field.grad.dtype == torch.bfloat16
        assert field.grad.isfinite().all()


class TestModesBeyondTheGrid:
    def test_keep_all_and_say_so_once(self, normal, shaken, caplog):
        field = normal(0, 1, 8, 6, 26)
        every, beyond = (shaken(AFNOMixer(8, modes=modes).double()) for modes in (None, 16))
        with caplog.at_level(logging.WARNING, "nops_models"):
            first, again = beyond(field), beyond(field)
        assert_close(first, every(field), rtol=0, atol=0)
        assert_close(again, first, rtol=0, atol=0)
        assert [record.getMessage() for record in caplog.records] == [
            "modes=16 is beyond a grid of 6x26, which has 4 wavenumbers by 14: all it has are kept."
        ]

    def test_as_many_as_the_grid_has_keep_all_in_silence(self, normal, shaken, caplog):
        field = normal(0, 1, 8, 8, 8)
        every, exact = (shaken(AFNOMixer(8, modes=modes).double()) for modes in (None, 5))
        assert_close(exact(field), every(field), rtol=0, atol=0)
        assert not caplog.records


@given(height=st.integers(1, 12), width=st.integers(1, 12), modes=st.integers(1, 8))
def test_any_grid_and_any_modes_fit(normal, shaken, height, width, modes):
    logging.disable(logging.WARNING)
    field = normal(0, 1, 2, height, width)
    mixed = shaken(AFNOMixer(2, groups=1, modes=modes).double())(field)
    logging.disable(logging.NOTSET)
    assert mixed.shape == field.shape
    assert mixed.isfinite().all()


def test_number_of_parameters():
    # 2·g·s²·2 + 2·g·s·2 with g = 8, s = 32
    assert sum(p.numel() for p in AFNOMixer(256, groups=8).parameters()) == 32768 + 1024


def test_starts_small_and_says_its_sizes():
    mixer = AFNOMixer(256)
    assert mixer.weight1.std().item() == pytest.approx(0.02, rel=0.1)
    assert not mixer.bias1.any()
    assert "groups=8" in repr(mixer)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"groups": 3}, "groups=3, channels=8"),
            ({"groups": 0}, "groups=0"),
            ({"expansion": 0}, "expansion"),
            ({"sparsity": -0.1}, "sparsity"),
            ({"sparsity": math.nan}, "sparsity"),
            ({"modes": 0}, "modes must be at least 1"),
            ({"reference_grid": (8, 0)}, "reference_grid"),
        ],
    )
    def test_options_out_of_range(self, options, message):
        with pytest.raises(ValueError, match=message):
            AFNOMixer(8, **options)

    @pytest.mark.parametrize("shape", [(1, 4, 8, 8), (8, 8, 8), (1, 8, 8)])
    def test_fields_of_another_shape(self, shape):
        with pytest.raises(ValueError, match=r"\(sample, 8, height, width\)"):
            AFNOMixer(8)(torch.zeros(shape))
