"""A step that was skipped changes nothing, also where a weighting is one of several."""

import pytest
import torch
from nops_schedules import AutoSelect, Stages
from nops_schedules.gradient import GradientNormWeights

NAMES = ["a", "b"]


def in_stages():
    return Stages([(None, GradientNormWeights(NAMES, every=1))])


def nested():
    return Stages([(None, in_stages())])


def balance(weighting, step):
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    losses = {"a": 3 * x.sum(), "b": (1 + step) * x[0]}
    weighting.active_weighting.balance(losses, [x], epoch=0, step=step)
    return weighting.weights(epoch=0, step=step)


@pytest.mark.parametrize("make", [in_stages, nested])
def test_a_skipped_step_is_forgotten(make):
    skipped, never = make(), make()
    balance(skipped, 0)
    skipped.discard_update()
    assert balance(skipped, 1) == balance(never, 1)


@pytest.mark.parametrize("make", [in_stages, nested])
def test_a_kept_step_counts(make):
    kept, alone, never = make(), GradientNormWeights(NAMES, every=1), make()
    first = balance(kept, 0)
    kept.apply_update()
    assert first == kept.weights(epoch=0, step=1)
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    alone.balance({"a": 3 * x.sum(), "b": x[0]}, [x], epoch=0, step=0)
    alone.apply_update()
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    alone.balance({"a": 3 * x.sum(), "b": 2 * x[0]}, [x], epoch=0, step=1)
    after = balance(kept, 1)
    assert after == alone.weights(epoch=0, step=1)
    assert after != balance(never, 1)


def test_a_weighting_that_stages_nothing_is_left_alone():
    select = AutoSelect(NAMES, window=100)
    select.apply_update()
    select.discard_update()
    assert select.weights(epoch=0, step=0) == {"a": 1.0, "b": 1.0}
