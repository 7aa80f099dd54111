"""Divergences: closed forms, torch's own, a prior that is uniform, and the range of log-variances."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import bound_log_variance, gaussian_kl, kldiv_normal_normal, logistic_kl
from torch.distributions import (
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
    kl_divergence,
)
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)
double = {"dtype": torch.float64}


class TestGaussian:
    def test_by_hand(self):
        mean = torch.tensor([[1.0, -2.0]], **double)
        lnvar = torch.tensor([[0.0, math.log(4)]], **double)
        # ½(1 + 0) + ½(4 − 1 − ln 4 + 4)
        assert gaussian_kl(mean, lnvar).item() == pytest.approx(0.5 + 2.8068528194400546, abs=1e-14)

    @given(seed=seeds)
    def test_it_is_the_one_of_torch(self, fields, seed):
        m, lv, m0, l0 = (2 * fields(seed + i, 5, 3) for i in range(4))
        expected = kl_divergence(Normal(m, (lv / 2).exp()), Normal(m0, (l0 / 2).exp())).sum(1)
        got = gaussian_kl(m, lv, prior_mean=m0, prior_lnvar=l0, reduction="none")
        assert_close(got, expected, rtol=1e-12, atol=1e-12)
        standard = kl_divergence(Normal(m, (lv / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
        assert_close(gaussian_kl(m, lv), standard, rtol=1e-12, atol=1e-12)

    def test_one_prior_for_all_samples(self, fields):
        m, lv, m0, l0 = fields(0, 5, 3), fields(1, 5, 3), fields(2, 3), fields(3, 3)
        got = gaussian_kl(m, lv, prior_mean=m0, prior_lnvar=l0)
        rows = {"prior_mean": m0.expand(5, 3), "prior_lnvar": l0.expand(5, 3)}
        assert_close(got, gaussian_kl(m, lv, **rows), rtol=0, atol=0)
        assert got != gaussian_kl(m, lv, prior_mean=m0)

    @given(seed=seeds)
    def test_equal_to_the_prior_it_is_exactly_zero_and_never_below(self, fields, seed):
        m, lv = fields(seed, 4, 3), fields(seed + 1, 4, 3)
        assert gaussian_kl(m, lv, prior_mean=m, prior_lnvar=lv) == 0
        near = gaussian_kl(m, lv + 1e-5 * fields(seed + 2, 4, 3), prior_mean=m, prior_lnvar=lv)
        assert near > 0  # ¼ Σ d², of 1e-10: lost in e^d − 1 − d without expm1 in float32

    def test_small_differences_keep_their_digits(self):
        lnvar = torch.full((1, 1), 1e-3)
        # ½ (d²/2 + d³/6) in float32, where e^d − 1 has lost four digits
        expected = 0.5 * (math.expm1(1e-3) - 1e-3)
        assert gaussian_kl(torch.zeros(1, 1), lnvar).item() == pytest.approx(expected, rel=2e-4)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("shapes", "options", "says"),
        [
            (((2, 3), (2, 1)), {}, "mean and lnvar need one shape"),
            (((3,), (3,)), {}, r"mean has shape \(3,\), expected \(sample, feature\)"),
            (((2, 3), (2, 3)), {"prior_mean": torch.zeros(2)}, r"prior_mean has shape \(2,\)"),
            (((2, 3), (2, 3)), {"prior_lnvar": torch.zeros(1, 3)}, r"expected \(3,\) or \(2, 3\)"),
            (((2, 3), (2, 3)), {"reduction": "sum"}, "reduction must be"),
        ],
    )
    def test_refuses(self, shapes, options, says):
        with pytest.raises(ValueError, match=says):
            gaussian_kl(*map(torch.zeros, shapes), **options)


class TestByItsOtherName:
    def test_it_clamps_both_log_variances(self, fields):
        m, m0 = fields(0, 4, 2), fields(1, 4, 2)
        lv = torch.tensor([[-20.0, 9.0], [5.5, -9.5], [0.0, 1.0], [-9.0, 5.0]], **double)
        l0 = lv.flip(0) - 1
        bounded = {"prior_mean": m0, "prior_lnvar": l0.clamp(-9, 5)}
        expected = gaussian_kl(m, lv.clamp(-9, 5), **bounded, reduction="none")
        assert_close(kldiv_normal_normal(m, lv, m0, l0), expected, rtol=0, atol=0)

    def test_one_variance_for_all_latents(self, fields):
        m, m0, lv, l0 = fields(0, 4, 3), fields(1, 4, 3), fields(2, 4), fields(3, 4)
        expected = 0.5 * ((m - m0).square().sum(1) / l0.exp() + 3 * ((lv - l0).exp() - 1 - lv + l0))
        assert_close(kldiv_normal_normal(m, lv, m0, l0), expected)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("shapes", "says"),
        [
            (((4, 3), (4,), (4, 3), (4, 3)), "lnvar and prior_lnvar need one shape"),
            (((4, 3), (4, 3), (4, 3), (4,)), "lnvar and prior_lnvar need one shape"),
            (((4, 3), (3,), (4, 3), (3,)), r"expected \(4, 3\) or \(4,\)"),
            (((4, 3), (4, 3), (1, 3), (4, 3)), "mean and prior_mean need one shape"),
        ],
    )
    def test_mixed_ranks_are_refused(self, shapes, says):
        with pytest.raises(ValueError, match=says):
            kldiv_normal_normal(*map(torch.zeros, shapes))


class TestLogistic:
    @given(seed=seeds)
    def test_it_is_the_difference_of_two_densities(self, fields, seed):
        u, m, lv = (3 * fields(seed + i, 5, 2) for i in range(3))
        q = Normal(m, (lv / 2).exp()).log_prob(u)
        uniform = Uniform(torch.zeros(1, **double), torch.ones(1, **double))
        p = TransformedDistribution(uniform, [SigmoidTransform().inv]).log_prob(u)
        assert_close(logistic_kl(u, m, lv, reduction="none"), (q - p).sum(1))

    def test_uniform_z_is_the_prior(self):
        z = torch.tensor([[0.25]], **double)
        u = z.logit()
        # p(u) du = dz: p = z(1 − z) = 3/16; q is N(u, 1) at its mean, 1/√(2π)
        expected = -0.5 * math.log(2 * math.pi) - math.log(3 / 16)
        assert logistic_kl(u, u, torch.zeros(1, 1, **double)).item() == pytest.approx(expected)

    def test_its_mean_over_draws_is_the_divergence(self):
        mean, lnvar = (
            torch.full((200_000, 1), 0.7, **double),
            torch.full((200_000, 1), -0.5, **double),
        )
        noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), **double)
        got = logistic_kl(mean + (lnvar / 2).exp() * noise, mean, lnvar)
        u = torch.linspace(-12, 14, 20_001, **double)[:, None]
        point, spread = torch.full_like(u, 0.7), torch.full_like(u, -0.5)
        density = Normal(0.7, math.exp(-0.25)).log_prob(u).exp()[:, 0]
        exact = torch.trapezoid(density * logistic_kl(u, point, spread, reduction="none"), u[:, 0])
        assert_close(got, exact, rtol=0, atol=5e-3)  # of 200,000 draws, 4 standard errors
        assert got > 0

    def test_far_out_it_stays_finite(self):
        u = torch.tensor([[200.0], [-200.0]], requires_grad=True)
        got = logistic_kl(u, torch.zeros(2, 1), torch.zeros(2, 1), reduction="none")
        assert got.isfinite().all()
        assert torch.autograd.grad(got.sum(), u)[0].isfinite().all()


class TestRange:
    @given(seed=seeds, mode=st.sampled_from(["restoring", "hard"]))
    def test_the_values_are_those_of_a_clamp(self, fields, seed, mode):
        lv = 20 * fields(seed, 50)
        assert torch.equal(bound_log_variance(lv, mode=mode), lv.clamp(-9, 5))
        assert torch.equal(bound_log_variance(lv, low=-1, high=2, mode=mode), lv.clamp(-1, 2))

    @pytest.mark.parametrize(
        ("raw", "mode", "expected"),
        [
            (6.0, "restoring", 73.70657955),  # ½ (e⁵ − 1)
            (6.0, "hard", 0.0),
            (-12.0, "restoring", -0.49993830),  # ½ (e⁻⁹ − 1)
            (-12.0, "hard", 0.0),
            (1.0, "restoring", 0.85914091),
            (1.0, "hard", 0.85914091),
            (5.0, "restoring", 73.70657955),
        ],
    )
    def test_the_gradient_of_a_divergence(self, raw, mode, expected):
        lv = torch.tensor([[raw]], **double, requires_grad=True)
        gaussian_kl(torch.zeros(1, 1, **double), bound_log_variance(lv, mode=mode)).backward()
        assert lv.grad.item() == pytest.approx(expected, abs=5e-9)

    @pytest.mark.parametrize(("raw", "sign"), [(6.0, 1.0), (-12.0, -1.0)])
    def test_what_would_lead_further_out_is_stopped(self, raw, sign):
        for grad in (sign, -sign):
            lv = torch.tensor([raw], requires_grad=True)
            (grad * bound_log_variance(lv)).sum().backward()
            assert lv.grad.item() == (grad if grad == sign else 0.0)

    def test_at_a_limit_both_ways_are_open(self):
        for grad in (1.0, -1.0):
            lv = torch.tensor([5.0, -9.0], requires_grad=True)
            (grad * bound_log_variance(lv)).sum().backward()
            assert lv.grad.tolist() == [grad, grad]

    def test_function_transforms(self):
        lv = torch.tensor([6.0, -12.0, 1.0, -3.0], **double)

        def divergence(value):
            return gaussian_kl(torch.zeros(1, 1, **double), bound_log_variance(value)[None, None])

        got = torch.func.vmap(torch.func.grad(divergence))(lv)
        expected = 0.5 * torch.tensor([math.e**5 - 1, math.e**-9 - 1, math.e - 1, math.e**-3 - 1])
        assert_close(got, expected.double(), rtol=1e-6, atol=0)
        inside = torch.func.vmap(torch.func.grad(torch.func.grad(divergence)))(lv[2:])
        assert_close(inside, 0.5 * lv[2:].exp())

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    def test_compiles(self):
        lv = torch.tensor([6.0, -12.0, 1.0], requires_grad=True)
        compiled = torch.compile(bound_log_variance, backend="eager", fullgraph=True)
        compiled(lv).sum().backward()
        assert lv.grad.tolist() == [1.0, 0.0, 1.0]

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"mode": "soft"}, "mode='soft' is unknown"),
            ({"low": 5.0}, "need finite low < high"),
            ({"high": math.inf}, "need finite low < high"),
        ],
    )
    def test_refuses(self, options, says):
        with pytest.raises(ValueError, match=says):
            bound_log_variance(torch.zeros(2), **options)
