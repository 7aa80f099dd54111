"""Each state under each event; and each trigger, pause, guard and monitor by hand."""

import math

import pytest
from nops_schedules import FlexibleLossScheduler, LossSchedulerEvent, SchedulerParams, simulate
from nops_schedules._params_path import path_of

BASE = {
    "enabled": True,
    "warmup_epochs": 0,
    "min_epochs_before_adapt": 2,
    "patience": 1,
    "use_ema": False,
    "adaptive_step": False,
    "max_consecutive_adaptations": 2,
    "pause_epochs": 3,
    "guard_metric": "harm",
}
FEW = {"spectrum_error": 0.5, "harm": 0.1}
REACHED_BY = {  # changed parameters, and the validations of epochs 0, 1, ... that lead there
    "DISABLED": ({"enabled": False}, [FEW]),
    "WARMUP": ({}, [FEW]),
    "MONITORING": ({}, [FEW] * 4),
    "PAUSED": ({}, [FEW] * 5),
    "COMPLETE": ({"transition_step": 0.7}, [FEW] * 4),
    "HELD": ({"max_rollbacks": 1}, [*[FEW] * 4, {**FEW, "harm": 0.9}]),
}
EVENTS = {  # epochs later, and the metrics
    "stalls": (1, FEW),
    "improves": (1, {**FEW, "spectrum_error": 0.3}),
    "is NaN": (1, {**FEW, "spectrum_error": math.nan}),
    "guard is NaN": (1, {**FEW, "harm": math.inf}),
    "harms": (1, {**FEW, "harm": 0.9}),
    "stalls much later": (10, FEW),
}
SKIP = (False, ["skipped_nonfinite"])
TABLE = {
    "DISABLED": {event: ("DISABLED", False, []) for event in EVENTS},
    "WARMUP": {
        "stalls": ("WARMUP", False, []),
        "improves": ("WARMUP", False, []),
        "is NaN": ("WARMUP", *SKIP),
        "guard is NaN": ("WARMUP", *SKIP),
        "harms": ("WARMUP", False, []),
        "stalls much later": ("MONITORING", False, ["warmup_complete"]),
    },
    "MONITORING": {
        "stalls": ("PAUSED", True, ["adaptation", "paused"]),
        "improves": ("MONITORING", False, []),
        "is NaN": ("MONITORING", *SKIP),
        "guard is NaN": ("MONITORING", *SKIP),
        "harms": ("MONITORING", True, ["rollback"]),
        "stalls much later": ("MONITORING", True, ["adaptation"]),
    },
    "PAUSED": {
        "stalls": ("PAUSED", False, []),
        "improves": ("PAUSED", False, []),
        "is NaN": ("PAUSED", *SKIP),
        "guard is NaN": ("PAUSED", *SKIP),
        "harms": ("MONITORING", True, ["rollback"]),
        "stalls much later": ("MONITORING", False, ["resumed"]),
    },
    "COMPLETE": {
        "stalls": ("COMPLETE", False, []),
        "improves": ("COMPLETE", False, []),
        "is NaN": ("COMPLETE", *SKIP),
        "guard is NaN": ("COMPLETE", *SKIP),
        "harms": ("MONITORING", True, ["rollback"]),
        "stalls much later": ("COMPLETE", False, []),
    },
    "HELD": {
        "stalls": ("HELD", False, []),
        "improves": ("HELD", False, []),
        "is NaN": ("HELD", *SKIP),
        "guard is NaN": ("HELD", *SKIP),
        "harms": ("HELD", False, []),
        "stalls much later": ("HELD", False, []),
    },
}


def brought_to(state):
    changes, metrics = REACHED_BY[state]
    scheduler = FlexibleLossScheduler(SchedulerParams(**{**BASE, **changes}))
    for epoch, values in enumerate(metrics):
        scheduler.step(epoch, values)
    assert scheduler.state == state
    return scheduler, len(metrics) - 1


def run(metrics, **changes):
    """What a schedule without warm-up, average and guard does over numbers."""
    plain = {**BASE, "guard_metric": None, "min_epochs_before_adapt": 0, **changes}
    return simulate(SchedulerParams(**plain), metrics)


def moved_at(found):
    return [event.epoch for event in found.events if event.kind == "adaptation"]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", TABLE)
