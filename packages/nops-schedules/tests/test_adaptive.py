"""The four strategies, by hand-worked values and closed forms."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import AdaptiveLossWeights, SoftAdapt

PAIR = ["a", "b"]
SERIES = ({"a": 1.0, "b": 0.1}, {"a": 0.5, "b": 0.1}, {"a": 0.25, "b": 0.2})
WORKED = 2e-6  # six digits are given
API_NAMES = ["PI_loss1", "PI_loss2", "RK4_loss1", "RK4_loss2"]
API_WEIGHTS = dict(zip(API_NAMES, (1.0, 1.0, 10.0, 100.0), strict=True))
API_LOSSES = dict(zip(API_NAMES, (0.001, 0.1, 0.01, 0.5), strict=True))


def run(losses, names=PAIR, **options):
    made = AdaptiveLossWeights(names, **options)
    return [tuple(made.update(epoch, values).values()) for epoch, values in enumerate(losses)]


# 1/L = 1000, 10, 100, 2 with mean 278; mean(w0) = 28: 28/278 of each. With priors q = 1000, 10,
# 1000, 200 with mean 552.5.
@pytest.mark.parametrize(
    ("prior", "expected"),
    [(False, (100.72, 1.0072, 10.072, 0.2014)), (True, (50.68, 0.5068, 50.68, 10.136))],
)
def test_the_example_of_the_manual(prior, expected):
    adaptive_weights = AdaptiveLossWeights(
        loss_names=API_NAMES,
        initial_weights=API_WEIGHTS,
        strategy="equal_init",
        ema_alpha=0.9,
        update_frequency=1,
        prior=prior,
    )
    for epoch in range(1, 4):
        weights = adaptive_weights.update(epoch, API_LOSSES)
    assert tuple(weights.values()) == pytest.approx(expected, rel=3e-4)  # four digits are given
    assert adaptive_weights.get_weight("PI_loss1") == weights["PI_loss1"]
    assert adaptive_weights.get_weights() == weights


# Averages of a: 1, .95, .88; of b: .1, .1, .11. "mean" targets are 2·(1/L̄) / Σ 1/L̄.
GOLDEN = {
    ("equal_init_ema", "mean"): [
        (0.181818, 1.818182),
        (0.182684, 1.817316),
        (0.186638, 1.813362),
    ],
    ("ema", "mean"): [(0.918182, 1.081818), (0.845411, 1.154589), (0.783092, 1.216908)],
    ("ema", "unit"): [(1.0, 1.9), (1.005263, 2.71), (1.018373, 3.348091)],
}


@pytest.mark.parametrize("strategy_and_mode", GOLDEN)
def test_three_updates_by_hand(strategy_and_mode):
    strategy, mode = strategy_and_mode
    found = run(SERIES, strategy=strategy, normalize=mode)
    expected = [pytest.approx(pair, abs=WORKED) for pair in GOLDEN[strategy_and_mode]]
    assert found == expected


@pytest.mark.parametrize("first", [0, 1, 7])
def test_equal_init_fires_at_the_first_valid_update_whatever_its_number(first):
    made = AdaptiveLossWeights(PAIR)
    assert made.update(first, {"a": math.nan, "b": math.nan}) == {"a": 1.0, "b": 1.0}
    assert not made.initialized
    assert made.update(first + 1, SERIES[0]) == pytest.approx({"a": 2 / 11, "b": 20 / 11})
    assert made.update(first + 2, SERIES[2]) == pytest.approx({"a": 2 / 11, "b": 20 / 11})
    assert made.initial_losses == SERIES[0]


@given(beta=st.floats(0, 0.99), loss=st.floats(0.01, 10), weight=st.floats(0.1, 10))
def test_constant_losses_have_a_closed_form(beta, loss, weight):
    made = AdaptiveLossWeights(
        ["a"], {"a": weight}, "ema", normalize="unit", weight_beta=beta, eps=0.0
    )
    for t in range(1, 8):
        found = made.update(t, {"a": loss})["a"]
        assert found == pytest.approx(1 / loss + beta**t * (weight - 1 / loss))


@given(data=st.data(), strategy=st.sampled_from(["equal_init", "equal_init_ema", "ema"]))
def test_the_sum_of_weights_stays_while_no_clamp_acts(data, strategy):
    names = list("abc")
    initial = {name: data.draw(st.floats(0.1, 10)) for name in names}
    made = AdaptiveLossWeights(names, initial, strategy, min_weight=0.0, max_weight=1e9)
    for epoch in range(5):
        losses = {name: data.draw(st.floats(1e-3, 1e3)) for name in names}
        assert sum(made.update(epoch, losses).values()) == pytest.approx(sum(initial.values()))
    assert made.clamped_terms == {}


@given(
    order=st.permutations(API_NAMES),
    strategy=st.sampled_from(["equal_init", "equal_init_ema", "ema"]),
    mode=st.sampled_from(["mean", "unit", "sum", "total"]),
)
def test_the_order_of_terms_does_not_matter(order, strategy, mode):
    options = {"strategy": strategy, "normalize": mode, "prior": True}
    one = AdaptiveLossWeights(API_NAMES, API_WEIGHTS, **options)
    other = AdaptiveLossWeights(order, {name: API_WEIGHTS[name] for name in order}, **options)
    for epoch in range(3):
        losses = {name: value / (epoch + 1) for name, value in API_LOSSES.items()}
        found = other.update(epoch, {name: losses[name] for name in order})
        assert found == pytest.approx(one.update(epoch, losses), rel=1e-12)


@given(
    scale=st.floats(1e-3, 1e3),
    strategy=st.sampled_from(["equal_init", "equal_init_ema", "ema"]),
    mode=st.sampled_from(["mean", "unit"]),
)
def test_losses_times_c_have_weights_over_c_under_unit_and_the_same_under_mean(
    scale, strategy, mode
):
    """Over several updates; "ema" comes from its initial weights, which are divided as well."""
    power = -1 if mode == "unit" else 0
    options = {"strategy": strategy, "normalize": mode, "eps": 0.0}
    options |= {"min_weight": 0.0, "max_weight": 1e12}
    one = run(SERIES, **options)
    scaled = [{name: scale * value for name, value in losses.items()} for losses in SERIES]
    start = dict.fromkeys(PAIR, scale**power)
    other = run(scaled, initial_weights=start, **options)
    for found, expected in zip(other, one, strict=True):
        assert found == pytest.approx([w * scale**power for w in expected], rel=1e-9)


def test_a_period_counts_updates_from_the_first_and_the_average_follows_all():
    losses = [{"a": 1.0 / (i + 1), "b": 1.0} for i in range(7)]
    made = AdaptiveLossWeights(PAIR, strategy="equal_init_ema", update_every=3)
    found = [made.update(epoch, values) for epoch, values in enumerate(losses)]
    moved = [i for i in range(1, 7) if found[i] != found[i - 1]]
    assert moved == [3, 6]
    average = 1.0
    for values in losses[1:]:
        average = 0.9 * average + 0.1 * values["a"]
    assert made.loss_ema == pytest.approx({"a": average, "b": 1.0})
    named = AdaptiveLossWeights(PAIR, strategy="equal_init_ema", update_frequency=3)
    assert [named.update(epoch, values) for epoch, values in enumerate(losses)] == found


def test_fixed_is_fixed_whatever_it_is_shown():
    made = AdaptiveLossWeights(PAIR, {"a": 1e-9, "b": 3.0}, "fixed", max_invalid=1)
    for values in ({"a": math.nan, "b": -1.0}, {}, SERIES[0]):
        assert made.update(0, values) == {"a": 1e-9, "b": 3.0}
    assert made.observes is None
    with pytest.raises(KeyError, match="'c' is no term"):
        made.update(0, {"c": 1.0})


def test_a_tiny_loss_is_clamped_and_said():
    made = AdaptiveLossWeights(PAIR)
    with (
        pytest.warns(UserWarning, match=r"not far above eps=1e-08"),
        pytest.warns(UserWarning, match=r"clamped to \[0.0001, 10000\].*b 2e-08"),
    ):
        found = made.update(0, {"a": 1e-12, "b": 1.0})
    assert found == pytest.approx({"a": 2.0, "b": 1e-4})
    assert made.clamped_terms == {"b": 1}


def test_measure_takes_the_mean_of_samples_before_training():
    made = AdaptiveLossWeights(PAIR)
    samples = [{"a": 0.5, "b": 0.1}, {"a": 1.5, "b": math.nan}, {"a": 1.0, "b": 0.1}]
    assert made.measure(iter(samples)) == pytest.approx({"a": 2 / 11, "b": 20 / 11})
    assert made.skipped == {"b": 1}
    assert made.observes is None
    with pytest.raises(ValueError, match="before the first update"):
        made.measure(samples)
    with pytest.raises(ValueError, match="one sample at least"):
        AdaptiveLossWeights(PAIR).measure([])


def test_reset_goes_back_to_the_beginning():
    made = AdaptiveLossWeights(PAIR, strategy="ema", update_unit="step")
    start = made.state_dict()
    made.observe({"a": 0.5, "b": 0.0}, epoch=0, step=0, split="train")
    assert made.state_dict() != start
    made.reset()
    assert made.state_dict() == start


def test_nothing_returned_is_the_inside():
    made = AdaptiveLossWeights(PAIR, strategy="ema")
    losses = dict(SERIES[0])
    for copy in (made.update(0, losses), made.get_weights(), made.skipped, made.loss_ema):
        copy["a"] = copy["z"] = 99.0
    made.weights(epoch=0, step=0).clear()
    made.state_dict()["weights"].clear()
    losses["a"] = 99.0
    assert made.get_weights() == pytest.approx({"a": 0.918182, "b": 1.081818}, abs=WORKED)
    assert made.loss_ema == SERIES[0]
    assert made.skipped == {}


class Scalar:
    def __float__(self):
        return 0.5


def test_whatever_float_takes_is_a_loss():
    made = AdaptiveLossWeights(["a", "b", "c", "d"], strategy="ema")
    made.update(0, {"a": Scalar(), "b": "0.5", "c": 1, "d": 10**400})
    assert made.loss_ema == {"a": 0.5, "b": 0.5, "c": 1.0}
    assert made.skipped == {"d": 1}
    with pytest.raises(TypeError, match="the loss of 'b' must be one number, got list"):
        made.update(1, {"a": 1.0, "b": [1.0]})


def test_weights_of_the_names_it_was_given_and_no_other():
    made = AdaptiveLossWeights(PAIR)
    with pytest.raises(KeyError, match="Did you mean 'a'"):
        made.get_weight("aa")
    with pytest.raises(KeyError, match=r"'PDE' is no term of \['a', 'b'\]"):
        made.update(0, {"a": 1.0, "b": 1.0, "PDE": 1.0})
    assert not made.initialized


BAD = {
    "twice": ({"loss_names": ["a", "a"]}, r"\['a'\] more than once"),
    "none": ({"loss_names": []}, "one name at least"),
    "strategy": ({"strategy": "equal_int"}, "Did you mean 'equal_init'"),
    "normalize": ({"normalize": "means"}, "Did you mean 'mean'"),
    "extra": ({"initial_weights": {"a": 1.0, "b": 1.0, "c": 1.0}}, r"holds \['c'\]"),
    "missing": ({"initial_weights": {"a": 1.0}}, r"lacks \['b'\]"),
    "negative": ({"initial_weights": {"a": 1.0, "b": -1.0}}, "'b' must be finite and not negative"),
    "all off": ({"initial_weights": {"a": 0.0, "b": 0.0}}, "at least one term"),
    "limits": ({"min_weight": 2.0, "max_weight": 1.0}, "min_weight=2.0, max_weight=1.0"),
    "outside": ({"initial_weights": {"a": 1.0, "b": 1e5}}, r"\{'b': 100000.0\} are outside"),
    "alpha": ({"ema_alpha": 1.0}, r"ema_alpha must be within \[0, 1\), got 1.0"),
    "beta": ({"weight_beta": -0.1}, r"weight_beta must be within \[0, 1\)"),
    "period": ({"update_every": 0}, "update_every must be a whole number of at least 1"),
    "older period": ({"update_frequency": 0}, "update_frequency must be a whole number"),
    "two periods": ({"update_frequency": 5, "update_every": 3}, "give one"),
    "unit": ({"update_unit": "batch"}, "update_unit must be one of"),
    "max_invalid": ({"max_invalid": 0}, "max_invalid must be"),
    "floor": ({"floor": -1.0}, "floor must be 0 or more"),
    "eps": ({"eps": math.nan}, "eps must be a finite number"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_what_makes_no_sense(case):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        AdaptiveLossWeights(**{"loss_names": PAIR, **options})


def test_the_weights_equalise_noisy_losses_that_drift_apart():
    draw = random.Random(0)
    made = AdaptiveLossWeights(PAIR, strategy="equal_init_ema", update_unit="step")
    for step in range(200):
        losses = {"a": draw.uniform(0.9, 1.1) * 0.98**step, "b": draw.uniform(0.9, 1.1)}
        made.observe(losses, epoch=0, step=step, split="train")
    weights = made.weights(epoch=0, step=200)
    # The average lags: α/(1−α) = 9 steps behind, as the weights are by β: 18 steps of 2 % or 1.44.
    assert weights["a"] * losses["a"] / (weights["b"] * losses["b"]) == pytest.approx(1, rel=0.6)
    assert weights["a"] / weights["b"] > 20


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: AdaptiveLossWeights(PAIR, strategy="ema"),
            "strategy: saved 'equal_init', now 'ema'",
        ),
        (lambda: AdaptiveLossWeights(["a", "c"]), r"terms: saved \{'a': 1.0, 'b': 1.0\}, now"),
        (lambda: AdaptiveLossWeights(PAIR, max_weight=9), r"max_weight: saved 10000.0, now 9"),
        (lambda: SoftAdapt(PAIR), "scheme: saved 'AdaptiveLossWeights', now 'SoftAdapt'"),
    ],
)
def test_refuses_a_state_of_others_and_stays_as_it_was(other, message):
    made = other()
    before = made.state_dict()
    with pytest.raises(ValueError, match=message):
        made.load_state_dict(AdaptiveLossWeights(PAIR).state_dict())
    assert made.state_dict() == before


@pytest.mark.parametrize("change", [{"version": 2}, {"more": 1}])
def test_refuses_a_state_of_another_layout(change):
    made = AdaptiveLossWeights(PAIR)
    with pytest.raises(ValueError, match=r"version: saved 2, now 1|keys: saved"):
        made.load_state_dict(made.state_dict() | change)
    with pytest.raises(ValueError, match="version: saved None, now 1"):
        made.load_state_dict({})
