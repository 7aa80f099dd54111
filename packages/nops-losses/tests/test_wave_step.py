"""The Runge-Kutta step, and residuals of a string's step: zero for the integrator they name."""

import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import rk4_step, wave_step_residuals

SCHEMES = ("rk4", "semi_implicit", "trapezoidal", "euler")
N, DT, C, K = 12, 0.02, 1.5, 0.7
DX = 1 / (N - 1)


def matrix():
    """A of y' = A y + (0, f) on the inner nodes, y = (u, v), written afresh."""
    m = N - 2
    bend = (torch.diag(torch.full((m,), -2.0)) + torch.diag(torch.ones(m - 1), 1)).double()
    bend = (bend + torch.diag(torch.ones(m - 1), -1)) / DX**2
    full = torch.zeros(2 * m, 2 * m, dtype=torch.float64)
    full[:m, m:], full[m:, :m] = torch.eye(m), C**2 * bend
    full[m:, m:] = -K * torch.eye(m, dtype=torch.float64)
    return full


def advanced(scheme, y, force):
    """One step by matrices."""
    a, m = matrix(), N - 2
    one = torch.eye(2 * m, dtype=torch.float64)
    if scheme == "euler":
        return y + DT * (a @ y + force)
    if scheme == "trapezoidal":
        return torch.linalg.solve(one - DT / 2 * a, (one + DT / 2 * a) @ y + DT * force)
    if scheme == "semi_implicit":
        v = (y + DT * (a @ y + force))[m:]
        return torch.cat((y[:m] + DT * v, v))
    z = DT * a
    growth = one + z @ (one + z / 2 @ (one + z / 3 @ (one + z / 4)))
    gained = one + z / 2 @ (one + z / 3 @ (one + z / 4))
    return growth @ y + DT * gained @ force


def state(fields, seed):
    u, v, f = fields(seed, 3, N)
    u[[0, -1]] = v[[0, -1]] = 0.0
    return u, v, f


def whole(y):
    return (torch.nn.functional.pad(part, (1, 1)) for part in y.chunk(2))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_zero_for_the_step_of_the_scheme_and_for_no_other(scheme, fields):
    u, v, f = state(fields, 1)
    y, force = torch.cat((u[1:-1], v[1:-1])), torch.cat((torch.zeros(N - 2).double(), f[1:-1]))
    u_next, v_next = whole(advanced(scheme, y, force))
    physics = {"dt": DT, "dx": DX, "c": C, "k": K}
    for other in SCHEMES:
        r1, r2 = wave_step_residuals(u, v, f, u_next, v_next, scheme=other, **physics)
        assert r1.shape == r2.shape == (N - 2,)
        worst = max(r1.abs().max(), r2.abs().max())
        assert (worst < 1e-11) == (other == scheme)


def test_signs_by_hand():
    """Three nodes: u = 1, v = 2, f = 3, next 5 and 7; dt = 0.1, dx = 0.5: Lu = -8, Lu' = -40."""
    u, v, f, u_next, v_next = (torch.tensor([0.0, x, 0.0]).double() for x in (1, 2, 3, 5, 7))
    physics = {"dt": 0.1, "dx": 0.5, "c": 2.0, "k": 0.5}

    def found(scheme, **options):
        given = wave_step_residuals(u, v, f, u_next, v_next, scheme=scheme, **physics, **options)
        return [part.item() for part in given]

    rate = 4 * -8 - 0.5 * 2 + 3
    assert found("euler") == pytest.approx([1 + 0.2 - 5, 7 - 2 - 0.1 * rate])
    assert found("semi_implicit") == pytest.approx([1 + 0.7 - 5, 7 - 2 - 0.1 * rate])
    last = 4 * -40 - 0.5 * 7 + 3
    mean = [1 + 0.45 - 5, 7 - 2 - 0.05 * (rate + last)]
    assert found("trapezoidal") == pytest.approx(mean)
    mean[1] -= 0.05 * (9 - 3)
    assert found("trapezoidal", f_next=torch.full((3,), 9.0).double()) == pytest.approx(mean)


