"""Bootstrap intervals: coverage, pairing, reproducibility."""

import pytest
import torch
from nops_diagnostics import Estimate, bootstrap_estimate
from nops_diagnostics._bootstrap import bootstrap_weights
from torch.testing import assert_close


def same(mean):
    return mean


def test_the_value_is_the_statistic_of_the_means():
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 8.0])
    got = bootstrap_estimate(torch.div, a, b)  # means 2 and 4
    assert_close(got.value, torch.tensor(0.5, dtype=torch.float64))
    assert got.low <= got.value <= got.high


def test_two_samples_give_the_binomial_quantiles():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    got = bootstrap_estimate(same, torch.tensor([0.0, 1.0]), num_resamples=4000, confidence=0.4)
    assert (float(got.low), float(got.value), float(got.high)) == (0.5, 0.5, 0.5)
    wide = bootstrap_estimate(same, torch.tensor([0.0, 1.0]), num_resamples=4000, confidence=0.6)
    assert (float(wide.low), float(wide.high)) == (0.0, 1.0)


def test_intervals_cover_the_mean_about_as_often_as_they_say(fields):
    samples = fields(0, 40, 400)  # 400 data sets of 40 numbers of mean 0
    got = bootstrap_estimate(same, samples, num_resamples=600, confidence=0.9)
    covered = ((got.low <= 0) & (got.high >= 0)).double().mean()
    # The percentile interval at n = 40 is a little short of 0.9; 400 trials have sd 0.015.
    assert 0.84 <= covered <= 0.94


def test_width_is_that_of_the_standard_error(fields):
    samples = 3.0 * fields(1, 400)
    got = bootstrap_estimate(same, samples, num_resamples=4000)
    expected = 2 * 1.96 * float(samples.std()) / 20
    assert float(got.high - got.low) == pytest.approx(expected, rel=0.06)


def test_samples_are_resampled_in_pairs(fields):
    baseline = fields(2, 30).square() + 0.1
    got = bootstrap_estimate(lambda e, b: 1 - e / b, 0.25 * baseline, baseline)
    for end in (got.value, got.low, got.high):
        assert_close(end, torch.tensor(0.75, dtype=torch.float64))


def test_one_sample_has_no_spread():
    got = bootstrap_estimate(same, torch.tensor([[1.0, 2.0]]))
    assert_close(got.low, got.value)
    assert_close(got.high, got.value)


def test_weights_are_shares_and_the_global_generator_stays():
    state = torch.random.get_rng_state()
    weights = bootstrap_weights(7, num_resamples=50, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert_close(weights.sum(1), torch.ones(50).double())
    assert_close(weights * 7, (weights * 7).round())
    assert torch.equal(weights, bootstrap_weights(7, num_resamples=50, seed=3))
    assert not torch.equal(weights, bootstrap_weights(7, num_resamples=50, seed=4))


def test_the_seed_decides_the_interval_and_nothing_else(fields):
    samples = fields(5, 20)
    first, again, other = (bootstrap_estimate(same, samples, seed=seed) for seed in (1, 1, 2))
    assert first.as_dict() == again.as_dict()
    assert first.value == other.value
    assert first.low != other.low


def test_an_estimate_is_indexed_as_one():
    whole = Estimate(
        value=torch.tensor([1.0, 2.0]), low=torch.tensor([0.0, 1.0]), high=torch.tensor([3.0, 4.0])
    )
    assert whole[1].as_dict() == {"value": 2.0, "low": 1.0, "high": 4.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": 0.0}, "confidence"),
        ({"num_resamples": 0}, "resample"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_estimate(same, torch.ones(3), **options)


@pytest.mark.usefixtures("unchecked")
def test_samples_that_disagree():
    with pytest.raises(ValueError, match=r"\[\(3,\), \(4,\)\]"):
        bootstrap_estimate(torch.div, torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="at least one sample"):
        bootstrap_estimate(same, torch.ones(0))
