"""Joint gradients against torchjd and conflictfree; `nox -s peers` runs it."""

import pytest
import torch
from nops_schedules.gradient import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    MomentumConFIG,
    PCGrad,
    TorchJD,
    UPGrad,
    jacobian,
)
from torch import nn

pytestmark = pytest.mark.peer
NAMES = "abcd"


def rows_of_a_network(m, *, seed=0):
    """Losses of one batch and the parameters, and the rows of their Jacobian."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, m)).double()
    error = net(torch.randn(7, 2, dtype=torch.float64)) - torch.randn(7, m, dtype=torch.float64)
    scale = 10.0 ** torch.arange(m) / 10
    losses = dict(zip(NAMES, scale * error.square().mean(0), strict=False))
    return losses, list(net.parameters())


def ours(make, losses, params):
    make(list(losses)).backward(losses, params)
    return torch.cat([p.grad.reshape(-1) for p in params])


def agree(make, peer, m, *, rtol=1e-7):
    for seed in range(5):
        losses, params = rows_of_a_network(m, seed=seed)
        expected = peer(jacobian(losses, params))
        found = ours(make, losses, params)
        torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * float(expected.norm()))


@pytest.mark.parametrize("m", [2, 3, 4])
def test_as_torchjd(m):
    peers = pytest.importorskip("torchjd.aggregation")
    agree(ConFIG, peers.ConFIG(), m, rtol=1e-6)
    agree(IMTLG, peers.IMTLG(), m)
    agree(AlignedMTL, peers.AlignedMTL(), m)


def test_pcgrad_of_two_needs_no_order():
    peers = pytest.importorskip("torchjd.aggregation")
    agree(PCGrad, peers.PCGrad(), 2)


@pytest.mark.parametrize("m", [2, 3])
def test_upgrad_as_torchjd_without_its_regularisation(m):
    peers = pytest.importorskip("torchjd.aggregation")
    linalg = pytest.importorskip("torchjd.linalg")
    projector = linalg.QuadprogProjector(norm_eps=0.0, reg_eps=1e-10)
    # on rows of one length: theirs is not scaled by the rows
    for seed in range(5):
        rows = torch.randn(m, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        rows /= rows.norm(dim=1, keepdim=True)
        x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        found = ours(UPGrad, dict(zip(NAMES, rows @ x, strict=False)), [x])
        expected = peers.UPGrad(projector=projector)(rows)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_mgda_is_never_longer_than_torchjds(m):
    peers = pytest.importorskip("torchjd.aggregation")
    for seed in range(5):
        losses, params = rows_of_a_network(m, seed=seed)
        longer = peers.MGDA()(jacobian(losses, params)).norm()
        assert ours(MGDA, losses, params).norm() <= longer * (1 + 1e-9)


def test_cagrad_as_torchjd():
    peers = pytest.importorskip("torchjd.aggregation")
    pytest.importorskip("cvxpy")
    agree(CAGrad, peers.CAGrad(c=0.5), 3, rtol=1e-3)


def test_any_weighting_of_torchjd_joins_as_there():
    peers = pytest.importorskip("torchjd.aggregation")
    pairs = [
        (peers.MeanWeighting(), peers.Mean()),
        (peers.DualProjWeighting(), peers.DualProj()),
        (peers.KrumWeighting(1, 1), peers.Krum(1, 1)),
    ]
    for weighting, whole in pairs:
        agree(lambda names, w=weighting: TorchJD(names, w), whole, 4)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_config_as_conflictfree(m):
    peers = pytest.importorskip("conflictfree.grad_operator")
    agree(ConFIG, lambda rows: peers.ConFIG_update(rows.float()).double(), m, rtol=1e-4)


def test_momentum_config_as_conflictfree():
    peers = pytest.importorskip("conflictfree.momentum_operator")
    peer = peers.PseudoMomentumOperator(num_vectors=2)
    weighting = MomentumConFIG(["a", "b"])
    draws = torch.Generator().manual_seed(0)
    for step in range(12):
        row = torch.randn(5, generator=draws, dtype=torch.float64)
        x = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        weighting.backward({"ab"[step % 2]: row @ x}, [x])
        expected = peer.calculate_gradient(step % 2, row)
        torch.testing.assert_close(x.grad, expected.to(x), rtol=1e-5, atol=1e-7)
