"""Weights of points: golden values, the climb along the closed derivative, bounds, and what they refuse."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import (
    AdaptiveLossWeights,
    ConstantWeights,
    FlexibleLossScheduler,
    SchedulerParams,
    Stages,
)
from nops_schedules.gradient import (
    CausalWeights,
    ConFIG,
    GradientNormWeights,
    ResidualAttention,
    SelfAdaptive,
    WithPointwise,
)

AT = {"epoch": 0, "step": 0}
seeds = st.integers(0, 999)


def wide(*values):
    return torch.tensor(values, dtype=torch.float64)


def residuals(seed, n):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MASKS = {
    "square": lambda weight, r: (weight * r).square().mean(),
    "linear": lambda weight, r: (weight * r.square()).mean(),
    "sigmoid": lambda weight, r: (weight.sigmoid() * r.square()).mean(),
}


@pytest.mark.parametrize(
    ("mask", "expected"),
    # r² = 1, 4: mean of 4·(1, 4), of 2·(1, 4), of σ(2)·(1, 4)
    [("square", 10.0), ("linear", 5.0), ("sigmoid", 2.5 / (1 + math.exp(-2)))],
)
def test_self_adaptive_losses_by_hand(mask, expected):
    scheme = SelfAdaptive(2, mask=mask, init=2.0)
    r = wide(1.0, -2.0).requires_grad_()
    loss = scheme.loss(r)
    assert loss.item() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(loss, r)
    assert slope[1].item() == pytest.approx(-2 * slope[0].item())


@pytest.mark.parametrize("mask", MASKS)
def test_self_adaptive_climbs_as_adam_does_along_autograd(mask):
    scheme = SelfAdaptive(5, mask=mask, lr=0.03, init=0.7)
    expected = torch.full((5,), 0.7, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([expected], lr=0.03, maximize=True, eps=1e-30)
    for step in range(8):
        r = residuals(step, 5)
        scheme.loss(r.reshape(5, 1))
        scheme.step()
        adam.zero_grad()
        MASKS[mask](expected, r).backward()
        adam.step()
    torch.testing.assert_close(scheme.weights, expected.detach(), rtol=1e-12, atol=1e-12)
    assert (scheme.weights > 0.7).all()


def test_self_adaptive_moves_where_residuals_are_tiny():
    scheme = SelfAdaptive(2000)
    scheme.loss(torch.full((2000, 1), 1e-6))
    scheme.step()
    assert scheme.weights.tolist() == pytest.approx([1.005] * 2000, rel=1e-6)


def test_points_that_are_not_there_keep_their_weight():
    scheme, alone = SelfAdaptive(4), SelfAdaptive(4)
    for index, r in [([2, 0], (3.0, 1.0)), ([1, 3], (2.0, 5.0)), ([2, 0], (1.0, 1.0))]:
        before = scheme.weights
        scheme.loss(wide(*r), torch.tensor(index))
        scheme.step()
        moved = [n for n in range(4) if scheme.weights[n] != before[n]]
        assert moved == sorted(index)
        if index == [2, 0]:  # the steps between change nothing, the moments included
            alone.loss(wide(*r), torch.tensor(index))
            alone.step()
    assert torch.equal(scheme.weights[[0, 2]], alone.weights[[0, 2]])


@pytest.mark.parametrize(("variant", "factor"), [("squared", 0.01), ("linear", 0.1)])
def test_residual_attention_by_hand(variant, factor):
    scheme = ResidualAttention(3, gamma=0.5, eta=0.1, variant=variant)
    assert scheme.weights.tolist() == [0, 0, 0]
    # Points not seen before count with eta: (0.1² or 0.1) · (1 + 4 + 16) / 3
    assert scheme.loss(wide(1.0, -2.0, 4.0)).item() == pytest.approx(factor * 7)
    scheme.step()
    assert scheme.weights.tolist() == pytest.approx([0.025, 0.05, 0.1])
    at = {"squared": (0.025**2, 0.05**2, 0.1**2), "linear": (0.025, 0.05, 0.1)}[variant]
    expected = (9 * at[0] + at[1] + 0 * at[2]) / 3
    assert scheme.loss(wide(3.0, 1.0, 0.0)).item() == pytest.approx(expected)
    scheme.step()
    assert scheme.weights.tolist() == pytest.approx([0.1125, 0.025 + 0.1 / 3, 0.05])


@given(seed=seeds, gamma=st.floats(0, 0.99), eta=st.floats(1e-3, 1.0))
def test_residual_attention_never_passes_its_bound(seed, gamma, eta):
    scheme = ResidualAttention(4, gamma=gamma, eta=eta)
    for step in range(60):
        r = residuals(seed + step, 4) * 10.0 ** (step % 7 - 3)
        scheme.loss(torch.cat([r[:3], r.abs().amax()[None] * 2]))  # the last is always the largest
        scheme.step()
        assert (scheme.weights >= 0).all()
        assert (scheme.weights <= eta / (1 - gamma) * (1 + 1e-12)).all()
    assert scheme.weights[3].item() == pytest.approx(eta * (1 - gamma**60) / (1 - gamma))


def test_residuals_of_0_leave_the_decay_alone():
    scheme = ResidualAttention(2, gamma=0.5, eta=0.1)
    for r in ((1.0, 1.0), (0.0, 0.0)):
        scheme.loss(wide(*r))
        scheme.step()
    assert scheme.weights.tolist() == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize("make", [SelfAdaptive, ResidualAttention])
def test_parts_of_a_step_are_one_step(make):
    whole, parts = make(6), make(6)
    for step in range(3):
        r = residuals(step, 6)
        whole.loss(r)
        for index in ([4, 0], [1], [2, 3, 5]):
            parts.loss(r[index], torch.tensor(index))
        whole.step()
        parts.step()
    torch.testing.assert_close(parts.weights, whole.weights, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("make", [SelfAdaptive, ResidualAttention])
def test_the_loss_reaches_the_residual_and_nothing_else(make):
    scheme = make(3)
    r = residuals(0, 3).float().requires_grad_()
    loss = scheme.loss(r)
    assert loss.dtype == torch.float32
    (slope,) = torch.autograd.grad(loss, r)
    assert slope.abs().min() > 0
    scheme.step()
    assert not scheme.weights.requires_grad


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("make", [SelfAdaptive, ResidualAttention])
def test_what_is_not_finite_or_forgotten_moves_nothing(make, bad):
    scheme, never = make(3), make(3)
    assert not scheme.loss(wide(1.0, bad, 2.0)).isfinite()
    scheme.step()
    scheme.loss(wide(9.0, 1.0, 2.0))
    scheme.forget()
    scheme.step()  # nothing was seen
    for one in (scheme, never):
        one.loss(wide(1.0, 2.0, 3.0))
        one.step()
    assert torch.equal(scheme.weights, never.weights)


@pytest.mark.parametrize("make", [SelfAdaptive, ResidualAttention])
def test_an_index_outside_is_refused(make):
    scheme = make(3)
    for index in ([0, 3], [-1, 0]):
        with pytest.raises(IndexError, match=r"and the points are 0 to 2"):
            scheme.loss(wide(1.0, 2.0), torch.tensor(index))
    with pytest.raises(ValueError, match=r"4 residuals for 3 points.*fix the set"):
        scheme.loss(wide(1.0, 2.0, 3.0, 4.0))
    with pytest.raises(ValueError, match=r"2 residuals, and an index of 1 numbers"):
        scheme.loss(wide(1.0, 2.0), torch.tensor([0]))


TIMES = wide(0.1, 0.2, 0.5, 0.6, 1.0)


def causal(**options):
    return CausalWeights(3, tolerances=(1.0,), **options)


def test_causal_weights_by_hand():
    scheme = causal()
    # L = (1, 0.5, 0.2): means of squares in thirds of [0, 1]
    r = wide(1.0, 1.0, 1.0, 0.0, math.sqrt(0.2)).requires_grad_()
    loss = scheme.loss(r, TIMES[:, None])
    scheme.step()
    expected = [1.0, math.exp(-1), math.exp(-1.5)]
    assert scheme.weights.tolist() == pytest.approx(expected)
    assert scheme.weights.tolist() == pytest.approx([1, 0.3679, 0.2231], abs=5e-5)
    assert scheme.weights[0] == 1
    assert loss.item() == pytest.approx((1 + 0.5 * expected[1] + 0.2 * expected[2]) / 3)
    (slope,) = torch.autograd.grad(
        loss, r
    )  # the weights are held: 2 w r / (points of the chunk · 3)
    by_hand = [1 / 3, 1 / 3, expected[1] / 3, 0, 2 * expected[2] * math.sqrt(0.2) / 3]
    assert slope.tolist() == pytest.approx(by_hand)


def test_chunks_without_points_are_left_out():
    scheme = causal()
    assert scheme.loss(wide(2.0, 1.0), wide(0.0, 0.9)).item() == pytest.approx(
        (4 + math.exp(-4)) / 2
    )
    assert scheme.loss(wide(3.0), wide(0.4)).item() == pytest.approx(9)


def test_the_next_tolerance_is_taken_once_all_weights_are_above_delta():
    scheme = CausalWeights(2, tolerances=(0.1, 1.0, 10.0), delta=0.9)
    for r, tolerance in ((2.0, 0.1), (0.9, 1.0), (0.9, 1.0), (0.1, 10.0), (0.01, 10.0)):
        scheme.loss(wide(r, 5.0), wide(0.0, 1.0))  # the last chunk is before none
        scheme.step()
        assert scheme.tolerance == tolerance


def test_a_forgotten_step_does_not_tighten():
    scheme = CausalWeights(2, tolerances=(0.1, 1.0))
    scheme.loss(wide(0.0, 0.0), wide(0.0, 1.0))
    scheme.forget()
    scheme.step()
    scheme.loss(wide(math.nan, 0.0), wide(0.0, 1.0))
    scheme.step()
    assert scheme.tolerance == 0.1
    assert scheme.weights.tolist() == [1, 1]


def test_two_ranks_weigh_the_chunks_of_one():
    r = wide(1.0, 1.0, 1.0, 0.0, math.sqrt(0.2))
    one = causal()
    whole = one.loss(r, TIMES)
    parts = []
    for own in (slice(0, 2), slice(2, 5)):  # each sees a part of time alone
        scheme, others = causal(), causal()
        rest = r[2:] if own.stop == 2 else r[:2]
        other_times = TIMES[2:] if own.stop == 2 else TIMES[:2]
        seen = []
        others.reduce = lambda t, seen=seen: (seen.append(t.clone()), t)[1]
        others.loss(rest, other_times)
        scheme.reduce = lambda t, seen=seen: t + seen[0]
        parts.append(len(r[own]) / len(r) * scheme.loss(r[own], TIMES[own]))
        scheme.step()
        one.step()
        assert torch.equal(scheme.weights, one.weights)
    assert sum(parts).item() == pytest.approx(whole.item())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SelfAdaptive(0), "n_points must be a whole number of at least 1"),
        (lambda: SelfAdaptive(3, mask="quadratic"), "mask must be one of"),
        (lambda: SelfAdaptive(3, lr=0.0), "lr must be above 0"),
        (lambda: ResidualAttention(3, gamma=1.0), r"gamma must be within \[0, 1\)"),
        (lambda: ResidualAttention(3, variant="square"), "Did you mean 'squared'"),
        (lambda: CausalWeights(0), "chunks must be"),
        (lambda: CausalWeights(tolerances=()), "tolerances needs one number"),
        (lambda: CausalWeights(t_range=(1.0, 1.0)), "t_range must be a first and a later"),
        (lambda: causal().loss(wide(1.0), wide(1.5)), r"outside of t_range=\(0, 1\)"),
        (lambda: causal().loss(wide(1.0), wide(0.1, 0.2)), "1 residuals, and 2 times"),
        (lambda: WithPointwise(ConstantWeights({"a": 1.0}), {}), "a scheme of its own"),
        (
            lambda: WithPointwise(
                FlexibleLossScheduler(SchedulerParams(enabled=True)),
                {"spectrumError": SelfAdaptive(3)},
            ),
            "observes validations",
        ),
    ],
)
def test_refuses_nonsense(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_one_scheme_is_of_one_term():
    with pytest.raises(KeyError, match=r"\['c'\] are no terms"):
        WithPointwise(ConstantWeights({"a": 1.0}), {"c": SelfAdaptive(3)})
    scheme = SelfAdaptive(3)
    with pytest.raises(ValueError, match="a scheme of its own"):
        WithPointwise(ConstantWeights({"a": 1.0, "b": 1.0}), {"a": scheme, "b": scheme})


@pytest.mark.parametrize(
    ("saved", "into", "words"),
    [
        (SelfAdaptive(3), SelfAdaptive(4), "'n_points': 3"),
        (SelfAdaptive(3), SelfAdaptive(3, mask="linear"), "mask 'square', this is 'linear'"),
        (SelfAdaptive(3), ResidualAttention(3), "SelfAdaptive"),
        (ResidualAttention(3), ResidualAttention(3, variant="linear"), "this is 'linear'"),
        (CausalWeights(3), CausalWeights(4), "'chunks': 3"),
    ],
)
def test_a_foreign_state_is_refused(saved, into, words):
    with pytest.raises(ValueError, match=words):
        into.load_state_dict(saved.state_dict())


def test_the_joint_object_steps_with_what_it_observes():
    points = SelfAdaptive(2)
    joint = WithPointwise(AdaptiveLossWeights(["a", "b"], update_unit="step"), {"a": points})
    assert joint.active(**AT) == {"a", "b"}
    points.loss(wide(1.0, 2.0))
    joint.observe({"a": 1.0, "b": 4.0}, **AT, split="valid")
    assert points.weights.tolist() == [1, 1]
    joint.observe({"a": 1.0, "b": 4.0}, **AT, split="train")
    assert points.weights.tolist() == pytest.approx([1.005, 1.005])
    assert joint.weights(**AT) == pytest.approx({"a": 1.6, "b": 0.4})


def test_a_skipped_step_is_forgotten_inside_and_out():
    points = SelfAdaptive(2)
    joint = WithPointwise(GradientNormWeights(["a", "b"], every=1), {"a": points})
    nested = Stages([(None, joint)])
    assert nested.active_weighting is joint.weighting
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    points.loss(wide(1.0, 2.0))
    nested.active_weighting.balance({"a": 3 * x.sum(), "b": x[0]}, [x], **AT)
    assert nested.weights(**AT)["a"] != 1
    nested.discard_update()
    assert nested.weights(**AT) == {"a": 1, "b": 1}
    nested.observe({"a": 1.0, "b": 1.0}, **AT, split="train")
    assert points.weights.tolist() == [1, 1]


def test_weights_are_carried_into_and_the_ranks_told_through_stages():
    points = SelfAdaptive(1)
    second = WithPointwise(AdaptiveLossWeights(["a"], strategy="fixed"), {"a": points})
    stages = Stages([(1, ConstantWeights({"a": 3.0})), (None, second)])
    stages.share(lambda tensor: 2 * tensor)
    assert stages.weights(epoch=0, step=1) == {"a": 3.0}
    points.loss(wide(1.0))
    assert points.reduce(1.0) == 2.0
    WithPointwise(ConFIG(["a"]), {"a": SelfAdaptive(1)}).begin_at({"a": 2.0})


def test_a_state_of_other_points_is_refused():
    weighting = ConstantWeights({"a": 1.0, "b": 1.0})
    state = WithPointwise(weighting, {"a": SelfAdaptive(1)}).state_dict()
    with pytest.raises(ValueError, match=r"point schemes for \['a'\], this is for \['b'\]"):
        WithPointwise(weighting, {"b": SelfAdaptive(1)}).load_state_dict(state)
