"""RandomConvOperator: its weights, its map against a dense re-computation, and its smoothness."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nops_physics import (
    RandomConvOperator,
    SmoothSpec,
    derive_seed,
    gaussian_random_field,
    sobol_parameters,
)
from torch.testing import assert_close


def wavenumbers():
    k = torch.arange(-8, 9, dtype=torch.float64)
    return torch.meshgrid(k, k, indexing="ij")


def dense_step(operator, state, theta):
    """The map written out with explicit sums over modes and no fast transform; one sample."""
    bank = operator.bank
    mix, gain, rate, blur = theta.tolist()
    gain, rate, blur = 0.7 * (2 / 0.7) ** gain, 0.02 * 4**rate, 0.005 * blur
    c, s = math.cos(math.pi * mix / 2), math.sin(math.pi * mix / 2)
    height, width = operator.shape
    x = torch.arange(height, dtype=torch.float64) / height
    y = torch.arange(width, dtype=torch.float64) / width

    def convolve(transfer, fields):
        p, q = wavenumbers()
        wave = torch.exp(2j * math.pi * (p[..., None, None] * x[:, None] + q[..., None, None] * y))
        modes = torch.einsum("chw,pqhw->cpq", fields + 0j, wave.conj()) / (height * width)
        out = torch.einsum("ocpq,cpq,pqhw->ohw", transfer, modes, wave)
        assert out.imag.abs().max() < 1e-12
        return out.real

    w1, w2, w3 = (c * pair[0] + s * pair[1] for pair in bank[:3])
    hidden = torch.tanh(gain * convolve(w1, state) + 0.3 * bank.bias[:, None, None])
    hidden = torch.tanh(gain * convolve(w2, hidden))
    kx, ky = (torch.fft.fftfreq(n, d=1 / n, dtype=torch.float64) for n in (height, width))
    decay = torch.exp(-blur * (kx[:, None] ** 2 + ky**2))
    kept = torch.fft.ifft2(decay * torch.fft.fft2(state)).real
    return (1 - rate) * kept + 1.5 * rate * torch.einsum("co,ohw->chw", w3, hidden)


# ---- weights ----


@pytest.mark.parametrize("channels", [1, 3])
def test_transfer_functions_are_hermitian_and_normalised(channels):
    bank = RandomConvOperator(channels=channels).bank
    assert bank.first.shape == (2, 6, channels, 17, 17)
    assert bank.second.shape == (2, 6, 6, 17, 17)
    for transfer in (bank.first, bank.second):
        power = transfer.abs().square().sum((2, 3, 4))
        assert_close(power, torch.full((2, 6), 72.25, dtype=torch.float64))
        assert_close(transfer.flip(-2, -1), transfer.conj().resolve_conj(), rtol=0, atol=0)
        assert transfer[..., 8, 8].imag.abs().max() == 0
    assert bank.readout.shape == (2, channels, 6)
    assert_close(bank.readout.norm(dim=-1), torch.ones(2, channels, dtype=torch.float64))
    assert bank.bias.shape == (6,)


def test_spectrum_of_the_kernels():
    """E|a(k)|^2 falls as exp(-|k|^2 / 9): amplitude exp(-|k|^2 / 18)."""
    spec = SmoothSpec(hidden_channels=40)
    power = RandomConvOperator(spec=spec).bank.second.abs().square().sum((0, 1, 2))
    p, q = wavenumbers()
    expected = torch.exp(-(p**2 + q**2) / 9)
    ratio = power / expected / (power.sum() / expected.sum())
    # away from k = 0, whose value is real, a mode is the mean of 3200 exponential variables
    assert abs(ratio[8, 8] - 1) < 4 * math.sqrt(2 / 3200)
    assert (ratio - 1).abs().max() < 5 / math.sqrt(3200)


def test_weights_are_drawn_in_order_from_the_derived_seed():
    generator = torch.Generator().manual_seed(derive_seed("weights", 5))
    bank = RandomConvOperator(weight_seed=5, channels=2).bank
    first, second = (
        torch.view_as_complex(
            torch.randn(2, 6, i, 17, 17, 2, generator=generator, dtype=torch.float64)
        )
        for i in (2, 6)
    )
    readout = torch.randn(2, 2, 6, generator=generator, dtype=torch.float64)
    bias = torch.randn(6, generator=generator, dtype=torch.float64)
    assert torch.equal(bank.bias, bias)
    assert_close(bank.readout, readout / readout.norm(dim=-1, keepdim=True))
    # at k = 0 the kernel is the real part, up to the one scale of its output
    for drawn, made in ((first, bank.first), (second, bank.second)):
        scale = made[..., 8, 8].real / drawn[..., 8, 8].real
        assert_close(scale, scale[..., :1].expand_as(scale))
    assert not torch.equal(RandomConvOperator(weight_seed=6).bank.bias, bias)


# ---- the map ----


@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
@pytest.mark.parametrize(("shape", "channels"), [((17, 18), 1), ((19, 17), 2)])
def test_step_equals_the_dense_sums(shape, channels, seed):
    operator = RandomConvOperator(shape=shape, channels=channels, weight_seed=seed)
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(2, channels, *shape, generator=generator, dtype=torch.float64)
    theta = torch.rand(2, 4, generator=generator, dtype=torch.float64)
    found = operator.step(state, theta)
    assert found.dtype == torch.float64
    for sample in range(2):
        expected = dense_step(operator, state[sample], theta[sample])
        assert_close(found[sample], expected, rtol=0, atol=1e-12)


def test_trajectory_repeats_the_step():
    operator = RandomConvOperator(shape=(17, 17))
    state, theta = operator.initial(2, seed=0), sobol_parameters(2, num_parameters=4)
    frames = operator.trajectory(state, theta, num_steps=3)
    for frame in range(1, 4):
        state = operator.step(state, theta)
        assert torch.equal(frames[:, frame], state.float())


@given(rows=st.integers(0, 16), columns=st.integers(0, 17))
def test_shifting_commutes_with_the_dynamics(rows, columns):
    operator = RandomConvOperator(shape=(17, 18))
    state, theta = operator.initial(1, seed=1), sobol_parameters(1, num_parameters=4)
    shifted = operator.step(state.roll((rows, columns), (-2, -1)), theta)
    expected = operator.step(state, theta).roll((rows, columns), (-2, -1))
    assert_close(shifted, expected, rtol=0, atol=1e-13)


def test_step_has_gradients():
    spec = SmoothSpec(hidden_channels=2, max_wavenumber=1)
    operator = RandomConvOperator(shape=(3, 4), spec=spec)
    state = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    theta = torch.tensor([[0.3, 0.6, 0.2, 0.8]], dtype=torch.float64)
    inputs = (state.requires_grad_(), theta.requires_grad_())
    assert torch.autograd.gradcheck(operator.step, inputs)


# ---- smoothness ----


def test_a_small_change_of_theta_moves_the_field_by_its_order():
    operator = RandomConvOperator()
    state = operator.initial(12, seed=0)
    theta = 0.9 * sobol_parameters(12, num_parameters=4)
    base = operator.trajectory(state, theta, num_steps=64)[:, -1].double()
    for column in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[column] = 1e-3
        moved = operator.trajectory(state, theta + shift, num_steps=64)[:, -1].double() - base
        change = moved.flatten(1).norm(dim=1) / base.flatten(1).norm(dim=1)
        assert 1e-5 < change.median() < 1e-2, column


def test_another_theta_gives_another_field():
    operator = RandomConvOperator()
    state, theta = operator.initial(16, seed=0), sobol_parameters(16, num_parameters=4)
    a = operator.trajectory(state, theta, num_steps=64)[:, -1]
    b = operator.trajectory(state, theta.flip(0), num_steps=64)[:, -1]
    assert 0.3 < (a - b).square().mean() / a.var() < 2.0


def test_the_median_perturbation_shrinks():
    operator = RandomConvOperator()
    state, theta = operator.initial(16, seed=0), sobol_parameters(16, num_parameters=4)
    noise = torch.randn(state.shape, generator=torch.Generator().manual_seed(1)).double()
    a = operator.trajectory(state, theta, num_steps=64)[:, -1].double()
    b = operator.trajectory(state + 1e-3 * noise, theta, num_steps=64)[:, -1].double()
    shrunk = (a - b).flatten(1).norm(dim=1) / (1e-3 * noise).flatten(1).norm(dim=1)
    assert shrunk.median() < 0.15


def test_32_and_128_cells_agree_after_64_steps():
    fine_state = gaussian_random_field(2, shape=(128, 128), std=1.0, length_scale=0.1, seed=0)
    theta = sobol_parameters(2, num_parameters=4)
    fine = RandomConvOperator(shape=(128, 128)).trajectory(fine_state, theta, num_steps=64)
    coarse = RandomConvOperator(shape=(32, 32)).trajectory(
        fine_state[..., ::4, ::4], theta, num_steps=64
    )
    fine = fine[:, -1, :, ::4, ::4].double()
    assert (fine - coarse[:, -1]).norm() / fine.norm() < 1e-3


# ---- noise ----


def test_noise_is_white_seeded_per_sample_and_independent_of_the_batch():
    quiet, noisy = RandomConvOperator(), RandomConvOperator(noise_scale=0.1)
    state, theta = quiet.initial(3, seed=0), sobol_parameters(3, num_parameters=4)
    frames = noisy.trajectory(state, theta, num_steps=2, noise_seeds=[4, 5, 4])
    again = noisy.trajectory(state[2:], theta[2:], num_steps=2, noise_seeds=[4])
    assert torch.equal(again, frames[2:])
    drawn = (frames - quiet.trajectory(state, theta, num_steps=2))[:, 1]
    assert drawn.std() == pytest.approx(0.1, rel=0.06)  # 3072 values: 4 sigma is 5 %
    assert abs((drawn * drawn.roll(1, -1)).mean()) < 4 * 0.01 / math.sqrt(3072)
    assert_close(drawn[0], drawn[2], rtol=0, atol=1e-6)
    assert abs((drawn[0] * drawn[1]).mean()) < 4 * 0.01 / math.sqrt(1024)


def test_step_draws_its_noise_from_the_generator():
    operator = RandomConvOperator(noise_scale=0.1)
    state, theta = operator.initial(2, seed=0), sobol_parameters(2, num_parameters=4)
    after = operator.step(state, theta, generator=torch.Generator().manual_seed(7))
    quiet = RandomConvOperator().step(state, theta)
    generator = torch.Generator().manual_seed(7)
    expected = torch.stack(
        [torch.randn(1, 32, 32, generator=generator, dtype=torch.float64) for _ in range(2)]
    )
    assert_close(after - quiet, 0.1 * expected, rtol=0, atol=1e-15)


def test_missing_noise_seeds_are_refused():
    operator = RandomConvOperator(noise_scale=0.1)
    state, theta = operator.initial(2, seed=0), sobol_parameters(2, num_parameters=4)
    with pytest.raises(ValueError, match="one noise seed for each of 2 samples, got None"):
        operator.trajectory(state, theta, num_steps=1)
    with pytest.raises(ValueError, match=r"2 samples, got \[1\]"):
        operator.trajectory(state, theta, num_steps=1, noise_seeds=[1])
    with pytest.raises(ValueError, match=r"noise_scale is 0.0: .* 2 samples, got \[1\]"):
        RandomConvOperator().trajectory(state, theta, num_steps=1, noise_seeds=[1])
    with pytest.raises(ValueError, match="step needs a generator"):
        operator.step(state, theta)


# ---- options ----


def test_names():
    operator = RandomConvOperator(channels=2)
    assert operator.num_parameters == 4
    assert operator.parameter_names == ("mix", "gain", "rate", "blur")
    assert operator.channel_names == ("u0", "u1")


def test_the_spec_sets_the_smallest_grid():
    spec = SmoothSpec(max_wavenumber=3)
    assert RandomConvOperator(shape=(7, 9), spec=spec).bank.first.shape[-1] == 7
    with pytest.raises(ValueError, match=r"at least 7 cells.*\(6, 9\)"):
        RandomConvOperator(shape=(6, 9), spec=spec)


@pytest.mark.parametrize(
    "options", [{"channels": 0}, {"noise_scale": -1.0}, {"noise_scale": math.nan}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match="channels >= 1 and a finite noise_scale"):
        RandomConvOperator(**options)


@pytest.mark.parametrize("name", ["hidden_channels", "max_wavenumber", "bandwidth", "kernel_power"])
def test_bad_specs_are_refused(name):
    with pytest.raises(ValueError, match="need to be positive"):
        SmoothSpec(**{name: 0})
