"""Vector quantisation: by hand, by brute force, and what has a gradient to what."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_models import EMA, Gradient, RotationTrick, SimVQ, StraightThrough, VectorQuantizer
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)
STILL = EMA(kmeans_init=False, revive_below=None)
UPDATES = [STILL, Gradient(), SimVQ()]


def column(*values):
    return torch.tensor(values)[:, None]


def test_one_step_by_hand(place):
    update = EMA(decay=0.5, eps=0.0, kmeans_init=False, revive_below=None)
    quantizer = VectorQuantizer(1, num_codes=2, update=update, commitment_weight=1.0)
    place(quantizer, [0.0, 10.0])
    found = quantizer(column(0.0, 2.0, 9.0))
    assert found.index.tolist() == [0, 0, 1]
    assert found.distance.tolist() == [0.0, 4.0, 1.0]
    assert_close(found.commitment_loss, torch.tensor(5 / 3))
    assert found.code.tolist() == [[0.0], [0.0], [10.0]]  # the table as it was
    # n = (2, 1), sums (2, 9): N = (1.5, 1), m = (1, 9.5)
    assert_close(quantizer.cluster_size, torch.tensor([1.5, 1.0]))
    assert_close(quantizer.codebook, column(2 / 3, 9.5))
    weighted = VectorQuantizer(1, num_codes=2, update=update, commitment_weight=0.25)
    place(weighted, [0.0, 10.0])
    assert_close(weighted(column(0.0, 2.0, 9.0)).commitment_loss, torch.tensor(5 / 12))


def test_unused_codes_are_kept_from_dividing_by_zero(place):
    quantizer = VectorQuantizer(
        1, num_codes=2, update=EMA(decay=0.0, eps=0.5, kmeans_init=False, revive_below=None)
    )
    place(quantizer, [0.0, 10.0])
    quantizer(column(2.0, 4.0, 3.0))
    # N = (3, 0), m = (9, 0): N̂ = (3.5, 0.5)/4·3 = (2.625, 0.375)
    assert_close(quantizer.codebook, column(9 / 2.625, 0.0))


def test_cosine_by_hand(place):
    update = EMA(decay=0.5, eps=0.0, kmeans_init=False, revive_below=None)
    quantizer = VectorQuantizer(2, num_codes=2, similarity="cosine", update=update)
    place(quantizer, [[1.0, 0.0], [0.0, 1.0]])
    found = quantizer(torch.tensor([[30.0, 40.0], [5.0, 0.0]]))
    assert found.index.tolist() == [1, 0]
    assert_close(found.code, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert_close(found.distance, torch.tensor([0.4, 0.0]))  # 2 − 2·0.8
    assert_close(found.commitment_loss, torch.tensor(0.25 * 0.4 / 4))
    # m = ½(0, 1) + ½(0.6, 0.8), to length 1: (0.3, 0.9)/√0.9
    assert_close(quantizer.codebook[1], torch.tensor([0.3, 0.9]) / math.sqrt(0.9))


@given(seed=seeds, offset=st.sampled_from([0.0, 1e3]))
def test_each_vector_gets_the_nearest_code(seed, offset):
    generator = torch.Generator().manual_seed(seed)
    z, table = (torch.randn(n, 5, generator=generator) + offset for n in (40, 12))
    quantizer = VectorQuantizer(5, num_codes=12, update=Gradient())
    quantizer.book.table.data.copy_(table)
    found = quantizer.eval()(z.view(8, 5, 5))
    apart = (z[:, None].double() - table.double()).square().sum(-1)
    assert torch.equal(found.index.view(-1), apart.argmin(1))
    assert_close(found.distance.view(-1), apart.amin(1).float(), rtol=1e-4, atol=1e-5)
    assert_close(found.code, table[found.index], rtol=0, atol=0)


def test_the_lowest_of_equal_codes_is_chosen():
    quantizer = VectorQuantizer(1, num_codes=3, update=Gradient()).eval()
    quantizer.book.table.data.copy_(column(5.0, 1.0, 1.0))
    assert quantizer(column(0.0, 3.0)).index.tolist() == [1, 0]  # 3 lies between 5 and 1


def test_one_code(normal):
    quantizer = VectorQuantizer(3, num_codes=1)
    z = normal(0, 20, 3).float()
    found = quantizer(z)
    assert found.index.unique().tolist() == [0]
    assert_close(quantizer.codebook[0], z.mean(0))


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_permuted_codes_change_labels_only(normal, place, similarity):
    z, table = normal(0, 50, 4).float(), torch.nn.functional.normalize(normal(1, 9, 4).float())
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    one, other = (
        VectorQuantizer(4, num_codes=9, similarity=similarity, update=STILL) for _ in range(2)
    )
    place(one, table)
    place(other, table[order])
    first, second = one(z), other(z)
    assert torch.equal(order[second.index], first.index)
    assert_close(second.code, first.code)
    assert_close(second.commitment_loss, first.commitment_loss)
    assert_close(other.codebook, one.codebook[order])


def test_the_rotation_by_hand():
    z, q = torch.tensor([2.0, 0.0], requires_grad=True), torch.tensor([0.0, 1.0])
    for estimator, expected in ((RotationTrick(), [0.0, -0.5]), (StraightThrough(), [1.0, 0.0])):
        code = estimator(z, q)
        assert torch.equal(code, q)
        (gradient,) = torch.autograd.grad(code, z, torch.tensor([1.0, 0.0]))
        assert_close(gradient, torch.tensor(expected))


@given(seed=seeds)
def test_the_rotation_turns_and_scales(normal, seed):
    z, q = normal(seed, 2, 4)
    jacobian = torch.autograd.functional.jacobian(lambda v: RotationTrick()(v, q), z)
    assert_close(jacobian @ z, q)
    scale = q.norm() / z.norm()
    assert_close(jacobian.mT @ jacobian, scale**2 * torch.eye(4, dtype=z.dtype))
    assert torch.det(jacobian) > 0  # no reflection


@pytest.mark.parametrize(
    ("z", "q"), [([1.0, 2.0], [-2.0, -4.0]), ([0.0, 0.0], [1.0, 0.0]), ([1.0, 0.0], [0.0, 0.0])]
)
def test_without_a_rotation_the_gradient_goes_straight_through(z, q):
    z, q = torch.tensor(z), torch.tensor(q)
    jacobian = torch.autograd.functional.jacobian(lambda v: RotationTrick()(v, q), z)
    assert_close(jacobian, torch.eye(2))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_which_loss_reaches_what(normal, update, similarity):
    quantizer = VectorQuantizer(4, num_codes=6, similarity=similarity, update=update)
    z = normal(0, 10, 4).float().requires_grad_()
    found = quantizer(z)
    parts = [z, *quantizer.parameters()]

    def reached(loss):
        if not loss.requires_grad:
            return [False] * len(parts)
        grads = torch.autograd.grad(loss, parts, allow_unused=True, retain_graph=True)
        return [g is not None and bool(g.any()) for g in grads]

    table = [True] * (len(parts) - 1)
    assert reached(found.commitment_loss) == [True, *[False] * len(table)]
    assert reached(found.code.square().sum() + found.code.sum()) == [True, *[False] * len(table)]
    assert reached(found.codebook_loss) == [False, *table]
    if update is STILL:
        assert found.codebook_loss == 0
    else:
        assert_close(found.codebook_loss, found.commitment_loss / 0.25)


@pytest.mark.parametrize("update", UPDATES[1:])
def test_a_step_on_the_codebook_loss_draws_codes_to_their_latents(normal, update):
    quantizer = VectorQuantizer(4, num_codes=6, update=update)
    z = 3 + normal(0, 30, 4).float()
    (trained,) = quantizer.parameters()
    losses = []
    for _ in range(40):
        losses.append(quantizer(z).codebook_loss)
        (slope,) = torch.autograd.grad(losses[-1], trained)
        trained.data -= 0.1 * slope
    assert losses[-1] < 0.5 * losses[0]


def test_simvq_moves_every_code_by_one_matrix(normal):
    quantizer = VectorQuantizer(4, num_codes=6, update=SimVQ())
    before = quantizer.codebook.detach()
    quantizer(normal(0, 1, 4).float()).codebook_loss.backward()
    with torch.no_grad():
        quantizer.book.matrix -= 0.1 * quantizer.book.matrix.grad
    assert (quantizer.codebook - before).norm(dim=1).min() > 0  # the five that were not chosen too


@pytest.mark.parametrize("update", [*UPDATES, EMA()])
def test_what_is_masked_out_counts_for_nothing(normal, update):
    z = normal(0, 6, 10, 4).float()
    mask = normal(1, 6, 10) > -0.3
    kept = z[mask].clone().requires_grad_()
    dirty = torch.where(mask[..., None], z, math.nan).requires_grad_()
    one, other = (VectorQuantizer(4, num_codes=5, update=update, code_dim=3) for _ in range(2))
    other.load_state_dict(one.state_dict())
    torch.manual_seed(0)
    expected, found = one(kept), other(dirty, mask)
    assert torch.equal(found.index[mask], expected.index)
    assert_close(found.code[mask], expected.code)
    assert found.index[~mask].unique().tolist() == [-1]
    assert not found.code[~mask].any()
    assert not found.distance[~mask].any()
    assert_close(found.commitment_loss, expected.commitment_loss)
    assert_close(found.codebook_loss, expected.codebook_loss)
    for a, b in zip(other.state_dict().values(), one.state_dict().values(), strict=True):
        assert_close(a, b)
    for output in (expected, found):
        (output.code.square().sum() + output.commitment_loss).backward()
    assert_close(dirty.grad[mask], kept.grad)
    assert not dirty.grad[~mask].any()
    for a, b in zip(other.parameters(), one.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert_close(a.grad, b.grad)
    everything = other(z, torch.zeros_like(mask))
    assert everything.commitment_loss == 0
    assert everything.index.unique().tolist() == [-1]


@pytest.mark.parametrize("code_dim", [None, 2])
def test_indices_find_their_codes_again(normal, code_dim):
    quantizer = VectorQuantizer(4, num_codes=5, code_dim=code_dim).eval()
    assert quantizer.codebook.shape == (5, code_dim or 4)
    found = quantizer(normal(0, 3, 7, 4).float())
    assert found.code.shape == (3, 7, 4)
    assert_close(quantizer.lookup(found.index), found.code)
    assert not quantizer.lookup(torch.tensor([-1])).any()
    found.code.sum().backward() if code_dim else None
    assert all(p.grad is not None for p in quantizer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_latents_are_compared_in_float32(normal, dtype):
    quantizer = VectorQuantizer(4, num_codes=5).eval()
    z = normal(0, 30, 4).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantizer(z)
    expected = quantizer(z.float())
    assert torch.equal(found.index, expected.index)
    assert_close(found.commitment_loss, expected.commitment_loss, rtol=0, atol=0)
    assert found.code.dtype == dtype
    assert_close(found.code, expected.code.to(dtype), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_codes": 0}, "num_codes must be at least 1, got 0"),
            ({"code_dim": 0}, "code_dim must be at least 1, got 0"),
            ({"similarity": "dot"}, "similarity must be one of euclidean, cosine, got 'dot'"),
            ({"commitment_weight": -1.0}, "commitment_weight must be finite and not negative"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            VectorQuantizer(4, **{"num_codes": 2, **options})

    @pytest.mark.parametrize(
        ("rule", "options", "message"),
        [
            (EMA, {"decay": 1.0}, r"decay must be within \[0, 1\)"),
            (EMA, {"eps": -1.0}, "eps must be finite"),
            (EMA, {"kmeans_iterations": 0}, "kmeans_iterations must be at least 1"),
            (EMA, {"revive_below": 0.0}, "revive_below must be positive, or None"),
            (Gradient, {"weight": -1.0}, "weight must be finite and not negative"),
            (SimVQ, {"weight": math.inf}, "weight must be finite and not negative"),
        ],
    )
    def test_rules(self, rule, options, message):
        with pytest.raises(ValueError, match=message):
            rule(**options)

    def test_other_shapes(self):
        quantizer = VectorQuantizer(4, num_codes=2)
        with pytest.raises(ValueError, match=r"latent has shape \(3, 5\), expected \(\.\.\., 4\)"):
            quantizer(torch.zeros(3, 5))
        with pytest.raises(ValueError, match=r"mask has shape \(3, 1\), expected \(3,\)"):
            quantizer(torch.zeros(3, 4), torch.ones(3, 1, dtype=torch.bool))
