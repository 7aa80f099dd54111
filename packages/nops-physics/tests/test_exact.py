"""Exact solutions at points: published values, and the equations by automatic derivatives."""

import math

import jaxtyping
import pytest
import torch
from nops_physics import (
    AllenCahn1D,
    BurgersColeHopf,
    ColeHopf,
    HelmholtzExact,
    KovasznayExact,
    PoissonExact,
    WaveChain,
    WaveExact,
    allen_cahn_reference,
)
from torch.testing import assert_close


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_kovasznay():
    assert KovasznayExact().decay == pytest.approx(-0.9637405, abs=5e-8)
    assert KovasznayExact(20).decay == pytest.approx(-1.8100981, abs=5e-8)
    found = KovasznayExact()(column([0.3, 0.2]))
    assert_close(found, column([0.76857077, -0.10925025, 0.21955889]), rtol=0, atol=5e-9)
    assert KovasznayExact()(torch.zeros(2, 2)).dtype == torch.float32
    assert KovasznayExact(40).viscosity == 0.025


def test_helmholtz_and_poisson():
    points = column([0.3, 0.2], [-0.5, 0.125])
    exact = HelmholtzExact()
    assert_close(exact(points)[1], column(-1.0))
    assert_close(exact.source(points) / exact(points), torch.full((2, 1), -166.783275).double())
    assert HelmholtzExact(1, 1, k=2.0).source(points)[1].item() == pytest.approx(
        (4 - 2 * math.pi**2) * -math.sin(math.pi / 8)
    )
    line = column([0.25], [0.5])
    assert_close(PoissonExact()(line), column([1.0], [0.0]))
    assert_close(PoissonExact().source(line)[0], column(4 * math.pi**2))
    solid = PoissonExact(wavenumber=1, axes=3)
    assert solid(column([0.5, 0.5, 1 / 6])).item() == pytest.approx(0.5)
    assert solid.source(column([0.5, 0.5, 1 / 6])).item() == pytest.approx(1.5 * math.pi**2)


def test_wave():
    """One mode is that of `WaveChain`; modes add up; its rate is its derivative."""
    x, t = column(0.2, 0.7), torch.linspace(0, 1, 5).double()[:, None].requires_grad_()
    single = WaveExact(modes=((3, 1.0),), k=0.4)
    assert_close(single.motion(x, t), WaveChain(k=0.4).modal(3, t=t, x=x))
    exact = WaveExact()
    start = torch.sin(math.pi * x) + 0.5 * torch.sin(3 * math.pi * x)
    assert_close(exact(x, 0.0), start)
    u, rate = exact.motion(x, t)
    (slope,) = torch.autograd.grad(u.sum(), t)
    assert_close(slope[:, 0], rate.sum(1).detach())
    assert not rate[0].any()


def test_burgers_is_the_one_transform():
    exact = BurgersColeHopf()
    assert isinstance(exact, ColeHopf)
    found = exact(column(0.5, 0.25, 0.05, 0.01), column(0.25, 0.5, 0.5, 1.0))
    assert_close(
        found, column(-0.80319842, -0.84735452, -0.97898218, -0.59425617), rtol=0, atol=6e-9
    )
    assert BurgersColeHopf(0.02).viscosity == 0.02


class TestAllenCahn:
    def test_without_a_gradient_it_is_the_logistic_equation(self):
        """u = u0 e^{rt} / sqrt(1 + u0^2 (e^{2rt} - 1)); order 4 in the step."""
        start, grown = 0.1, math.exp(2.0)
        expected = start * grown / math.sqrt(1 + start**2 * (grown**2 - 1))
        errors = []
        for step in (0.1, 0.05):
            solver = AllenCahn1D(9, time_step=step)
            field = torch.full((1, 1, 9), start, dtype=torch.float64)
            errors.append(abs(solver.solve(field, times=[0.4])[0, 0, 0, 0].item() - expected))
        assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)

    def test_a_front_at_rest(self):
        """tanh(x / sqrt(2 d / r)) and its mirror image, far apart, stay; width 0.045."""
        solver = AllenCahn1D(256, diffusivity=5e-3)
        x = solver.positions[:, 0] - 1
        front = -torch.tanh((x.abs() - 0.5) / math.sqrt(2 * 5e-3 / 5))
        found = solver.solve(front[None, None], times=[1.0])[0, 0, 0]
        assert (found - front).abs().max() < 1e-6

    def test_each_sample_has_its_diffusivity_and_no_neighbour(self):
        solver = AllenCahn1D(64)
        initial, theta = solver.initial(2, seed=3), torch.tensor([[0.1], [0.9]])
        both = solver.trajectory(initial, theta, num_steps=2)
        one = solver.trajectory(initial[1:], theta[1:], num_steps=2)
        assert torch.equal(both[1:], one)
        assert not torch.equal(
            both[1, 1], solver.trajectory(initial[1:], theta[:1], num_steps=1)[0, 1]
        )

    def test_the_benchmark(self):
        """Even, from x^2 cos(pi x); grid and step are fine enough."""
        x, u = allen_cahn_reference([0.0, 0.5, 1.0])
        assert x[0] == -1
        assert_close(u[0], x**2 * torch.cos(math.pi * x))
        assert_close(u[:, 1:], u[:, 1:].flip(1), rtol=0, atol=1e-9)
        fine = AllenCahn1D(2048, time_step=2.5e-3)
        place = fine.positions[:, 0] - 1
        start = place.square() * torch.cos(math.pi * place)
        finer = fine.solve(start[None, None], times=[0.5, 1.0])[0, :, 0, ::2]
        assert (u[1:] - finer).abs().amax(1) == pytest.approx([0, 0], abs=5e-7)

    def test_refusals(self):
        with pytest.raises(ValueError, match="allen_cahn: diffusivity needs to be at least 0"):
            AllenCahn1D(64, diffusivity=-1.0)
        with pytest.raises(ValueError, match="allen_cahn: time_step needs to be positive"):
            AllenCahn1D(64, time_step=0.0)


def test_refusals(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(n, 2\)"):
        KovasznayExact()(torch.zeros(3))
    with pytest.raises(ValueError, match="re needs to be positive, got 0"):
        KovasznayExact(0)
    with pytest.raises(ValueError, match=r"PoissonExact: .* expected \(n, 1\)"):
        PoissonExact()(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="axes needs to be at least 1"):
        PoissonExact(axes=0)
    with pytest.raises(ValueError, match="modes need numbers from 1 on"):
        WaveExact(modes=((0, 1.0),))
    with pytest.raises(ValueError, match="k needs to be at least 0"):
        WaveExact(k=-1.0)
