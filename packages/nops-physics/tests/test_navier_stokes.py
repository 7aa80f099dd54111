"""NavierStokes2D: Taylor-Green's vortex, order 4 in time, and the one solver of the flows."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import DecayingTurbulence2D, NavierStokes2D, TaylorGreen
from torch.testing import assert_close


@given(reynolds=st.floats(10, 1000), wavenumber=st.integers(1, 4), time=st.floats(0, 4))
def test_taylor_green_decays_as_the_heat_equation(reynolds, wavenumber, time):
    """sin kx sin ky falls as exp(-2 k^2 t / Re)."""
    vortex = TaylorGreen(viscosity=1 / reynolds, resolution=16, wavenumber=wavenumber)
    found = NavierStokes2D(shape=(16, 16), reynolds=reynolds).solve(
        vortex.vorticity(0.0)[None], times=[time]
    )
    assert_close(found[0, 0], vortex.vorticity(time), rtol=0, atol=1e-12)


def test_decay_by_hand():
    """k = 2, Re = 20, t = 1: exp(-2 * 4 / 20) = 0.6703200460."""
    state = TaylorGreen(viscosity=0.0, resolution=8, wavenumber=2).vorticity(0.0)[None]
    found = NavierStokes2D(shape=(8, 8), reynolds=20.0).solve(state, times=[1.0])
    assert_close(found[0, 0], 0.6703200460356393 * state[0], rtol=0, atol=1e-13)


def test_it_is_the_solver_of_decaying_turbulence():
    """One core: with its viscosity, step control included, the same bits."""
    domain = NavierStokes2D(shape=(16, 16), reynolds=300.0, rms_vorticity=4.0)
    flow = DecayingTurbulence2D(resolution=16, viscosity=1 / 300.0)
    state = domain.initial(3, seed=1)
    own = flow.initial(3, seed=1, peak_wavenumber=2.0, rms_vorticity=4.0)
    assert torch.equal(state, own)
    found = domain.solve(state, times=[0.25, 1.0])
    assert_close(found, flow.solve(state, times=[0.25, 1.0]), rtol=0, atol=1e-14)


def test_order_4_in_time():
    """Frames so close that each takes one step: their interval is the step."""
    flow = NavierStokes2D(shape=(16, 16), reynolds=200.0)
    state = flow.initial(1, seed=2)

    def after(steps):
        return flow.solve(state, times=[0.4 * (i + 1) / steps for i in range(steps)])[:, -1]

    results = [after(steps) for steps in (4, 8, 16, 32)]
    errors = [float((a - b).norm()) for a, b in pairwise(results)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert orders == pytest.approx([4.0, 4.0], abs=0.15)


def test_samples_that_need_other_steps_are_each_stable():
    """A fast and a slow flow in one batch: neither sees the other, nor blows up."""
    flow = NavierStokes2D(shape=(16, 16), reynolds=1000.0)
    state = flow.initial(2, seed=0) * torch.tensor([1.0, 20.0]).double()[:, None, None, None]
    frames = flow.solve(state, times=[0.5, 1.0])
    for sample in range(2):
        alone = flow.solve(state[sample : sample + 1], times=[0.5, 1.0])
        assert torch.equal(frames[sample : sample + 1], alone)
    assert (frames.square().mean((-1, -2)) < state.square().mean((-1, -2))[:, None]).all()


@given(shift=st.tuples(st.integers(0, 11), st.integers(0, 9)))
def test_shifting_commutes_with_the_dynamics(shift):
    flow = NavierStokes2D(shape=(12, 10), peak_wavenumber=1.5)
    state = flow.initial(1, seed=0)
    after = flow.solve(state.roll(shift, (-2, -1)), times=[0.25])
    expected = flow.solve(state, times=[0.25]).roll(shift, (-2, -1))
    assert_close(after, expected, rtol=0, atol=1e-12)


def test_enstrophy_never_grows_and_initial_fields_have_their_size():
    flow = NavierStokes2D(shape=(24, 24), rms_vorticity=3.0)
    state = flow.initial(4, seed=0)
    enstrophy = state.square().mean((-1, -2))
    assert_close(enstrophy, torch.full_like(enstrophy, 9.0))
    assert state.mean((-1, -2)).abs().max() < 1e-14
    theta = torch.tensor([[0.0], [0.3], [0.7], [1.0]], dtype=torch.float64)
    frames = flow.trajectory(state, theta, num_steps=8).square().mean((-1, -2))
    assert (frames.diff(dim=1) < 0).all()
    assert frames[0, -1] < frames[-1, -1]  # Re 10 against 1000


def test_trajectory_takes_the_reynolds_number_from_theta():
    domain = NavierStokes2D(shape=(8, 8))
    state = domain.initial(1, seed=4)
    frames = domain.trajectory(state, torch.tensor([[0.5]]), num_steps=2)
    expected = NavierStokes2D(shape=(8, 8), reynolds=100.0).solve(state, times=[0.0, 0.25, 0.5])
    assert_close(frames.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (8,)},
        {"reynolds": 0.0},
        {"frame_interval": -1.0},
        {"rms_vorticity": math.inf},
        {"peak_wavenumber": 11.0},
    ],
)
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(ValueError, match=rf"navier_stokes: .*{next(iter(options))}"):
        NavierStokes2D(**options)