def test_table(state, event):
    scheduler, epoch = brought_to(state)
    later, metrics = EVENTS[event]
    before, known = scheduler.get_loss_weights(), len(scheduler.events)
    moved = scheduler.step(epoch + later, metrics)
    kinds = [one.kind for one in scheduler.events[known:]]
    assert (scheduler.state, moved, kinds) == TABLE[state][event]
    assert (scheduler.get_loss_weights() != before) == moved


@pytest.mark.parametrize("state", [state for state in TABLE if state != "DISABLED"])
def test_a_missing_metric_and_an_epoch_that_does_not_rise_change_nothing(state):
    scheduler, epoch = brought_to(state)
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match="'harm' is not among the metrics"):
        scheduler.step(epoch + 1, {"spectrum_error": 0.5})
    for bad in (epoch, epoch - 1):
        with pytest.raises(ValueError, match="epoch"):
            scheduler.step(bad, FEW)
    assert scheduler.state_dict() == before


@pytest.mark.parametrize("epoch", [-1, 1.0, True, "3", None])
def test_an_epoch_is_a_whole_number(epoch):
    with pytest.raises(ValueError, match="counted from 0"):
        FlexibleLossScheduler(SchedulerParams(enabled=True)).step(epoch, FEW)


def test_calls_may_share_an_epoch():
    scheduler = FlexibleLossScheduler(SchedulerParams(**{**BASE, "unit": "call"}))
    assert [scheduler.step(2, FEW) for _ in range(4)] == [False, True, True, False]


def test_initial_weights_that_are_final():
    params = SchedulerParams(
        enabled=True, final_weight_source=1.0, final_weight_target=0.0, warmup_epochs=0
    )
    found = simulate(params, [0.5] * 40)
    assert {*found.states} == {"COMPLETE"}
    assert {*found.progress} == {1.0}
    assert moved_at(found) == []


def test_not_finite_too_often():
    scheduler = FlexibleLossScheduler(SchedulerParams(enabled=True, max_nonfinite=3))
    bad = {"spectrum_error": math.inf}
    for epoch, metrics in enumerate([bad, bad, FEW, bad, bad]):
        scheduler.step(epoch, metrics)
    with pytest.raises(
        FloatingPointError, match=r"spectrum_error was not finite 3 times .* epoch 5"
    ):
        scheduler.step(5, bad)


def test_an_undefined_quotient_is_skipped():
    params = SchedulerParams(enabled=True, monitor_metric="1/spectrum_error")
    found = simulate(params, [{"spectrum_error": 0.0}])
    assert [event.kind for event in found.events] == ["skipped_nonfinite"]
    assert found.monitored == (None,)


def test_milestones_each_once_at_or_after_them_however_seldom_it_is_asked():
    settings = {"adaptation_trigger": "epoch", "milestones": [3, 10, 12], "pause_epochs": 1}
    assert moved_at(run([0.5] * 30, **settings)) == [3, 10, 12]
    seldom = [0.5 if epoch % 8 == 0 else None for epoch in range(30)]
    assert moved_at(run(seldom, **settings)) == [8, 16, 16]
    assert run(seldom, **settings).weights[-1] == run([0.5] * 30, **settings).weights[-1]


def test_a_milestone_in_the_warm_up_or_in_a_pause_waits():
    settings = {"adaptation_trigger": "epoch", "milestones": [1, 5, 6, 7]}
    found = run([0.5] * 30, min_epochs_before_adapt=4, **settings)
    # 1 waits for 4; 5 makes a streak of two and pauses until 8; 6 and 7 wait for 9
    assert moved_at(found) == [4, 5, 9, 9]


def test_a_threshold_moves_when_it_is_reached_and_while_it_lasts():
    metrics = [0.9, 0.5, 0.3, 0.3, 0.3, 0.3, 0.6, 0.2, 0.2]
    settings = {"adaptation_trigger": "threshold", "trigger_value": 0.4, "patience": 3}
    assert moved_at(run(metrics, **settings)) == [2, 5, 7]
    rising = [-value for value in metrics]
    settings = {**settings, "trigger_value": -0.4, "monitor_mode": "max"}
    assert moved_at(run(rising, **settings)) == [2, 5, 7]


