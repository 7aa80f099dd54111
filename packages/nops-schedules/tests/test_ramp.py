import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import fade_in, grown_length, ramp
from nops_schedules._curves import CURVES

numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("position", "value"), [(-3, 2.0), (10, 2.0), (12.5, 3.0), (15, 4.0), (30, 10.0), (99, 10.0)]
)
def test_a_straight_ramp_by_hand(position, value):
    assert ramp(position, start=10, stop=30, begin=2.0, end=10.0) == value


@pytest.mark.parametrize(
    ("curve", "half"),
    [("linear", 0.5), ("cosine", 0.5), ("exponential", 1 / (1 + math.exp(-1.5)))],
)
def test_half_way(curve, half):
    # (1 − e^{−3/2}) / (1 − e^{−3}) = 1 / (1 + e^{−3/2})
    assert ramp(5, start=0, stop=10, curve=curve) == pytest.approx(half, rel=1e-14)


def test_a_quarter_of_a_cosine():
    assert ramp(1, start=0, stop=4, curve="cosine") == pytest.approx((1 - math.sqrt(0.5)) / 2)


@pytest.mark.parametrize(("position", "value"), [(4, 1.0), (5, 0.0), (6, 0.0)])
def test_start_and_stop_at_one_place_is_a_jump(position, value):
    assert ramp(position, start=5, stop=5, begin=1.0, end=0.0) == value


@given(
    start=numbers,
    width=st.floats(1e-3, 1e6),
    begin=numbers,
    end=numbers,
    curve=st.sampled_from([*CURVES]),
)
def test_never_beyond_its_ends_and_never_back(start, width, begin, end, curve):
    places = [start + width * i / 8 for i in range(-2, 11)]
    values = [
        ramp(p, start=start, stop=start + width, begin=begin, end=end, curve=curve) for p in places
    ]
    assert values[:3] == [begin] * 3
    assert values[-2:] == [end] * 2
    assert all(min(begin, end) <= value <= max(begin, end) for value in values)
    rising = values if begin <= end else values[::-1]
    slack = 1e-9 * (abs(begin) + abs(end))
    assert all(low <= high + slack for low, high in itertools.pairwise(rising))


@given(q=st.floats(0, 1), curve=st.sampled_from([*CURVES]))
def test_a_curve_and_its_inverse(q, curve):
    found = CURVES[curve].inverse(CURVES[curve].value(q))
    assert found == pytest.approx(q, abs=1e-7)  # acos loses half of the digits near its ends


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 0.0), (10, 0.0), (15, 0.25), (30, 1.0), (31, 1.0)]
)
def test_fading_in(epoch, factor):
    assert fade_in(epoch, [10, 30]) == factor


def test_fading_in_is_off_where_it_ends_at_the_first_epoch():
    assert [fade_in(epoch, (-1, 0)) for epoch in (0, 1, 7)] == [1.0] * 3


@pytest.mark.parametrize(
    ("linear", "longest", "expected"),
    [
        # 2 → 4 → 8 → 16 at 10, 20, 30
        (False, 16, {0: 2, 9: 2, 10: 4, 19: 4, 20: 8, 29: 8, 30: 16, 99: 16}),
        (False, 10, {9: 2, 10: 4, 20: 8, 29: 8, 30: 10}),  # the last doubling is cut
        # 2 → 3 → 4 → 5 at 10, 20, 30
        (True, 5, {9: 2, 10: 3, 19: 3, 20: 4, 29: 4, 30: 5, 99: 5}),
        (True, 8, {9: 2, 10: 3, 13: 3, 14: 4, 17: 4, 18: 5, 22: 6, 26: 7, 30: 8}),
        (False, 4, {9: 2, 10: 4}),  # a single one, at a
        (True, 3, {9: 2, 10: 3}),
        (False, 2, {0: 2, 50: 2}),
    ],
)
def test_sequences_grow_from_the_first_epoch_to_the_last(linear, longest, expected):
    found = {e: grown_length(e, [10, 30], longest=longest, linear=linear) for e in expected}
    assert found == expected


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("interval", [(-1, 0), (0, 0)])
def test_sequences_are_whole_where_growth_ends_at_the_first_epoch(linear, interval):
    assert [grown_length(e, interval, longest=9, linear=linear) for e in (0, 1, 7)] == [9] * 3


def test_sequences_grow_all_at_once_where_both_epochs_are_one():
    assert [grown_length(e, (5, 5), longest=9) for e in (4, 5)] == [2, 9]


def test_a_sequence_has_two_frames_at_least():
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        grown_length(0, (1, 2), longest=1)
    with pytest.raises(ValueError, match=r"interval is \[a, b\]"):
        grown_length(0, (1,), longest=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": 31}, "start <= stop, got position=0, start=31, stop=30"),
        ({"stop": math.inf}, "finite"),
        ({"begin": math.nan}, "begin=nan"),
        ({"position": math.nan}, "position=nan"),
        ({"curve": "cosin"}, "Did you mean 'cosine'"),
    ],
)
def test_refuses_nonsense(change, message):
    options = {"position": 0, "start": 10, "stop": 30, **change}
    with pytest.raises(ValueError, match=message):
        ramp(options.pop("position"), **options)


@pytest.mark.parametrize("interval", [[1], [1, 2, 3], []])
def test_an_interval_has_two_ends(interval):
    with pytest.raises(ValueError, match=r"interval is \[a, b\]"):
        fade_in(0, interval)
