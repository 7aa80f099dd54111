"""Taylor-Green: golden values, the Navier-Stokes equations, and the relations of its fields."""

import math

import pytest
import torch
from nops_physics import TaylorGreen, taylor_green_exact
from torch.testing import assert_close

EXACT = {"rtol": 0, "atol": 1e-14}


def derivative(field, axis, length):
    """Spectral derivative along grid axis 1 or 2 of [..., height, width]."""
    dim, side = axis - 3, field.shape[-1]
    wave = 2 * math.pi * torch.fft.fftfreq(side, d=length / side, dtype=torch.float64)
    wave = wave[:, None] if axis == 1 else wave
    return torch.fft.ifft(1j * wave * torch.fft.fft(field, dim=dim), dim=dim).real


def test_golden():
    """Resolution 8, x = (pi/2, pi/4): u = (sin pi/2 cos pi/4, 0), w = 2 sin pi/4; t = 10, nu = .01.

    exp(-2 nu t) = exp(-0.2), energy exp(-0.4)/4 = 0.16758001; p(0, 0) = exp(-0.4)/2.
    """
    flow = TaylorGreen(viscosity=0.01, resolution=8)
    decay = math.exp(-0.2)
    u, w, p = flow.velocity(t=10.0), flow.vorticity(10.0), flow.pressure(10.0)
    assert (u.shape, w.shape, p.shape) == ((2, 8, 8), (1, 8, 8), (1, 8, 8))
    expected = torch.tensor([math.sqrt(0.5) * decay, 0.0], dtype=torch.float64)
    assert_close(u[:, 2, 1], expected, **EXACT)
    assert w[0, 2, 1].item() == pytest.approx(2 * math.sqrt(0.5) * decay, abs=1e-15)
    assert p[0, 0, 0].item() == pytest.approx(math.exp(-0.4) / 2, abs=1e-15)
    assert flow.energy(10.0).item() == pytest.approx(0.16758001150890984, abs=1e-15)


def test_it_solves_the_navier_stokes_equations():
    length, viscosity, step = 3.0, 0.05, 1e-4
    flow = TaylorGreen(viscosity=viscosity, resolution=24, wavenumber=2, length=length)
    u, p = flow.velocity(0.3), flow.pressure(0.3)[0]
    acceleration = (flow.velocity(0.3 + step) - flow.velocity(0.3 - step)) / (2 * step)
    first, second = derivative(u, 1, length), derivative(u, 2, length)
    diffusion = derivative(first, 1, length) + derivative(second, 2, length)
    slope = torch.stack((derivative(p, 1, length), derivative(p, 2, length)))
    residual = acceleration + u[0] * first + u[1] * second + slope - viscosity * diffusion
    assert residual.abs().max() < 1e-6  # the time derivative is of second order
    assert (first[0] + second[1]).abs().max() < 1e-12
    assert_close(flow.vorticity(0.3)[0], first[1] - second[0], rtol=0, atol=1e-12)


def test_energy_is_half_the_mean_square_and_times_may_be_many():
    flow = TaylorGreen(viscosity=0.1, resolution=16, wavenumber=3, length=2.0)
    times = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64)
    u = flow.velocity(times)
    assert u.shape == (3, 2, 16, 16)
    assert_close(flow.energy(times), 0.5 * u.square().sum(1).mean((-1, -2)), **EXACT)
    assert_close(u[1], flow.velocity(0.1), **EXACT)
    assert_close(flow.pressure(times).mean((-1, -2)), torch.zeros(3, 1).double(), **EXACT)


def test_the_velocity_at_points_is_that_of_the_grid():
    flow = TaylorGreen(viscosity=0.1, resolution=12, wavenumber=2, length=3.0)
    x = torch.arange(12).double() * 0.25
    points = torch.stack(torch.meshgrid(x, x, indexing="ij"), dim=-1)
    found = flow.velocity_at(points, 0.4)
    assert_close(found, flow.velocity(0.4).permute(1, 2, 0), **EXACT)


def test_the_function_is_the_vortex_of_period_two_pi():
    """u = (1 * cos 0, -cos(pi/2) * 0) at (pi/2, 0), times exp(-2 viscosity t) = exp(-0.2)."""
    points = torch.tensor([[math.pi / 2, 0.0], [0.0, math.pi / 2]])
    found = taylor_green_exact(points, torch.tensor([[0.0], [10.0]]), viscosity=0.01)
    assert (found.shape, found.dtype) == ((2, 2, 2), torch.float32)
    decay = torch.tensor([1.0, math.exp(-0.2)])
    expected = decay[:, None, None] * torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"viscosity": -1.0}, "viscosity"),
        ({"viscosity": 0.1, "resolution": 0}, "shape"),
        ({"viscosity": 0.1, "wavenumber": 0}, "wavenumber"),
        ({"viscosity": 0.1, "length": math.inf}, "length"),
    ],
)
def test_bad_options_are_refused_by_name(options, named):
    with pytest.raises(ValueError, match=named):
        TaylorGreen(**options)
