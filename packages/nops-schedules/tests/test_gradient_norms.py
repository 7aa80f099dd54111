"""Weights from sizes of gradients: golden values, properties, what does not count."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules.gradient import (
    GradientNormWeights,
    GradNorm,
    InverseDirichlet,
    LearningRateAnnealing,
    gradient_stats,
    jacobian,
)

AT = {"epoch": 0, "step": 0}
NAMES = ["a", "b"]
ALL = {
    "norm": lambda names, **more: GradientNormWeights(names, **more),
    "annealing": lambda names, **more: LearningRateAnnealing(names, reference="a", **more),
    "mean": lambda names, **more: LearningRateAnnealing(
        names, reference="a", variant="mean_mean", **more
    ),
    "dirichlet": lambda names, **more: InverseDirichlet(names, **more),
    "grad_norm": lambda names, **more: GradNorm(names, **more),
}


def balanced(weighting, losses, params, **at):
    weighting.balance(losses, params, **{**AT, **at})
    return weighting.weights(**AT)


def close(found, *expected, tolerance=5e-5):
    assert list(found.values()) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("split", [None, 1, 3])
def test_golden_values(toy, split):
    # g1 = (3, -4, 0, 0), g2 = (.3, .1, -.2, .4): norms 5 and sqrt(.3)
    losses, params = toy.terms(toy.pair, split=split)
    close(balanced(GradientNormWeights(NAMES), losses, params), 0.5548, 5.0644)
    # max|g1| = 4, mean|g1| = 7/4, mean|g2| = 1/4
    annealing = LearningRateAnnealing(NAMES, reference="a")
    close(balanced(annealing, losses, params), 1, 16, tolerance=1e-12)
    mean = LearningRateAnnealing(NAMES, reference="a", variant="mean_mean")
    close(balanced(mean, losses, params), 1, 7, tolerance=1e-12)
    # variances 25/4 - 1/16 and .3/4 - .0225
    close(balanced(InverseDirichlet(NAMES, reference="a"), losses, params), 1, 10.8562)
    close(balanced(InverseDirichlet(NAMES), losses, params), 1, 10.8562)
    close(balanced(GradNorm(NAMES), losses, params), 0.93076, 1.06924, tolerance=5e-6)


def test_annealing_over_the_weight_divides_by_the_one_in_force(toy):
    losses, params = toy.terms(toy.pair)
    weighting = LearningRateAnnealing(
        NAMES, reference="a", variant="max_mean_over_weight", ema=0.5, every=1
    )
    close(balanced(weighting, losses, params), 1, 16, tolerance=1e-12)
    # then (16 + 16 / 16) / 2
    close(balanced(weighting, losses, params, step=1), 1, 8.5, tolerance=1e-12)


def test_annealing_by_several_references_takes_the_gradient_of_their_sum(toy):
    losses, params = toy.terms([(3.0, -4.0), (1.0, 5.0), (0.5, -1.5)])
    weighting = LearningRateAnnealing(["a", "b", "c"], reference=["a", "b"])
    close(balanced(weighting, losses, params), 1, 1, 4, tolerance=1e-12)  # (4, 1): 4 / 1


def test_ema_is_the_share_of_the_old_value(toy):
    losses, params = toy.terms(toy.pair)
    weighting = LearningRateAnnealing(NAMES, reference="a", ema=0.9, every=10)
    balanced(weighting, losses, params)
    tenfold = {"a": 10 * losses["a"], "b": losses["b"]}
    close(balanced(weighting, tenfold, params, step=9), 1, 16, tolerance=1e-12)  # held
    close(balanced(weighting, tenfold, params, step=10), 1, 0.9 * 16 + 16, tolerance=1e-12)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_a_term_times_c_has_its_weight_over_c(toy, scale, seed):
    rows = torch.randn(2, 5, generator=torch.Generator().manual_seed(seed)).tolist()
    losses, params = toy.terms(rows)
    more = {"min_weight": 0.0, "max_weight": 1e12}
    for make in (ALL["annealing"], ALL["mean"]):
        before = balanced(make(NAMES, **more), losses, params)
        after = balanced(make(NAMES, **more), {**losses, "b": scale * losses["b"]}, params)
        assert after["b"] * scale == pytest.approx(before["b"], rel=1e-9)
    both = {name: scale * loss for name, loss in losses.items()}
    for make in (ALL["norm"], ALL["dirichlet"]):
        before = balanced(make(NAMES, **more), losses, params)
        assert balanced(make(NAMES, **more), both, params) == pytest.approx(before, rel=1e-9)


@given(seed=st.integers(0, 99))
def test_weighted_gradients_are_equally_large(toy, seed):
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)) * torch.tensor(
        [[1.0], [30.0], [0.1]]
    )
    losses, params = toy.terms(rows.tolist())
    weights = balanced(GradientNormWeights(list(losses)), losses, params)
    norms = [w * row.norm().item() for w, row in zip(weights.values(), rows, strict=True)]
    assert norms == pytest.approx([rows.norm(dim=1).mean().item()] * 3, rel=1e-5)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_the_order_of_the_terms_does_not_matter(toy, make):
    losses, params = toy.terms(toy.pair)
    there = balanced(make(["a", "b"]), losses, params)
    back = balanced(make(["b", "a"]), dict(reversed(losses.items())), params)
    assert there == pytest.approx(back, rel=1e-12)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_frozen_and_unused_parameters(toy, make):
    losses, params = toy.terms(toy.pair, split=2)
    expected = balanced(make(NAMES), losses, params)
    frozen = torch.ones(3)
    assert balanced(make(NAMES), losses, [frozen, *params]) == expected
    unused = torch.ones(4, requires_grad=True, dtype=torch.float64)
    if make is ALL["norm"] or make is ALL["grad_norm"]:
        assert balanced(make(NAMES), losses, [*params, unused]) == expected
    assert all(p.grad is None for p in (*params, unused, frozen))
    with pytest.raises(ValueError, match="requires a gradient"):
        make(NAMES).balance(losses, [frozen], **AT)


def test_a_complex_parameter_counts_as_its_two_parts():
    x = torch.zeros(2, dtype=torch.complex128, requires_grad=True)
    losses = {"a": (3 * x.real).sum(), "b": x[0].imag - 4 * x[1].real}
    # torch's gradient of a real function is d/dre + i d/dim
    expected = torch.tensor([[3.0, 0, 3, 0], [0, 1, -4, 0]], dtype=torch.float64)
    assert torch.equal(jacobian(losses, [x]), expected)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_zero_gradient_keeps_its_weight_and_disturbs_no_other(toy, make):
    losses, params = toy.terms([*toy.pair, (0.0, 0.0, 0.0, 0.0)])
    expected = balanced(make(NAMES), {n: losses[n] for n in NAMES}, params)
    found = balanced(make([*NAMES, "c"]), losses, params)
    assert found == {**expected, "c": 1.0}
    no_graph = {**losses, "c": torch.tensor(1.0, dtype=torch.float64)}
    assert balanced(make([*NAMES, "c"]), no_graph, params) == found


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_gradient_that_is_not_finite_changes_nothing(toy, make, bad):
    losses, params = toy.terms(toy.pair)
    weighting = make(NAMES, every=1)
    before = balanced(weighting, losses, params)
    assert balanced(weighting, {**losses, "a": bad * losses["a"]}, params, step=1) == before


@pytest.mark.filterwarnings("ignore:the weights of:UserWarning")
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_bounds_hold_and_a_base_weight_of_0_is_off_for_ever(toy, make):
    losses, params = toy.terms([*toy.pair, (1.0, 1.0, 1.0, 0.5)])
    weighting = make({"a": 1.0, "b": 1.0, "c": 0.0}, min_weight=0.95, max_weight=1.05)
    found = balanced(weighting, losses, params)
    assert found["c"] == 0.0
    assert weighting.active(**AT) == {"a", "b"}
    assert found["b"] == 1.05
    assert 0.95 <= found["a"] <= 1.05
    assert weighting.terms == {"a": 1.0, "b": 1.0, "c": 0.0}


@pytest.mark.parametrize(("make", "passes"), [(m, 2) for m in ALL.values()], ids=ALL)
def test_backward_passes(toy, make, passes):
    losses, params = toy.terms(toy.pair)
    through, calls = toy.counted(losses)
    weighting = make(NAMES, every=3)
    counts = []
    for step in range(7):
        weighting.balance(through, params, epoch=0, step=step)
        counts.append(len(calls))
        calls.clear()
    assert counts == [passes, 0, 0, passes, 0, 0, passes]
    sum(through.values()).backward()  # the graph is still there
    assert len(calls) == 2


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_skipped_step_takes_the_change_back(toy, make):
    losses, params = toy.terms(toy.pair)
    weighting = make(NAMES, every=1)
    start = weighting.weights(**AT)
    moved = balanced(weighting, losses, params)
    assert moved != start
    weighting.discard_update()
    assert weighting.weights(**AT) == start
    assert balanced(weighting, losses, params) == moved
    weighting.apply_update()
    weighting.discard_update()
    assert weighting.weights(**AT) == moved


def test_grad_norm_is_the_derivative_of_its_distance(toy):
    """The closed derivative against autograd through a graph of the gradients."""
    x = torch.tensor([0.7, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    losses = {"a": (x**2).sum(), "b": (x[0] * x[1] - x[2]) ** 2, "c": x.exp().mean()}
    weighting = GradNorm(list(losses), alpha=0.8, lr=0.01)
    for step in range(2):
        start = torch.tensor(list(weighting.weights(**AT).values()), dtype=torch.float64)
        balanced(weighting, losses, [x], step=step)
    logs = start.log().requires_grad_()
    grads = [
        torch.autograd.grad(v, x, retain_graph=True, create_graph=True)[0] for v in losses.values()
    ]
    parts = torch.stack([w * g.norm() for w, g in zip(logs.exp(), grads, strict=True)])
    (parts - parts.mean().detach()).abs().sum().backward()  # all r_i are 1: losses as at first
    moved = (logs - 0.01 * logs.grad).exp().detach()
    close(weighting.weights(**AT), *(3 * moved / moved.sum()).tolist(), tolerance=1e-12)


def test_grad_norm_without_alpha_ends_where_all_are_equal(toy):
    losses, params = toy.terms([(1.0, 0.0), (0.0, 3.0), (2.0, 0.0)])
    weighting = GradNorm(list(losses), alpha=0.0, lr=0.002)
    for step in range(2000):
        balanced(weighting, losses, params, step=step)
    found = weighting.weights(**AT)
    sizes = [w * n for w, n in zip(found.values(), (1, 3, 2), strict=True)]
    assert sizes == pytest.approx([3 / (1 + 1 / 3 + 1 / 2)] * 3, rel=2e-2)
    assert sum(found.values()) == pytest.approx(3)


def test_grad_norm_pulls_up_the_term_that_lags(toy):
    losses, params = toy.terms([(1.0, 0.0), (0.0, 1.0)])
    weighting = GradNorm(NAMES)
    balanced(weighting, losses, params)
    halved = {"a": losses["a"] - 0.5, "b": losses["b"]}
    found = balanced(weighting, halved, params, step=1)
    assert found["b"] > 1 > found["a"]


def test_grad_norm_measures_the_shared_parameters_alone(toy):
    losses, params = toy.terms(toy.pair, split=2)
    through, calls = toy.counted(losses)
    found = balanced(GradNorm(NAMES, shared=params[:1]), through, params)
    assert len(calls) == 2
    alone, first = toy.terms([(3.0, -4.0), (0.3, 0.1)])
    assert found == balanced(GradNorm(NAMES), alone, first)


def test_reduce_gives_the_weights_of_the_sum(toy):
    """Two ranks, each with half of the gradients and values."""
    losses, params = toy.terms(toy.pair)
    for make in ALL.values():
        whole = balanced(make(NAMES), losses, params)
        halves = {name: 0.5 * loss for name, loss in losses.items()}
        assert balanced(make(NAMES), halves, params, reduce=lambda t: 2 * t) == whole


def test_stats_and_jacobian(toy):
    losses, params = toy.terms([(3.0, -4.0), (4.0, 3.0), (0.0, 0.0)], split=1)
    assert jacobian(losses, params).tolist() == [[3, -4], [4, 3], [0, 0]]
    stats = gradient_stats(losses, params)
    assert stats["norm"] == [5, 5, 0]
    assert stats["cosine"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: GradientNormWeights(["a", "a"]), ValueError, r"\['a'\] more than once"),
        (lambda: GradientNormWeights("ab"), TypeError, "found the text 'ab'"),
        (lambda: GradientNormWeights({"a": -1.0}), ValueError, "'a' must be finite"),
        (lambda: GradientNormWeights(NAMES, ema=1.0), ValueError, r"ema must be within \[0, 1\)"),
        (lambda: GradientNormWeights(NAMES, every=0), ValueError, "every must be a whole number"),
        (
            lambda: GradientNormWeights(NAMES, min_weight=2.0, max_weight=1.0),
            ValueError,
            "min_weight must not be above max_weight, got 2.0 and 1.0",
        ),
        (lambda: LearningRateAnnealing(NAMES, reference="c"), KeyError, r"\['c'\] are no terms"),
        (
            lambda: LearningRateAnnealing({"a": 0.0, "b": 1.0}, reference="a"),
            ValueError,
            "base weight of 0",
        ),
        (
            lambda: LearningRateAnnealing(NAMES, reference="a", variant="max-mean"),
            ValueError,
            "Did you mean 'max_mean'",
        ),
    ],
)
def test_refuses_nonsense(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_refuses_unknown_losses_negative_losses_and_foreign_states(toy):
    losses, params = toy.terms(toy.pair, values={"a": -1.0, "b": 1.0})
    with pytest.raises(KeyError, match=r"\['b'\] are no terms of the weighting; it has \['a'\]"):
        GradientNormWeights(["a"]).balance(losses, params, **AT)
    with pytest.raises(ValueError, match=r"\['a'\] are negative"):
        GradNorm(NAMES).balance(losses, params, **AT)
    state = GradNorm(NAMES).state_dict()
    with pytest.raises(ValueError, match=r"'GradNorm'.*'InverseDirichlet'"):
        InverseDirichlet(NAMES).load_state_dict(state)
    with pytest.raises(ValueError, match=r"\['a', 'b'\].*\['b', 'a'\]"):
        GradNorm(["b", "a"]).load_state_dict(state)


def test_importing_the_package_loads_no_torch():
    code = "import sys, nops_schedules, nops_schedules.gradient; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_torch_the_extra_is_named():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import nops_schedules.gradient as g\n"
        "try:\n    g.GradNorm\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "GradNorm needs torch: pip install 'nops-schedules[torch]'"
