"""Heads by themselves: the gate at the start, rank and bound of a low-rank correction, hand values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_models import GatedResidual, LowRankResidual, NoPhysicsHead
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


class TestLowRank:
    @given(seed=seeds, rank=st.integers(1, 4))
    def test_rank_and_bound(self, normal, shaken, seed, rank):
        head = shaken(LowRankResidual(6, 4, rank=rank).double(), seed=seed, size=2.0)
        got = head(normal(seed, 40, 6), normal(seed, 40, 0), 5 * normal(seed + 1, 40, 4))
        values = torch.linalg.svdvals(got.delta)
        assert values[rank:].max() < 1e-12 * values[0] if rank < 6 else True
        assert values[rank - 1] > 1e-6 * values[0]
        bound = (head.basis * head.scale).abs().sum(1)
        assert (got.delta.abs() <= bound * (1 + 1e-12)).all()
        assert (got.gain.abs() <= 1).all()

    def test_at_the_start(self):
        head = LowRankResidual(6, 4, rank=3)
        assert_close(head.basis.mT @ head.basis, torch.eye(3))
        assert head.scale.tolist() == [1.0] * 3
        assert (head.r.item(), head.tau.item()) == (1.0, 1.0)

    def test_by_hand(self):
        head = LowRankResidual(2, 1, rank=1, extra_dim=1)
        with torch.no_grad():
            head.coefficients.weight.copy_(torch.tensor([[1.0, 2.0, 0.0, -1.0]]))
            head.coefficients.bias.fill_(0.5)
            head.basis.copy_(torch.tensor([[3.0], [-1.0]]))
            head.scale.fill_(2.0)
            head.tau.fill_(4.0)
            head.r.fill_(0.5)
        # (1·1 + 2·0.25 + 0·7 − 1·(−2) + 0.5) / 4 = 1
        got = head(
            torch.tensor([[0.25, 7.0]]), torch.zeros(1, 0), torch.ones(1, 1), torch.tensor([[-2.0]])
        )
        c = math.tanh(1.0)
        assert_close(got.gain, torch.tensor([[c]]))
        assert_close(got.delta, torch.tensor([[6 * c, -2 * c]]))
        assert_close(got.correction, torch.tensor([[3 * c, -c]]))


class TestGated:
    def test_a_gate_of_zero_weights_lets_one_percent_through(self, normal):
        head = GatedResidual(5, 2, 3)
        head.gate[-1].weight.data.zero_()
        got = head(normal(0, 4, 5).float(), normal(1, 4, 2).float(), normal(2, 4, 3).float())
        assert_close(got.gain, torch.full((4, 5), 0.009952), rtol=0, atol=1e-6)
        assert_close(got.correction, got.gain * got.delta)
        assert got.delta.abs().min() > 0

    def test_without_a_gate_nothing_is_added(self, normal):
        head = GatedResidual(5, 2, 3, gate_bias=-1e4)
        got = head(normal(0, 4, 5).float(), normal(1, 4, 2).float(), normal(2, 4, 3).float())
        assert got.correction.abs().max() == 0

    def test_it_sees_physics_and_both_kinds_of_latents(self, normal, shaken):
        head = shaken(GatedResidual(5, 2, 3).double())
        inputs = [normal(i, 4, n) for i, n in enumerate((5, 2, 3))]
        before = head(*inputs)
        for i in range(3):
            moved = [v + (j == i) for j, v in enumerate(inputs)]
            got = head(*moved)
            assert (got.delta - before.delta).abs().min() > 0
            assert (got.gain - before.gain).abs().min() > 0


def test_without_physics_the_sum_is_the_network(normal, shaken):
    head = shaken(NoPhysicsHead(5, 3).double())
    x_p, aux = normal(0, 4, 5), normal(1, 4, 3)
    got = head(x_p, normal(2, 4, 0), aux)
    assert_close(x_p + got.correction, head.network(aux))
    assert got.delta.abs().max() == 0
    assert got.gain.shape == (4, 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LowRankResidual(3, 2, rank=4), "rank=4 is above the 3 outputs"),
        (lambda: LowRankResidual(3, 2, rank=0), "rank must be at least 1"),
        (lambda: LowRankResidual(3, 0, rank=1), "aux_dim must be at least 1"),
        (lambda: GatedResidual(3, 2, 0), "aux_dim must be at least 1"),
        (lambda: NoPhysicsHead(0, 2), "output_dim must be at least 1"),
    ],
)
def test_refuses(make, says):
    with pytest.raises(ValueError, match=says):
        make()
