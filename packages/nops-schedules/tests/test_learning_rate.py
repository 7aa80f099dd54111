import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import warmup_cosine

GOLDEN = {"peak": 3e-4, "warmup_steps": 500, "total_steps": 2250}


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 3e-5),
        (200, 1.38e-4),  # 3e-5 + 2.7e-4 · 200/500
        (225, 1.515e-4),
        (500, 3e-4),
        (1375, 1.5e-4),  # half way down
        (2250, 0.0),
        (9999, 0.0),
    ],
)
def test_by_hand(step, rate):
    assert warmup_cosine(step, **GOLDEN) == pytest.approx(rate, rel=1e-12, abs=1e-20)


def test_start_factor_and_end():
    options = {"peak": 1.0, "warmup_steps": 4, "total_steps": 10, "start_factor": 0.5, "end": 0.2}
    rates = [warmup_cosine(step, **options) for step in (0, 2, 4, 7, 10, 11)]
    assert rates == pytest.approx([0.5, 0.75, 1.0, 0.6, 0.2, 0.2])


def test_no_warm_up_starts_at_the_peak():
    assert warmup_cosine(0, peak=1.0, warmup_steps=0, total_steps=1) == 1.0


@given(
    warmup=st.integers(0, 50),
    decay=st.integers(1, 50),
    start_factor=st.floats(0, 1),
    end=st.floats(0, 1),
)
def test_rises_to_the_peak_then_falls_to_the_end(warmup, decay, start_factor, end):
    total = warmup + decay
    rates = [
        warmup_cosine(
            step,
            peak=1.0,
            warmup_steps=warmup,
            total_steps=total,
            start_factor=start_factor,
            end=end,
        )
        for step in range(total + 3)
    ]
    rising, falling = rates[: warmup + 1], rates[warmup:]
    assert all(low <= high + 1e-15 for low, high in itertools.pairwise(rising))
    assert all(high >= low - 1e-15 for high, low in itertools.pairwise(falling))
    assert max(rates) == rates[warmup] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(end)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": -1}, "counted from 0, got -1"),
        ({"peak": 0.0}, "peak must be positive"),
        ({"peak": math.nan}, "peak must be positive"),
        ({"peak": math.inf}, "peak must be positive"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"warmup_steps": 2250}, "warmup_steps=2250, total_steps=2250"),
        ({"start_factor": 1.1}, r"within \[0, 1\], got 1.1"),
        ({"start_factor": math.nan}, r"within \[0, 1\]"),
        ({"end": -1e-9}, "end must be within 0"),
        ({"end": 1.0}, "end must be within 0 and peak=0.0003"),
    ],
)
def test_refuses_nonsense(change, message):
    with pytest.raises(ValueError, match=message):
        warmup_cosine(**{"step": 0, **GOLDEN, **change})
