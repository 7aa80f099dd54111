"""Recovery of parameters: by hand, coverage, properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import recovery_report
from torch.testing import assert_close

BOUNDS = torch.tensor([[0.0, 10.0], [-1.0, 1.0]])
NAMES = ("depth", "volume")


def report(estimate, truth, **options):
    return recovery_report(estimate, truth, **{"names": NAMES, "bounds": BOUNDS, **options})


def test_by_hand():
    truth = torch.tensor([[1.0, 0.0], [3.0, 0.5], [5.0, 1.0]])
    estimate = truth + torch.tensor([[1.0, 0.5], [1.0, 0.0], [1.0, -0.5]])
    got = report(estimate, truth, sd=torch.tensor([[0.61, 0.3], [0.6, 0.3], [0.61, 0.31]]))
    # errors 1, 1, 1 of spread 8; 0.5, 0, −0.5 of spread 0.5
    assert_close(got.r2, torch.tensor([1 - 3 / 8, 0.0]).double())
    assert_close(got.rmse, torch.tensor([1.0, math.sqrt(0.5 / 3)]).double())
    assert_close(got.relative_rmse, got.rmse / torch.tensor([10.0, 2.0]))
    assert_close(got.bias, torch.tensor([1.0, 0.0]).double())
    # 1.645 sd: 1.003, 0.987, 1.003; 0.4935, 0.4935, 0.51
    assert_close(got.coverage, torch.tensor([2 / 3, 2 / 3]).double())
    assert got.names == NAMES
    assert report(estimate, truth).coverage is None


def test_a_perfect_and_a_constant_estimate(fields):
    truth = fields(0, 50, 2)
    assert report(truth, truth).r2.tolist() == [1.0, 1.0]
    mean = truth.mean(0).expand(50, 2)
    assert_close(report(mean, truth).r2, torch.zeros(2).double())
    assert_close(report(mean, truth).rmse, truth.std(0, correction=0))


def test_an_honest_spread_covers_ninety_percent(fields):
    truth, sd = fields(0, 40_000, 2), torch.tensor([0.3, 2.0], dtype=torch.float64)
    got = report(truth + sd * fields(1, 40_000, 2), truth, sd=sd.expand(40_000, 2))
    # standard error √(0.09/40000) = 0.0015
    assert_close(got.coverage, torch.tensor([0.9, 0.9]).double(), rtol=0, atol=0.006)


@given(seed=st.integers(0, 2**31 - 1), factor=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_units_do_not_matter(fields, seed, factor, shift):
    truth, estimate = fields(seed, 9, 2), fields(seed + 1, 9, 2)
    scaled = recovery_report(
        factor * estimate + shift,
        factor * truth + shift,
        names=NAMES,
        bounds=factor * BOUNDS.double() + shift,
    )
    plain = report(estimate, truth)
    assert_close(scaled.r2, plain.r2, rtol=1e-7, atol=1e-7)
    assert_close(scaled.relative_rmse, plain.relative_rmse, rtol=1e-6, atol=1e-9)
    assert_close(scaled.bias, factor * plain.bias, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("shapes", "options", "says"),
    [
        (((3, 2), (3, 1)), {}, r"shapes \(3, 2\) and \(3, 1\), expected \(sample, 2\) for depth"),
        (((1, 2), (1, 2)), {}, "need at least 2 samples"),
        (((3, 2), (3, 2)), {"sd": torch.zeros(3, 1)}, r"sd has shape \(3, 1\)"),
        (((3, 2), (3, 2)), {"bounds": BOUNDS.flip(1)}, "bounds need low < high"),
        (((3, 2), (3, 2)), {"bounds": BOUNDS[:1]}, "bounds need low < high"),
    ],
)
def test_refuses(shapes, options, says):
    with pytest.raises(ValueError, match=says):
        report(*map(torch.zeros, shapes), **options)
