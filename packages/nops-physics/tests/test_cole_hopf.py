"""ColeHopf: published values, the equation itself, and viscosities where a transform fails."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import ColeHopf
from torch.testing import assert_close


def sine(x):
    return torch.sin(2 * math.pi * x)


def integral(x):
    return -torch.cos(2 * math.pi * x) / (2 * math.pi)


def of(*values):
    return torch.tensor(values, dtype=torch.float64)


GOLDEN = {
    (0.01, 0.1): of(0.3737813128, 0.8384373180, 0.8778750613, 0.5881000425),
    (0.01, 0.5): of(0.1496433702, 0.3716071240, 0.5844345724, 0.6145348970),
    (0.05, 0.5): of(0.1312094958, 0.2919159571, 0.2537182186, 0.1460652490),
}


@pytest.mark.parametrize("antiderivative", [None, integral])
@pytest.mark.parametrize("case", GOLDEN)
def test_golden(case, antiderivative):
    viscosity, time = case
    exact = ColeHopf(sine, viscosity=viscosity, integral=antiderivative)
    assert_close(exact(of(0.1, 0.25, 0.4, 0.45), time), GOLDEN[case], rtol=0, atol=6e-11)


def test_the_classic_case():
    """-sin(pi x) on [-1, 1], viscosity 0.01/pi: values of four points, steepest slope at 0."""
    exact = ColeHopf.classic()
    found = exact(of(0.5, 0.25, 0.05, 0.01), of(0.25, 0.5, 0.5, 1.0))
    assert_close(found, of(-0.80319842, -0.84735452, -0.97898218, -0.59425617), rtol=0, atol=6e-9)
    x = of(0.0).requires_grad_()
    (slope,) = torch.autograd.grad(exact(x, 1.6037 / math.pi).sum(), x)
    assert slope.item() == pytest.approx(-152.00516, abs=1e-5)
    assert_close(exact(of(-0.3, 0.4), 0.0), -torch.sin(math.pi * of(-0.3, 0.4)), rtol=0, atol=1e-15)
    series = ColeHopf(exact.u0, viscosity=exact.viscosity, length=2.0)
    points = torch.linspace(-1, 1, 21).double()
    assert_close(series(points, 0.7), exact(points, 0.7), rtol=0, atol=1e-12)


@given(time=st.floats(0.01, 2), viscosity=st.floats(5e-3, 0.1), mean=st.floats(-1, 1))
def test_it_solves_the_equation(time, viscosity, mean):
    exact = ColeHopf(
        lambda x: mean + sine(x) + 0.4 * torch.cos(6 * math.pi * x), viscosity=viscosity
    )
    x = torch.linspace(0.05, 0.95, 7).double().requires_grad_()
    t = torch.full((7,), time).double().requires_grad_()
    u = exact(x, t)
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x)
    scale = 1 + u_t.abs().max() + (viscosity * u_xx).abs().max()
    assert (u_t + u * u_x - viscosity * u_xx).abs().max() < 1e-9 * scale


@given(mean=st.floats(-2, 2), time=st.floats(0, 1))
def test_a_mean_moves_the_frame(mean, time):
    x = torch.linspace(0, 1, 5).double()
    still = ColeHopf(sine, viscosity=0.02)(x - mean * time, time)
    for antiderivative in (None, lambda x: integral(x) + mean * x):
        moving = ColeHopf(lambda x: sine(x) + mean, viscosity=0.02, integral=antiderivative)
        assert_close(moving(x, time), still + mean, rtol=0, atol=1e-10)


def test_no_digits_are_lost_at_small_viscosity():
    """Before the shock u(x + t u0) = u0 up to the viscosity; (max I - min I) / 2 nu is 1600."""
    exact = ColeHopf(sine, viscosity=1e-4)
    a, t = torch.linspace(-0.2, 0.2, 9).double(), 0.1
    assert_close(exact(a + t * sine(a), t), sine(a), rtol=0, atol=2e-2 * 1e-4 * 400)
    late = exact(torch.linspace(0, 1, 50).double(), torch.tensor([[1.0], [20.0]]))
    assert late.isfinite().all()
    # a saw tooth of slope 1 / t about 0, half a period wide
    assert exact(of(0.2), 20.0).item() == pytest.approx(0.2 / 20, rel=1e-2)


def test_small_amplitudes_decay_as_heat():
    exact = ColeHopf(lambda x: 1e-6 * sine(x), viscosity=0.05)
    x = torch.linspace(0, 1, 5).double()
    expected = 1e-6 * math.exp(-0.05 * 4 * math.pi**2 * 0.5) * sine(x)
    assert_close(exact(x, 0.5), expected, rtol=0, atol=1e-11)


def test_shapes_types_and_constants():
    exact = ColeHopf(sine, viscosity=0.05)
    found = exact(torch.rand(3, 1), torch.rand(4))
    assert (found.shape, found.dtype) == ((3, 4), torch.float32)
    level = ColeHopf(lambda x: torch.full_like(x, 0.25), viscosity=0.05)
    assert_close(level(of(0.3), 0.4), of(0.25), rtol=0, atol=1e-14)
    rest = ColeHopf(torch.zeros_like, viscosity=0.05)
    assert_close(rest(of(0.3), 0.4), of(0.0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("options", [{"viscosity": 0.0}, {"viscosity": 0.1, "length": -1.0}])
def test_bad_options_are_refused_by_name(options):
    with pytest.raises(ValueError, match=list(options)[-1]):
        ColeHopf(sine, **options)


def test_bad_calls_are_refused():
    with pytest.raises(ValueError, match="times need to be finite and at least 0"):
        ColeHopf(sine, viscosity=0.1)(of(0.0), -0.1)
    with pytest.raises(ValueError, match="finite value for each position"):
        ColeHopf(torch.log, viscosity=0.1)(of(0.0), 0.1)
    with pytest.raises(ValueError, match="finite value for each position"):
        ColeHopf(lambda x: x.sum(), viscosity=0.1)(of(0.0), 0.1)
    with pytest.raises(ValueError, match=r"u0 is not smooth enough .* as integral"):
        ColeHopf(lambda x: torch.sign(sine(x)), viscosity=0.1)(of(0.0), 0.1)
    with pytest.raises(ValueError, match="integral is no antiderivative of u0"):
        ColeHopf(sine, viscosity=0.1, integral=lambda x: -integral(x))(of(0.0), 0.1)
