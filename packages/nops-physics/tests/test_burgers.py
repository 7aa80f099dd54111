"""Burgers1D: the exact solution, order, conservation, and what it refuses."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import Burgers1D, ColeHopf
from nops_physics._burgers import _rounded_up
from torch.testing import assert_close

seeds = st.integers(0, 2**31)


def sine(x):
    return torch.sin(2 * math.pi * x)


def start(solver, u0=sine):
    return u0(solver.positions[:, 0] / solver.length)[None, None]


def test_it_follows_the_exact_solution_through_the_shock():
    solver = Burgers1D(256, viscosity=0.01)
    found = solver.solve(start(solver), times=[0.0, 0.1, 0.5])[0, :, 0]
    exact = ColeHopf(sine, viscosity=0.01)(
        solver.positions[:, 0], torch.tensor([[0.0], [0.1], [0.5]])
    )
    assert_close(found, exact, rtol=0, atol=1e-6)


def test_order_in_time():
    """Sub-steps of 1/64 and 1/128 at a Courant number that does not bind; the rest is exact."""
    exact = ColeHopf(sine, viscosity=0.05)
    errors = []
    for step in (1 / 64, 1 / 128):
        solver = Burgers1D(64, viscosity=0.05, time_step=step, courant=2.5)
        assert float(solver.largest_step(start(solver))) == step
        found = solver.solve(start(solver), times=[0.5])[0, 0, 0]
        errors.append(float((found - exact(solver.positions[:, 0], 0.5)).abs().max()))
    assert math.log2(errors[0] / errors[1]) > 3.8


def test_a_random_field_with_a_mean_follows_the_exact_solution():
    """The mean moves the frame: a Galilean shift, on a line of another length and offset."""
    solver = Burgers1D(128, viscosity=0.06, length=2.0, courant=0.5)
    state = solver.initial(1, seed=3) + 0.7
    modes = torch.fft.rfft(state[0, 0], norm="forward")

    def series(x):
        angle = math.pi * x[..., None] * torch.arange(1, 5)
        waves = torch.complex(torch.cos(angle), torch.sin(angle))
        return modes[0].real + 2 * (modes[1:5] * waves).sum(-1).real

    found = solver.solve(state, times=[0.0, 0.3, 0.8])[0, :, 0]
    exact = ColeHopf(series, viscosity=0.06, length=2.0)
    for frame, time in zip(found, (0.0, 0.3, 0.8), strict=True):
        assert_close(frame, exact(solver.positions[:, 0], time), rtol=0, atol=1e-7)


@given(seed=seeds, shift=st.floats(-1, 1))
def test_mass_is_kept_and_energy_falls(seed, shift):
    solver = Burgers1D(64, viscosity=0.1)
    frames = solver.solve(solver.initial(1, seed=seed) + shift, times=[0.0, 0.02, 0.1])[0, :, 0]
    mass, energy = frames.mean(-1), frames.square().mean(-1)
    assert_close(mass, mass[:1].expand(3), rtol=0, atol=1e-14)
    assert (energy.diff() < 0).all()
    assert (frames.amax(-1).diff() < 1e-9).all()  # the maximum principle


def test_without_viscosity_energy_is_kept_before_the_shock():
    solver = Burgers1D(128, viscosity=0.0)
    frames = solver.solve(start(solver), times=[0.0, 0.08])[0, :, 0]  # it breaks at 1 / (2 pi)
    energy = frames.square().mean(-1)
    assert energy[1].item() == pytest.approx(float(energy[0]), rel=1e-8)
    # along characteristics u(x + t u0(x)) = u0(x): the point 1/8 has moved by t / sqrt 2
    series = ColeHopf(sine, viscosity=1e-5)(
        torch.tensor([0.125 + 0.08 / math.sqrt(2)]).double(), 0.08
    )
    assert series.item() == pytest.approx(math.sqrt(0.5), abs=1e-3)


def test_the_form_of_pdebench_divides_the_viscosity_by_pi():
    ours = Burgers1D(64, viscosity=0.2)
    theirs = Burgers1D(64, viscosity=0.2 * math.pi, form="pdebench")
    state = ours.initial(2, seed=0)
    assert_close(
        theirs.solve(state, times=[0.2]), ours.solve(state, times=[0.2]), rtol=0, atol=1e-13
    )


def test_small_waves_decay_as_heat():
    """At amplitude a the nonlinear term is of order a^2: one mode decays by exp(-nu (2 pi)^2 t)."""
    solver = Burgers1D(32, viscosity=0.05)
    found = solver.solve(1e-6 * start(solver), times=[0.5])[0, 0, 0]
    expected = 1e-6 * math.exp(-0.05 * 4 * math.pi**2 * 0.5) * start(solver)[0, 0]
    assert_close(found, expected, rtol=0, atol=1e-11)


def test_units_scale():
    """Length 3 and time 5 times: speed 3/5, viscosity 9/5; the field is the same."""
    small, large = Burgers1D(64, viscosity=0.05), Burgers1D(64, viscosity=0.05 * 9 / 5, length=3.0)
    found = large.solve(start(large) * 3 / 5, times=[1.0])
    assert_close(found, 3 / 5 * small.solve(start(small), times=[0.2]), rtol=0, atol=1e-12)


def test_initial_fields_are_four_sines_of_bounded_amplitude():
    states = Burgers1D(64, length=2.0).initial(200, seed=1)[:, 0]
    same = Burgers1D(32, length=5.0).initial(200, seed=1)[:, 0]
    assert_close(states[:, ::2], same, rtol=0, atol=1e-14)
    amplitude = 2 * torch.fft.rfft(states, norm="forward").abs()
    assert amplitude[:, 0].max() < 1e-14
    assert amplitude[:, 5:].max() < 1e-14
    scaled = amplitude[:, 1:5] * torch.arange(1, 5).sqrt()
    assert scaled.max() < 1
    # uniform on (0, 1): mean 1/2 with a deviation of sqrt(1/12/200) = 0.02
    assert_close(scaled.mean(0), torch.full((4,), 0.5).double(), rtol=0, atol=0.08)
    phase = torch.fft.rfft(states)[:, 1:5].angle()
    assert torch.polar(torch.ones_like(phase), phase).mean(0).abs().max() < 0.25  # uniform: 0.07


def test_largest_step_golden():
    """64 points keep 21 modes (3 * 21 < 64), length 2: k_max = 21 pi; max|u| = 0.5."""
    solver = Burgers1D(64, length=2.0, courant=1.5)
    state = 0.5 * start(solver)
    step = solver.largest_step(torch.cat((state, 0 * state)))
    assert step[0].item() == pytest.approx(1.5 / (21 * math.pi * 0.5), rel=1e-14)
    assert step[1].item() == math.inf


@pytest.mark.parametrize(
    ("steps", "number"),
    [(0.0, 1), (1.0, 1), (1.01, 2), (2.5, 3), (5, 6), (6.1, 8), (8.2, 12), (13, 16)],
)
def test_numbers_of_steps(steps, number):
    assert _rounded_up(steps) == number


def test_what_the_two_thirds_rule_removes_is_refused_and_a_constant_is_not():
    solver = Burgers1D(32, viscosity=0.1)
    wave = torch.cos(2 * math.pi * 12 * solver.positions[:, 0])[None, None]  # 3 * 12 > 32
    with pytest.raises(ValueError, match="sample 1 is under-resolved up to t = 0: 1 of its"):
        solver.solve(torch.cat((start(solver), wave)), times=[0.1])
    constant = torch.full((1, 1, 32), 0.3, dtype=torch.float64)
    assert_close(solver.solve(constant, times=[0.1])[:, 0], constant, rtol=0, atol=1e-15)


def test_a_shock_that_the_grid_cannot_hold_is_refused_and_more_points_hold_it():
    coarse, fine = Burgers1D(64, viscosity=0.01), Burgers1D(256, viscosity=0.01)
    mild = 0.01 * start(coarse)
    with pytest.raises(
        ValueError, match=r"sample 1 is under-resolved up to t = 0\.4: .*more points or viscosity"
    ):
        coarse.solve(torch.cat((mild, start(coarse))), times=[0.05, 0.4])
    assert fine.solve(start(fine), times=[0.05, 0.4]).isfinite().all()


def test_a_shock_between_two_frames_is_seen():
    """At the only frame, t = 3, the solution is smooth again."""
    solver = Burgers1D(64, viscosity=0.01)
    state = ColeHopf(sine, viscosity=0.01)(solver.positions[:, 0], 3.0)[None, None]
    assert solver.solve(state, times=[0.1]).isfinite().all()
    with pytest.raises(ValueError, match="under-resolved up to t = 3"):
        solver.solve(start(solver), times=[3.0])


def test_positions():
    assert_close(
        Burgers1D(10, length=5.0).positions,
        0.5 * torch.arange(10).double()[:, None],
        rtol=0,
        atol=0,
    )


def test_gradients():
    solver = Burgers1D(24, viscosity=0.2)
    state = (0.1 * start(solver)).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: solver.solve(u, times=[0.0, 0.05]), (state,))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"points": 8}, "at least 9 cells"),
        ({"viscosity": -1.0}, "viscosity"),
        ({"viscosity": math.inf}, "viscosity"),
        ({"length": 0.0}, "length"),
        ({"form": "other"}, "form is"),
        ({"courant": 2.6}, "courant"),
        ({"courant": 0.0}, "courant"),
        ({"time_step": 0.0}, "time_step"),
        ({"frame_interval": math.nan}, "frame_interval"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_options_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=named):
        Burgers1D(**{"points": 16} | options)


@pytest.mark.parametrize("times", [[], [-0.1], [0.2, 0.1], [math.nan]])
def test_bad_times_are_refused(times):
    solver = Burgers1D(16)
    with pytest.raises(ValueError, match="times need to rise from 0"):
        solver.solve(start(solver), times=times)
