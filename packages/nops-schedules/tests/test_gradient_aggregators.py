"""Aggregators: golden values, what each rule promises, and the backward pass that they own."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import ConstantWeights
from nops_schedules.gradient import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    GradientNormWeights,
    MomentumConFIG,
    PCGrad,
    TorchJD,
    UPGrad,
)

AT = {"epoch": 0, "step": 0}
ALL = [AlignedMTL, CAGrad, ConFIG, IMTLG, MGDA, PCGrad, UPGrad]
ROWS = ((-4.0, 1.0, 1.0), (6.0, 1.0, 1.0))
seeds = st.integers(0, 999)


def joined(make, toy, rows, *, split=None):
    """The joint gradient of terms with gradients `rows`."""
    losses, params = toy.terms(rows, split=split)
    weighting = make(list(losses))
    weighting.backward(losses, params)
    return torch.cat([torch.zeros_like(p) if p.grad is None else p.grad for p in params])


def random_rows(seed, m, size, *, scales=(1.0, 1.0)):
    """Rows of a normal law, each times a factor between the scales."""
    draws = torch.Generator().manual_seed(seed)
    low, high = (math.log(s) for s in scales)
    factors = torch.exp(low + (high - low) * torch.rand(m, 1, generator=draws, dtype=torch.float64))
    return factors * torch.randn(m, size, generator=draws, dtype=torch.float64)


@pytest.mark.parametrize("split", [None, 1])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (ConFIG, (0.1588, 2.0706, 2.0706)),
        (IMTLG, (0.0767, 1, 1)),
        (MGDA, (0, 1, 1)),
        (AlignedMTL, (0.2133, 0.9673, 0.9673)),
        (PCGrad, (0.5848, 3.8012, 3.8012)),
        (CAGrad, (0.1835, 1.2041, 1.2041)),
        (UPGrad, (0.292398, 1.900585, 1.900585)),
    ],
)
def test_golden_values(toy, make, expected, split):
    tolerance = 5e-7 if make is UPGrad else 5e-5
    assert joined(make, toy, ROWS, split=split).tolist() == pytest.approx(expected, abs=tolerance)


def test_upgrad_by_hand(toy):
    # g1·g2 = -22, |g1|² = 18, |g2|² = 38: each projected off the other, and halved
    g1, g2 = torch.tensor(ROWS, dtype=torch.float64)
    expected = (g1 + 22 / 38 * g2 + g2 + 22 / 18 * g1) / 2
    torch.testing.assert_close(joined(UPGrad, toy, ROWS), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(joined(PCGrad, toy, ROWS), 2 * expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", ALL)
def test_one_term_alone(toy, make):
    assert (
        joined(make, toy, [ROWS[0]]).tolist() == pytest.approx(ROWS[0], rel=1e-9) or make is CAGrad
    )
    if make is CAGrad:  # the mean and half as much again
        assert joined(make, toy, [ROWS[0]]).tolist() == pytest.approx([-6, 1.5, 1.5])


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 7.0, 65536.0, 1e12])
@pytest.mark.parametrize("make", ALL)
def test_rows_times_c_give_the_result_times_c(toy, make, scale):
    for rows in (torch.tensor(ROWS, dtype=torch.float64), random_rows(3, 3, 5)):
        before = joined(make, toy, rows.tolist())
        after = joined(make, toy, (scale * rows).tolist())
        torch.testing.assert_close(after, scale * before, rtol=1e-9, atol=1e-12 * scale)


@pytest.mark.parametrize("make", [m for m in ALL if m is not PCGrad])
def test_the_order_of_the_terms_does_not_matter(toy, make):
    rows = random_rows(5, 3, 6, scales=(0.1, 10)).tolist()
    for order in itertools.permutations(range(3)):
        found = joined(make, toy, [rows[i] for i in order])
        torch.testing.assert_close(found, joined(make, toy, rows), rtol=1e-7, atol=1e-9)


@given(seed=seeds, m=st.integers(2, 5))
def test_config_has_one_cosine_to_all_and_their_projections_as_length(toy, seed, m):
    rows = random_rows(seed, m, 8, scales=(1e-3, 1e3))
    found = joined(ConFIG, toy, rows.tolist())
    cosines = torch.nn.functional.normalize(rows, dim=1) @ (found / found.norm())
    torch.testing.assert_close(cosines, cosines.mean().expand(m), rtol=1e-6, atol=1e-9)
    assert cosines.min() > 0
    assert found.norm().item() == pytest.approx((rows @ (found / found.norm())).sum().item())


@given(seed=seeds, m=st.integers(2, 4))
def test_imtl_g_has_equal_projections_and_configs_line(toy, seed, m):
    rows = random_rows(seed, m, 8)
    found = joined(IMTLG, toy, rows.tolist())
    products = torch.nn.functional.normalize(rows, dim=1) @ found
    torch.testing.assert_close(products, products.mean().expand(m), rtol=1e-6, atol=1e-9)
    mix = torch.linalg.lstsq(rows.T, found[:, None]).solution
    assert mix.sum().item() == pytest.approx(1, rel=1e-6)
    assert abs(torch.cosine_similarity(found, joined(ConFIG, toy, rows.tolist()), dim=0)) > 1 - 1e-9


def shortest(rows):
    """The shortest mix, by trying each set of rows that may take part."""
    mixes = []
    for size in range(1, len(rows) + 1):
        for chosen in itertools.combinations(range(len(rows)), size):
            part = rows[list(chosen)]
            w = torch.linalg.lstsq(part @ part.T, torch.ones(size, 1, dtype=torch.float64)).solution
            if (w > 0).all():
                mixes.append(w[:, 0] / w.sum() @ part)
    return min(mixes, key=torch.norm)


@given(seed=seeds, m=st.integers(2, 5))
def test_mgda_is_the_shortest_mix(toy, seed, m):
    rows = random_rows(seed, m, 6, scales=(1, 1e3))
    found = joined(MGDA, toy, rows.tolist())
    expected = shortest(rows)
    assert found.norm().item() == pytest.approx(expected.norm().item(), rel=1e-9)
    # there is one shortest mix: its parts as well, in units of the longest row
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * rows.norm(dim=1).max().item())
    assert (rows @ found).min() >= found @ found * (1 - 1e-6)


@given(seed=seeds, m=st.integers(2, 4), c=st.floats(0.05, 0.95))
def test_cagrad_is_better_for_the_worst_than_any_other_in_its_ball(toy, seed, m, c):
    rows = random_rows(seed, m, 5)
    found = joined(lambda names: CAGrad(names, c=c), toy, rows.tolist())
    mean = rows.mean(dim=0)
    radius = c * mean.norm()
    assert (found - mean).norm().item() <= radius.item() * (1 + 1e-9)
    others = random_rows(seed + 1, 500, 5)
    others = mean + radius * others / others.norm(dim=1, keepdim=True)
    best = (rows @ others.T).min(dim=0).values.max()
    assert (rows @ found).min() >= best - 1e-9


def test_cagrad_without_a_ball_is_the_mean(toy):
    found = joined(lambda names: CAGrad(names, c=0.0), toy, ROWS)
    assert found.tolist() == pytest.approx([1, 1, 1])


@given(seed=seeds, m=st.integers(2, 5))
def test_upgrad_conflicts_with_none_and_moves_no_more_than_it_must(toy, seed, m):
    rows = random_rows(seed, m, 8, scales=(1e-2, 1e3))
    found = joined(UPGrad, toy, rows.tolist())
    products = rows @ found / rows.norm(dim=1) / found.norm()
    assert products.min() > -1e-6


def moved_up(gram, lower):
    """The v of least vᵀGv with v ⪰ lower, by trying each set of entries that may stay at their limits."""
    m, best = len(gram), (math.inf, lower)
    for size in range(m + 1):
        for held in itertools.combinations(range(m), size):
            free = [i for i in range(m) if i not in held]
            v = lower.clone()
            if free:
                right = -gram[free][:, list(held)] @ lower[list(held)]
                v[free] = torch.linalg.solve(gram[free][:, free], right)
            if (v >= lower - 1e-12 * v.abs().max()).all():
                best = min(best, ((v @ gram @ v).item(), v), key=lambda pair: pair[0])
    return best[1]


@given(seed=seeds, m=st.integers(2, 4))
def test_upgrad_is_the_mean_of_the_least_moves_of_each(toy, seed, m):
    """With its conditions of Karush, Kuhn and Tucker on the Gram matrix as it is, rows of any length."""
    rows = random_rows(seed, m, 8, scales=(1e-2, 1e3))
    gram = rows @ rows.T
    expected = torch.zeros(8, dtype=torch.float64)
    for lower in torch.eye(m, dtype=torch.float64) / m:
        v = moved_up(gram, lower)
        lengths = rows.norm(dim=1)
        slope = (gram @ v) / lengths / (rows.T @ v).norm()
        assert (v >= lower - 1e-9).all()
        assert slope.min() > -1e-7
        assert ((v - lower) * lengths * slope / (v * lengths).abs().max()).abs().max() < 1e-7
        expected += rows.T @ v
    found = joined(UPGrad, toy, rows.tolist())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7 * expected.norm().item())


@given(seed=seeds, m=st.integers(2, 5))
def test_the_active_set_meets_the_conditions_of_a_minimum(seed, m):
    from nops_schedules.gradient._simplex import nearest_above

    rows = torch.nn.functional.normalize(random_rows(seed, m, 6), dim=1)
    gram = rows @ rows.T
    lower = torch.rand(m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    v = torch.tensor(nearest_above(gram.tolist(), lower.tolist()), dtype=torch.float64)
    assert (v >= lower - 1e-12).all()
    assert (gram @ v > -1e-9).all()
    assert ((v - lower) * (gram @ v)).abs().max() < 1e-9


@given(seed=seeds, m=st.integers(2, 4))
def test_aligned_mtl_makes_all_principal_directions_as_long_as_the_shortest(toy, seed, m):
    rows = random_rows(seed, m, 6)
    u, s, vh = torch.linalg.svd(rows, full_matrices=False)
    expected = (s[-1] * u @ vh).mean(dim=0)
    torch.testing.assert_close(
        joined(AlignedMTL, toy, rows.tolist()), expected, rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("make", ALL)
def test_without_conflict_orthogonal_rows(toy, make):
    found = joined(make, toy, [(2.0, 0.0, 0.0), (0.0, 2.0, 0.0)])
    assert found[0].item() == pytest.approx(found[1].item())
    assert found[0] > 0
    assert found[2] == 0


@pytest.mark.parametrize("make", ALL)
def test_a_zero_row_counts_as_absent(toy, make):
    expected = joined(make, toy, ROWS)
    zero = [ROWS[0], (0.0, 0.0, 0.0), ROWS[1]]
    torch.testing.assert_close(joined(make, toy, zero), expected, rtol=1e-12, atol=1e-12)
    no_graph, params = toy.terms(zero)
    no_graph["b"] = torch.tensor(1.0, dtype=torch.float64)
    make(["a", "b", "c"]).backward(no_graph, params)
    torch.testing.assert_close(params[0].grad, expected, rtol=1e-12, atol=1e-12)
    missing, params = toy.terms(zero)
    del missing["b"]
    make(["a", "b", "c"]).backward(missing, params)
    torch.testing.assert_close(params[0].grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_all_rows_zero_give_zero(toy, make):
    assert joined(make, toy, [(0.0, 0.0), (0.0, 0.0)]).tolist() == [0, 0]


BALANCED = [(2.0, 0.0), (-1.0, math.sqrt(3)), (-1.0, -math.sqrt(3))]


@pytest.mark.parametrize("make", ALL)
def test_opposed_and_balanced_rows_give_0(toy, make):
    assert joined(make, toy, [(1.0, -2.0, 3.0), (-1.0, 2.0, -3.0)]).tolist() == [0, 0, 0]
    if make is not PCGrad:  # whose result depends on the order there
        assert joined(make, toy, BALANCED).abs().max() < 1e-9


@pytest.mark.parametrize("make", [ConFIG, IMTLG, MGDA])
def test_opposed_rows_of_unequal_length_give_0(toy, make):
    assert joined(make, toy, [(1.0, -2.0), (-3.0, 6.0)]).abs().max() < 1e-9


@pytest.mark.parametrize("make", ALL)
def test_a_row_given_twice(toy, make):
    assert joined(make, toy, [ROWS[0], ROWS[0], ROWS[1]]).isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("make", ALL)
def test_a_gradient_that_is_not_finite_shows_and_leaves_the_state(toy, make, bad):
    losses, params = toy.terms(ROWS)
    weighting = make(["a", "b"])
    before = weighting.state_dict()
    weighting.backward({**losses, "a": bad * losses["a"]}, params)
    assert not params[0].grad.isfinite().any()
    assert weighting.state_dict() == before


@pytest.mark.parametrize("make", ALL)
def test_micro_batches_sum(toy, make):
    losses, params = toy.terms(ROWS, split=2)
    weighting = make(["a", "b"])
    for _ in range(4):
        x = torch.cat(params)
        rows = dict(zip("ab", torch.tensor(ROWS, dtype=torch.float64), strict=True))
        weighting.accumulate({name: 0.25 * row @ x for name, row in rows.items()}, params)
    weighting.apply(params)
    found = torch.cat([p.grad for p in params])
    torch.testing.assert_close(found, joined(make, toy, ROWS), rtol=1e-12, atol=1e-12)
    make(["a", "b"]).backward(losses, params)  # adds, as torch does
    torch.testing.assert_close(torch.cat([p.grad for p in params]), 2 * found)


@pytest.mark.parametrize("make", ALL)
def test_reduce_joins_the_sum_of_all_ranks(toy, make):
    losses, params = toy.terms(ROWS, split=1)
    halves = {name: 0.5 * loss for name, loss in losses.items()}
    weighting = make(["a", "b"])
    weighting.accumulate(halves, params)
    weighting.apply(params, reduce=lambda t: 2 * t)
    found = torch.cat([p.grad for p in params])
    torch.testing.assert_close(found, joined(make, toy, ROWS), rtol=1e-12, atol=1e-12)


def test_a_parameter_that_one_rank_alone_reaches_has_a_gradient_on_all():
    ours, theirs = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    weighting = ConFIG(["a", "b"])
    weighting.accumulate({"a": 2 * ours.sum(), "b": 3 * ours.sum()}, [ours, theirs])
    rows = torch.tensor([[0.0, 2.0], [0.0, 3.0]])  # of the other rank
    weighting.apply(
        [ours, theirs], reduce=lambda t: t + (rows if t.ndim == 2 else torch.tensor([0, 1]))
    )
    assert ours.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("make", ALL)
def test_backward_passes_and_parameters_that_are_not_reached(toy, make):
    losses, params = toy.terms(ROWS, split=1)
    through, calls = toy.counted(losses)
    frozen = torch.ones(2)
    unused = torch.ones(2, requires_grad=True)
    make(["a", "b"]).backward(through, [frozen, *params, unused])
    assert len(calls) == 2
    assert frozen.grad is None
    assert unused.grad is None
    found = torch.cat([p.grad for p in params])
    torch.testing.assert_close(found, joined(make, toy, ROWS), rtol=1e-12, atol=1e-12)


def test_a_parameter_that_one_term_reaches(toy):
    x, y = (torch.zeros(2, requires_grad=True) for _ in range(2))
    losses = {"a": 2 * x.sum(), "b": (x - y).sum()}
    ConFIG(["a", "b"]).backward(losses, [x, y])
    rows = [(2.0, 2.0, 0.0, 0.0), (1.0, 1.0, -1.0, -1.0)]
    torch.testing.assert_close(
        torch.cat([x.grad, y.grad]).double(), joined(ConFIG, toy, rows), rtol=1e-6, atol=1e-6
    )


def test_types_of_parameters_stay():
    half = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    waves = torch.zeros(2, dtype=torch.complex64, requires_grad=True)
    losses = {
        "a": half.sum().float() + waves.real.sum(),
        "b": half.sum().float() + waves.imag.sum(),
    }
    ConFIG(["a", "b"]).backward(losses, [half, waves])
    assert half.grad.dtype == torch.bfloat16
    assert waves.grad.dtype == torch.complex64
    torch.testing.assert_close(waves.grad, torch.full((2,), complex(1, 1), dtype=torch.complex64))


def test_weights_scale_the_rows(toy):
    factors = {"a": 2.0, "b": 0.5}
    scaled = [[2 * v for v in ROWS[0]], [0.5 * v for v in ROWS[1]]]
    for weighting in (MGDA(factors), MGDA(["a", "b"], base=ConstantWeights(factors))):
        losses, params = toy.terms(ROWS)
        assert weighting.weights(**AT) == factors
        weighting.backward(losses, params)
        torch.testing.assert_close(params[0].grad, joined(MGDA, toy, scaled))


def test_a_term_of_weight_0_is_off(toy):
    weighting = ConFIG({"a": 1.0, "b": 0.0})
    losses, params = toy.terms(ROWS)
    assert weighting.active(**AT) == {"a"}
    weighting.backward(losses, params)
    assert params[0].grad.tolist() == pytest.approx(ROWS[0])


def test_config_with_nine_million_parameters():
    draws = torch.Generator().manual_seed(0)
    x = torch.zeros(9_000_000, requires_grad=True)
    rows = torch.randn(3, 9_000_000, generator=draws) * torch.tensor([[1.0], [1.0], [1e-3]])
    rows[1] = 0.3 * rows[1] - rows[0]
    ConFIG(["a", "b", "c"]).backward({n: r @ x for n, r in zip("abc", rows, strict=True)}, [x])
    cosines = [(r.double() @ x.grad.double() / r.double().norm()).item() for r in rows]
    assert cosines == pytest.approx([cosines[0]] * 3, rel=1e-3)
    assert cosines[0] > 0


ORDERED = random_rows(7, 4, 3).tolist()


def test_pcgrad_draws_from_seed_and_count_alone(toy):
    def path(seed, steps, skipped=()):
        weighting = PCGrad(list("abcd"), seed=seed)
        found = []
        for step in range(steps):
            losses, params = toy.terms(ORDERED)
            torch.rand(3)
            weighting.backward(losses, params)
            found.append(tuple(params[0].grad.tolist()))
            if step in skipped:
                weighting.discard_update()
        return found

    assert path(0, 6) == path(0, 6)
    assert path(0, 6) != path(1, 6)
    assert len(set(path(0, 6))) > 1
    assert path(0, 4, skipped=(1,))[2:] == path(0, 4)[1:3]


def test_refusals(toy):
    losses, params = toy.terms(ROWS)
    for make in (ConFIG, MomentumConFIG):
        with pytest.raises(ValueError, match="nothing was accumulated"):
            make(["a", "b"]).apply(params)
        with pytest.raises(KeyError, match=r"\['b'\] are no terms"):
            make(["a"]).backward({"b": losses["b"]}, params)
    with pytest.raises(ValueError, match=r"base has no terms \['b'\]"):
        ConFIG(["a", "b"], base=ConstantWeights({"a": 1.0}))
    with pytest.raises(ValueError, match="GradientNormWeights looks at gradients itself"):
        ConFIG(["a", "b"], base=GradientNormWeights(["a", "b"]))
    state = ConFIG(["a"], base=ConstantWeights({"a": 1.0})).state_dict()
    with pytest.raises(ValueError, match="base and this one has none"):
        ConFIG(["a"]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"'ConFIG'.*'MGDA'"):
        MGDA(["a"]).load_state_dict(ConFIG(["a"]).state_dict())


def test_a_rule_of_anybodys_gets_the_products_of_the_rows_that_are_there(toy):
    seen = []

    def halves(gram):
        seen.append(gram)
        return torch.full((len(gram),), 0.5)

    losses, params = toy.terms([*ROWS, (0.0, 0.0, 0.0)])
    TorchJD(list(losses), halves).backward(losses, params)
    assert seen[0].tolist() == [[18, -22], [-22, 38]]
    assert params[0].grad.tolist() == [1, 1, 1]
    with pytest.raises(TypeError, match="must be a weighting of torchjd"):
        TorchJD(["a"], "upgrad")
