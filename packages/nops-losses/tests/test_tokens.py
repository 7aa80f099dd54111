"""Terms on latents and codes: by hand, what they are blind to, and where gradients go."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import (
    code_entropy_loss,
    commitment_loss,
    latent_alignment_loss,
    orthogonality_loss,
    sample_steps,
    topographic_loss,
    topographic_similarity,
)
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)
OTHER = torch.linspace(-1, 2, 18, dtype=torch.float64).view(6, 3).sin()
LOSSES = {
    "commitment": lambda a, b: commitment_loss([a, a * b], [OTHER, OTHER]),
    "alignment": lambda a, b: latent_alignment_loss(torch.stack([a, a * b], 1), OTHER),
    "orthogonality": lambda a, b: orthogonality_loss([a, b, a * b]),
    "topographic": lambda a, b: topographic_loss(OTHER, a, a + b),
    "entropy": lambda a, b: code_entropy_loss(a, b[:3], temperature=2.0),
}
OF_TWO = {
    "commitment": commitment_loss,
    "alignment": lambda a, b: latent_alignment_loss(a[:, None], b),
    "orthogonality": lambda a, b: orthogonality_loss([a, b]),
    "topographic": lambda a, b: topographic_loss(a, a, b),
    "entropy": code_entropy_loss,
}


def test_commitment_by_hand():
    latent, code = torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([[0.0], [0.0], [10.0]])
    assert_close(commitment_loss(latent, code), torch.tensor(5 / 3))
    wide = torch.zeros(3, 2)  # laid side by side: 5 over 9 entries, not the mean of two means
    assert_close(commitment_loss([latent, wide], [code, wide]), torch.tensor(5 / 9))


def test_alignment_by_hand():
    projected = torch.tensor([[[1.0, 0.0], [3.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]]])
    # means over steps (2, 0) and (0, 2); errors (1, 1) and (0, 2)
    got = latent_alignment_loss(projected, torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    assert got.item() == 1.5


def test_alignment_of_nothing_and_of_the_mean(fields):
    latent = torch.nn.functional.layer_norm(fields(0, 200, 8) + fields(1, 8), [8])
    zero = latent_alignment_loss(torch.zeros(200, 3, 8, dtype=latent.dtype), latent)
    assert zero.item() == pytest.approx(1, rel=1e-4)  # the norm's epsilon
    mean = latent.mean(0)
    found = latent_alignment_loss(mean.expand(200, 3, 8), latent)
    assert_close(found, zero - mean.square().mean())


def test_orthogonality_by_hand():
    # ±1 columns over four samples: a and b uncorrelated, c = a
    a, b = (
        torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None],
        torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None],
    )
    assert orthogonality_loss([a, b]) == 0
    assert_close(orthogonality_loss([a, 3 * a + 5]), torch.tensor(1.0))
    # with (a, b) against a: squares 1 and 0
    assert_close(orthogonality_loss([torch.cat([a, b], 1), -a]), torch.tensor(0.5))
    assert_close(orthogonality_loss([a, b, a]), torch.tensor(1 / 3))
    # a against a + b: ½
    assert_close(orthogonality_loss([a, a + b]), torch.tensor(0.5))


def test_orthogonality_of_independent_columns_is_one_over_n(fields):
    got = orthogonality_loss([fields(0, 50, 40), fields(1, 50, 30)])
    assert got.item() == pytest.approx(1 / 49, rel=0.1)
    constant = torch.ones(50, 2, dtype=torch.float64, requires_grad=True)
    loss = orthogonality_loss([constant, fields(1, 50, 3)])
    loss.backward()
    assert loss == 0
    assert not constant.grad.any()


def test_similarity_by_hand():
    # distances 1, 3, 2 and 2, 3, 1: deviations (−1, 1, 0) and (0, 1, −1)
    first, second = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [2.0], [3.0]])
    assert_close(topographic_similarity(first, second), torch.tensor(0.5))
    assert_close(topographic_loss(first, second, second), torch.tensor(0.15))
    assert_close(topographic_loss(second, first, second), torch.tensor(0.5))
    weighed = topographic_loss(second, first, second, pre_weight=1.0, post_weight=0.0)
    assert_close(weighed, torch.tensor(0.5))


@pytest.mark.parametrize(("count", "with_diagonal"), [(64, 0.87), (256, 0.62), (1024, 0.30)])
def test_independent_points_are_not_similar(fields, count, with_diagonal):
    a, b = fields(0, count, 256), fields(1, count, 256)
    assert abs(topographic_similarity(a, b)) < 0.1
    zeros = torch.corrcoef(torch.stack([torch.cdist(v, v).flatten() for v in (a, b)]))[0, 1]
    assert zeros > with_diagonal - 0.01  # why pairs of one sample are left out


@given(seed=seeds)
def test_similarity_ignores_rotation_scale_and_offset(fields, seed):
    points, other = fields(seed, 12, 3), fields(seed + 1, 12, 5)
    turn, _ = torch.linalg.qr(fields(seed + 2, 3, 3))
    moved = 7 * points @ turn + fields(seed + 3, 3)
    assert_close(topographic_similarity(points, moved), torch.tensor(1.0, dtype=points.dtype))
    assert_close(topographic_similarity(moved, other), topographic_similarity(points, other))


def test_codes_shared_by_samples_have_finite_gradients(fields):
    latent = fields(0, 10, 3).requires_grad_()
    few = latent[torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 0])]
    topographic_loss(fields(1, 10, 4), latent, few).backward()
    assert latent.grad.isfinite().all()
    one = latent[:1].expand(10, 3)
    collapsed = topographic_loss(fields(1, 10, 4), one, one)
    assert collapsed.item() == 1.0


def test_entropy_by_hand():
    table = torch.tensor([[0.0], [10.0], [20.0], [30.0]])
    latent = table[torch.tensor([0, 0, 1, 3])]
    # usage ½, ¼, 0, ¼: H = 1.0397
    assert code_entropy_loss(latent, table).item() == pytest.approx(math.log(4) - 1.0397, abs=1e-4)
    assert code_entropy_loss(table, table).item() == pytest.approx(0, abs=1e-6)
    assert code_entropy_loss(latent[:1], table).item() == pytest.approx(math.log(4))
    # two codes at distance 1 and temperature ½: shares 1/(1 + e⁻²) and the rest
    p = 1 / (1 + math.exp(-2))
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    got = code_entropy_loss(torch.zeros(5, 1), torch.tensor([[0.0], [1.0]]), temperature=0.5)
    assert got.item() == pytest.approx(math.log(2) - entropy)


def test_descent_on_the_entropy_spreads_latents(fields):
    latent, table = 0.1 * fields(0, 40, 2), 2 * fields(1, 6, 2)
    before = code_entropy_loss(latent, table)
    for _ in range(60):
        latent.requires_grad_()
        (slope,) = torch.autograd.grad(code_entropy_loss(latent, table), latent)
        latent = (latent - 10 * slope).detach()
    assert code_entropy_loss(latent, table) < 0.3 * before


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name, fields):
    a, b = fields(0, 6, 3).requires_grad_(), fields(1, 6, 3).requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], (a, b))
    (slope,) = torch.autograd.grad(LOSSES[name](a, b), a)
    assert slope.any()


def test_no_gradient_into_codes_and_targets(fields):
    latent, target = fields(0, 6, 3).requires_grad_(), fields(1, 6, 3).requires_grad_()
    commitment_loss(latent, target).backward()
    latent_alignment_loss(latent[:, None], target).backward()
    assert target.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", OF_TWO)
def test_half_inputs_are_computed_in_float32(name, dtype, fields):
    a, b = ((30 * fields(i, 6, 3)).to(dtype) for i in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = OF_TWO[name](a, b)
    assert got.dtype == torch.float32
    assert_close(got, OF_TWO[name](a.float(), b.float()), rtol=0, atol=0)


def test_steps_by_hand():
    assert sample_steps(32, 3) == [0, 15, 31]
    assert sample_steps(32, 8) == [0, 4, 8, 13, 17, 22, 26, 31]
    assert sample_steps(32, 1) == [31]
    assert sample_steps(3, -1) == sample_steps(3, 3) == [0, 1, 2]
    assert sample_steps(1, -1) == sample_steps(1, 1) == [0]


@given(window=st.integers(1, 300), data=st.data())
def test_steps_ascend_from_first_to_last(window, data):
    count = data.draw(st.integers(1, window))
    steps = sample_steps(window, count)
    assert len(steps) == count == len(set(steps))
    assert steps == sorted(steps)
    assert steps[-1] == window - 1
    assert count == 1 or steps[0] == 0


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(("window", "count"), [(3, 4), (3, 0), (3, -2), (0, -1)])
    def test_steps(self, window, count):
        with pytest.raises(
            ValueError, match=f"count={count} needs to be within 1 and window={window}"
        ):
            sample_steps(window, count)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda z: commitment_loss(z, z[:2]), "latent and code need one shape"),
            (
                lambda z: commitment_loss([z, z[:2]], [z, z]),
                "latent need equal axes before the last",
            ),
            (lambda z: commitment_loss([], []), "latent is empty"),
            (lambda z: latent_alignment_loss(z, z), r"expected \(sample, step, latent\)"),
            (
                lambda z: latent_alignment_loss(z[:, None], z[:2]),
                "projected and latent need one shape",
            ),
            (lambda z: orthogonality_loss([z]), "two or more with the same samples"),
            (lambda z: orthogonality_loss([z, z[:2]]), "two or more with the same samples"),
            (lambda z: topographic_similarity(z, z[:2]), "need the same samples, two at least"),
            (lambda z: topographic_loss(z, z, z[:, :1]), "latent and code need one shape"),
            (lambda z: topographic_loss(z, z, z, pre_weight=-1.0), "weights must be finite"),
            (lambda z: code_entropy_loss(z, z[:, :1]), "need one width"),
            (lambda z: code_entropy_loss(z, z, temperature=0.0), "temperature must be positive"),
        ],
    )
    def test_inputs(self, call, message):
        with pytest.raises(ValueError, match=message):
            call(torch.zeros(3, 4))
