"""NaN, infinite, zero, negative, missing and unknown terms: never a silent deletion or reset."""

import inspect
import math
import warnings

import nops_schedules
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import (
    AdaptiveLossWeights,
    DynamicWeightAverage,
    ReLoBRaLo,
    SoftAdapt,
    VarianceWeights,
    WeightingError,
    gradient,
)

NAMES = ["a", "b", "c", "off"]
INITIAL = {"a": 1.0, "b": 2.0, "c": 0.5, "off": 0.0}
GOOD = {"a": 0.5, "b": 0.2, "c": 3.0}
STEP = {"update_unit": "step"}
SCHEMES = {
    "equal_init": lambda **o: AdaptiveLossWeights(NAMES, INITIAL, **STEP, **o),
    "equal_init_ema": lambda **o: AdaptiveLossWeights(
        NAMES, INITIAL, "equal_init_ema", **STEP, **o
    ),
    "ema": lambda **o: AdaptiveLossWeights(NAMES, INITIAL, "ema", normalize="total", **STEP, **o),
    "SoftAdapt": lambda **o: SoftAdapt(NAMES, initial_weights=INITIAL, **STEP, **o),
    "difference": lambda **o: SoftAdapt(
        NAMES, initial_weights=INITIAL, variant="difference", **STEP, **o
    ),
    "ReLoBRaLo": lambda **o: ReLoBRaLo(NAMES, initial_weights=INITIAL, alpha=0.5, **STEP, **o),
    "dwa": lambda **o: DynamicWeightAverage(NAMES, initial_weights=INITIAL, **STEP, **o),
    "variance": lambda **o: VarianceWeights(NAMES, initial_weights=INITIAL, **STEP, **o),
}
MOVING = [name for name in SCHEMES if name != "equal_init"]
LIMITS = {"min_weight": 1e-3, "max_weight": 30.0}
LEFT_OUT = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "missing": None}
every = pytest.mark.parametrize("scheme", SCHEMES)


def show(made, values, step):
    made.observe(values, epoch=step // 4, step=step, split="train")


def moved(scheme, **options):
    """After three updates that move every weight."""
    made = SCHEMES[scheme](**options)
    for step in range(3):
        show(made, {name: value * (step + 1 + (name == "a")) for name, value in GOOD.items()}, step)
    return made


def with_a(value):
    return GOOD | {"a": value} if value is not None else {n: v for n, v in GOOD.items() if n != "a"}


@pytest.mark.parametrize("folder", [nops_schedules, gradient])
def test_limits_that_are_not_given_are_the_same_for_all_schemes(folder):
    shared = {"min_weight": 1e-4, "max_weight": 1e4, "max_invalid": 10}
    inits = [
        inspect.signature(getattr(folder, name).__init__).parameters for name in folder.__all__
    ]
    taken = [{name: init[name].default for name in shared & init.keys()} for init in inits]
    assert sum(map(bool, taken)) >= 5
    assert all(limits.items() <= shared.items() for limits in taken)


@pytest.mark.parametrize("scheme", MOVING)
def test_valid_values_move_every_weight(scheme):
    before, after = SCHEMES[scheme]().get_weights(), moved(scheme).get_weights()
    assert all(after[name] != before[name] for name in GOOD)
    assert after["off"] == 0.0


@every
@pytest.mark.parametrize("kind", LEFT_OUT)
def test_an_invalid_term_keeps_its_weight_and_is_counted(scheme, kind):
    made = moved(scheme)
    before = made.get_weights()
    show(made, with_a(LEFT_OUT[kind]), 3)
    after = made.get_weights()
    assert after["a"] == before["a"]
    assert list(after) == NAMES
    assert made.skipped == {"a": 1}
    assert (after == before) == (scheme == "equal_init")


@every
def test_a_term_that_was_away_comes_back_as_if_it_had_not_been(scheme):
    """Its memory is that of its last valid value: the same weights as without the others' moves."""
    made = moved(scheme)
    state = made.state_dict()
    show(made, with_a(math.nan), 3)
    again = made.state_dict()
    for key in ("loss_ema", "last", "first", "moments"):
        if key in state:
            assert again[key]["a"] == state[key]["a"]
    show(made, GOOD | {"a": 2.5}, 4)
    assert all(math.isfinite(weight) for weight in made.get_weights().values())
    assert made.state_dict()["in_row"] == {}
    assert made.skipped == {"a": 1}


@every
def test_nothing_valid_changes_nothing_but_the_counts(scheme):
    made = moved(scheme)
    before = made.state_dict()
    show(made, dict.fromkeys(GOOD, math.nan), 3)
    after = made.state_dict()
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"skipped", "in_row"}


