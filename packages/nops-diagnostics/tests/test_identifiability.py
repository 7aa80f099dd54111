"""Identifiability: closed forms of a linear model, and the estimator that attains the bound."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import identifiability
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def linear(matrix):
    return lambda z: z.to(matrix) @ matrix.mT + 3


def unit(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_by_hand():
    matrix = torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]], dtype=torch.float64)
    got = identifiability(linear(matrix), unit(0, 5, 2), noise=0.1, names=("depth", "volume"))
    # F = diag(4, ¼)/0.01
    assert_close(got.fisher, torch.diag(torch.tensor([400.0, 25.0])).double().expand(5, 2, 2))
    expected = torch.tensor([412.0, 37.0], dtype=torch.float64)
    assert_close(got.sd, expected.rsqrt().expand(5, 2))
    assert_close(got.attainable_r2, 1 - 12 / expected)
    assert got.condition == pytest.approx(16)
    assert got.weakest == pytest.approx({"depth": 0.0, "volume": 1.0})


@given(seed=seeds)
def test_a_covariance_mixes_what_it_should(fields, seed):
    matrix, root = fields(seed, 4, 3), fields(seed + 1, 4, 4)
    covariance = root @ root.mT + 0.1 * torch.eye(4)
    got = identifiability(linear(matrix), unit(seed, 3, 3), noise=covariance)
    fisher = matrix.mT @ torch.linalg.inv(covariance) @ matrix
    assert_close(got.fisher, fisher.expand(3, 3, 3), rtol=1e-7, atol=1e-7)
    sd = torch.linalg.inv(fisher + 12 * torch.eye(3)).diagonal().sqrt()
    assert_close(got.sd, sd.expand(3, 3), rtol=1e-7, atol=0)
    values = torch.linalg.eigvalsh(fisher)
    assert got.condition == pytest.approx((values[-1] / values[0]).item(), rel=1e-5)


@given(seed=seeds)
def test_one_noise_per_output(fields, seed):
    matrix, sd = fields(seed, 4, 2), 0.1 + unit(seed, 4)
    one = identifiability(linear(matrix), unit(seed, 3, 2), noise=sd)
    other = identifiability(linear(matrix), unit(seed, 3, 2), noise=torch.diag(sd.square()))
    assert_close(one.fisher, other.fisher, rtol=1e-9, atol=1e-9)
    alike = identifiability(linear(matrix), unit(seed, 3, 2), noise=torch.full((4,), 0.3).double())
    assert_close(alike.fisher, identifiability(linear(matrix), unit(seed, 3, 2), noise=0.3).fisher)


def test_the_bound_is_attained(fields):
    matrix = torch.tensor([[1.0, 0.9], [0.5, 0.6], [0.2, -0.1]], dtype=torch.float64)
    got = identifiability(linear(matrix), unit(0, 4, 2), noise=0.2)
    z = 0.5 + math.sqrt(1 / 12) * fields(1, 200_000, 2)
    x = z @ matrix.mT + 0.2 * fields(2, 200_000, 3)
    # the posterior mean of a normal prior with the uniform's moments
    gain = torch.linalg.solve(matrix.mT @ matrix / 0.04 + 12 * torch.eye(2), matrix.mT / 0.04)
    estimate = 0.5 + (x - 0.5 * matrix.sum(1)) @ gain.mT
    r2 = 1 - (estimate - z).square().mean(0) / z.var(0)
    assert_close(r2, got.attainable_r2, rtol=0, atol=0.005)


def test_a_curved_model(fields):
    def decode(z):
        return torch.stack([z[:, 0].square(), z[:, 0] * z[:, 1]], 1)

    z = unit(3, 6, 2)
    got = identifiability(decode, z, noise=0.5)
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(decode, r[None])[0, :, 0] for r in z]
    )
    assert_close(got.fisher, 4 * jacobian.mT @ jacobian)
    assert_close(got.attainable_r2, 1 - 12 * got.sd.square().mean(0))


def test_what_leaves_no_trace():
    matrix = torch.tensor([[1.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    got = identifiability(linear(matrix), unit(0, 3, 2), noise=0.01)
    assert got.condition == math.inf
    assert abs(got.weakest["z0"]) == pytest.approx(math.sqrt(0.5))
    assert got.weakest["z0"] == pytest.approx(-got.weakest["z1"])
    # the sum is known, the difference is not: half of each one's variance is left
    assert_close(got.attainable_r2, torch.full((2,), 0.5).double(), rtol=0, atol=1e-4)
    nothing = identifiability(lambda z: 0 * z, unit(0, 3, 2), noise=1.0)
    assert_close(nothing.sd, torch.full((3, 2), math.sqrt(1 / 12)).double())
    assert_close(nothing.attainable_r2, torch.zeros(2).double())


def test_it_works_without_gradients_around_and_in_float32():
    matrix = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    with torch.no_grad():
        got = identifiability(linear(matrix), unit(0, 5, 2).float(), noise=0.1)
    assert got.fisher.dtype == torch.float64
    assert_close(got.condition, 16.0, rtol=1e-5, atol=0)


@pytest.mark.usefixtures("unchecked")
def test_refuses_one_sample_without_its_axis():
    with pytest.raises(ValueError, match=r"z has shape \(2,\), expected \(sample, 2\) for z0, z1"):
        identifiability(linear(torch.ones(3, 2).double()), unit(0, 4, 2)[0], noise=1.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise": 0.0}, "noise must be positive and finite, got 0"),
        (
            {"noise": torch.ones(4)},
            r"noise has shape \(4,\), expected a number, \(3,\) or \(3, 3\)",
        ),
        (
            {"noise": torch.eye(2)},
            r"noise has shape \(2, 2\), expected a number, \(3,\) or \(3, 3\)",
        ),
        ({"noise": -torch.eye(3)}, "must be symmetric and positive definite"),
        ({"noise": torch.eye(3) + torch.ones(3, 3).tril(-1) / 2}, "must be symmetric"),
        ({"names": ("a",)}, r"z has shape \(4, 2\), expected \(sample, 1\) for a"),
        ({"decode": lambda z: z.sum(0, keepdim=True)}, r"decode gave \(1, 2\), expected \(4,"),
        ({"decode": lambda z: z / 0}, "not finite"),
    ],
)
def test_refuses(options, says):
    options = {"decode": linear(torch.ones(3, 2).double()), "noise": 1.0, **options}
    with pytest.raises(ValueError, match=says):
        identifiability(options.pop("decode"), unit(0, 4, 2), **options)