def test_after_a_rollback_a_threshold_waits_for_the_doubled_patience():
    metrics = [{"spectrum_error": 0.3, "harm": 9.0 if e == 1 else 0.1} for e in range(8)]
    settings = {"adaptation_trigger": "threshold", "trigger_value": 0.4, "patience": 2}
    found = run(metrics, guard_metric="harm", **settings)
    assert [(e.kind, e.epoch) for e in found.events][1:] == [
        *(("adaptation", 0), ("rollback", 1), ("adaptation", 5)),
    ]


def test_exactly_the_threshold_is_reached():
    settings = {"adaptation_trigger": "threshold", "trigger_value": 0.5}
    assert moved_at(run([0.6, 0.5], **settings)) == [1]


def test_higher_is_better():
    metrics = [0.1, 0.2, 0.3, 0.3, 0.4]
    assert moved_at(run(metrics, monitor_mode="max")) == [3]
    assert moved_at(run(metrics, monitor_mode="max", adaptation_trigger="increase")) == []
    assert moved_at(run(metrics[::-1], monitor_mode="max", adaptation_trigger="increase")) == [
        1,
        3,
        4,
    ]


def test_a_relative_improvement():
    metrics = [1.0, 0.985, 0.985 * 0.995]
    assert moved_at(run(metrics, min_delta=0.01, min_delta_mode="rel")) == [2]
    assert moved_at(run([-1.0, -1.02, -1.025], min_delta=0.01, min_delta_mode="rel")) == [2]


def test_a_trigger_of_ones_own():
    asked = []

    def every_third(scheduler, smoothed):
        asked.append((scheduler.state, smoothed))
        return len(asked) % 3 == 0

    assert moved_at(run([0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1], adaptation_trigger=every_third)) == [
        2,
        5,
    ]
    assert asked[1] == ("MONITORING", 0.4)


def test_a_trend_looks_through_one_outlier():
    falling = [1.0 - 0.01 * epoch for epoch in range(20)]
    falling[10] = 3.0
    assert moved_at(run(falling, adaptation_trigger="trend", patience=5)) == []
    assert moved_at(run(falling, adaptation_trigger="increase")) == [10]


def test_a_trend_of_a_flat_metric_is_the_plateau_rule():
    found = run([0.5] * 60, adaptation_trigger="trend", patience=4)
    assert moved_at(found) == moved_at(run([0.5] * 60, patience=4)) != []


def test_another_monitor_begins_a_new_average_and_a_new_best():
    params = SchedulerParams(
        **{**BASE, "guard_metric": None, "use_ema": True, "transition_step": 0.5, "patience": 2},
        roles={"a": ["x"], "b": ["y"]},
        waypoints=[{"a": 1, "b": 0}, {"a": 0.5, "b": 0.5}, {"a": 0, "b": 1}],
        monitors=["first", lambda metrics: metrics["second"]],
    )
    metrics = [{"first": 0.5, "second": 100.0 - epoch} for epoch in range(9)]
    found = simulate(params, metrics)
    assert moved_at(found) == [4]
    assert found.smoothed[3:6] == (0.5, None, 95.0)
    assert found.monitored[3:6] == (0.5, 0.5, 95.0)


def test_the_same_monitor_goes_on():
    params = SchedulerParams(
        **{**BASE, "guard_metric": None, "transition_step": 0.5},
        roles={"a": ["x"], "b": ["y"]},
        waypoints=[{"a": 1, "b": 0}, {"a": 0.5, "b": 0.5}, {"a": 0, "b": 1}],
    )
    assert simulate(params, [0.5] * 6).smoothed[2:] == (0.5,) * 4


def test_a_clipped_cap_is_the_end():
    params = SchedulerParams(
        **{**BASE, "guard_metric": None},
        final_weight_target=0.9,
        max_weight_target=0.6,
        cap_policy="clip",
        transition_schedule="cosine",
    )
    found = simulate(params, [0.5] * 60)
    assert found.states[-1] == "COMPLETE"
    assert found.weights[-1]["spectrumError"] == pytest.approx(0.6, abs=1e-12)
    # two thirds of the way: the source is at 1 − 0.7·2/3
    assert found.weights[-1]["predFieldError"] == pytest.approx(1 - 0.7 * 2 / 3, abs=1e-12)


