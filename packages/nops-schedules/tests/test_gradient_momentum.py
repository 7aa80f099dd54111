"""Momentum ConFIG: the published values, one term in turn, and steps that are taken back."""

import math

import pytest
import torch
from nops_schedules.gradient import MomentumConFIG

SEQUENCE = [(-4.0, 1.0, 1.0), (6.0, 1.0, 1.0), (-2.0, 1.0, 0.0), (3.0, 0.0, 1.0)]


def momentum_path(toy, weighting, steps, *, start=0):
    found = []
    for step in range(start, start + steps):
        losses, params = toy.terms({"ab"[step % 2]: SEQUENCE[step % 4]}, split=1)
        assert weighting.active(epoch=0, step=step) == losses.keys()
        weighting.backward(losses, params)
        found.append(torch.cat([p.grad for p in params]).tolist())
    return found


def test_momentum_config_golden_values(toy):
    found = momentum_path(toy, MomentumConFIG(["a", "b"]), 4)
    expected = [(0, 0, 0), (1, 1, 1), (1.00103, 1.00120, 0.91169), (0.90070, 0.87685, 0.93406)]
    for row, aim in zip(found, expected, strict=True):
        assert row == pytest.approx(aim, abs=6e-6)


def test_momentum_config_takes_one_term_in_turn(toy):
    weighting = MomentumConFIG({"a": 1.0, "off": 0.0, "b": 1.0})
    assert [weighting.active(epoch=0, step=s) for s in range(3)] == [{"a"}, {"b"}, {"a"}]
    assert weighting.weights(epoch=0, step=1) == {"a": 0.0, "off": 0.0, "b": 1.0}
    losses, params = toy.terms({"a": (-4.0, 1.0, 1.0), "b": (6.0, 1.0, 1.0)})
    with pytest.raises(ValueError, match=r"one loss per step, of \['a', 'b'\]; got \['a', 'b'\]"):
        weighting.backward(losses, params)
    weighting.accumulate({"a": losses["a"]}, params)
    with pytest.raises(ValueError, match=r"began with \['a'\], got \['b'\]"):
        weighting.accumulate({"b": losses["b"]}, params)


def test_momentum_config_takes_a_skipped_step_back(toy):
    plain, skipping = (MomentumConFIG(["a", "b"]) for _ in range(2))
    expected = momentum_path(toy, plain, 4)
    found = momentum_path(toy, skipping, 3)[:2]
    skipping.discard_update()
    found += momentum_path(toy, skipping, 2, start=2)
    assert found == expected
    before = skipping.state_dict()
    losses, params = toy.terms({"a": (math.nan, 1.0, 1.0)})
    skipping.backward(losses, params)
    assert params[0].grad.isnan().any()
    assert skipping.state_dict()["counts"] == before["counts"]


def test_momentum_config_writes_to_what_other_terms_reached():
    x, y, unused = (torch.ones(2, requires_grad=True) for _ in range(3))
    weighting = MomentumConFIG(["a", "b"])
    for losses in ({"a": x.sum()}, {"b": y.sum()}):
        x.grad = y.grad = None
        weighting.backward(losses, [x, y, unused])
    assert x.grad.abs().min() > 0
    assert y.grad.abs().min() > 0
    assert unused.grad is None