@every
def test_too_many_in_a_row_are_an_error_and_one_good_one_begins_anew(scheme):
    made = moved(scheme, max_invalid=3)
    for step, value in enumerate((math.nan, None, 1.0, math.inf, math.nan), start=3):
        show(made, with_a(value), step)
    with pytest.raises(WeightingError, match="'a' was NaN, infinite or missing 3 times in a row"):
        show(made, with_a(None), 8)
    assert made.skipped == {"a": 5}


@every
def test_ten_in_a_row_are_the_error_unless_told_otherwise(scheme):
    made = moved(scheme)
    for step in range(3, 12):
        show(made, with_a(None), step)
    with pytest.raises(WeightingError, match="missing 10 times in a row"):
        show(made, with_a(None), 12)


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "difference"])
def test_a_satisfied_term_keeps_its_weight_and_does_not_drive_the_others(scheme):
    made, without = moved(scheme), moved(scheme)
    before = made.get_weights()
    for step in range(3, 30):
        show(made, with_a(0.0), step)
    show(without, with_a(None), 3)
    assert made.get_weights()["a"] == before["a"]
    assert made.skipped == {"a": 27}
    one = moved(scheme)
    show(one, with_a(0.0), 3)
    assert one.get_weights() == without.get_weights()
    assert one.state_dict()["in_row"] == {}


def test_a_floor_is_where_a_term_counts_as_satisfied():
    made = AdaptiveLossWeights(NAMES, INITIAL, floor=1e-3)
    with pytest.warns(UserWarning, match=r"\['a'\] had no positive, finite loss in the first"):
        made.update(0, with_a(1e-3))
    assert made.get_weight("a") == 1.0
    assert made.initial_losses == {"b": 0.2, "c": 3.0}
    # The others share their own mean, 1.25, of 1/.2 and 1/3.
    assert made.get_weight("b") == pytest.approx(1.25 * 5 / (8 / 3))


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "difference"])
def test_a_negative_loss_is_an_error_that_changes_nothing(scheme):
    made = moved(scheme)
    before = made.state_dict()
    with pytest.raises(ValueError, match=r"the loss of 'b' is -0\.2.*strategy=\"fixed\""):
        show(made, {"a": math.nan, "b": -0.2, "c": 1.0}, 3)
    assert made.state_dict() == before


@every
def test_an_unknown_term_is_an_error_that_changes_nothing(scheme):
    made = moved(scheme)
    before = made.state_dict()
    with pytest.raises(KeyError, match=r"'aa' is no term of \['a', 'b', 'c', 'off'\].*mean 'a'"):
        show(made, GOOD | {"aa": 1.0}, 3)
    assert made.state_dict() == before


@every
def test_a_term_that_is_off_stays_off_and_is_in_no_mean(scheme):
    shown, hidden = moved(scheme), moved(scheme)
    show(shown, GOOD | {"off": 1e6}, 3)
    show(hidden, GOOD, 3)
    assert shown.state_dict() == hidden.state_dict()
    assert shown.get_weight("off") == 0.0
    assert shown.active(epoch=0, step=4) == {"a", "b", "c"}
    assert shown.terms == INITIAL


@every
def test_validation_values_are_not_looked_at(scheme):
    made = moved(scheme)
    before = made.state_dict()
    made.observe({"relative_l2": -1.0}, epoch=0, step=3, split="valid")
    assert made.state_dict() == before


anything = st.one_of(
    st.none(), st.just(math.nan), st.just(math.inf), st.floats(0, 1e300), st.just(0.0)
)


@every
@given(series=st.lists(st.fixed_dictionaries(dict.fromkeys("abc", anything)), max_size=8))
def test_weights_stay_within_the_clamps_whatever_comes(scheme, series):
    made = SCHEMES[scheme](**LIMITS, max_invalid=99)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for step, values in enumerate(series):
            show(made, {n: v for n, v in values.items() if v is not None}, step)
    found = made.weights(epoch=9, step=9)
    assert list(found) == NAMES
    assert all(1e-3 <= found[name] <= 30.0 for name in GOOD)
    assert found["off"] == 0.0


def test_within_an_epoch_the_valid_calls_are_averaged():
    made = AdaptiveLossWeights(["a", "b"])
    for step, a in enumerate((0.5, math.nan, 1.5)):
        show(made, {"a": a, "b": 0.1}, step)
    assert made.weights(epoch=1, step=4) == pytest.approx({"a": 2 / 11, "b": 20 / 11})
    assert made.initial_losses == pytest.approx({"a": 1.0, "b": 0.1})
    assert made.skipped == {"a": 1}
