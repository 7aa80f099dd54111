"""Signs of collapse: cases made by hand around a model that only repeats what it is told."""

import math
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from nops_diagnostics import collapse_report, residual_ratio
from torch.testing import assert_close

Encoding = namedtuple("Encoding", "u_mean u_lnvar aux_mean aux_lnvar")


def model(*, u_mean, x_p, x_pb, u_lnvar=None, aux=None, gain=None, prior="normal"):
    """A VAE that answers with these tensors."""
    n, latents = u_mean.shape
    aux = torch.zeros(n, 0).double() if aux is None else aux
    lnvar = torch.zeros_like(u_mean) if u_lnvar is None else u_lnvar
    decoding = SimpleNamespace(
        x_p=x_p,
        x_pb=x_pb,
        correction=x_pb - x_p,
        gain=x_p[:, :0] if gain is None else gain,
    )
    encoding = Encoding(u_mean, lnvar, aux, torch.zeros_like(aux))
    output = SimpleNamespace(encoding=encoding, decoding=decoding)
    moments = (torch.zeros(latents), torch.zeros(latents)) if prior == "normal" else None

    class Told:
        physics = SimpleNamespace(parameter_names=tuple("abc"[:latents]))

        def __call__(self, x, *, inputs, time_features, hard):
            assert hard
            return output

        def prior_moments(self):
            return moments

    return Told()


def test_a_healthy_model(fields):
    x_p, small = fields(0, 200, 3), 0.1 * fields(1, 200, 3)
    got = collapse_report(
        model(u_mean=fields(2, 200, 2), x_p=x_p, x_pb=x_p + small, aux=1 + fields(3, 200, 1)),
        x_p + small,
    )
    share = x_p.var(0).sum() / (x_p.var(0).sum() + small.var(0).sum())
    assert got.physics_share == pytest.approx(share.item())
    assert got.physics_share == pytest.approx(1 / 1.01, abs=0.003)
    assert got.explained_total == 1
    assert got.explained_physics == pytest.approx(0.99, abs=0.003)
    assert_close(got.z_spread, torch.ones(2).double(), rtol=0.12, atol=0)
    # ½⟨m²⟩ of standard normal means, and of means around 1
    assert_close(got.kl_physics, 0.5 * fields(2, 200, 2).square().mean(0))
    assert_close(got.kl_aux, 0.5 * (1 + fields(3, 200, 1)).square().mean(0))
    assert got.mean_gain is None
    assert got.effective_rank == pytest.approx(3, abs=0.05)
    assert got.warnings == ()


def test_a_correction_that_took_the_physics_place(fields):
    x = fields(0, 200, 3)
    got = collapse_report(
        model(
            u_mean=fields(2, 200, 2), x_p=torch.ones_like(x), x_pb=x, gain=torch.full_like(x, 0.25)
        ),
        x,
    )
    assert got.physics_share == 0
    assert got.explained_total == 1
    assert got.explained_physics < 0
    assert got.mean_gain == 0.25
    assert "the correction has taken the physics' place" in got.warnings[0]
    assert "with the correction 100%" in got.warnings[0]


def test_latents_that_are_not_used(fields):
    x = fields(0, 200, 3)
    u = torch.stack([torch.zeros(200), torch.full((200,), 2.0), fields(1, 200)], 1).double()
    got = collapse_report(model(u_mean=u, x_p=x, x_pb=x, aux=torch.zeros(200, 2).double()), x)
    assert_close(got.z_spread[:2], torch.zeros(2).double(), rtol=0, atol=1e-15)
    assert_close(got.kl_physics[:2], torch.tensor([0.0, 2.0]).double())
    assert len(got.warnings) == 3
    assert got.warnings[0].startswith("the posterior of a is its prior")
    assert got.warnings[1].startswith("b is nearly one value for all data")
    assert got.warnings[2] == "2 of 2 auxiliary latents are not used."


def test_spread_against_each_prior(fields):
    z = (torch.arange(4000, dtype=torch.float64)[:, None] + 0.5) / 4000
    x = fields(0, 4000, 2)
    uniform = collapse_report(model(u_mean=z.logit(), x_p=x, x_pb=x, prior="uniform"), x)
    assert uniform.z_spread.item() == pytest.approx(1, abs=1e-3)
    normal = collapse_report(model(u_mean=torch.special.ndtri(z), x_p=x, x_pb=x), x)
    assert normal.z_spread.item() == pytest.approx(1, abs=1e-3)


def test_divergence_from_a_uniform_prior(fields):
    mean = torch.full((2, 1), 0.7, dtype=torch.float64)
    lnvar, x = torch.full_like(mean, -0.5), fields(0, 2, 2)
    got = collapse_report(model(u_mean=mean, u_lnvar=lnvar, x_p=x, x_pb=x, prior="uniform"), x)
    u = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
    log_q = torch.distributions.Normal(0.7, math.exp(-0.25)).log_prob(u)
    log_p = -u - 2 * torch.nn.functional.softplus(-u)
    exact = torch.trapezoid(log_q.exp() * (log_q - log_p), u)
    assert got.kl_physics.item() == pytest.approx(exact.item(), rel=1e-6)


def test_rank_of_a_correction(fields):
    x_p, weights = (
        fields(0, 400, 4),
        torch.linalg.qr(fields(1, 400, 2) - fields(1, 400, 2).mean(0)).Q,
    )
    patterns = torch.linalg.qr(fields(2, 4, 2)).Q
    equal = collapse_report(
        model(u_mean=x_p[:, :2], x_p=x_p, x_pb=x_p + weights @ patterns.mT), x_p
    )
    assert equal.effective_rank == pytest.approx(2)
    one = collapse_report(
        model(u_mean=x_p[:, :2], x_p=x_p, x_pb=x_p + weights[:, :1] @ patterns[:, :1].mT + 5), x_p
    )
    assert one.effective_rank == pytest.approx(1)
    none = collapse_report(model(u_mean=x_p[:, :2], x_p=x_p, x_pb=x_p), x_p)
    assert none.effective_rank == 0
    assert none.physics_share == 1


@pytest.mark.usefixtures("unchecked")
def test_refuses(fields):
    x = fields(0, 2, 2)
    with pytest.raises(ValueError, match="no physics latents"):
        collapse_report(model(u_mean=x[:, :0], x_p=x, x_pb=x), x)
    with pytest.raises(ValueError, match="need at least 2 observations"):
        collapse_report(model(u_mean=x, x_p=x, x_pb=x), x[:1])


class TestRatio:
    def test_by_hand(self):
        x_p = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
        x_pb = torch.tensor([[3.0, 9.0], [0.0, 1.0], [1.0, 0.0]])
        assert residual_ratio(x_pb, x_p).tolist() == [1.0, 0.0, math.inf]
        assert residual_ratio(x_pb, x_p, cap=0.5).tolist() == [0.5, 0.0, 0.5]

    def test_a_small_output_does_not_rule_it(self):
        x_p = torch.tensor([[100.0, 1e-9]], dtype=torch.float64)
        assert residual_ratio(x_p + 1, x_p).item() == pytest.approx(math.sqrt(2) / 100)

    @pytest.mark.usefixtures("unchecked")
    def test_refuses(self):
        with pytest.raises(ValueError, match="expected one shape"):
            residual_ratio(torch.ones(2, 3), torch.ones(2, 1))
        with pytest.raises(ValueError, match="cap must be positive"):
            residual_ratio(torch.ones(2, 3), torch.ones(2, 3), cap=0.0)
