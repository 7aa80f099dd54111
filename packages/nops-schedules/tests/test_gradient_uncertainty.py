"""Learned scales: closed forms, the joint path, and what they refuse."""

import math

import pytest
import torch
from nops_schedules.gradient import UncertaintyWeights

AT = {"epoch": 0, "step": 0}
FORMS = ["kendall", "imtl_l"]


def observed(weighting, values, times=1):
    for step in range(times):
        weighting.observe(values, epoch=0, step=step, split="train")
    return list(weighting.weights(**AT).values())


def test_where_it_starts():
    assert UncertaintyWeights(["a"]).weights(**AT) == {"a": 0.5}
    assert UncertaintyWeights(["a"], form="imtl_l").weights(**AT) == {"a": 1.0}


def test_it_ends_at_the_inverse_of_the_loss():
    # ½ exp(-s) at s = ln L is 1 / (2 L); exp(s) at s = -ln L is 1 / L
    values = {"a": 0.25, "b": 3.0}
    assert observed(UncertaintyWeights(list(values)), values, 2000) == pytest.approx(
        [2.0, 1 / 6], rel=1e-4
    )
    impartial = UncertaintyWeights(list(values), form="imtl_l")
    assert observed(impartial, values, 2000) == pytest.approx([4.0, 1 / 3], rel=1e-4)


def test_the_total_by_hand():
    losses = {"a": torch.tensor(4.0, requires_grad=True), "b": torch.tensor(0.0)}
    weighting = UncertaintyWeights(list(losses))
    for s in weighting.parameters():
        s.data.fill_(math.log(2))
    # ½ · ½ · 4 + ½ ln 2, and 0 + ½ ln 2
    total = weighting.total(losses)
    assert total.item() == pytest.approx(1 + math.log(2))
    total.backward()
    assert losses["a"].grad.item() == pytest.approx(0.25) == weighting.weights(**AT)["a"]
    impartial = UncertaintyWeights(list(losses), form="imtl_l")
    for s in impartial.parameters():
        s.data.fill_(math.log(2))
    assert impartial.total(losses).item() == pytest.approx(8 - 2 * math.log(2))


@pytest.mark.parametrize("form", FORMS)
def test_training_s_with_the_network_is_the_same_path(form):
    def path(*, joint):
        x = torch.tensor([1.5, -0.5], dtype=torch.float64, requires_grad=True)
        weighting = UncertaintyWeights(["a", "b"], form=form)
        groups = [{"params": [x], "lr": 0.05}]
        if joint:
            groups.append({"params": weighting.parameters(), "lr": 1e-2})
        adam = torch.optim.Adam(groups)
        for step in range(20):
            losses = {"a": (x**2).sum(), "b": (x[0] - 2) ** 2}
            weights = weighting.weights(**AT)
            adam.zero_grad()
            plain = sum(weights[name] * losses[name] for name in losses)
            (weighting.total(losses) if joint else plain).backward()
            adam.step()
            if not joint:
                values = {name: loss.item() for name, loss in losses.items()}
                weighting.observe(values, epoch=0, step=step, split="train")
        return [*x.tolist(), *weighting.weights(**AT).values()]

    assert path(joint=True) == pytest.approx(path(joint=False), rel=1e-9)


def test_what_is_missing_or_not_finite_or_of_validation_keeps_s():
    weighting = UncertaintyWeights(["a", "b", "c"])
    first = observed(weighting, {"a": 3.0, "b": 3.0, "c": 3.0})
    weighting.observe({"a": 9.0}, epoch=0, step=1, split="valid")
    assert list(weighting.weights(**AT).values()) == first
    second = observed(weighting, {"a": 3.0, "b": math.nan})
    assert second[1:] == first[1:]
    assert second[0] < first[0]


@pytest.mark.filterwarnings("ignore:the weights of:UserWarning")
def test_bounds_and_terms_that_are_off():
    weighting = UncertaintyWeights({"a": 1.0, "b": 0.0}, min_weight=0.1, max_weight=0.4)
    assert weighting.active(**AT) == {"a"}
    assert weighting.weights(**AT) == {"a": 0.4, "b": 0.0}
    assert len(weighting.parameters()) == 1
    assert observed(weighting, {"a": 1e4, "b": 1.0}, 500) == [0.1, 0.0]
    with pytest.raises(ValueError, match=r"none of \['b'\] is on"):
        weighting.total({"b": torch.ones(())})


def test_refusals():
    with pytest.raises(ValueError, match=r"a is negative \(-1.0\)"):
        observed(UncertaintyWeights(["a"]), {"a": -1.0})
    with pytest.raises(ValueError, match="Did you mean 'kendall'"):
        UncertaintyWeights(["a"], form="kendal")
    with pytest.raises(KeyError, match=r"\['c'\] are no terms"):
        UncertaintyWeights(["a"]).total({"c": torch.ones(())})
    state = UncertaintyWeights(["a"]).state_dict()
    with pytest.raises(ValueError, match="'kendall', this is 'imtl_l'"):
        UncertaintyWeights(["a"], form="imtl_l").load_state_dict(state)


def test_a_step_without_a_finite_term_does_not_count():
    skipped, never = UncertaintyWeights(["a", "b"]), UncertaintyWeights(["a", "b"])
    for weighting in (skipped, never):
        observed(weighting, {"a": 3.0, "b": 0.1})
    observed(skipped, {"a": math.nan, "b": math.inf})
    for weighting in (skipped, never):
        observed(weighting, {"a": 3.0, "b": 0.1})
    assert skipped.weights(**AT) == never.weights(**AT)
    assert skipped.state_dict()["adam"]["state"][0]["step"] == 2
