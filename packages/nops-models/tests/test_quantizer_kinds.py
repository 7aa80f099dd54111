"""Residual and scalar quantisation."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_models import (
    EMA,
    FiniteScalarQuantizer,
    Gradient,
    ResidualVectorQuantizer,
    StraightThrough,
    VectorQuantizer,
)
from torch.testing import assert_close

STILL = EMA(kmeans_init=False, revive_below=None)


def residual(**options):
    shared = {"num_codes": 8, "update": EMA(revive_below=None), **options}
    return ResidualVectorQuantizer(4, **{"num_quantizers": 3, **shared})


def test_residual_by_hand(place):
    quantizer = ResidualVectorQuantizer(1, num_quantizers=2, num_codes=2, update=STILL).eval()
    place(quantizer.levels[0], [0.0, 3.0])
    place(quantizer.levels[1], [-0.5, 0.5])
    z = torch.tensor([[3.4], [0.2]], requires_grad=True)
    found = quantizer(z)
    assert found.index.tolist() == [[1, 1], [0, 1]]
    assert_close(found.code, torch.tensor([[3.5], [0.5]]))
    assert_close(found.distance, torch.tensor([0.01, 0.09]))
    # level 0: (0.4², 0.2²), level 1: (0.1², 0.3²), means summed
    assert_close(found.commitment_loss, torch.tensor(0.25 * (0.1 + 0.05)))
    # both levels draw the latent: errors 0.4 − 0.1 and 0.2 − 0.3, times 2β/2
    (slope,) = torch.autograd.grad(found.commitment_loss, z)
    assert_close(slope, torch.tensor([[0.075], [-0.025]]))
    assert_close(quantizer.lookup(found.index), found.code)


def test_distortion_never_grows_with_depth(normal):
    z = normal(0, 200, 4).float()
    quantizer = residual(num_quantizers=5)
    distances = [one.distance.mean() for one in quantizer.coarse_to_fine(z)]
    assert all(b < a for a, b in pairwise(distances))
    again = [one.distance.mean() for one in quantizer.eval().coarse_to_fine(z)]
    assert all(b < a for a, b in pairwise(again))
    alone = VectorQuantizer(4, num_codes=8)(z)  # one level is a quantizer
    assert_close(distances[0], alone.distance.mean())


def test_the_estimator_acts_once_on_the_sum(normal):
    quantizer = residual(estimator=StraightThrough())
    z = normal(0, 50, 4).float().requires_grad_()
    found = quantizer(z)
    (gradient,) = torch.autograd.grad(found.code.sum(), z)
    assert_close(gradient, torch.ones_like(z))  # not as often as there are levels


def test_losses_of_all_levels_reach_latent_and_tables(normal):
    quantizer = residual(update=Gradient(), code_dim=2, num_codes=(8, 4, 2))
    found = quantizer(normal(0, 50, 4).float())
    (found.code.square().sum() + found.commitment_loss + found.codebook_loss).backward()
    assert all(p.grad is not None and p.grad.any() for p in quantizer.parameters())
    assert [level.codebook.shape for level in quantizer.levels] == [(8, 2), (4, 2), (2, 2)]


def test_residual_levels_see_no_masked_vector(normal):
    z, mask = normal(0, 6, 10, 4).float(), normal(1, 6, 10) > 0
    one, other = residual(), residual()
    expected = one(z[mask])
    found = other(torch.where(mask[..., None], z, math.nan), mask)
    assert torch.equal(found.index[mask], expected.index)
    assert found.index[~mask].unique().tolist() == [-1]
    assert not found.code[~mask].any()
    assert_close(found.commitment_loss, expected.commitment_loss)
    assert not other.lookup(found.index)[~mask].any()
    for a, b in zip(other.state_dict().values(), one.state_dict().values(), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize(
    ("levels", "value", "code"),
    [(3, 0.6, 1.0), (4, 0.0, 0.0), (4, -0.9, -0.5), (5, 0.6, 0.5), (8, 0.3, 0.25)],
)
def test_scalar_by_hand(levels, value, code):
    # 8 levels: h = 3.5035, o = ½, s = 0.1437; tanh(0.4437)·h − o = 0.96, rounded 1, of ⌊8/2⌋ = 4
    assert FiniteScalarQuantizer([levels])(torch.tensor([value])).code.item() == code


def test_the_index_counts_the_first_component_fastest():
    quantizer = FiniteScalarQuantizer([3, 3])
    found = quantizer(torch.tensor([2.0, -2.0]))
    assert found.code.tolist() == [1.0, -1.0]
    assert found.index == 2  # digits 2 and 0
    assert found.commitment_loss == found.codebook_loss == 0
    assert not quantizer.state_dict()


@pytest.mark.parametrize("levels", [[2], [5, 3], [8, 5, 4]])
def test_scalar_reaches_every_code(levels):
    quantizer = FiniteScalarQuantizer(levels)
    codes = quantizer.codebook
    assert len(codes.unique(dim=0)) == quantizer.num_codes == math.prod(levels)
    assert codes.abs().max() <= 1
    grid = torch.cartesian_prod(*[torch.linspace(-4, 4, 61)] * len(levels)).view(-1, len(levels))
    found = quantizer(grid)
    assert sorted(found.index.unique().tolist()) == list(range(quantizer.num_codes))
    assert_close(quantizer.lookup(found.index), found.code)
    assert_close(codes[found.index], found.code)


@given(z=st.floats(-4, 4), levels=st.integers(2, 9))
def test_scalar_gradient_is_that_of_the_bounded_value(z, levels):
    latent = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    found = FiniteScalarQuantizer([levels])(latent)
    (gradient,) = torch.autograd.grad(found.code.sum(), latent)
    h = (levels - 1) * 1.001 / 2
    shift = math.atanh((0.5 if levels % 2 == 0 else 0.0) / h)
    assert gradient.item() == pytest.approx(h / math.cosh(z + shift) ** 2 / (levels // 2))
    assert found.distance.item() <= (0.5 / (levels // 2)) ** 2 + 1e-9


def test_scalar_with_mask_and_half_latents(normal):
    z, mask = normal(0, 20, 2), normal(1, 20) > 0
    quantizer = FiniteScalarQuantizer([4, 3])
    found = quantizer(torch.where(mask[:, None], z, math.nan), mask)
    whole = quantizer(z)
    assert torch.equal(found.index, whole.index.where(mask, -1))
    assert_close(found.code, torch.where(mask[:, None], whole.code, 0))
    assert not quantizer.lookup(found.index)[~mask].any()
    half = quantizer(z.half())
    assert half.code.dtype == torch.float16
    assert torch.equal(half.index, quantizer(z.half().float()).index)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_sizes(self):
        with pytest.raises(ValueError, match=r"levels needs numbers of at least 2, got \[3, 1\]"):
            FiniteScalarQuantizer([3, 1])
        with pytest.raises(ValueError, match="num_quantizers=0 needs to be at least 1"):
            residual(num_quantizers=0)
        with pytest.raises(ValueError, match=r"one number of codes for each level, got \(4, 4\)"):
            residual(num_codes=(4, 4))

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"expected \(\.\.\., 2\)"):
            FiniteScalarQuantizer([3, 3])(torch.zeros(5, 3))
        with pytest.raises(ValueError, match=r"latent has shape \(5, 3\), expected \(\.\.\., 4\)"):
            residual()(torch.zeros(5, 3))
        with pytest.raises(ValueError, match=r"index has shape \(5, 2\), expected \(\.\.\., 3\)"):
            residual().lookup(torch.zeros(5, 2, dtype=torch.long))
