"""Residuals: zero for closed solutions, by hand for others, and a graph that losses go through."""

import math

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import (
    allen_cahn_residual,
    burgers_residual,
    gradient,
    heat_residual,
    helmholtz_residual,
    kovasznay_residual,
    laplacian,
    partial,
    poisson_residual,
    wave_residual,
)
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def points(seed, axes, *, n=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, axes, generator=generator, dtype=torch.float64).requires_grad_()


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


class TestDerivatives:
    def test_by_hand(self):
        """y = a^2 b^3 at (2, 3) and (1, -1): y_a, y_b, y_ab, y_aab, and y_aa + y_bb."""
        x = torch.tensor([[2.0, 3.0], [1.0, -1.0]], dtype=torch.float64, requires_grad=True)
        y = (x[:, 0] ** 2 * x[:, 1] ** 3)[:, None]
        expected = torch.tensor([[108.0, 108.0], [-2.0, 3.0]], dtype=torch.float64)
        assert_close(gradient(y, x), expected)
        assert_close(partial(y, x, 0, 1), column(108.0, 6.0))
        assert_close(partial(y, x, 0, 0, -1), column(54.0, 6.0))
        assert_close(laplacian(y, x), column(54.0 + 72.0, -2.0 - 6.0))
        assert_close(laplacian(y, x, [1]), column(72.0, -6.0))

    def test_a_line_has_no_second_derivative(self):
        x = points(0, 2)
        y = 3 * x[:, :1] + 1
        assert_close(partial(y, x, 0), torch.full((7, 1), 3.0, dtype=torch.float64))
        assert not partial(y, x, 0, 0).any()
        assert not laplacian(y, x).any()

    def test_the_graph_is_kept(self):
        """d/dw of mean((w^2 sin(w x))''): -(4 w^3 sin + w^4 x cos), through three derivatives."""
        x, w = points(1, 1), torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        bend = partial(w**2 * torch.sin(w * x), x, 0, 0)
        (found,) = torch.autograd.grad(bend.mean(), w)
        expected = -(4 * w**3 * torch.sin(w * x) + w**4 * x * torch.cos(w * x)).mean()
        assert_close(found, expected.detach())
        assert partial(w**2 * torch.sin(w * x), x, 0).requires_grad

    def test_half_precision_is_computed_in_float32(self):
        x = torch.rand(4, 2, dtype=torch.bfloat16).requires_grad_()
        found = burgers_residual(x[:, :1] * x[:, 1:], x, nu=0.1)
        assert found.dtype == torch.float32

    def test_refusals(self, monkeypatch):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        x = points(2, 2)
        y = x.square().sum(1, keepdim=True)
        with pytest.raises(ValueError, match="not computed from this x"):
            gradient(y, x.detach().clone().requires_grad_())
        with pytest.raises(ValueError, match="requires_grad_"):
            gradient(y.detach(), x)
        with pytest.raises(ValueError, match=r"\(7,\) and \(7, 2\)"):
            gradient(y[:, 0], x)
        with pytest.raises(ValueError, match="which has 2; got \\(2,\\)"):
            partial(y, x, 2)
        with pytest.raises(ValueError, match="dims name columns"):
            partial(y, x)
        with pytest.raises(TypeError, match="floating-point"):
            gradient(torch.ones(7, 1, dtype=torch.int64), x)


def heat_wave(xt, a):
    return torch.exp(-a * math.pi**2 * xt[:, 1:]) * torch.sin(math.pi * xt[:, :1])


class TestZeroForSolutions:
    @given(seed=seeds, nu=st.floats(0.02, 1))
    def test_burgers(self, seed, nu):
        """The travelling front 1 - tanh((x - t) / (2 nu))."""
        xt = points(seed, 2)
        u = 1 - torch.tanh((xt[:, :1] - xt[:, 1:]) / (2 * nu))
        assert burgers_residual(u, xt, nu=nu).abs().max() < 1e-12 / nu

    @given(seed=seeds, a=st.floats(0, 2))
    def test_heat(self, seed, a):
        xt = points(seed, 2)
        assert heat_residual(heat_wave(xt, a), xt, a=a).abs().max() < 1e-12

    def test_heat_in_the_plane_with_a_source(self):
        """u = t x^2 y, u_t = x^2 y, lap u = 2 t y."""
        xyt = points(3, 3)
        x, y, t = xyt.split(1, dim=1)
        source = (x**2 * y - 0.3 * 2 * t * y).detach()
        assert heat_residual(t * x**2 * y, xyt, a=0.3, source=source).abs().max() < 1e-14

    @given(seed=seeds, c=st.floats(0.1, 3), k=st.floats(0, 1))
    def test_wave(self, seed, c, k):
        """exp(-k t / 2) sin(w t) sin(pi x) with w^2 = c^2 pi^2 - k^2 / 4, or its growth if below."""
        xt = points(seed, 2)
        square = torch.tensor(c**2 * math.pi**2 - k**2 / 4, dtype=torch.complex128).sqrt()
        swing = (torch.sin(square * xt[:, 1:]) / square).real
        u = torch.exp(-k / 2 * xt[:, 1:]) * swing * torch.sin(math.pi * xt[:, :1])
        assert wave_residual(u, xt, c=c, k=k).abs().max() < 1e-11

    @given(seed=seeds, k=st.floats(0, 5), axes=st.integers(1, 3))
    def test_helmholtz_and_poisson(self, seed, k, axes):
        x = points(seed, axes)
        u = torch.sin(2 * x).prod(1, keepdim=True)
        source = (k**2 - 4 * axes) * u.detach()
        assert helmholtz_residual(u, x, k=k, source=source).abs().max() < 1e-12
        assert poisson_residual(u, x, source=4 * axes * u.detach()).abs().max() < 1e-12

    @given(seed=seeds, d=st.floats(1e-2, 1), r=st.floats(0.5, 5))
    def test_allen_cahn(self, seed, d, r):
        """The front (1 + tanh(q (x + s t))) / 2 between 0 and 1, with 8 d q^2 = r, s = 3 r / (4 q)."""
        xt = points(seed, 2)
        q = math.sqrt(r / (8 * d))
        u = (1 + torch.tanh(q * (xt[:, :1] + 3 * r / (4 * q) * xt[:, 1:]))) / 2
        assert allen_cahn_residual(u, xt, d=d, r=r).abs().max() < 1e-12 * r

    @given(seed=seeds, re=st.floats(1, 100))
    def test_kovasznay(self, seed, re):
        xy = points(seed, 2)
        x, y = xy.split(1, dim=1)
        decay = re / 2 - math.sqrt(re**2 / 4 + 4 * math.pi**2)
        u = 1 - torch.exp(decay * x) * torch.cos(2 * math.pi * y)
        v = decay / (2 * math.pi) * torch.exp(decay * x) * torch.sin(2 * math.pi * y)
        p = (1 - torch.exp(2 * decay * x)) / 2
        found = kovasznay_residual(torch.cat((u, v, p), dim=1), xy, nu=1 / re)
        assert list(found) == ["momentum_x", "momentum_y", "divergence"]
        assert all(part.abs().max() < 1e-10 for part in found.values())  # terms of about 100


