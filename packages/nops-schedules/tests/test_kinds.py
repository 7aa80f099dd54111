"""Weightings by name: every public rule has one, and what is wrong is told before training."""

import nops_schedules
import pytest
from nops_schedules import gradient, make_weighting, weighting_class, weighting_kinds

TERMS = {"data": 1.0, "pde": 0.5, "off": 0.0}
PARTS = {
    "Phases",
    "Stages",
    "FlexibleLossScheduler",
    "TorchJD",
    "WithPointwise",
}  # made of others, of a path, or of another package's rule


def is_rule(owner, name):
    found = getattr(owner, name)
    return isinstance(found, type) and hasattr(found, "active") and hasattr(found, "weights")


def test_every_rule_has_a_name():
    known = {weighting_class(kind) for kind in weighting_kinds()}
    for owner in (nops_schedules, gradient):
        rules = {getattr(owner, name) for name in owner.__all__ if is_rule(owner, name)}
        assert {rule for rule in rules if rule.__name__ not in PARTS} <= known
    assert len(known) == len(weighting_kinds())


@pytest.mark.parametrize("kind", weighting_kinds())
def test_each_is_made_with_its_terms_and_those_of_weight_0_stay_off(kind):
    needed = {"learning_rate_annealing": {"reference": "data"}, "curriculum": {"ramped": ("pde",)}}
    made = make_weighting(kind, TERMS, **needed.get(kind, {}))
    assert type(made) is weighting_class(kind)
    assert made.terms.keys() == TERMS.keys()
    assert "off" not in made.active(epoch=99, step=99)
    assert "data" in made.active(epoch=99, step=0)


def test_options_reach_the_rule():
    made = make_weighting("curriculum", TERMS, ramped=("pde",), delay=0, ramp=4)
    assert made.weights(epoch=1, step=0) == {"data": 1.0, "pde": 0.125, "off": 0.0}


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("soft_adapt", {}, "Did you mean 'softadapt'"),
        ("relobralo", {"tua": 1.0}, "Did you mean 'tau'"),
        ("relobralo", {"initial_weights": {}}, "none of"),
        ("learning_rate_annealing", {}, "needs reference"),
        ("learning_rate_annealing", {"reference": "pdes"}, "pdes"),
        ("relobralo", {"alpha": 2.0}, "alpha"),
    ],
)
def test_what_is_wrong_is_told_by_name(kind, options, words):
    with pytest.raises(ValueError, match=words):
        make_weighting(kind, TERMS, **options)
