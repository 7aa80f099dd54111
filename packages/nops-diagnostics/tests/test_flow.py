"""Energy, enstrophy and divergence: closed forms on any grid, and drift against the truth."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import flow_drift, flow_quantities
from torch.testing import assert_close

TURN = 2 * math.pi


def grid(*sizes, lengths):
    axes = [
        torch.arange(n, dtype=torch.float64) * (length / n)
        for n, length in zip(sizes, lengths, strict=True)
    ]
    return torch.meshgrid(*axes, indexing="ij")


@pytest.mark.parametrize("sizes", [(16, 8), (9, 15), (7, 12)])
def test_a_field_of_vortices(sizes):
    lengths = (4.0, 3.0)
    a, b = TURN / 4.0, TURN / 3.0
    x, y = grid(*sizes, lengths=lengths)
    velocity = torch.stack([b * (a * x).cos() * (b * y).sin(), -a * (a * x).sin() * (b * y).cos()])
    got = flow_quantities(velocity, lengths=lengths)
    # the stream function -cos(ax) cos(by): energy (a^2 + b^2)/8, vorticity (a^2 + b^2) of it
    both = a * a + b * b
    assert_close(got.energy.item(), both / 8)
    assert_close(got.enstrophy.item(), both**2 / 8)
    assert got.divergence.item() < 1e-13


def test_a_field_of_sources():
    x, y = grid(12, 9, lengths=(TURN, TURN))
    velocity = torch.stack([(2 * x).sin(), (3 * y).sin()])
    got = flow_quantities(velocity)
    assert got.enstrophy.item() < 1e-28
    # divergence 2 cos 2x + 3 cos 3y
    assert_close(got.divergence.item(), math.sqrt(4 / 2 + 9 / 2))
    assert_close(got.energy.item(), 0.5)


def test_three_dimensions():
    x, y, z = grid(8, 9, 10, lengths=(TURN,) * 3)
    zero = torch.zeros_like(x)
    velocity = torch.stack([(2 * y).sin(), (3 * z).sin(), x.sin() + 2 * z.sin()])
    got = flow_quantities(velocity, spatial_dims=3)
    # curl = (-3 cos 3z, -cos x, -2 cos 2y), divergence 2 cos z
    assert_close(got.enstrophy.item(), 0.5 * (9 + 1 + 4) / 2)
    assert_close(got.divergence.item(), math.sqrt(2))
    shear = torch.stack([zero, zero, (2 * x).sin()])
    assert_close(flow_quantities(shear, spatial_dims=3).enstrophy.item(), 0.5 * 4 / 2)


@given(seed=st.integers(0, 2**31 - 1), odd=st.booleans())
def test_squares_of_all_derivatives_are_those_of_curl_and_divergence(fields, seed, odd):
    sizes = (9, 7) if odd else (8, 6)
    velocity = fields(seed, 2, 2, *sizes)
    got = flow_quantities(velocity, lengths=(2.0, 5.0))
    waves = torch.fft.fft2(velocity, norm="forward")
    total = 0.0
    for axis, (n, length) in enumerate(zip(sizes, (2.0, 5.0), strict=True)):
        k = torch.fft.fftfreq(n, d=length / (TURN * n), dtype=torch.float64)
        k = torch.where(k.abs() == k.abs().max(), 0.0, k) if n % 2 == 0 else k
        k = k.view(-1, 1) if axis == 0 else k
        total = total + (k * waves).abs().square().sum((1, 2, 3))
    assert_close(2 * got.enstrophy + got.divergence.square(), total, rtol=1e-12, atol=0)
    assert_close(got.energy, 0.5 * velocity.square().sum(1).mean((1, 2)))


def test_drift_by_hand(fields):
    x, y = grid(8, 8, lengths=(TURN, TURN))
    target = torch.stack([y.sin(), torch.zeros_like(x)])[None, None].expand(1, 2, 2, 8, 8)
    pred = target.clone()
    pred[:, 1] = torch.stack([2 * y.sin() + x.sin(), torch.zeros_like(x)])
    got = flow_drift(pred, target)
    assert_close(got.energy, torch.tensor([[0.0, 4.0]]), check_dtype=False)  # (4 + 1)/1 - 1
    assert_close(got.enstrophy, torch.tensor([[0.0, 3.0]]), check_dtype=False)
    assert_close(got.divergence, torch.tensor([[0.0, 1.0]]), check_dtype=False)


def test_units_and_short_types(fields):
    pred, target = fields(0, 3, 4, 2, 8, 8), fields(1, 3, 4, 2, 8, 8)
    one = flow_drift(pred, target, lengths=(1.0, 1.0))
    two = flow_drift(5 * pred, 5 * target, lengths=(3.0, 3.0))
    for left, right in zip(one, two, strict=True):
        assert left.shape == (3, 4)
        assert_close(left, right)
    short = flow_quantities(target.half())
    assert_close(short, flow_quantities(target.half().double()), rtol=0, atol=0)


def test_gradient(fields):
    target = fields(2, 1, 2, 4, 5)
    pred = fields(3, 1, 2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: tuple(flow_drift(p, target)), (pred,))


def test_what_is_not_finite_shows(fields):
    field = fields(4, 2, 3, 2, 8, 8)
    broken = field.clone()
    broken[1, 2, 0, 0, 0] = math.nan
    got = flow_drift(broken, field)
    assert got.energy[1, 2].isnan()
    assert got.energy[0].abs().max() == 0


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    with pytest.raises(ValueError, match=r"\(3, 8, 8\).*3 channels and spatial_dims=2"):
        flow_quantities(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="1 channels and spatial_dims=1"):
        flow_quantities(torch.zeros(1, 8), spatial_dims=1)
    with pytest.raises(ValueError, match=r"each of 2 axes, got \(1\.0, -1\.0\)"):
        flow_quantities(torch.zeros(2, 8, 8), lengths=(1.0, -1.0))
    with pytest.raises(ValueError, match="one shape"):
        flow_drift(torch.zeros(2, 8, 8), torch.zeros(2, 8, 4))
