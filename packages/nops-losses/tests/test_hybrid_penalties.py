"""Terms of physics-integrated VAEs: hand values, what each reaches, empty widths, precision."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import (
    branch_consistency_penalty,
    capacity_penalty,
    coefficient_penalty,
    edge_penalty,
    gate_penalty,
    gaussian_kl,
    logistic_kl,
    logit_recovery_loss,
    orthogonality_penalty,
    parameter_recovery_loss,
    residual_penalty,
    temporal_smoothness,
    unmixing_penalty,
)
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)
ROWS = torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.float64)
HALF = torch.full((2, 2), 0.5, dtype=torch.float64)


def branches(x, **options):
    return branch_consistency_penalty(x, 2 * x, x - 1, x.square(), **options)


TERMS = {
    "gaussian_kl": lambda x, **o: gaussian_kl(x, x / 2, **o),
    "logistic_kl": lambda x, **o: logistic_kl(x, x / 2, x / 3, **o),
    "logit_recovery": lambda x, **o: logit_recovery_loss(x, torch.sigmoid(x + 1), **o),
    "parameter_recovery": lambda x, **o: parameter_recovery_loss(x, x.detach() + 1, **o),
    "unmixing": lambda x, **o: unmixing_penalty(x, x.detach() - 2, **o),
    "branches": branches,
    "gate": lambda x, **o: gate_penalty(torch.sigmoid(x), **o),
    "residual": residual_penalty,
    "coefficient": coefficient_penalty,
    "edge": lambda x, **o: edge_penalty(torch.sigmoid(x), **o),
    "edge2": lambda x, **o: edge_penalty(torch.sigmoid(x), power=1.5, **o),
}
each = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)


class TestEach:
    @each
    def test_samples_are_averaged(self, fields, term):
        x = fields(0, 5, 3)
        rows = term(x, reduction="none")
        assert rows.shape == (5,)
        assert_close(term(x), rows.mean())
        assert_close(rows, torch.stack([term(row[None]) for row in x]))

    @each
    def test_features_are_summed_but_for_means(self, fields, term):
        x = fields(0, 5, 3)
        twice = term(torch.cat([x, x], 1))
        mean = term in (TERMS["gate"], TERMS["edge"], TERMS["edge2"])
        assert_close(twice, term(x) if mean else 2 * term(x))

    @each
    def test_without_features_it_is_exactly_zero(self, term):
        x = torch.zeros(4, 0, requires_grad=True)
        got = term(x)
        assert got == 0
        assert term(x, reduction="none").tolist() == [0.0] * 4
        got.backward()
        assert x.grad.shape == (4, 0)

    @each
    def test_gradient_matches_differences(self, fields, term):
        x = fields(0, 3, 2).requires_grad_()
        truth = torch.sigmoid(x.detach() + 1)
        fixed = {
            TERMS["logit_recovery"]: lambda u: logit_recovery_loss(u, truth),
            TERMS["parameter_recovery"]: lambda u: parameter_recovery_loss(u, truth),
            TERMS["unmixing"]: lambda u: unmixing_penalty(u, truth),
        }
        run = fixed.get(term, term)
        assert torch.autograd.gradcheck(run, x)
        assert torch.autograd.grad(run(x), x)[0].abs().min() > 0

    @each
    def test_autocast_changes_nothing(self, fields, term):
        x = fields(0, 4, 3).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = term(x)
        assert got.dtype == torch.float32
        assert_close(got, term(x), rtol=0, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_inputs_give_the_float32_value(self, fields, dtype):
        x, z = (30 * fields(0, 4, 3)).to(dtype), torch.sigmoid(fields(1, 4, 3)).to(dtype)
        for got, expected in (
            (residual_penalty(x), residual_penalty(x.float())),
            (gaussian_kl(x, z), gaussian_kl(x.float(), z.float())),
            (logit_recovery_loss(x, z), logit_recovery_loss(x.float(), z.float())),
            (edge_penalty(z), edge_penalty(z.float())),
            (orthogonality_penalty(x), orthogonality_penalty(x.float())),
            (temporal_smoothness(x), temporal_smoothness(x.float())),
        ):
            assert got.dtype == torch.float32
            assert_close(got, expected, rtol=0, atol=0)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("call", [gate_penalty, residual_penalty, edge_penalty])
    def test_refuses_other_axes(self, call):
        with pytest.raises(
            ValueError, match=r"has shape \(2, 3, 4\), expected \(sample, feature\)"
        ):
            call(torch.ones(2, 3, 4))
        with pytest.raises(TypeError, match="real floating-point"):
            call(torch.ones(2, 3, dtype=torch.int64))
        with pytest.raises(ValueError, match="reduction must be"):
            call(torch.ones(2, 3), reduction="sum")


class TestByHand:
    def test_penalties_of_a_correction(self):
        assert residual_penalty(ROWS) == (5 + 25) / 2
        assert coefficient_penalty(ROWS) == 15
        assert gate_penalty(ROWS / 10) == 0.05  # (0.3 − 0.1) / 4

    def test_branches(self):
        p = torch.zeros(1, 2, dtype=torch.float64)
        pa, pb, pab = p + 1, p + torch.tensor([0.0, 2.0]), p + torch.tensor([3.0, 1.0])
        # PA − P: 2; PB − P: 4; PAB − PA: 4; PAB − PB: 10
        assert branch_consistency_penalty(p, pa, pb, pab) == 5

    def test_a_basis(self):
        basis = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
        # BᵀB = [[1, 1], [1, 2]]: 0 + 1 + 1 + 1
        assert orthogonality_penalty(basis) == 3

    def test_sequences(self):
        z = torch.tensor([[1.0, 5.0, 0.0, 9.0], [3.0, 5.0, 6.0, -9.0]], dtype=torch.float64)
        # unbiased: 2, 0, 18; the fourth latent does not count
        assert temporal_smoothness(z) == 20 / 3
        assert temporal_smoothness(z, reduction="none").tolist() == [2, 0, 18]
        assert temporal_smoothness(z.mT[None], dims=slice(0, 1), axis=1) == torch.var(z[0])

    def test_a_capacity(self):
        assert capacity_penalty(torch.tensor(3.0), 1.0) == 40
        assert capacity_penalty(torch.tensor([2.0, 4.0]), 1.0, gamma=0.5) == 2
        assert capacity_penalty(torch.tensor(3.0), 3.0) == 0

    def test_edges(self):
        z = torch.tensor([[0.2, 0.5]], dtype=torch.float64)
        # −ln 0.16 and −ln 0.25
        assert edge_penalty(z).item() == pytest.approx(1.6094379124)
        assert edge_penalty(z, power=2.0).item() == pytest.approx(2.6400834, abs=1e-7)
        assert edge_penalty(HALF).item() == pytest.approx(2 * math.log(2))


class TestLogits:
    def test_values(self):
        z = torch.tensor([[1e-4, 0.2, 0.5]], dtype=torch.float64)
        logits = torch.tensor([[-9.2102403670, -1.3862943611, 0.0]], dtype=torch.float64)
        assert logit_recovery_loss(logits, z) < 1e-18
        zero = logit_recovery_loss(torch.zeros_like(z), z)
        assert zero.item() == pytest.approx(9.2102403670**2 + 1.3862943611**2)

    def test_what_lies_outside_is_clamped(self):
        z = torch.tensor([[0.0, 1.0, 1e-9]])
        edge = math.log1p(-1e-4) - math.log(1e-4)
        got = logit_recovery_loss(torch.zeros(1, 3), z)
        assert got.item() == pytest.approx(3 * edge**2, rel=1e-4)

    def test_an_oracle_has_none(self):
        z = torch.rand(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        z = 1e-4 + (1 - 2e-4) * z
        assert logit_recovery_loss(z.logit(), z) < 1e-20

    def test_what_a_zero_encoder_expects(self):
        count = 2_000_000
        z = (torch.arange(count, dtype=torch.float64)[:, None] + 0.5) / count
        got = logit_recovery_loss(torch.zeros_like(z), z).item()
        assert got == pytest.approx(3.28578, abs=5e-6)
        free = logit_recovery_loss(torch.zeros_like(z), z, eps=1e-12).item()
        assert free == pytest.approx(math.pi**2 / 3, abs=2e-4)  # π²/3, the midpoint rule's error

    def test_the_way_back_in_float32(self):
        z = torch.linspace(1e-4, 1 - 1e-4, 10_001)
        u = z.log() - (-z).log1p()
        assert (torch.sigmoid(u) - z).abs().max() < 1e-7
        assert u.abs().max().item() == pytest.approx(9.2102, abs=2e-4)


class TestWhatIsReached:
    def test_truths_get_no_gradient(self, fields):
        for call in (logit_recovery_loss, unmixing_penalty, parameter_recovery_loss):
            x = fields(0, 3, 2).requires_grad_()
            truth = torch.sigmoid(fields(1, 3, 2)).requires_grad_()
            call(x, truth).backward()
            assert truth.grad is None
            assert x.grad.abs().min() > 0

    def test_all_branches_are(self, fields):
        parts = [fields(i, 3, 2).requires_grad_() for i in range(4)]
        branch_consistency_penalty(*parts).backward()
        assert all(part.grad.abs().min() > 0 for part in parts)

    def test_beyond_the_edge_something_pulls_back(self):
        z = torch.tensor([[1e-9, 1 - 1e-9, 0.25]], dtype=torch.float64, requires_grad=True)
        edge_penalty(z).backward()
        low, high, inside = z.grad[0].tolist()
        assert low == pytest.approx(-1e6 / 3, rel=1e-5)
        assert high == pytest.approx(1e6 / 3, rel=1e-5)
        assert inside == pytest.approx((-4 + 4 / 3) / 3)

    def test_steps_and_a_capacity(self, fields):
        z = fields(0, 2, 5, 4).requires_grad_()
        (temporal_smoothness(z) + capacity_penalty(z.square().mean(), 0.1)).backward()
        assert z.grad.abs().min() > 0
        z.grad = None
        temporal_smoothness(z).backward()
        assert z.grad[..., 3].abs().max() == 0


class TestProperties:
    @given(seed=seeds)
    def test_orthonormal_columns_have_no_penalty(self, fields, seed):
        basis = torch.linalg.qr(fields(seed, 6, 3)).Q
        assert orthogonality_penalty(basis) < 1e-28
        # ‖c²I − I‖² = 3 (c² − 1)²
        assert_close(orthogonality_penalty(2 * basis).item(), 27.0)
        wide = fields(seed, 2, 5)
        assert orthogonality_penalty(wide) >= 3

    @given(seed=seeds, power=st.floats(0.5, 3))
    def test_edges_are_symmetric_and_least_in_the_middle(self, fields, seed, power):
        z = torch.sigmoid(3 * fields(seed, 4, 3))
        assert_close(edge_penalty(z, power=power), edge_penalty(1 - z, power=power))
        assert edge_penalty(z, power=power) >= (2 * math.log(2)) ** power

    @given(seed=seeds, shift=st.floats(-5, 5))
    def test_smoothness_ignores_where_a_source_is(self, fields, seed, shift):
        z = fields(seed, 2, 5, 4)
        assert_close(temporal_smoothness(z + shift), temporal_smoothness(z))
        assert temporal_smoothness(z[:, :1].expand(2, 5, 4)) < 1e-28

    def test_gradients_of_the_other_shapes(self, fields):
        assert torch.autograd.gradcheck(orthogonality_penalty, fields(0, 4, 2).requires_grad_())
        assert torch.autograd.gradcheck(temporal_smoothness, fields(0, 2, 3, 4).requires_grad_())
        kl = fields(0, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: capacity_penalty(x, 0.5), kl)

    def test_empty_widths_of_the_other_shapes(self):
        assert orthogonality_penalty(torch.zeros(4, 0)) == 0
        assert temporal_smoothness(torch.zeros(2, 3, 0)) == 0
        assert temporal_smoothness(torch.zeros(2, 3, 4), dims=slice(4, 6)) == 0

    def test_orthogonality_is_exact_under_autocast(self, fields):
        basis = fields(0, 6, 3).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = orthogonality_penalty(basis)
        assert_close(got, orthogonality_penalty(basis), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: logit_recovery_loss(ROWS, HALF, eps=0.5), r"eps must be within \(0, 0.5\)"),
        (lambda: logit_recovery_loss(ROWS, HALF[:1]), "u_mean and z need one shape"),
        (lambda: edge_penalty(HALF, power=0.0), "power must be positive"),
        (lambda: edge_penalty(HALF, eps=0.0), "eps must be within"),
        (lambda: capacity_penalty(HALF, -1.0), "target must be finite and not negative, got -1"),
        (lambda: capacity_penalty(HALF, 1.0, gamma=math.nan), "gamma must be"),
        (lambda: capacity_penalty(HALF[:0], 1.0), r"kl has shape \(0, 2\): there is no value"),
        (lambda: temporal_smoothness(HALF[:1]), "has 1 steps along axis=-2"),
        (lambda: temporal_smoothness(HALF, axis=-1), "has no sequence along axis=-1"),
        (lambda: temporal_smoothness(HALF, axis=2), "has no sequence along axis=2"),
        (lambda: orthogonality_penalty(HALF[0]), r"expected \(feature, rank\)"),
        (lambda: unmixing_penalty(HALF, HALF[:, :1]), "unmixed and x_p need one shape"),
        (lambda: branch_consistency_penalty(HALF, HALF, HALF[:1], HALF), "x_p and x_pb need one"),
        (lambda: parameter_recovery_loss(HALF, HALF[0]), "estimate and truth need one shape"),
    ],
)
def test_refuses(call, says):
    with pytest.raises(ValueError, match=says):
        call()
