import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import ConstantWeights

weights = st.dictionaries(st.text(min_size=1), st.floats(0, 1e6), min_size=1).filter(
    lambda terms: any(terms.values())
)


def test_terms_weights_and_what_is_active():
    weighting = ConstantWeights({"traj": 1, "ic": 0.3, "commit": 0.0})
    assert weighting.terms == {"traj": 1.0, "ic": 0.3, "commit": 0.0}
    assert weighting.observes is None
    assert weighting.active(epoch=0, step=0) == frozenset({"traj", "ic"})
    assert weighting.weights(epoch=7, step=300) == weighting.terms


@given(terms=weights, epoch=st.integers(0, 99), step=st.integers(0, 9999))
def test_nothing_ever_moves(terms, epoch, step):
    weighting = ConstantWeights(terms)
    before = weighting.weights(epoch=0, step=0)
    weighting.observe(dict.fromkeys(terms, math.nan), epoch=epoch, step=step, split="train")
    assert weighting.weights(epoch=epoch, step=step) == before == terms
    assert weighting.active(epoch=epoch, step=step) == {n for n, w in terms.items() if w > 0}


def test_callers_cannot_change_the_weights():
    given_terms = {"traj": 1.0}
    weighting = ConstantWeights(given_terms)
    given_terms["traj"] = 5.0
    weighting.weights(epoch=0, step=0)["traj"] = 6.0
    assert weighting.weights(epoch=0, step=0) == {"traj": 1.0}


def test_state_goes_round():
    weighting = ConstantWeights({"traj": 1.0})
    weighting.load_state_dict(weighting.state_dict())
    assert weighting.weights(epoch=0, step=0) == {"traj": 1.0}


def test_refuses_the_state_of_another_weighting():
    with pytest.raises(ValueError, match=r"\['progress'\]"):
        ConstantWeights({"traj": 1.0}).load_state_dict({"progress": 0.5})


@pytest.mark.parametrize("weight", [-1.0, -1e-9, math.nan, math.inf, -math.inf])
def test_refuses_weights_that_make_no_sense(weight):
    with pytest.raises(ValueError, match="'ic' must be finite and not negative"):
        ConstantWeights({"traj": 1.0, "ic": weight})


@pytest.mark.parametrize("terms", [{}, {"traj": 0.0}, {"traj": 0, "ic": 0.0}])
def test_refuses_to_train_nothing(terms):
    with pytest.raises(ValueError, match="at least one term"):
        ConstantWeights(terms)


@pytest.mark.parametrize("terms", [{"traj": "1"}, {"traj": None}, {"traj": True}, {3: 1.0}])
def test_refuses_what_is_no_name_or_number(terms):
    with pytest.raises(TypeError, match="names to numbers"):
        ConstantWeights(terms)


def test_says_what_it_is():
    assert repr(ConstantWeights({"traj": 1})) == "ConstantWeights({'traj': 1.0})"
