"""The prior that follows the posterior's moments: by hand, staged, in several processes."""

import math

import pytest
import torch
from nops_models import Encoding, PhysicsVAE, PhysicsVAEConfig
from torch.testing import assert_close


@pytest.fixture
def make(tiny):
    def build(**config):
        return PhysicsVAE(PhysicsVAEConfig(prior="ema", **config), tiny.Line())

    return build


def posteriors(*means, variance=0.5):
    u = torch.tensor([[m, -m] for m in means])
    return Encoding(u, torch.full_like(u, math.log(variance)), u[:, :0], u[:, :0])


def test_by_hand(make):
    model = make(ema_decay=0.75)
    mean, lnvar = model.prior_moments()
    assert mean.tolist() == lnvar.tolist() == [0.0, 0.0]
    model.update_prior(posteriors(1.0, 3.0))
    mean, lnvar = model.prior_moments()
    # mean ¼·2; variance ¾·1 + ¼·(0.5 + 1), the mixture's: its mean variance and its means' variance
    assert_close(mean, torch.tensor([0.5, -0.5]))
    assert_close(lnvar.exp(), torch.tensor([1.125, 1.125]))


def test_it_arrives_at_the_moments(make):
    model = make(ema_decay=0.5)
    for _ in range(60):
        model.update_prior(posteriors(1.0, 2.0, 6.0, variance=0.25))
    mean, lnvar = model.prior_moments()
    assert_close(mean, torch.tensor([3.0, -3.0]))
    assert_close(lnvar.exp(), torch.full((2,), 0.25 + 14 / 3))


@pytest.mark.parametrize(
    ("means", "variance", "bound"), [((0.0,), 1e-6, 1e-3), ((-90.0, 90.0), 1.0, 50.0)]
)
def test_the_variance_keeps_its_range(make, means, variance, bound):
    model = make(ema_decay=0.0)
    model.update_prior(posteriors(*means, variance=variance))
    assert_close(model.prior_moments()[1].exp(), torch.full((2,), bound))


def test_micro_batches_count_as_one_and_a_skipped_step_changes_nothing(make):
    whole, parts = make(), make()
    parts.prior.defer_updates()
    for _ in range(2):
        whole.update_prior(posteriors(1.0, 2.0, 6.0))
        parts.update_prior(posteriors(1.0))
        parts.update_prior(posteriors(2.0, 6.0))
        before = parts.prior_moments()
        parts.prior.apply_update()
        assert not torch.equal(before[0], parts.prior_moments()[0])
        assert_close(parts.prior_moments(), whole.prior_moments())
    parts.update_prior(posteriors(50.0))
    parts.prior.discard_update()
    parts.prior.apply_update()
    assert_close(parts.prior_moments(), whole.prior_moments())


def test_processes_move_together(make, monkeypatch):
    whole, first = make(), make()
    second = {"sums": None}

    def all_reduce(sums):  # what the other process adds
        if second["sums"] is not None:
            sums += second["sums"]

    other = make()
    other.prior.defer_updates()
    other.update_prior(posteriors(2.0, 6.0))
    second["sums"] = other.prior._staged
    whole.update_prior(posteriors(1.0, 2.0, 6.0))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    first.update_prior(posteriors(1.0))
    assert_close(first.prior_moments(), whole.prior_moments())
    alone = make()
    alone.prior.apply_update()  # without samples of its own
    reference = make()
    second["sums"] = None
    reference.update_prior(posteriors(2.0, 6.0))
    assert_close(alone.prior_moments(), reference.prior_moments())
    before = alone.prior_moments()
    alone.prior.apply_update()  # where no process has any
    assert_close(alone.prior_moments(), before, rtol=0, atol=0)


def test_it_travels_with_the_weights_and_gets_no_gradient(make):
    model, other = make(), make()
    encoding = model.encode(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    model.update_prior(encoding)
    assert not model.prior_moments()[0].requires_grad
    other.load_state_dict(model.state_dict())
    assert_close(other.prior_moments(), model.prior_moments(), rtol=0, atol=0)


def test_other_priors_stand_still(tiny):
    normal = PhysicsVAE(PhysicsVAEConfig(), tiny.Line())
    assert [m.tolist() for m in normal.prior_moments()] == [[0.0, 0.0]] * 2
    assert PhysicsVAE(PhysicsVAEConfig(prior="uniform"), tiny.Line()).prior_moments() is None
    with pytest.raises(ValueError, match=r"config\.prior is 'normal': only 'ema' moves"):
        normal.update_prior(posteriors(1.0))
    assert not any(hasattr(module, "apply_update") for module in normal.modules())