class TestByHand:
    """Fields that solve nothing, so that each term is seen with its sign."""

    def test_of_one_axis(self):
        """u = x^2 t at (2, 3): u = 12, u_t = 4, u_x = 12, u_xx = 6, u_tt = 0."""
        xt = torch.tensor([[2.0, 3.0]], dtype=torch.float64, requires_grad=True)
        u = (xt[:, 0] ** 2 * xt[:, 1])[:, None]
        assert burgers_residual(u, xt, nu=0.5).item() == 4 + 144 - 3
        assert heat_residual(u, xt, a=0.5, source=2.0).item() == 4 - 3 - 2
        assert wave_residual(u, xt, c=2.0, k=3.0, source=1.0).item() == 0 + 12 - 24 - 1
        assert allen_cahn_residual(u, xt, d=0.5, r=2.0).item() == 4 - 3 - 2 * (12 - 1728)
        assert helmholtz_residual(u, xt, k=2.0, source=1.0).item() == 6 + 48 - 1
        assert poisson_residual(u, xt, source=1.0).item() == -6 - 1

    def test_flow(self):
        """u = x y, v = x, p = x^2 + y at (2, 3): each term of the three equations."""
        xy = torch.tensor([[2.0, 3.0]], dtype=torch.float64, requires_grad=True)
        x, y = xy.split(1, dim=1)
        found = kovasznay_residual(torch.cat((x * y, x, x**2 + y), dim=1), xy, nu=0.5)
        assert found["momentum_x"].item() == 6 * 3 + 2 * 2 + 4  # u u_x + v u_y + p_x
        assert found["momentum_y"].item() == 6 * 1 + 2 * 0 + 1
        assert found["divergence"].item() == 3
        found = kovasznay_residual(torch.cat((x**2, y**2 * x, x), dim=1), xy, nu=0.5)
        assert found["momentum_x"].item() == 4 * 4 + 18 * 0 + 1 - 0.5 * 2
        assert found["momentum_y"].item() == 4 * 9 + 18 * 12 + 0 - 0.5 * 4


def test_coefficients_get_gradients_and_may_differ_by_point():
    xt = points(4, 2)
    u = xt[:, :1] ** 2 * xt[:, 1:]
    nu = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(burgers_residual(u, xt, nu=nu).sum(), nu)
    assert_close(found, -2 * xt[:, 1].detach().sum())
    each = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    expected = torch.cat([heat_residual(u, xt, a=float(a))[i, None] for i, a in enumerate(each)])
    assert_close(heat_residual(u, xt, a=each), expected)


@pytest.mark.parametrize("residual", [burgers_residual, heat_residual, wave_residual])
def test_gradcheck(residual):
    xt = points(5, 2, n=2)
    key = {burgers_residual: "nu", heat_residual: "a", wave_residual: "c"}[residual]

    def of(weight, coefficient):
        u = torch.sin(weight * xt[:, :1]) * torch.exp(-weight * xt[:, 1:])
        return residual(u, xt, **{key: coefficient})

    values = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.7, 0.4))
    assert torch.autograd.gradcheck(of, tuple(values))


def test_refusals(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    xt = points(6, 2)
    u = xt.square().sum(1, keepdim=True)
    with pytest.raises(ValueError, match="source is a number, one value, or one per point"):
        poisson_residual(u, xt, source=torch.ones(7))
    with pytest.raises(ValueError, match="with 2 columns: space, then time"):
        burgers_residual(u, points(6, 3), nu=0.1)
    with pytest.raises(ValueError, match="with at least 2 columns"):
        heat_residual(u, xt[:, :1], a=0.1)
    with pytest.raises(ValueError, match="uvp and the points"):
        kovasznay_residual(u, xt, nu=0.1)
