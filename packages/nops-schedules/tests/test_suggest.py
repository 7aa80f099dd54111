import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import SchedulerParams, simulate, suggest_params
from nops_schedules._robust import mad_sigma, theil_sen


def recorded(*, noise, epochs=120, rate=0.9, floor=0.2, seed=0):
    generator = random.Random(seed)
    return [floor + rate**epoch + generator.gauss(0, noise) for epoch in range(epochs)]


def test_the_median_slope_by_hand():
    # slopes of the pairs: (0,1) 1, (0,2) 1, (0,3) 10, (1,2) 1, (1,3) 14.5, (2,3) 28
    assert theil_sen([(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]) == (1 + 10) / 2


def test_the_deviation_by_hand():
    assert mad_sigma([1.0, 2.0, 3.0, 4.0, 100.0]) == 1.4826  # median 3, deviations 2, 1, 0, 1, 97


@given(seed=st.integers(0, 999), slope=st.floats(-5, 5))
def test_the_slope_of_a_line_with_a_few_outliers(seed, slope):
    generator = random.Random(seed)
    points = [(t, slope * t + 0.3) for t in range(20)]
    for index in generator.sample(range(20), 3):
        points[index] = (index, generator.uniform(-1e6, 1e6))
    assert theil_sen(points) == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize(("noise", "patience"), [(1e-4, 3), (0.0027, 4), (0.01, 10)])
def test_patience_grows_with_the_noise(noise, patience):
    # σ·√(12 / (w(w+1)(w+2))) < 0.001: 9·10·11 = 990 < 1200 < 10·11·12 for σ = 0.01, and 3·4·5 < 87 < 4·5·6
    # for σ = 0.0027
    found = [suggest_params(recorded(noise=noise, seed=seed)) for seed in range(5)]
    assert statistics.mean(one.patience for one in found) == pytest.approx(patience, abs=0.5)
    assert all(one.enabled for one in found)


def test_a_relative_least_improvement_does_not_see_the_unit():
    params = SchedulerParams(enabled=True, min_delta_mode="rel", min_delta=0.005, ema_beta=0.5)
    metrics = recorded(noise=0.002)
    found = suggest_params(metrics, params=params)
    assert suggest_params([1e3 * value for value in metrics], params=params) == found
    assert found.ema_beta == 0.5


def test_the_warm_up_ends_with_the_first_fall():
    # 0.9^e falls to a tenth of its first rate at e = ln 0.1 / ln 0.9 = 21.9
    found = suggest_params(recorded(noise=0.0))
    assert found.warmup_epochs == 22
    assert found.min_epochs_before_adapt == 0
    turned = suggest_params(
        [-value for value in recorded(noise=0.0)], params=SchedulerParams(monitor_mode="max")
    )
    assert turned.warmup_epochs == 22
    assert suggest_params([0.5] * 20).warmup_epochs == 0


def test_gaps_and_bad_values_are_left_out():
    metrics = recorded(noise=0.003)
    holes = [None if e % 7 == 3 else math.nan if e % 7 == 5 else x for e, x in enumerate(metrics)]
    assert abs(suggest_params(holes).patience - suggest_params(metrics).patience) <= 1


def test_the_noise_does_not_set_it_off_early():
    """With what it suggests nothing happens in the fall, whatever the noise; and then it does."""
    metrics = recorded(noise=0.003, epochs=200)
    params = suggest_params(metrics)
    trend = SchedulerParams.fromDict({**params.asDict(), "adaptation_trigger": "trend"})
    first = min(e.epoch for e in simulate(trend, metrics).events if e.kind == "adaptation")
    assert first >= params.warmup_epochs + params.patience


@pytest.mark.parametrize(
    ("metrics", "changes", "message"),
    [
        ([0.5] * 7, {}, "8 finite values at least, got 7"),
        ([None, math.nan] * 20, {}, "got 0"),
        (recorded(noise=1.0, epochs=20), {}, "noise .* hides slopes .* raise min_delta above"),
        (recorded(noise=0.1), {"min_delta": 0.0}, "min_delta=0"),
    ],
)
def test_refuses(metrics, changes, message):
    with pytest.raises(ValueError, match=message):
        suggest_params(metrics, params=SchedulerParams(**changes))
