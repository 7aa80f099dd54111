"""Traces worked out beforehand: the target's weight at each epoch of an adaptation."""

import math

import pytest
from nops_schedules import FlexibleLossScheduler, SchedulerParams, simulate

FLAT = [0.5] * 120
EVERY_FIFTH = [0.5 if epoch % 5 == 0 else None for epoch in range(120)]
FALLING = [0.5 * 0.9 ** min(epoch, 30) for epoch in range(100)]
SMALL = [2e-3 * 0.99**epoch for epoch in range(81)]
VALLEY = [0.1 + 0.02 * abs(epoch - 20) for epoch in range(60)]
DEFAULT = {
    20: 0.1,
    25: 0.1857,
    30: 0.2592,
    35: 0.3222,
    40: 0.3761,
    45: 0.4261,
    50: 0.4761,
    55: 0.5261,
    60: 0.5761,
    65: 0.6261,
    70: 0.6761,
    75: 0.7,
}


def params(**changes):
    return SchedulerParams(enabled=True, **changes)


def moves(settings, metrics, component="spectrumError"):
    """Weight of a component after each adaptation or rollback, by epoch."""
    events = simulate(settings, metrics).events
    kinds = ("adaptation", "rollback")
    return {e.epoch: e.weights[component] for e in events if e.kind in kinds}


def at_default_epochs(*weights):
    return dict(zip(DEFAULT, weights, strict=True))


TRACES = {
    "defaults": ({}, FLAT, DEFAULT),
    "plain step": (
        {"adaptive_step": False},
        FLAT,
        {20: 0.1, 25: 0.2, 30: 0.3, 35: 0.4, 40: 0.5, 45: 0.6, 50: 0.7},
    ),
    "cosine": (
        {"transition_schedule": "cosine"},
        FLAT,
        at_default_epochs(
            *(0.0347, 0.1147, 0.2113, 0.3064, 0.3910, 0.4673),
            *(0.5377, 0.5987, 0.6473, 0.6809, 0.6980, 0.7),
        ),
    ),
    "exponential": (
        {"transition_schedule": "exponential"},
        FLAT,
        at_default_epochs(
            *(0.2568, 0.4043, 0.4941, 0.5515, 0.5897, 0.6181),
            *(0.6409, 0.6594, 0.6743, 0.6863, 0.6961, 0.7),
        ),
    ),
    "every fifth epoch": ({}, EVERY_FIFTH, DEFAULT),
    "a NaN": (
        {},
        [*FLAT[:20], math.nan, *FLAT[21:35]],
        {21: 0.1, 26: 0.1857, 31: 0.2592},
    ),
    "never worse": ({"adaptation_trigger": "increase"}, [0.97**e for e in range(100)], {}),
    "an improvement by a hundredth counts": (
        {"min_delta_mode": "rel", "min_delta": 0.01},
        SMALL,
        {},
    ),
}


@pytest.mark.parametrize("name", TRACES)
def test_trace(name):
    changes, metrics, expected = TRACES[name]
    assert moves(params(**changes), metrics) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("changes", "metrics", "first"),
    [
        ({}, FALLING, 61),
        ({"use_ema": False}, FALLING, 35),
        ({"ema_beta": 0.5, "min_delta_mode": "rel", "min_delta": 0.01}, FALLING, 40),
        ({"ema_in_warmup": True}, FALLING, 70),
        ({}, SMALL, 20),
        ({"adaptation_trigger": "increase"}, VALLEY, 24),
        ({"adaptation_trigger": "increase", "use_ema": False}, VALLEY, 21),
        # flat from 30 on: the median slope is 0 once 8 of the window's 15 pairs are: 10 are at 34, 6 at 33
        ({"adaptation_trigger": "trend"}, FALLING, 34),
    ],
)
def test_first_adaptation(changes, metrics, first):
    assert min(moves(params(**changes), metrics)) == first


def test_calls_instead_of_epochs():
    assert list(moves(params(unit="call"), EVERY_FIFTH)) == [40, 65, 90, 115]


def test_the_settings_for_transonic_flow():
    settings = params(final_weight_target=0.8, max_weight_target=0.9, patience=3)
    found = moves(settings, FLAT)
    expected = {18: 0.1, 21: 0.1875, 51: 0.741, 54: 0.8}
    assert list(found) == list(range(18, 55, 3))
    assert {epoch: found[epoch] for epoch in expected} == pytest.approx(expected, abs=5e-5)
    assert simulate(settings, FLAT).weights[-1]["predFieldError"] == 0.3


