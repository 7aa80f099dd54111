"""Solutions of nops_physics leave nothing in the residuals of nops_losses, in float64."""

import math

import pytest
import torch
from nops_losses import (
    allen_cahn_residual,
    burgers_residual,
    heat_residual,
    helmholtz_residual,
    kovasznay_residual,
    poisson_residual,
    rk4_step,
    wave_residual,
    wave_step_residuals,
)
from nops_physics import (
    AllenCahn1D,
    BurgersColeHopf,
    HelmholtzExact,
    KovasznayExact,
    PoissonExact,
    WaveChain,
    WaveExact,
    heat_exact,
)
from torch.testing import assert_close


def points(axes, *, low=0.1, high=0.9, n=9):
    generator = torch.Generator().manual_seed(axes)
    drawn = torch.rand(n, axes, generator=generator, dtype=torch.float64)
    return (low + (high - low) * drawn).requires_grad_()


def of_burgers():
    xt = points(2)
    u = BurgersColeHopf()(xt[:, :1], xt[:, 1:])
    return burgers_residual(u, xt, nu=0.01 / math.pi)


def of_heat():
    xt = points(2)
    u = heat_exact(xt[:, :1], xt[:, 1:], wavenumber=0.5, diffusivity=0.4)
    return heat_residual(u, xt, a=0.4)


def of_wave():
    xt = points(2)
    return wave_residual(WaveExact()(xt[:, :1], xt[:, 1:]), xt, c=1.0, k=1.0)


def of_helmholtz():
    x, exact = points(2, low=-1, high=1), HelmholtzExact()
    return helmholtz_residual(exact(x), x, k=1.0, source=exact.source(x).detach())


def of_poisson():
    x, exact = points(3), PoissonExact(axes=3)
    return poisson_residual(exact(x), x, source=exact.source(x).detach())


def of_kovasznay():
    xy, exact = points(2, low=-0.5, high=1), KovasznayExact()
    return torch.cat(list(kovasznay_residual(exact(xy), xy, nu=exact.viscosity).values()))


CASES = [of_burgers, of_heat, of_wave, of_helmholtz, of_poisson, of_kovasznay]


@pytest.mark.parametrize("case", CASES, ids=[case.__name__[3:] for case in CASES])
def test_exact_solutions(case):
    """Derivatives are up to 1e3 large, of Burgers' shock 1e5."""
    assert case().abs().max() < (1e-7 if case is of_burgers else 1e-10)


def test_allen_cahn_between_its_frames():
    """No formula: u of a cosine series at x, and a difference in time of order 4."""
    solver, step = AllenCahn1D(64, diffusivity=0.02), 1e-3
    x = solver.positions[:, 0]
    frames = solver.solve(
        torch.cos(math.pi * x)[None, None], times=[0.1 + i * step for i in range(5)]
    )[0, :, 0]
    modes = torch.fft.rfft(frames, norm="forward").real  # even about 0: cosines alone
    weights = torch.full((33,), 2.0, dtype=torch.float64)
    weights[[0, -1]] = 1.0
    xt = points(2, high=1.9)
    numbers = torch.arange(33, dtype=torch.float64)
    values = torch.cos(math.pi * xt[:, :1] * numbers) @ (modes * weights).T  # [n, 5]
    late = (xt[:, 1:] - xt[:, 1:].detach()) / step  # 0, with the slope of a time in steps
    rate = values @ torch.tensor([1.0, -8.0, 0.0, 8.0, -1.0], dtype=torch.float64)[:, None] / 12
    u = values[:, 2:3] + rate.detach() * late
    assert allen_cahn_residual(u, xt, d=0.02).abs().max() < 1e-8


@pytest.mark.parametrize("scheme", ["rk4", "semi_implicit", "trapezoidal", "euler"])
@pytest.mark.filterwarnings("ignore:WaveChain")
def test_a_step_of_the_chain(scheme):
    chain = WaveChain(c=1.3, k=0.6)
    u, v, f, _ = chain.samples(2, 3)
    later = chain.step(u, v, f, scheme=scheme)
    physics = {"dt": chain.dt, "dx": chain.dx, "c": 1.3, "k": 0.6}
    found = wave_step_residuals(u, v, f, *later, scheme=scheme, **physics)
    assert max(part.abs().max() for part in found) < 1e-12


def test_both_runge_kutta_steps():
    chain = WaveChain()
    u, v, f, _ = chain.samples(1, 2)
    found = rk4_step(lambda y: chain.rhs(*y, f), (u, v), dt=chain.dt)
    assert_close(found, chain.step(u, v, f, scheme="rk4"), rtol=0, atol=1e-15)
