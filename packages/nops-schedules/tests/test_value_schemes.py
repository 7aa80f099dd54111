"""SoftAdapt, ReLoBRaLo, DWA and variance weights, by hand-worked values."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import DynamicWeightAverage, ReLoBRaLo, SoftAdapt, VarianceWeights
from nops_schedules._relobralo import uniform

TRIO = ["a", "b", "c"]
TWO = ({"a": 1.0, "b": 10.0, "c": 0.1}, {"a": 0.5, "b": 9.0, "c": 0.2})
# Ratios .5, .9, 2: exp is 1.64872, 2.45960, 7.38906, of sum 11.49738; halved, 1.28403, 1.56831,
# 2.71828, of sum 5.57062.
SOFT_ADAPT = (0.4302, 0.6418, 1.9280)
DYNAMIC = (0.6915, 0.8446, 1.4639)
FOUR_DIGITS = 6e-5


def feed(made, losses):
    return [tuple(made.update(i, values).values()) for i, values in enumerate(losses)]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (SoftAdapt(TRIO), SOFT_ADAPT),
        (ReLoBRaLo(TRIO), SOFT_ADAPT),
        (DynamicWeightAverage(TRIO), DYNAMIC),
    ],
)
def test_two_updates_by_hand(made, expected):
    first, second = feed(made, TWO)
    assert first == (1.0, 1.0, 1.0)
    assert second == pytest.approx(expected, abs=FOUR_DIGITS)
    assert sum(second) == pytest.approx(3.0)


def test_soft_adapt_by_differences_takes_any_sign():
    # Differences −0.5, −1, 0.1: exp is 0.60653, 0.36788, 1.10517, of sum 2.07958.
    made = SoftAdapt(TRIO, variant="difference")
    found = feed(made, [TWO[0], {"a": 0.5, "b": 9.0, "c": 0.2}])[1]
    assert found == pytest.approx((0.87498, 0.53070, 1.59432), abs=1e-5)
    shifted = SoftAdapt(TRIO, variant="difference")
    again = feed(shifted, [{n: v - 20 for n, v in one.items()} for one in TWO])[1]
    assert again == pytest.approx(found)


def test_beta_sharpens_soft_adapt():
    found = feed(SoftAdapt(TRIO, beta=2.0), TWO)[1]
    # exp of 1, 1.8, 4: 2.71828, 6.04965, 54.59815, of sum 63.36608
    assert found == pytest.approx((0.12869, 0.28641, 2.58489), abs=1e-5)


def test_variance_weights_by_hand():
    pair = [{"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 0.9}, {"a": 0.25, "b": 1.1}]
    found = feed(VarianceWeights(["a", "b"]), pair)
    # Ratios of a: 1, .5, 1/3, with σ/μ 1/3 and then .28329/.61111; of b: 1, .9, 1.15789.
    expected = [(1.0, 1.0), (1.7273, 0.2727), (1.6331, 0.3669)]
    assert found == [pytest.approx(two, abs=FOUR_DIGITS) for two in expected]


def test_variance_weights_in_a_warm_up_and_without_variation():
    pair = [{"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 0.9}, {"a": 0.25, "b": 1.1}]
    found = feed(VarianceWeights(["a", "b"], warmup=2), pair)
    assert found == [(1.0, 1.0), (1.0, 1.0), pytest.approx((1.6331, 0.3669), abs=FOUR_DIGITS)]
    assert feed(VarianceWeights(["a", "b"]), pair[:1] * 3)[-1] == (1.0, 1.0)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_variance_weights_know_no_unit(scale, seed):
    draw = random.Random(seed)
    series = [{n: draw.uniform(0.1, 1.0) for n in TRIO} for _ in range(6)]
    scaled = [{**one, "a": scale * one["a"]} for one in series]
    found, again = (feed(VarianceWeights(TRIO), one)[-1] for one in (series, scaled))
    assert again == pytest.approx(found)
    assert sum(found) == pytest.approx(3.0)


def test_variance_is_that_of_all_ratios():
    draw = random.Random(3)
    losses = [draw.uniform(0.1, 2.0) for _ in range(50)]
    ratios = [1.0] + [losses[i] / (sum(losses[:i]) / i) for i in range(1, 50)]
    made = VarianceWeights(["a"])
    for i, loss in enumerate(losses):
        spread = made._relative_deviation("a", loss)
        mean = sum(ratios[: i + 1]) / (i + 1)
        variance = sum((r - mean) ** 2 for r in ratios[: i + 1]) / (i + 1)
        assert spread == pytest.approx(math.sqrt(variance) / mean)


def test_relobralo_against_the_formula_written_out():
    draw = random.Random(1)
    series = [{n: draw.uniform(0.1, 2.0) for n in TRIO} for _ in range(40)]
    found = feed(ReLoBRaLo(TRIO, alpha=0.7, tau=0.5, beta=0.6, seed=4), series)

    def hat(now, ref):
        parts = [math.exp(now[n] / (0.5 * ref[n] + 1e-12)) for n in TRIO]
        return [3 * part / sum(parts) for part in parts]

    weights = [1.0] * 3
    looked_back = 0
    for t, losses in enumerate(series):
        if t > 0:
            alpha = 0.0 if t == 1 else 0.7
            rho = uniform(4, t) < 0.6
            looked_back += t > 1 and not rho
            past = weights if rho else hat(losses, series[0])
            recent = hat(losses, series[t - 1])
            weights = [alpha * p + (1 - alpha) * r for p, r in zip(past, recent, strict=True)]
        assert found[t] == pytest.approx(weights, rel=1e-9)
    assert 8 < looked_back < 24  # of 38, at 0.4 each


def test_the_draw_depends_on_seed_and_count_alone_and_is_uniform():
    state = random.getstate()
    draws = [uniform(seed, count) for seed in range(4) for count in range(1000)]
    assert random.getstate() == state
    assert len(set(draws)) == 4000
    assert all(0 <= draw < 1 for draw in draws)
    # 5 standard errors of the share below 1/4: 5·sqrt(.25·.75/4000) = 0.034
    assert sum(draw < 0.25 for draw in draws) / 4000 == pytest.approx(0.25, abs=0.034)
    assert uniform(0, 1) == 0.4129084613219064  # printf 0:1 | b2sum -l 56, without its last 3 bits


OTHERS = {
    "SoftAdapt": SoftAdapt,
    "difference": lambda n: SoftAdapt(n, variant="difference"),
    "ReLoBRaLo": lambda n: ReLoBRaLo(n, alpha=0.7, beta=0.5),
    "dwa": DynamicWeightAverage,
    "variance": VarianceWeights,
}


def noisy(seed, count=6):
    draw = random.Random(seed)
    return [{name: draw.uniform(0.5, 2.0) for name in TRIO} for _ in range(count)]


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
@given(order=st.permutations(TRIO), seed=st.integers(0, 99))
def test_the_order_of_terms_does_not_matter(make, order, seed):
    one, other = make(TRIO), make(order)
    for step, losses in enumerate(noisy(seed)):
        shown = {name: losses[name] for name in order}
        assert other.update(step, shown) == pytest.approx(one.update(step, losses), rel=1e-12)
    assert len(set(one.get_weights().values())) == 3


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "difference"])
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_a_unit_common_to_all_terms_does_not_matter(name, scale, seed):
    """Their epsilons are 1e-8 and less of the losses here."""
    series = noisy(seed)
    scaled = [{name: scale * value for name, value in one.items()} for one in series]
    found, again = (feed(OTHERS[name](TRIO), one)[-1] for one in (series, scaled))
    assert again == pytest.approx(found, rel=1e-3)


def test_epochs_are_averaged_and_take_effect_when_the_number_rises():
    made = DynamicWeightAverage(TRIO)
    for epoch, means in enumerate(TWO):
        for part in (0.5, 1.5):
            values = {name: part * mean for name, mean in means.items()}
            made.observe(values, epoch=epoch, step=9, split="train")
            made.observe({"metric": 1.0}, epoch=epoch, step=9, split="valid")
        assert tuple(made.weights(epoch=epoch, step=9).values()) == (1.0, 1.0, 1.0)
    assert tuple(made.weights(epoch=2, step=9).values()) == pytest.approx(DYNAMIC, abs=FOUR_DIGITS)
    assert made.epoch == 1


def test_an_epoch_takes_effect_with_the_next_observation_too():
    made = DynamicWeightAverage(TRIO)
    for epoch, values in enumerate((*TWO, TWO[0])):
        made.observe(values, epoch=epoch, step=9, split="train")
    assert tuple(made.get_weights().values()) == pytest.approx(DYNAMIC, abs=FOUR_DIGITS)


BAD = [
    (lambda: SoftAdapt(TRIO, variant="ratios"), "Did you mean 'ratio'"),
    (lambda: SoftAdapt(TRIO, beta=math.inf), "beta must be a finite number"),
    (lambda: ReLoBRaLo(TRIO, alpha=1.1), r"alpha must be within \[0, 1\]"),
    (lambda: ReLoBRaLo(TRIO, beta=-0.1), r"beta must be within \[0, 1\]"),
    (lambda: ReLoBRaLo(TRIO, tau=0.0), "tau must be above 0"),
    (lambda: ReLoBRaLo(TRIO, seed=-1), "seed must be a whole number"),
    (lambda: DynamicWeightAverage(TRIO, temperature=0.0), "temperature must be above 0"),
    (lambda: VarianceWeights(TRIO, warmup=0), "warmup must be a whole number of at least 1"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_refuses_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