def test_the_settings_for_incompressible_flow():
    settings = params(final_weight_target=0.5, max_weight_target=0.6, patience=8)
    found = moves(settings, FLAT)
    expected = {23: 0.0714, 31: 0.1327, 103: 0.483, 111: 0.5}
    assert list(found) == list(range(23, 112, 8))
    assert {epoch: found[epoch] for epoch in expected} == pytest.approx(expected, abs=5e-5)
    assert simulate(settings, FLAT).weights[-1]["predFieldError"] == 0.3


def test_pauses_between_streaks():
    settings = params(patience=1, max_consecutive_adaptations=3, pause_epochs=5)
    adapted = [16, 17, 18, 24, 25, 26, 32, 33, 34, 40, 41, 42]
    assert list(moves(settings, FLAT)) == adapted
    found = {(e.kind, e.epoch) for e in simulate(settings, FLAT).events}
    assert {("paused", 18), ("resumed", 23), ("paused", 34), ("complete", 42)} <= found
    assert ("paused", 42) not in found


def test_three_roles():
    settings = params(
        roles={"field": ["recFieldError"], "spectrum": ["s"], "wavelet": ["w"]},
        waypoints=[
            {"field": 1, "spectrum": 0, "wavelet": 0},
            {"field": 0.5, "spectrum": 0.5, "wavelet": 0},
            {"field": 0.3, "spectrum": 0.5, "wavelet": 0.2},
        ],
    )
    weights = (0.9, 0.82, 0.756, 0.7048, 0.6548, 0.6048, 0.5548, 0.5, 0.4, 0.35, 0.3)
    expected = dict(zip(range(20, 71, 5), weights, strict=True))
    assert moves(settings, FLAT, "recFieldError") == pytest.approx(expected, abs=5e-5)
    found = simulate(settings, FLAT)
    assert found.weights[-1] == {"recFieldError": 0.3, "s": 0.5, "w": 0.2}
    assert found.progress[55] == 0.5  # the first segment is done
    assert found.states[-1] == "COMPLETE"


def test_a_guard_that_jumps():
    metrics = [{"spectrum_error": 0.5, "harm": 0.1 if e < 27 else 0.2} for e in range(80)]
    found = simulate(params(guard_metric="harm"), metrics)
    told = [(e.kind, e.epoch) for e in found.events if e.kind != "warmup_complete"]
    assert told == [
        *(("adaptation", 20), ("adaptation", 25), ("rollback", 29), ("rollback", 39)),
        *(("adaptation", 59), ("rollback", 60), ("held", 60)),
    ]
    assert found.states[-1] == "HELD"
    assert found.progress[-1] == 0
    assert found.weights[29]["spectrumError"] == found.weights[20]["spectrumError"]


def test_the_default_is_off():
    scheduler = FlexibleLossScheduler(SchedulerParams())
    assert "enabled=False" in repr(scheduler)
    assert "enabled=False" in repr(scheduler.params)
    assert not scheduler.step(0, {})
    assert scheduler.get_loss_weights() == {}
    static = FlexibleLossScheduler(SchedulerParams(static_components={"predLSIM": 0.2}))
    assert static.get_loss_weights() == {"predLSIM": 0.2}


def test_the_first_weights():
    scheduler = FlexibleLossScheduler(params())
    assert scheduler.get_loss_weights() == {
        "recFieldError": 1.0,
        "predFieldError": 1.0,
        "spectrumError": 0.0,
    }
    assert scheduler.step(0, {"field_error": 0.05, "spectrum_error": 0.12}) is False


# Final weights of source and target that have been recommended, with what else differs from the defaults.
PRESETS = {
    "defaults": {},
    "low Mach": {"final_weight_target": 0.5, "max_weight_target": 0.6, "patience": 8},
    "transonic": {"final_weight_target": 0.8, "max_weight_target": 0.9, "patience": 3},
    "no field error left": {"final_weight_source": 0.0, "final_weight_target": 0.8},
    "sums that differ": {"initial_weight_target": 0.2, "final_weight_source": 0.9},
}


@pytest.mark.parametrize("curve", ["linear", "cosine", "exponential"])
@pytest.mark.parametrize("name", PRESETS)
def test_a_plateau_leads_to_the_final_weights_exactly(name, curve):
    settings = params(**PRESETS[name], transition_schedule=curve)
    found = simulate(settings, [0.5] * 300)
    assert found.states[-1] == "COMPLETE"
    assert found.weights[-1] == {
        "recFieldError": settings.final_weight_source,
        "predFieldError": settings.final_weight_source,
        "spectrumError": settings.final_weight_target,
    }
