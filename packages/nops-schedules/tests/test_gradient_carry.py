"""Weights that are handed from stage to stage, and clamps that are counted."""

import warnings

import pytest
import torch
from nops_schedules import AdaptiveLossWeights, ConstantWeights, Stages
from nops_schedules.gradient import (
    ConFIG,
    GradientNormWeights,
    GradNorm,
    InverseDirichlet,
    LearningRateAnnealing,
    MomentumConFIG,
    NTKWeights,
    UncertaintyWeights,
)

NAMES = ["a", "b", "c"]
MAKE = {
    "norm": lambda **o: GradientNormWeights(NAMES, every=1, **o),
    "annealing": lambda **o: LearningRateAnnealing(NAMES, reference="a", every=1, **o),
    "dirichlet": lambda **o: InverseDirichlet(NAMES, reference="a", every=1, **o),
    "grad_norm": lambda **o: GradNorm(NAMES, lr=1.0, **o),
    "kernel": lambda **o: NTKWeights(NAMES, every=1, **o),
    "uncertainty": lambda **o: UncertaintyWeights(NAMES, lr=0.5, **o),
    "impartial": lambda **o: UncertaintyWeights(NAMES, form="imtl_l", lr=0.5, **o),
}
FIRST = {"a": 2.0, "b": 0.5, "c": 7.0}
each = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def one_step(weighting, step=0, factor=1.0):
    """A step whose terms have gradients of unlike size."""
    x = torch.ones(4, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[1.0, 2, 3, 4], [10, 20, 30, -40], [0.1, 0.2, 0, 0.3]], dtype=x.dtype)
    residuals = dict(zip(NAMES, factor * rows * x, strict=True))
    losses = {name: r.square().mean() for name, r in residuals.items()}
    at = {"epoch": 0, "step": step}
    if hasattr(weighting, "note_residuals"):
        weighting.note_residuals(residuals)
    if hasattr(weighting, "balance"):
        weighting.balance(losses, [x], **at)
    weights = weighting.weights(**at)
    weighting.observe({n: v.item() for n, v in losses.items()}, **at, split="train")
    return weights


@each
def test_stages_carry_weights_in_and_out(make):
    second = make()
    stages = Stages(
        [
            (1, ConstantWeights(FIRST)),
            (3, second),
            (None, AdaptiveLossWeights(NAMES, strategy="fixed")),
        ]
    )
    assert stages.weights(epoch=0, step=1) == pytest.approx(FIRST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in (1, 2):
            one_step(second, step)
    last = second.weights(epoch=0, step=2)
    assert last != pytest.approx(FIRST)
    assert stages.weights(epoch=0, step=3) == pytest.approx(last)


@each
def test_carried_weights_are_clamped_and_saved(make):
    first, again = make(min_weight=1.0, max_weight=3.0), make(min_weight=1.0, max_weight=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first.begin_at({**FIRST, "b": 0.0, "unknown": 2.0})
    assert first.weights(epoch=0, step=0) == pytest.approx({"a": 2.0, "b": 1.0, "c": 3.0})
    assert first.clamped_terms == {}
    again.load_state_dict(first.state_dict())
    assert again.weights(epoch=0, step=0) == first.weights(epoch=0, step=0)


def test_the_first_measurement_replaces_what_was_carried():
    carried, alone = MAKE["norm"](), MAKE["norm"]()
    carried.begin_at(FIRST)
    assert one_step(carried) == one_step(alone)


def test_aggregators_multiply_the_rows_by_what_was_carried():
    stages = Stages([(1, ConstantWeights(FIRST)), (None, ConFIG(NAMES))])
    assert stages.weights(epoch=0, step=1) == FIRST
    based = ConFIG(NAMES, base=AdaptiveLossWeights(NAMES, strategy="fixed"))
    based.begin_at(FIRST)
    assert based.weights(epoch=0, step=0) == FIRST
    turns = Stages([(1, ConstantWeights(FIRST)), (None, MomentumConFIG(NAMES))])
    assert turns.weights(epoch=0, step=1) == {"a": 0.0, "b": 1.0, "c": 0.0}


@each
def test_clamps_are_counted_and_told_once(make):
    weighting = make(min_weight=0.9, max_weight=1.1)
    with pytest.warns(UserWarning, match=r"c \(.*clamped to \[0.9, 1.1\]"):
        one_step(weighting)
    one_step(weighting, 1)
    assert weighting.clamped_terms["c"] == 2
    state = weighting.state_dict()
    again = make(min_weight=0.9, max_weight=1.1)
    again.load_state_dict(state)
    assert again.clamped_terms == weighting.clamped_terms
    one_step(again, 2)  # nothing is told again
    assert again.clamped_terms["c"] == 3
    assert state["clamped"]["c"] == 2


def test_a_skipped_measurement_is_not_counted():
    weighting = MAKE["norm"](min_weight=0.9, max_weight=1.1)
    with pytest.warns(UserWarning, match="clamped"):
        one_step(weighting)
    weighting.discard_update()
    assert weighting.clamped_terms == {}