@pytest.mark.parametrize("curve", ["linear", "cosine", "exponential"])
def test_rounding_does_not_lift_a_weight_above_its_cap(curve):
    for hundredths in range(1, 100):
        cap = hundredths / 100
        params = SchedulerParams(
            max_weight_target=cap,
            final_weight_target=1.0,
            cap_policy="clip",
            transition_schedule=curve,
        )
        path = path_of(params)
        assert path.role_weights(path.end)["target"] <= cap
        assert path.role_weights(path.end)["target"] == pytest.approx(cap, abs=1e-12)


def test_static_components_override_roles():
    params = SchedulerParams(
        **{**BASE, "guard_metric": None}, static_components={"recFieldError": 0.5, "regDiv": 0.1}
    )
    found = simulate(params, [0.5] * 5)
    assert {w["recFieldError"] for w in found.weights} == {0.5}
    assert found.weights[-1]["regDiv"] == 0.1
    assert [e.reason for e in found.events if e.kind == "advice"] == [
        "static_components hide recFieldError: they do not move."
    ]


@pytest.mark.parametrize(("level", "told"), [(0.0099, 1), (0.01, 0), (-0.5, 0)])
def test_advice_where_hardly_anything_counts_as_improvement(level, told):
    found = run([level] * 4)
    assert [event.kind for event in found.events].count("advice") == told
    assert not [e for e in run([level] * 4, min_delta_mode="rel").events if e.kind == "advice"]


def test_patience_doubles_with_each_rollback():
    metrics = [{"spectrum_error": 0.5, "harm": 0.1 if e % 2 else 9.0} for e in range(60)]
    params = SchedulerParams(**{**BASE, "max_rollbacks": 9, "max_consecutive_adaptations": 9})
    found = [(e.kind, e.epoch) for e in simulate(params, metrics).events[1:9]]
    # even epochs harm; after a rollback patience is 2, 4, 4, and the guard is silent as long
    assert found == [
        *(("adaptation", 3), ("rollback", 4), ("adaptation", 6), ("rollback", 8)),
        *(("adaptation", 12), ("rollback", 14), ("adaptation", 18), ("rollback", 20)),
    ]


def test_an_event_is_a_sentence():
    event = run([0.5] * 2).events[1]
    assert isinstance(event, LossSchedulerEvent)
    assert str(event) == (
        "epoch 1, adaptation: spectrum_error, at 0.5, has not come past 0.499 for 1 epoch."
    )
    assert (event.monitored, event.smoothed, event.threshold) == (0.5, 0.5, 0.499)
    assert event.progress == pytest.approx(1 / 7)


def why(found):
    return next(event.reason for event in found.events if event.kind == "adaptation")


def test_each_trigger_says_why():
    def own(scheduler, smoothed):
        return True

    flat = [0.5] * 3
    assert why(run(flat, patience=2)).endswith("at 0.5, has not come past 0.499 for 2 epochs.")
    worse = run([0.5, 0.625], adaptation_trigger="increase")
    assert why(worse) == "spectrum_error went from 0.5 to 0.625, which is worse."
    passed = run(flat, adaptation_trigger="epoch", milestones=[1])
    assert why(passed) == "the milestone of epoch 1 is passed."
    reached = run(flat, adaptation_trigger="threshold", trigger_value=0.6)
    assert why(reached) == "spectrum_error, at 0.5, has reached 0.6."
    trend = run(flat, adaptation_trigger="trend", unit="call")
    assert why(trend) == "spectrum_error gains 0 in 1 call by its trend, less than 0.001."
    asked = run(flat, adaptation_trigger=own)
    assert why(asked).endswith("test_each_trigger_says_why.<locals>.own asked for it.")


def test_events_are_bounded():
    scheduler = FlexibleLossScheduler(SchedulerParams(**{**BASE, "history_size": 3}))
    for epoch in range(30):
        scheduler.step(epoch, FEW)
    assert len(scheduler.events) == 3
    assert scheduler.events[-1].kind == "complete"


def test_the_published_keys_of_the_state():
    scheduler, _ = brought_to("MONITORING")
    assert scheduler.get_scheduler_state() == {
        "weight_source": pytest.approx(0.9),
        "weight_target": pytest.approx(0.1),
        "epochs_since_improvement": 0,
        "total_adaptations": 1,
        "consecutive_adaptations": 1,
        "progress": pytest.approx(1 / 7),
        "warmup_complete": True,
        "best_metric": 0.5,
        "current_metric_ema": 0.5,
        "state": "MONITORING",
        "position": [0, pytest.approx(1 / 7)],
        "epoch": 3,
    }
