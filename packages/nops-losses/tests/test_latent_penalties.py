"""Size of latent tokens, and how parallel they are."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import latent_diversity_penalty, latent_norm_penalty
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


class TestNorm:
    def test_by_hand(self):
        latent = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[0.0, 0.0], [6.0, 8.0]]])
        # norms 5, 1, 0, 10
        assert latent_norm_penalty(latent, target=5.0) == (0 + 4 + 5 + 5) / 4
        assert latent_norm_penalty(latent, target=2.0, p=1.0) == (5 + 1 + 2 + 12) / 4
        assert latent_norm_penalty(latent, target=2.0, p=math.inf) == (2 + 1 + 2 + 6) / 4
        assert_close(latent_norm_penalty(latent[:1, :1]).item(), 5 - math.sqrt(2))

    @pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
    def test_channels_of_size_one_have_the_default_norm(self, fields, p):
        assert latent_norm_penalty(fields(0, 2, 5, 7).sign(), p=p) < 1e-14

    def test_layer_normalised_tokens_have_the_default_norm(self, fields):
        tokens = torch.nn.functional.layer_norm(fields(0, 2, 5, 64), (64,), eps=0.0)
        assert latent_norm_penalty(tokens) < 1e-13
        assert_close(latent_norm_penalty(2 * tokens).item(), 8.0)

    def test_unit_normal_tokens_of_128_channels(self, fields):
        latent = fields(0, 32, 64, 128)
        # the chi distribution's mean, √2 Γ(64.5)/Γ(64) = 11.2916, less 1
        mean = math.sqrt(2) * math.exp(math.lgamma(64.5) - math.lgamma(64))
        got = latent_norm_penalty(latent, target=1.0).item()
        assert got == pytest.approx(mean - 1, rel=5e-3)
        assert got == pytest.approx(10.3, abs=0.05)

    @given(seed=seeds)
    def test_does_not_see_order(self, fields, seed):
        latent = fields(seed, 2, 5, 4)
        turned = latent.flip(1).roll(1, 2)
        assert_close(latent_norm_penalty(turned), latent_norm_penalty(latent))

    @pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, math.inf])
    def test_a_token_of_zeros_gets_no_gradient(self, p):
        latent = torch.zeros(1, 3, 4, requires_grad=True)
        latent_norm_penalty(latent, p=p).backward()
        assert torch.equal(latent.grad, torch.zeros(1, 3, 4))

    @pytest.mark.parametrize(
        ("options", "says"),
        [({"p": 0.5}, "p must be at least 1"), ({"target": -1.0}, "target must be finite")],
    )
    def test_refuses(self, options, says):
        with pytest.raises(ValueError, match=says):
            latent_norm_penalty(torch.ones(1, 2, 3), **options)


class TestDiversity:
    def test_by_hand(self):
        root = math.sqrt(0.5)
        latent = torch.tensor([[[1.0, 0.0], [0.0, -3.0], [2.0, 2.0]]])
        # cosines 0, √½ and −√½
        assert_close(latent_diversity_penalty(latent).item(), 2 * root / 3)

    def test_parallel_and_orthogonal_tokens(self):
        assert_close(latent_diversity_penalty(torch.ones(2, 4, 3)).item(), 1.0)
        signs = torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1) * torch.ones(1, 3, 5)
        assert_close(latent_diversity_penalty(signs).item(), 1.0)
        assert latent_diversity_penalty(torch.eye(4)[None]) == 0

    def test_one_token_has_no_pair(self):
        latent = torch.ones(3, 1, 4, requires_grad=True)
        got = latent_diversity_penalty(latent)
        assert got == 0
        got.backward()
        assert torch.equal(latent.grad, torch.zeros(3, 1, 4))

    def test_unit_normal_tokens_of_128_channels(self, fields):
        got = latent_diversity_penalty(fields(0, 32, 64, 128)).item()
        # mean |cos| = Γ(D/2) / (√π Γ((D+1)/2)), near √(2/(πD)) = 0.0705
        exact = math.exp(math.lgamma(64) - math.lgamma(64.5)) / math.sqrt(math.pi)
        assert got == pytest.approx(exact, rel=0.01)
        assert got == pytest.approx(0.0705, abs=7e-4)

    @given(seed=seeds, factor=st.floats(1e-3, 1e3))
    def test_lengths_signs_and_order_do_not_matter(self, fields, seed, factor):
        latent = fields(seed, 2, 5, 4)
        lengths = fields(seed + 1, 2, 5, 1)
        got = latent_diversity_penalty((factor * lengths * latent).flip(1))
        assert_close(got, latent_diversity_penalty(latent), rtol=1e-9, atol=0)

    def test_a_token_of_zeros_is_orthogonal_and_gets_no_gradient(self):
        latent = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]], requires_grad=True)
        got = latent_diversity_penalty(latent)
        assert_close(got.item(), math.sqrt(0.5) / 3)
        got.backward()
        assert latent.grad[0, 0].tolist() == [0, 0]
        assert latent.grad.isfinite().all()

    def test_pairs_count_of_which_both_tokens_do(self):
        latent = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0]] * 3])
        mask = torch.tensor([[True, False, True], [False, True, False]])
        assert_close(latent_diversity_penalty(latent, mask=mask).item(), math.sqrt(0.5))

    def test_refuses(self):
        with pytest.raises(ValueError, match="eps must be positive"):
            latent_diversity_penalty(torch.ones(1, 2, 3), eps=0.0)
