"""Heat: the solver against the exact solution, and the laws both obey."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import Heat, heat_exact
from torch.testing import assert_close


def grid(side, length=1.0):
    return torch.arange(side, dtype=torch.float64) * length / side


def test_exact_golden():
    """viscosity 0.01, t = 1: exp(-4 pi^2 / 100) = 0.6738254512 times sin 2 pi x at its crest."""
    value = Heat(viscosity=0.01).exact(torch.tensor([0.25]).double(), 1.0)
    assert value.item() == pytest.approx(0.6738254512, abs=5e-11)


def test_the_function_is_the_exact_wave_of_the_class():
    """Also of a wall: exp(-pi^2 a t) sin(pi x) has half a cycle per unit of length."""
    x, t = torch.tensor([0.25]).double(), torch.tensor([[0.0], [1.0]]).double()
    found = heat_exact(x, t, wavenumber=1, diffusivity=0.01)
    expected = torch.tensor([[1.0], [0.6738254512]], dtype=torch.float64)
    assert_close(found, expected, rtol=0, atol=5e-11)
    half = heat_exact(torch.tensor([0.5]), 0.5, wavenumber=0.5, diffusivity=0.4)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(math.exp(-(math.pi**2) * 0.4 * 0.5), rel=1e-6)
    with pytest.raises(ValueError, match="viscosity"):
        heat_exact(x, 1.0, wavenumber=1, diffusivity=-1.0)


@given(
    wavenumber=st.integers(0, 7),
    viscosity=st.floats(0, 0.1),
    length=st.floats(0.1, 10),
    time=st.floats(0, 2),
)
def test_solver_equals_the_exact_wave(wavenumber, viscosity, length, time):
    heat = Heat(shape=(16,), viscosity=viscosity, length=length)
    x = grid(16, length)
    state = heat.exact(x, 0.0, wavenumber=wavenumber)
    found = heat.solve(state[None, None], times=[0.0, time])
    assert found.dtype == torch.float64
    assert_close(found[0, 0, 0], state, rtol=0, atol=1e-13)
    exact = heat.exact(x, time, wavenumber=wavenumber)
    assert_close(found[0, 1, 0], exact, rtol=0, atol=1e-13)


def test_exact_solution_obeys_the_equation():
    """u_t = viscosity u_xx by automatic differentiation, at a wavenumber that is not whole."""
    heat = Heat(viscosity=0.4, length=2.0)
    x = torch.linspace(0, 2, 7, dtype=torch.float64, requires_grad=True)
    u = heat.exact(x, 0.3, wavenumber=1.5)
    (u_x,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x)
    step = 1e-4
    later, earlier = (heat.exact(x, 0.3 + s, wavenumber=1.5) for s in (step, -step))
    assert_close((later - earlier) / (2 * step), 0.4 * u_xx, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(8, 12), (7, 9), (4, 5, 6)])
def test_each_mode_of_several_axes_decays_by_its_squared_wavenumber(shape):
    heat = Heat(shape=shape, viscosity=0.02)
    x = torch.meshgrid(*(grid(side) for side in shape), indexing="ij")
    phase = 2 * math.pi * (x[0] + 2 * x[1])  # |k|^2 = 5
    state = 3.0 + torch.cos(phase)
    found = heat.solve(state[None, None], times=[0.7])[0, 0, 0]
    expected = 3.0 + math.exp(-0.02 * 4 * math.pi**2 * 5 * 0.7) * torch.cos(phase)
    assert_close(found, expected, rtol=0, atol=1e-13)


def test_mean_is_kept_extremes_shrink_and_pieces_compose():
    heat = Heat(shape=(16, 16), viscosity=0.01)
    state = heat.initial(4, seed=0)
    frames = heat.solve(state, times=[0.0, 0.1, 0.4])
    means = frames.mean((-1, -2))
    assert_close(means, means[:, :1].expand_as(means), rtol=0, atol=1e-14)
    peaks = frames.abs().amax((-1, -2, -3))
    assert (peaks.diff(dim=1) < 0).all()
    assert_close(heat.solve(frames[:, 1], times=[0.3])[:, 0], frames[:, 2], rtol=0, atol=1e-14)


def test_trajectory_takes_the_viscosity_from_theta():
    heat = Heat(shape=(16,), frame_interval=0.5)
    wave = heat.exact(grid(16), 0.0)[None, None].expand(2, 1, 16)
    theta = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    frames = heat.trajectory(wave, theta, num_steps=3).double()
    for sample, viscosity in enumerate((1e-3, 1e-2)):
        factor = math.exp(-4 * math.pi**2 * viscosity * 1.5)
        assert_close(frames[sample, 3], factor * wave[sample], rtol=0, atol=1e-7)  # float32


def test_channels_are_solved_side_by_side():
    heat = Heat(shape=(8,))
    state = heat.initial(6, seed=0).view(2, 3, 8)
    frames = heat.solve(state, times=[0.0, 0.25])
    assert_close(frames[:, :, 1], heat.solve(state[:, 1:2], times=[0.0, 0.25])[:, :, 0])
    state[1, 2, 3] = math.nan
    with pytest.raises(ValueError, match="sample 1, frame 0, channel '2' is not finite"):
        heat.solve(state, times=[0.25])


def test_times_may_be_a_tensor():
    heat = Heat(shape=(8,))
    state = heat.initial(1, seed=0)
    times = torch.tensor([0.0, 0.25])
    assert torch.equal(heat.solve(state, times=times), heat.solve(state, times=[0.0, 0.25]))


def test_solver_has_a_gradient():
    heat = Heat(shape=(4,), viscosity=0.1)
    state = heat.initial(1, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: heat.solve(s, times=[0.0, 0.2]), (state,))


@pytest.mark.parametrize("times", [[], [-0.1], [0.2, 0.1], [math.nan], [math.inf]])
def test_bad_times_are_refused(times):
    heat = Heat(shape=(4,))
    with pytest.raises(ValueError, match="times need to rise from 0"):
        heat.solve(heat.initial(1, seed=0), times=times)


@pytest.mark.parametrize(
    "options",
    [{"length": 0.0}, {"frame_interval": -1.0}, {"viscosity": -1e-9}, {"length_scale": math.nan}],
)
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Heat(**options)
