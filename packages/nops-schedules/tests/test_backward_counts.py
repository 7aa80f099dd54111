"""Backward passes of every scheme, counted by identity nodes on losses, residuals and layers: the README's table."""

import pytest
import torch
from nops_schedules import (
    AdaptiveLossWeights,
    AutoSelect,
    DynamicWeightAverage,
    ReLoBRaLo,
    SoftAdapt,
    Stages,
    VarianceWeights,
    gradient,
)

NAMES = ["a", "b", "c"]
POINTS, STEPS, EVERY = 5, 8, 4
PLAIN = STEPS * len(NAMES)  # the backward pass of a total goes through each loss once
BY_VALUES = {
    "adaptive": lambda: AdaptiveLossWeights(NAMES, strategy="ema", update_unit="step"),
    "SoftAdapt": lambda: SoftAdapt(NAMES),
    "ReLoBRaLo": lambda: ReLoBRaLo(NAMES),
    "DynamicWeightAverage": lambda: DynamicWeightAverage(NAMES, update_unit="step"),
    "VarianceWeights": lambda: VarianceWeights(NAMES),
    "Stages": lambda: Stages([(3, SoftAdapt(NAMES)), (None, ReLoBRaLo(NAMES))]),
    "AutoSelect": lambda: AutoSelect(NAMES, window=100),
    "UncertaintyWeights": lambda: gradient.UncertaintyWeights(NAMES),
}
EACH = {
    name: lambda name=name: getattr(gradient, name)(NAMES)
    for name in ("AlignedMTL", "CAGrad", "ConFIG", "IMTLG", "MGDA", "PCGrad", "UPGrad")
}
MEASURED = {
    "GradientNormWeights": lambda: gradient.GradientNormWeights(NAMES, every=EVERY),
    "InverseDirichlet": lambda: gradient.InverseDirichlet(NAMES, every=EVERY),
    "LearningRateAnnealing": lambda: gradient.LearningRateAnnealing(
        NAMES, reference="a", every=EVERY
    ),
    "GradNorm": lambda: gradient.GradNorm(NAMES, every=EVERY),
}
POINTWISE = {
    "SelfAdaptive": lambda: gradient.SelfAdaptive(POINTS),
    "ResidualAttention": lambda: gradient.ResidualAttention(POINTS),
    "CausalWeights": lambda: gradient.CausalWeights(2),
}


def passes(toy, weighting, *, points=None):
    """Traversals in some steps, through losses, residuals and the first layer."""
    first = torch.ones(2, dtype=torch.float64, requires_grad=True)
    last = torch.ones(2, dtype=torch.float64, requires_grad=True)
    found = {"losses": 0, "residuals": 0, "first": 0}
    rows = torch.arange(1.0, 31, dtype=torch.float64).reshape(3, POINTS, 2) / 30
    for step in range(STEPS):
        layer, in_first = toy.counted({"x": torch.tanh(first)})
        out = rows @ (layer["x"] * last) - 1
        residuals, in_residuals = toy.counted(dict(zip(NAMES, out, strict=True)))
        losses = {name: r.square().mean() for name, r in residuals.items()}
        if points is not None:
            time = torch.linspace(0, 1, POINTS)
            losses["a"] = points.loss(residuals["a"], *([time] if points.takes_time else []))
        losses, in_losses = toy.counted(losses)
        make_step(weighting, losses, [first, last], residuals, step)
        for name, calls in zip(found, (in_losses, in_residuals, in_first), strict=True):
            found[name] += len(calls)
    return found


def make_step(weighting, losses, params, residuals, step):
    at = {"epoch": 0, "step": step}
    on = {name: losses[name] for name in NAMES if name in weighting.active(**at)}
    if hasattr(weighting, "note_residuals"):
        weighting.note_residuals(residuals)
    if hasattr(weighting, "balance"):
        weighting.balance(on, params, **at)
    weights = weighting.weights(**at)
    if hasattr(weighting, "accumulate"):
        weighting.backward(on, params)
    else:
        torch.stack([weights[name] * loss for name, loss in on.items()]).sum().backward()
    weighting.observe({n: v.item() for n, v in on.items()}, **at, split="train")


@pytest.mark.parametrize("make", BY_VALUES.values(), ids=BY_VALUES)
def test_weights_by_values_add_none(toy, make):
    assert passes(toy, make()) == {"losses": PLAIN, "residuals": PLAIN, "first": STEPS}


@pytest.mark.parametrize("make", POINTWISE.values(), ids=POINTWISE)
def test_weights_of_points_add_none(toy, make):
    points = make()
    joint = gradient.WithPointwise(SoftAdapt(NAMES), {"a": points})
    found = passes(toy, joint, points=points)
    assert found == {"losses": PLAIN, "residuals": PLAIN, "first": STEPS}


@pytest.mark.parametrize("make", EACH.values(), ids=EACH)
def test_aggregators_make_one_for_each_term(toy, make):
    assert passes(toy, make()) == {"losses": PLAIN, "residuals": PLAIN, "first": PLAIN}


def test_momentum_config_makes_one_for_one_term(toy):
    found = passes(toy, gradient.MomentumConFIG(NAMES))
    assert found == {"losses": STEPS, "residuals": STEPS, "first": STEPS}


@pytest.mark.parametrize("make", MEASURED.values(), ids=MEASURED)
def test_measurements_make_one_for_each_term_now_and_then(toy, make):
    more = PLAIN // EVERY
    assert passes(toy, make()) == {
        "losses": PLAIN + more,
        "residuals": PLAIN + more,
        "first": STEPS + more,
    }


def test_grad_norm_goes_no_further_than_what_is_shared(toy):
    last = torch.ones(2, dtype=torch.float64, requires_grad=True)
    weighting = gradient.GradNorm(NAMES, shared=[last])
    first = torch.ones(2, dtype=torch.float64, requires_grad=True)
    layer, in_first = toy.counted({"x": torch.tanh(first)})
    out = layer["x"] * last
    losses, in_losses = toy.counted({n: (k + out).square().sum() for k, n in enumerate(NAMES)})
    weighting.balance(losses, [first, last], epoch=0, step=0)
    assert (len(in_losses), len(in_first)) == (len(NAMES), 0)


def test_the_kernel_makes_one_for_each_point_or_probe(toy):
    chunked = gradient.NTKWeights(NAMES, every=EVERY, chunk=1)
    more = len(NAMES) * POINTS * (STEPS // EVERY)
    assert passes(toy, chunked) == {
        "losses": PLAIN,
        "residuals": PLAIN + more,
        "first": STEPS + more,
    }
    probed = gradient.NTKWeights(NAMES, every=EVERY, method="hutchinson", probes=2)
    more = len(NAMES) * 2 * (STEPS // EVERY)
    assert passes(toy, probed) == {
        "losses": PLAIN,
        "residuals": PLAIN + more,
        "first": STEPS + more,
    }
