"""The parts that all balancing schemes share, by hand-worked values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules._normalise import MODES, Clamp, normalised, softmax_weights

LOSSES = {"a": 1.234e-3, "b": 5.678e-2, "c": 2.345e-3, "d": 1.234e-1}
ONES = dict.fromkeys(LOSSES, 1.0)
sizes = st.dictionaries(st.sampled_from("abcdef"), st.floats(1e-6, 1e6), min_size=1)


# 1/L = 810.37, 17.612, 426.44, 8.1037, which sum to 1262.53; eps moves the first by 8e-6 of itself.
GOLDEN = {
    "unit": ((810.4, 17.61, 426.4, 8.104), 1.0),
    "mean": ((2.567, 0.0558, 1.351, 0.02567), 3.168e-3),
    "sum": ((202.6, 4.403, 106.6, 2.026), 0.25),
    "total": ((37.23, 0.8091, 19.59, 0.3723), 0.04594),
}


@pytest.mark.parametrize("mode", MODES)
def test_four_losses_by_hand(mode):
    weights, weighted = GOLDEN[mode]
    found = normalised(LOSSES, initial=ONES, mode=mode)
    assert tuple(found.values()) == pytest.approx(weights, rel=5e-4)  # four digits are given
    assert [found[n] * LOSSES[n] for n in LOSSES] == pytest.approx([weighted] * 4, rel=5e-4)


@given(losses=sizes, scale=st.floats(1e-3, 1e3))
def test_a_change_of_unit(losses, scale):
    initial = dict.fromkeys(losses, 1.0)
    scaled = {name: scale * value for name, value in losses.items()}
    for mode, power in {"mean": 0, "total": 0, "unit": -1, "sum": -1}.items():
        before = normalised(losses, initial=initial, mode=mode, eps=0.0)
        after = normalised(scaled, initial=initial, mode=mode, eps=0.0)
        assert after == pytest.approx({n: w * scale**power for n, w in before.items()}, rel=1e-9)


@given(losses=sizes, data=st.data())
def test_what_each_mode_keeps(losses, data):
    initial = {name: data.draw(st.floats(0.1, 100)) for name in losses}
    for prior in (False, True):
        found = {
            m: normalised(losses, initial=initial, mode=m, prior=prior, eps=0.0) for m in MODES
        }
        weighted = {m: {n: w[n] * losses[n] for n in losses} for m, w in found.items()}
        assert sum(found["mean"].values()) == pytest.approx(sum(initial.values()))
        assert sum(weighted["sum"].values()) == pytest.approx(1.0)
        total = sum(initial[n] * losses[n] for n in losses)
        assert sum(weighted["total"].values()) == pytest.approx(total)
        for by_term in weighted.values():
            ratios = [by_term[n] / (initial[n] if prior else 1.0) for n in losses]
            assert ratios == pytest.approx([ratios[0]] * len(ratios))


@pytest.mark.parametrize("mode", MODES)
def test_losses_at_both_ends_of_what_a_number_holds(mode):
    found = normalised({"a": 5e-324, "b": 1e308}, initial={"a": 1.0, "b": 1.0}, mode=mode, eps=0.0)
    with pytest.warns(UserWarning, match="clamped"):
        assert all(1e-4 <= w <= 1e4 for w in Clamp(1e-4, 1e4)(found).values())


def test_softmax_of_scores_too_large_for_exp():
    assert softmax_weights({"a": math.inf, "b": math.inf, "c": 0.0}) == {"a": 1.5, "b": 1.5, "c": 0}


def test_a_clamp_acts_last_counts_and_speaks_once():
    clamp = Clamp(0.5, 2.0)
    assert clamp({"a": 0.5, "b": 2.0}) == {"a": 0.5, "b": 2.0}
    assert clamp.counts == {}
    with pytest.warns(UserWarning, match=r"a 0\.1, b 3, c nan"):
        assert clamp({"a": 0.1, "b": 3.0, "c": math.nan, "d": 1.0}) == {
            "a": 0.5,
            "b": 2.0,
            "c": 0.5,
            "d": 1.0,
        }
    clamp({"a": 0.1})
    assert clamp.counts == {"a": 2, "b": 1, "c": 1}


@pytest.mark.parametrize("limits", [(2.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_limits_that_make_no_sense(limits):
    with pytest.raises(ValueError, match="min_weight <= max_weight"):
        Clamp(*limits)