@given(seed=st.integers(0, 2**31 - 1))
def test_the_optimum_of_free_output_lies_between_the_integrators(seed):
    """w1 mean r1^2 + w3 mean (u' - u_RK)^2 is least at (w1 u_E + w3 u_RK) / (w1 + w3)."""
    generator = torch.Generator().manual_seed(seed)
    u, v, f = torch.randn(3, 4, N, generator=generator, dtype=torch.float64)
    for part in (u, v):
        part[:, [0, -1]] = 0.0
    zero, physics = torch.zeros_like(u), {"dt": DT, "dx": DX, "c": C, "k": K}
    u_rk, _ = wave_step_residuals(u, v, f, zero, zero, scheme="rk4", **physics)
    w1, w3 = 3.0, 1.7
    best = (w1 * (u + DT * v)[:, 1:-1] + w3 * u_rk) / (w1 + w3)
    free = torch.nn.functional.pad(best, (1, 1)).requires_grad_()

    def total(u_next):
        pi, _ = wave_step_residuals(u, v, f, u_next, zero, scheme="euler", **physics)
        rk, _ = wave_step_residuals(u, v, f, u_next, zero, scheme="rk4", **physics)
        return w1 * pi.square().mean() + w3 * rk.square().mean()

    (slope,) = torch.autograd.grad(total(free), free)
    assert slope.abs().max() < 1e-12
    assert total(free + 0.01) > total(free)


def test_rk4_step_by_hand_and_its_order():
    """One step of y' = -y, h = 0.1: 1 - h + h^2/2 - h^3/6 + h^4/24; then y' = t y to order 4."""
    y = torch.ones((), dtype=torch.float64)
    assert rk4_step(lambda y: -y, y, dt=0.1).item() == pytest.approx(0.9048375, abs=1e-15)

    def error(n):
        value = y
        for i in range(n):
            value = rk4_step(lambda t, y: t * y, value, dt=1 / n, t=i / n)
        return abs(value.item() - math.exp(0.5))

    assert math.log2(error(16) / error(32)) == pytest.approx(4, abs=0.1)


def test_rk4_step_of_a_tuple_is_that_of_one_mode_of_the_string():
    """One step of 0.01 from (1, 0) with k = 1 and the squared frequency 9.868776."""
    square = (2 * 99 * math.sin(math.pi / 198)) ** 2
    one = torch.ones((), dtype=torch.float64)
    u, v = rk4_step(lambda y: (y[1], -square * y[0] - y[1]), (one, 0 * one), dt=0.01)
    assert u.item() == pytest.approx(0.99950824, abs=5e-9)
    assert v.item() == pytest.approx(-0.09817981, abs=5e-9)


def test_gradients_flow_into_state_and_prediction(fields):
    tensors = [part.requires_grad_() for part in fields(3, 5, 5)]

    def of(*tensors):
        return torch.cat(wave_step_residuals(*tensors, dt=0.1, dx=0.3, scheme="trapezoidal"))

    assert torch.autograd.gradcheck(of, tensors)


def test_refusals(monkeypatch, fields):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    u = fields(0, 6)
    physics = {"dt": 0.1, "dx": 0.2}
    with pytest.raises(ValueError, match="scheme='leapfrog' is unknown"):
        wave_step_residuals(u, u, u, u, u, scheme="leapfrog", **physics)
    with pytest.raises(ValueError, match=r"u and v_next need one shape, got \(6,\) and \(5,\)"):
        wave_step_residuals(u, u, u, u, u[1:], **physics)
    with pytest.raises(ValueError, match="f_next is for scheme='trapezoidal'"):
        wave_step_residuals(u, u, u, u, u, scheme="euler", f_next=u, **physics)
    with pytest.raises(ValueError, match="at least 3 nodes"):
        wave_step_residuals(u[:2], u[:2], u[:2], u[:2], u[:2], **physics)
    with pytest.raises(ValueError, match=r"rhs gives shapes \[\(5,\)\], but y has \[\(6,\)\]"):
        rk4_step(lambda y: y[1:], u, dt=0.1)
