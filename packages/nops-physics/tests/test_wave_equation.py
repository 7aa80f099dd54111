"""WaveEquation2D: exact waves, the energy law, and the closed motion of a damped mode."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import WaveEquation2D, gaussian_random_field
from nops_physics._string_modes import mode_response
from torch.testing import assert_close


def random_state(shape, seed, length=1.0):
    fields = gaussian_random_field(
        1, shape=shape, std=1.0, length_scale=0.1 * length, channels=2, seed=seed
    )
    return fields * torch.tensor([1.0, 5.0], dtype=torch.float64)[:, None, None]


# ---- one mode ----


def test_a_wave_at_rest_golden():
    """cos 2 pi x at c = 1, no damping: cos(2 pi c t) cos 2 pi x, so -cos 2 pi x at t = 1/2."""
    wave = torch.cos(2 * math.pi * torch.arange(8).double() / 8)[:, None].expand(8, 6)
    state = torch.stack((wave, torch.zeros_like(wave)))[None]
    found = WaveEquation2D(shape=(8, 6)).solve(state, times=[1 / 8, 1 / 4, 1 / 2])[0]
    zero = torch.zeros_like(wave)
    root = math.sqrt(0.5)
    expected = [(root * wave, -2 * math.pi * root * wave), (zero, -2 * math.pi * wave)]
    expected.append((-wave, zero))
    for frame, pair in zip(found, expected, strict=True):
        assert_close(frame, torch.stack(pair), rtol=0, atol=1e-13)


@given(
    waves=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    speed=st.floats(0.1, 3),
    damping=st.floats(0, 30),
    time=st.floats(0, 2),
)
def test_a_mode_moves_as_the_matrix_exponential_says(waves, speed, damping, time):
    """Swinging, creeping and between: d/dt (q, q') = [[0, 1], [-(c k)^2, -damping]] (q, q')."""
    length = 2.0
    x, y = (torch.arange(8).double() / 8 for _ in range(2))
    wave = torch.cos(2 * math.pi * (waves[0] * x[:, None] + waves[1] * y) + 0.3)
    start = torch.tensor([0.7, -1.1], dtype=torch.float64)
    solver = WaveEquation2D(shape=(8, 8), length=length, speed=speed, damping=damping)
    found = solver.solve((start[:, None, None] * wave)[None], times=[time])[0, 0]
    stiffness = (speed * 2 * math.pi / length) ** 2 * (waves[0] ** 2 + waves[1] ** 2)
    matrix = torch.tensor([[0.0, 1.0], [-stiffness, -damping]], dtype=torch.float64)
    expected = torch.linalg.matrix_exp(time * matrix) @ start
    scale = max(1.0, stiffness**0.5, damping)
    assert_close(found, expected[:, None, None] * wave, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("offset", [-1e-3, -1e-12, 0.0, 1e-12, 1e-3])
def test_the_response_is_smooth_where_swinging_turns_into_creeping(offset):
    """Either side of squared = damping^2 / 4, and its gradient in every argument."""
    arguments = [torch.tensor([value], dtype=torch.float64) for value in (1.0 + offset, 2.0, 0.8)]
    first, second = mode_response(*arguments)
    matrix = torch.tensor([[0.0, 1.0], [-1.0 - offset, -2.0]], dtype=torch.float64)
    expected = torch.linalg.matrix_exp(0.8 * matrix)[0]
    assert_close(torch.cat((first, second)), expected, rtol=1e-13, atol=0)
    inputs = [value.requires_grad_() for value in arguments]
    if abs(offset) != 1e-12:  # the quotient of differences would step over the border
        assert torch.autograd.gradcheck(mode_response, inputs)
    first, second = mode_response(*inputs)
    gradients = torch.autograd.grad(first + second, inputs)
    assert all(bool(g.isfinite()) for g in gradients)


def test_the_mean_creeps_and_a_long_time_overflows_nothing():
    """Mode 0: u_t = v_0 e^(-g t), u = u_0 + v_0 (1 - e^(-g t)) / g."""
    state = torch.stack((torch.full((4, 4), 0.5), torch.full((4, 4), 2.0))).double()[None]
    found = WaveEquation2D(shape=(4, 4), damping=1.5).solve(state, times=[2.0, 5000.0])[
        0, :, :, 0, 0
    ]
    fall = math.exp(-3.0)
    expected = [[0.5 + 2 * (1 - fall) / 1.5, 2 * fall], [0.5 + 2 / 1.5, 0.0]]
    assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-300)


# ---- energy ----


@given(seed=st.integers(0, 1000), shape=st.sampled_from([(8, 8), (7, 10), (9, 5)]))
def test_energy_is_kept_to_rounding_without_damping(seed, shape):
    solver = WaveEquation2D(shape=shape, speed=1.3)
    frames = solver.solve(random_state(shape, seed), times=[0.0, 0.02, 1.28, 50.0])[0]
    energy = solver.energy(frames)
    assert ((energy / energy[0] - 1).abs() < 1e-12).all()


def test_energy_golden():
    """u = 3 cos 2 pi (x + 2 y), u_t = 4 cos 2 pi y, c = 1/2: (16/2 + 9/2 (1/2)^2 4 pi^2 5) / 2."""
    x = torch.arange(12).double() / 12
    state = torch.stack(
        (
            3 * torch.cos(2 * math.pi * (x[:, None] + 2 * x)),
            (4 * torch.cos(2 * math.pi * x)).expand(12, 12),
        )
    )[None]
    found = WaveEquation2D(shape=(12, 12), speed=0.5).energy(state)
    assert float(found) == pytest.approx((8 + 22.5 * math.pi**2) / 2, rel=1e-13)


def test_energy_falls_at_the_damping_times_the_mean_square_velocity():
    """By a central difference, whose error is (2 omega h)^2 / 6 = 4e-5 for 10 waves."""
    solver, state = WaveEquation2D(shape=(9, 8), damping=1.7), random_state((9, 8), 3)
    frames = solver.solve(state, times=[0.1 - 1e-4, 0.1, 0.1 + 1e-4])[0]
    before, _, after = solver.energy(frames)
    loss = 1.7 * frames[1, 1].square().mean()
    assert float((before - after) / 2e-4) == pytest.approx(float(loss), rel=1e-4)


# ---- structure ----


def test_frames_compose_and_run_back():
    """Also backwards: without damping, turning the velocity round runs the film back."""
    solver, state = WaveEquation2D(shape=(8, 9)), random_state((8, 9), 1)
    whole = solver.solve(state, times=[0.3, 0.8])[0]
    assert_close(solver.solve(whole[:1], times=[0.5])[0, 0], whole[1], rtol=0, atol=1e-11)
    mirror = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
    assert_close(
        mirror * solver.solve(mirror * whole[1:], times=[0.8])[0, 0], state[0], rtol=0, atol=1e-11
    )


def test_a_grid_that_resolves_the_field_adds_no_error():
    fine = WaveEquation2D(shape=(48, 48), damping=0.5)
    state = fine.initial(2, seed=5)
    coarse = WaveEquation2D(shape=(24, 24), damping=0.5)
    found = coarse.solve(state[..., ::2, ::2], times=[1.28])
    expected = fine.solve(state, times=[1.28])[..., ::2, ::2]
    assert_close(found, expected, rtol=0, atol=2e-4)  # what GRFs of l = 0.1 have beyond 12 waves


def test_trajectory_takes_speed_and_damping_from_theta():
    domain = WaveEquation2D(shape=(8, 8))
    theta = torch.tensor([[0.25, 0.5], [1.0, 0.0]], dtype=torch.float64)
    state = domain.initial(2, seed=4)
    assert state[:, 1].abs().max() == 0  # at rest
    frames = domain.trajectory(state, theta, num_steps=2)
    for sample, (speed, damping) in enumerate(((0.75, 1.0), (1.5, 0.0))):
        solver = WaveEquation2D(shape=(8, 8), speed=speed, damping=damping)
        expected = solver.solve(state[sample : sample + 1], times=[0.0, 0.02, 0.04])
        assert_close(frames[sample : sample + 1].double(), expected, rtol=1e-6, atol=1e-6)


def test_initial_lengths_are_spread_over_their_range():
    """Mean |grad u|^2 of a GRF of length l is 2 / l^2: the ensemble's is 2 / (0.1 * 0.2)."""
    domain = WaveEquation2D(shape=(32, 32))
    state = domain.initial(400, seed=0)
    slope = 2 * domain.energy(state)
    assert abs(slope.mean() - 100) < 3 * slope.std() / 20
    narrow = WaveEquation2D(shape=(32, 32), length_scales=(0.15, 0.15)).initial(400, seed=0)
    slope = 2 * domain.energy(narrow)
    assert abs(slope.mean() - 2 / 0.15**2) < 3 * slope.std() / 20


@pytest.mark.parametrize(
    "options",
    [
        {"length": 0.0},
        {"speed": -1.0},
        {"damping": -0.1},
        {"damping": math.nan},
        {"frame_interval": math.inf},
        {"length_scales": (0.2, 0.1)},
        {"shape": (8,)},
    ],
)
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(ValueError, match=rf"wave: .*{next(iter(options))}"):
        WaveEquation2D(**options)
