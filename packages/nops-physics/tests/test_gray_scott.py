"""Gray-Scott: fixed points, linear growth rates, orders, symmetries, initial bumps."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import GrayScott, sobol_parameters
from torch.testing import assert_close

TURING = {"feed": 0.056, "kill": 0.062}  # stable when mixed, unstable to three waves in 32 cells


def homogeneous(u, v, shape=(8,)):
    return torch.stack([torch.full(shape, value, dtype=torch.float64) for value in (u, v)])[None]


def lower_root(feed, kill):
    """u v^2 = F (1 - u) = (F + k) v: u = (1 - sqrt(1 - 4 (F + k)^2 / F)) / 2 beside (1, 0)."""
    u = (1 - math.sqrt(1 - 4 * (feed + kill) ** 2 / feed)) / 2
    return u, feed * (1 - u) / (feed + kill)


def jacobian(u, v, *, feed, kill):
    rows = [[-(v**2) - feed, -2 * u * v], [v**2, 2 * u * v - feed - kill]]
    return torch.tensor(rows, dtype=torch.float64)


def orders(errors):
    return [math.log2(a / b) for a, b in pairwise(errors)]


# ---- homogeneous states ----


@given(feed=st.floats(0.02, 0.06), kill=st.floats(0.05, 0.065))
def test_the_trivial_state_stays(feed, kill):
    solver = GrayScott(shape=(5, 4), feed=feed, kill=kill)
    state = homogeneous(1.0, 0.0, (5, 4))
    assert_close(solver.solve(state, times=[20.0])[:, 0], state, rtol=0, atol=1e-12)


def test_the_double_root_stays():
    """F = 0.04, k = 0.06: 4 (F + k)^2 = F, so both roots are (0.5, 0.2)."""
    state = homogeneous(0.5, 0.2, (6, 6))
    found = GrayScott(shape=(6, 6), feed=0.04, kill=0.06).solve(state, times=[64.0])
    assert_close(found[:, 0], state, rtol=0, atol=1e-12)


def test_the_lower_root_stays():
    state = homogeneous(*lower_root(**TURING))
    found = GrayScott(shape=(8,), **TURING).solve(state, times=[64.0])
    assert_close(found[:, 0], state, rtol=0, atol=1e-12)


def test_a_homogeneous_state_follows_the_reaction_with_order_4():
    state = homogeneous(0.6, 0.3, (4,))

    def after(time_step):
        return GrayScott(shape=(4,), time_step=time_step).solve(state, times=[16.0])

    exact = after(1 / 64)
    errors = [float((after(step) - exact).abs().max()) for step in (2.0, 1.0, 0.5)]
    assert orders(errors) == pytest.approx([4.0, 4.0], abs=0.2)
    spread = exact.amax(-1) - exact.amin(-1)
    assert_close(spread, torch.zeros_like(spread), rtol=0, atol=1e-15)


def test_reaction_rates_by_hand():
    """u = 0.5, v = 0.25, F = 0.04, k = 0.06: u v^2 = 1/32."""
    step = 1e-3
    state = homogeneous(0.5, 0.25, (3,))
    solver = GrayScott(shape=(3,), feed=0.04, kill=0.06)
    rate = (solver.solve(state, times=[step])[0, 0, :, 0] - state[0, :, 0]) / step
    expected = [-1 / 32 + 0.04 * 0.5, 1 / 32 - 0.1 * 0.25]
    assert rate.tolist() == pytest.approx(
        expected, abs=2e-6
    )  # step / 2 times the second derivative


# ---- linear theory ----


def linear_operator(waves, u, v):
    """The Jacobian minus the diffusion of `waves` waves in 32 cells."""
    squared = (2 * math.pi * waves / 32) ** 2
    diffusivity = torch.tensor([0.16, 0.08], dtype=torch.float64)
    return jacobian(u, v, **TURING) - squared * torch.diag(diffusivity)


@pytest.mark.parametrize("waves", [0, 1, 2, 3, 4, 6])
def test_growth_rates_are_the_eigenvalues_of_the_jacobian(waves):
    size, start = 1e-6, torch.tensor([0.7, -0.4], dtype=torch.float64)
    base = homogeneous(*lower_root(**TURING), (32,))[0]
    wave = torch.cos(2 * math.pi * waves * torch.arange(32, dtype=torch.float64) / 32)
    state = base + size * start[:, None] * wave
    solver = GrayScott(shape=(32,), time_step=0.25, **TURING)
    change = solver.solve(state[None], times=[40.0])[0, 0] - base
    found = (change * wave).sum(-1) / wave.square().sum() / size
    matrix = linear_operator(waves, *lower_root(**TURING))
    expected = torch.linalg.matrix_exp(40.0 * matrix) @ start
    # the splitting's error at step 1/4 and the neglected squares are below 1e-4
    assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_turing_mode_is_unstable_and_grows_at_its_rate():
    root = lower_root(**TURING)
    rates = [float(torch.linalg.eigvals(linear_operator(m, *root)).real.max()) for m in range(9)]
    assert rates[0] < 0  # stable without space
    assert max(range(9), key=rates.__getitem__) == 3
    noise = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = homogeneous(*root, (32,)) + 1e-9 * noise
    frames = GrayScott(shape=(32,), **TURING).solve(state, times=[800.0, 1000.0])
    modes = torch.fft.rfft(frames[0, :, 1])[:, 1:].abs()
    assert int(modes[1].argmax()) + 1 == 3
    growth = float((modes[1, 2] / modes[0, 2]).log()) / 200
    assert growth == pytest.approx(rates[3], rel=0.01)


@given(waves=st.integers(0, 8), time=st.floats(0, 30))
def test_without_v_and_feed_only_diffusion_is_left_and_is_exact(waves, time):
    solver = GrayScott(shape=(16, 4), cell=0.5, feed=0.0, diffusivity=(0.16, 0.08))
    x = torch.arange(16, dtype=torch.float64)[:, None].expand(16, 4) / 16
    wave = torch.cos(2 * math.pi * waves * x)
    state = torch.stack((0.3 + 0.2 * wave, torch.zeros_like(wave)))[None]
    found = solver.solve(state, times=[time])[0, 0]
    decay = math.exp(-0.16 * (2 * math.pi * waves / 8.0) ** 2 * time)  # 16 cells of 0.5
    assert_close(found[0], 0.3 + 0.2 * decay * wave, rtol=0, atol=1e-13)
    assert found[1].abs().max() == 0


# ---- orders ----


def test_time_order_2_by_richardson():
    def after(time_step):
        solver = GrayScott(shape=(32,), time_step=time_step, feed=0.037, kill=0.06)
        return solver.solve(solver.initial(1, seed=3), times=[64.0])

    steps = [1.0, 0.5, 0.25, 0.125]
    errors = [float((after(h) - after(h / 2)).norm()) for h in steps]
    assert orders(errors) == pytest.approx([2.0, 2.0, 2.0], abs=0.02)
    assert errors[0] < 1e-3  # at the default step


def test_grid_convergence_is_faster_than_any_power():
    def after(side):
        solver = GrayScott(shape=(side,), cell=32 / side, feed=0.037, kill=0.06)
        return solver.solve(solver.initial(1, seed=3), times=[64.0])[..., :: side // 16]

    fine = after(256)
    errors = [float((after(side) - fine).abs().max()) for side in (16, 32, 64)]
    assert errors[1] < 1e-4  # the default cell
    assert errors[2] < 1e-8
    first, second = orders(errors)
    assert 6 < first < second


# ---- structure ----


@given(rows=st.integers(0, 8), columns=st.integers(0, 8))
def test_shifting_and_transposing_commute_with_the_dynamics(rows, columns):
    solver = GrayScott(shape=(9, 9))
    state = solver.initial(1, seed=1)
    after = solver.solve(state, times=[5.0])
    shifted = solver.solve(state.roll((rows, columns), (-2, -1)), times=[5.0])
    assert_close(shifted, after.roll((rows, columns), (-2, -1)), rtol=0, atol=1e-13)
    assert_close(solver.solve(state.mT, times=[5.0]), after.mT, rtol=0, atol=1e-13)


def test_one_axis_is_two_axes_without_variation():
    line, plane = GrayScott(shape=(12,)), GrayScott(shape=(12, 3))
    state = line.initial(1, seed=0)
    on_plane = state[..., None].expand(1, 2, 12, 3)
    found = plane.solve(on_plane, times=[16.0])[..., 0]
    assert_close(found, line.solve(state, times=[16.0]), rtol=0, atol=1e-14)


def test_frames_compose_and_repeated_times_repeat():
    solver = GrayScott(shape=(8, 8))
    state = solver.initial(2, seed=0)
    frames = solver.solve(state, times=[0.0, 3.0, 3.0, 7.5])
    assert frames.dtype == torch.float64
    assert_close(frames[:, 0], state, rtol=0, atol=1e-15)
    assert torch.equal(frames[:, 1], frames[:, 2])
    assert_close(solver.solve(frames[:, 1], times=[4.5])[:, 0], frames[:, 3], rtol=0, atol=1e-14)


def test_an_interval_is_cut_into_the_fewest_equal_steps():
    state = GrayScott(shape=(8,)).initial(1, seed=0)
    by_default = GrayScott(shape=(8,)).solve(state, times=[2.5])  # three steps of 5/6
    by_hand = GrayScott(shape=(8,), time_step=2.5 / 3).solve(state, times=[2.5])
    assert torch.equal(by_default, by_hand)
    assert not torch.equal(
        by_default, GrayScott(shape=(8,), time_step=0.625).solve(state, times=[2.5])
    )


def test_trajectory_takes_feed_and_kill_from_theta():
    domain = GrayScott(shape=(8, 8))
    theta = torch.tensor([[0.25, 0.5], [1.0, 0.0]], dtype=torch.float64)
    state = domain.initial(2, seed=4)
    frames = domain.trajectory(state, theta, num_steps=2)
    for sample, (feed, kill) in enumerate(((0.03, 0.0575), (0.06, 0.05))):
        solver = GrayScott(shape=(8, 8), feed=feed, kill=kill)
        expected = solver.solve(state[sample : sample + 1], times=[0.0, 16.0, 32.0])
        assert_close(frames[sample : sample + 1].double(), expected, rtol=0, atol=1e-7)  # float32


def test_solver_has_gradients():
    solver = GrayScott(shape=(4,), time_step=1.0)
    state = solver.initial(1, seed=0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: solver.solve(s, times=[2.0]), (state,))


def test_gradient_of_theta_is_the_difference_quotient():
    domain = GrayScott(shape=(6,), frame_interval=8.0)
    state = domain.initial(1, seed=0)
    theta = torch.tensor([[0.4, 0.6]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(domain.trajectory(state, theta, num_steps=1).sum(), theta)
    step = 1e-2  # the result is float32: the quotient keeps about four digits
    for column in range(2):
        shift = torch.zeros(1, 2, dtype=torch.float64)
        shift[0, column] = step
        up, down = (
            domain.trajectory(state, (theta + s).detach(), num_steps=1).double().sum()
            for s in (shift, -shift)
        )
        assert float((up - down) / (2 * step)) == pytest.approx(
            float(gradient[0, column]), rel=2e-3
        )


# ---- where trajectories start and what they do ----


def test_initial_is_the_trivial_state_under_bumps_up_to_one_half_and_one_quarter():
    state = GrayScott().initial(16, seed=0)
    u, v = state.unbind(1)
    assert_close(1 - u, 2 * v)
    assert v.min() >= 0
    assert 0.24 < v.max() <= 0.25


def test_mean_of_the_bumps():
    """Four independent uniform bumps: E[b] = 1 - (1 - 2 pi E[s^2] / L^2)^4, s uniform in [2, 4].

    E[s^2] = (2^2 + 2 * 4 + 4^2) / 3 = 28/3, so E[b] = 1 - (1 - 2 pi 28/3 / 1024)^4 = 0.2103.
    """
    mean = 4 * GrayScott().initial(400, seed=0)[:, 1].mean((-1, -2))
    expected = 1 - (1 - 2 * math.pi * 28 / 3 / 1024) ** 4
    assert abs(mean.mean() - expected) < 3 * mean.std() / 20
    one = 4 * GrayScott(num_bumps=1).initial(400, seed=0)[:, 1].mean((-1, -2))
    assert abs(one.mean() - 2 * math.pi * 28 / 3 / 1024) < 3 * one.std() / 20


def test_initial_is_the_same_field_on_a_finer_grid():
    coarse = GrayScott(shape=(16, 16)).initial(2, seed=7)
    fine = GrayScott(shape=(48, 48), cell=1 / 3).initial(2, seed=7)
    assert_close(fine[..., ::3, ::3], coarse, rtol=0, atol=1e-13)


def test_trajectories_move_stay_in_bounds_and_tell_parameters_apart():
    domain = GrayScott()
    state, theta = domain.initial(16, seed=0), sobol_parameters(16, num_parameters=2)
    frames = domain.trajectory(state, theta, num_steps=16)
    other = domain.trajectory(state, theta.roll(1, 0), num_steps=16)
    assert frames.min() > -1e-3
    assert frames.max() < 1.01
    variance = frames[:, -1].var(dim=(0, 2, 3))
    moved = (frames[:, -1] - frames[:, 0]).square().mean((0, 2, 3)) / variance
    apart = (frames[:, -1] - other[:, -1]).square().mean((0, 2, 3)) / variance
    assert moved.min() > 1.0  # persistence is worse than the mean at lead 16
    assert apart.min() > 1.0  # 2 would be unrelated fields
    alive = frames[:, -1, 1].amax((-1, -2)) > 0.1
    assert 0.7 < alive.double().mean() < 1.0  # v dies out for some parameters only


@pytest.mark.parametrize(
    "options",
    [
        {"cell": 0.0},
        {"time_step": -1.0},
        {"frame_interval": math.inf},
        {"num_bumps": 0},
        {"feed": -0.1},
        {"kill": math.nan},
        {"diffusivity": (0.16, -0.08)},
    ],
)
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GrayScott(**options)


def test_positions_are_the_first_corners_of_the_cells():
    found = GrayScott(shape=(2, 3), cell=0.5).positions
    expected = [[0, 0], [0, 0.5], [0, 1], [0.5, 0], [0.5, 0.5], [0.5, 1]]
    assert torch.equal(found, torch.tensor(expected, dtype=torch.float64))
