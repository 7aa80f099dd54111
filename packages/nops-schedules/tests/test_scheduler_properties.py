"""What holds for every schedule and every metric."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import FlexibleLossScheduler, SchedulerParams, simulate

TRIGGERS = [
    {"adaptation_trigger": "plateau"},
    {"adaptation_trigger": "increase"},
    {"adaptation_trigger": "trend"},
    {"adaptation_trigger": "threshold", "trigger_value": 0.5},
    {"adaptation_trigger": "epoch", "milestones": [2, 3, 7, 11, 20]},
]
weights = st.floats(0, 2)
metric = st.one_of(st.floats(0.01, 2), st.sampled_from([0.5, 0.5, math.nan]))
traces = st.lists(st.one_of(metric, metric, st.none()), min_size=30, max_size=60)


@st.composite
def points(draw, roles):
    """Waypoints of some roles; the first role never vanishes, and neighbours differ."""
    count = draw(st.integers(2, 4))
    found = [{role: draw(weights) for role in roles} for _ in range(count)]
    for number, point in enumerate(found):
        point[roles[0]] = 0.1 + 0.3 * number + point[roles[0]] / 10
    return found


@st.composite
def schedules(draw, **fixed):
    """Any enabled schedule of two or three roles, without guard unless asked."""
    roles = ["a", "b", "c"][: draw(st.integers(2, 3))]
    waypoints = draw(points(roles))
    caps = {"b": waypoints[0]["b"] + 0.1 + draw(weights)}
    options = {
        "transition_schedule": draw(st.sampled_from(["linear", "cosine", "exponential"])),
        "transition_step": draw(st.floats(0.05, 0.5)),
        "adaptive_step": draw(st.booleans()),
        "min_step": draw(st.floats(0.02, 0.3)),
        "patience": draw(st.integers(1, 4)),
        "warmup_epochs": draw(st.integers(0, 3)),
        "min_epochs_before_adapt": draw(st.integers(0, 3)),
        "max_consecutive_adaptations": draw(st.integers(1, 5)),
        "pause_epochs": draw(st.integers(1, 4)),
        "use_ema": draw(st.booleans()),
        "ema_beta": draw(st.floats(0, 0.95)),
        "ema_in_warmup": draw(st.booleans()),
        "min_delta_mode": draw(st.sampled_from(["abs", "rel"])),
        "monitor_mode": draw(st.sampled_from(["min", "max"])),
        "unit": draw(st.sampled_from(["epoch", "call"])),
        **draw(st.sampled_from(TRIGGERS)),
        **fixed,
    }
    named = {role: [role.upper()] for role in roles}
    return SchedulerParams(
        enabled=True,
        roles=named,
        waypoints=waypoints,
        caps=caps,
        cap_policy="clip",
        max_nonfinite=99,
        **options,
    )


@given(params=schedules(), trace=traces)
def test_within_the_waypoints_beneath_the_caps_and_never_back(params, trace):
    found = simulate(params, trace)
    for role, cap in params.caps.items():
        assert all(w[role.upper()] <= cap for w in found.weights)
    for role in params.roles:
        ends = [point[role] for point in params.waypoints]
        assert all(min(ends) <= w[role.upper()] <= max(ends) for w in found.weights)
    assert all(low <= high for low, high in itertools.pairwise(found.progress))
    assert all(0 <= p <= 1 for p in found.progress)


@given(params=schedules(adaptation_trigger="plateau", milestones=(), trigger_value=None))
def test_a_plateau_always_ends(params):
    # A segment is 2 long at most and a step 0.02 at least; an adaptation waits for patience and a pause.
    longest = 10 + 3 * 100 * (params.patience + params.pause_epochs + 1)
    scheduler = FlexibleLossScheduler(params)
    for epoch in range(longest):
        scheduler.step(epoch, {"spectrum_error": 0.5})
        if scheduler.state == "COMPLETE":
            break
    assert scheduler.state == "COMPLETE"
    if all(p["b"] <= params.caps["b"] for p in params.waypoints):
        last = params.waypoints[-1]
        assert scheduler.get_loss_weights() == {role.upper(): w for role, w in last.items()}
        assert scheduler.progress == 1


@given(params=schedules(), trace=traces)
def test_the_sum_moves_on_straight_lines(params, trace):
    segments = len(params.waypoints) - 1
    sums = [sum(point.values()) for point in params.waypoints]
    for now, progress in zip(
        *[getattr(simulate(params, trace), n) for n in ("weights", "progress")], strict=True
    ):
        segment = min(int(progress * segments + 1e-12), segments - 1)
        low, high = params.waypoints[segment : segment + 2]
        along = (now["A"] - low["a"]) / (high["a"] - low["a"])
        expected = sums[segment] + along * (sums[segment + 1] - sums[segment])
        assert sum(now.values()) == pytest.approx(expected, abs=1e-9)


@given(params=schedules(), trace=traces, data=st.data())
def test_a_nan_changes_no_weight_and_no_average(params, trace, data):
    place = data.draw(st.integers(0, len(trace) - 1))
    scheduler = FlexibleLossScheduler(params)
    for epoch, value in enumerate(trace[:place]):
        if value is not None:
            scheduler.step(epoch, {"spectrum_error": value})
    before = scheduler.get_scheduler_state()
    assert not scheduler.step(place, {"spectrum_error": math.nan})
    after = scheduler.get_scheduler_state()
    timing = ("epoch", "epochs_since_improvement")
    assert {**after, **{n: before[n] for n in timing}} == before


def drive(scheduler, trace, harms, *, start, stop):
    for epoch in range(start, stop):
        if trace[epoch] is not None:
            metrics = {"spectrum_error": trace[epoch], "harm": harms[epoch]}
            scheduler.observe(metrics, epoch=epoch, step=7 * epoch, split="valid")


def seen(scheduler):
    """All that shows; as JSON, where NaN would not equal itself."""
    told = [str(event) for event in scheduler.events]
    return json.dumps([scheduler.state_dict(), scheduler.get_scheduler_state(), told])


@given(
    params=schedules(guard_metric="harm", max_rollbacks=2),
    enabled=st.sampled_from([True, True, True, False]),
    trace=traces,
    data=st.data(),
)
def test_cut_anywhere_it_goes_on_as_if_nothing_had_been(params, enabled, trace, data):
    params = replace(params, enabled=enabled)
    harms = [data.draw(st.sampled_from([0.1, 0.1, 0.15])) for _ in trace]
    whole = FlexibleLossScheduler(params)
    drive(whole, trace, harms, start=0, stop=len(trace))
    for cut in range(0, len(trace) + 1, 4):
        first, second = FlexibleLossScheduler(params), FlexibleLossScheduler(params)
        drive(first, trace, harms, start=0, stop=cut)
        text = json.dumps(first.state_dict(), allow_nan=False)
        second.load_state_dict(json.loads(text))
        assert seen(second) == seen(first)
        drive(second, trace, harms, start=cut, stop=len(trace))
        assert seen(second) == seen(whole)


@given(
    every=st.integers(1, 4),
    factor=st.integers(1, 3),
    warm=st.integers(0, 4),
    curve=st.sampled_from(["linear", "cosine", "exponential"]),
    use_ema=st.booleans(),
    trigger=st.sampled_from(["plateau", "trend"]),
)
def test_how_often_it_is_asked_does_not_matter(every, factor, warm, curve, use_ema, trigger):
    params = SchedulerParams(
        enabled=True,
        patience=every * factor,
        warmup_epochs=every * warm,
        min_epochs_before_adapt=0,
        transition_schedule=curve,
        use_ema=use_ema,
        adaptation_trigger=trigger,
        max_consecutive_adaptations=99,
    )
    seldom = [0.5 if epoch % every == 0 else None for epoch in range(180)]
    found, expected = simulate(params, seldom), simulate(params, [0.5] * 180)
    assert found.weights == expected.weights
    assert found.states[-1] == "COMPLETE"


@given(params=schedules(), trace=traces)
def test_a_simulation_is_a_scheduler_driven_by_hand(params, trace):
    scheduler, found = FlexibleLossScheduler(params), simulate(params, trace)
    by_name = simulate(params, [None if x is None else {"spectrum_error": x} for x in trace])
    assert by_name == found
    for epoch, value in enumerate(trace):
        if value is not None:
            scheduler.step(epoch, {"spectrum_error": value})
        assert found.weights[epoch] == scheduler.get_loss_weights()
        assert found.states[epoch] == scheduler.state
        assert found.progress[epoch] == scheduler.progress
        assert found.smoothed[epoch] == scheduler.smoothed
    assert found.events == scheduler.events
    assert found.epochs == tuple(range(len(trace)))
