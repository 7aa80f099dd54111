"""Advection1D: the exact shift, its laws, and the error of doing nothing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import Advection1D
from torch.testing import assert_close


@given(
    mode=st.integers(0, 10),
    speed=st.floats(-3, 3),
    length=st.floats(0.1, 10),
    time=st.floats(0, 5),
    points=st.sampled_from([21, 24]),
)
def test_a_wave_is_shifted(mode, speed, length, time, points):
    solver = Advection1D(points, speed=speed, length=length)
    x = solver.positions[:, 0]

    def wave(x):
        return torch.sin(2 * math.pi * mode * x / length + 0.3)

    found = solver.solve(wave(x)[None, None], times=[0.0, time])[0, :, 0]
    assert_close(found[0], wave(x), rtol=0, atol=0)
    # 2 pi 10 * 15 / 0.1 in the sine of the expected value: 1e5 turns of rounding
    assert_close(found[1], wave(x - speed * time), rtol=0, atol=1e-10)


def test_whole_cells_are_a_roll_and_periods_return():
    solver = Advection1D(16, speed=0.5, length=2.0)
    state = torch.randn(3, 1, 16, generator=torch.Generator().manual_seed(0)).double()
    frames = solver.solve(state, times=[0.25, 1.25, 4.0, 4.0e6])  # a cell takes 0.25
    for frame, cells in zip(frames.unbind(1), (1, 5, 16, 0), strict=True):
        assert_close(frame, state.roll(cells, -1), rtol=0, atol=1e-13)


@given(seed=st.integers(0, 2**31), time=st.floats(0, 3))
def test_mass_and_energy_are_kept_and_pieces_compose(seed, time):
    solver = Advection1D(33, speed=0.7)
    state = solver.initial(1, seed=seed) + 0.3
    frames = solver.solve(state, times=[time, time + 0.4])
    assert_close(frames.mean(-1), state.mean(-1)[:, None].expand(1, 2, 1), rtol=0, atol=1e-14)
    energy = frames.square().mean(-1)
    assert_close(energy, state.square().mean(-1)[:, None].expand(1, 2, 1), rtol=1e-12, atol=0)
    assert_close(solver.solve(frames[:, 0], times=[0.4])[:, 0], frames[:, 1], rtol=0, atol=1e-13)


@pytest.mark.parametrize(("mode", "value"), [(1, 0.3128689301), (3, 0.9079809995)])
def test_error_of_persistence(mode, value):
    """rms(u(t) - u(0)) / rms(u(t)) of mode k shifted by s is 2 |sin(pi k s)|; s = 0.05."""
    solver = Advection1D(64, speed=0.5)
    state = torch.cos(2 * math.pi * mode * solver.positions[:, 0])[None, None]
    frames = solver.solve(state, times=[0.0, 0.1])[0, :, 0]
    error = (frames[1] - frames[0]).norm() / frames[1].norm()
    assert error.item() == pytest.approx(value, abs=6e-11)


def test_the_nyquist_mode_shrinks_by_its_cosine():
    solver = Advection1D(10, speed=1.0)
    state = torch.tensor([1.0, -1.0] * 5).double()[None, None]
    found = solver.solve(state, times=[0.03])[0, 0]
    assert_close(found, math.cos(2 * math.pi * 5 * 0.03) * state[0], rtol=0, atol=1e-14)


def test_theta_is_the_speed():
    solver = Advection1D(20, frame_interval=0.5)
    theta = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # speeds 0.1 and 1
    state = solver.initial(2, seed=0)
    frames = solver.trajectory(state, theta, num_steps=2)
    for sample, speed in enumerate((0.1, 1.0)):
        expected = Advection1D(20, speed=speed).solve(state[sample, None], times=[0.0, 0.5, 1.0])
        assert_close(frames[sample], expected[0].float(), rtol=0, atol=1e-7)


def test_gradients():
    solver = Advection1D(9)
    state = solver.initial(1, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: solver.solve(u, times=[0.0, 0.3]), (state,))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"points": 8}, "at least 9 cells"),
        ({"speed": math.nan}, "speed"),
        ({"length": math.inf}, "length"),
        ({"frame_interval": 0.0}, "frame_interval"),
    ],
)
def test_bad_options_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=named):
        Advection1D(**{"points": 16} | options)
