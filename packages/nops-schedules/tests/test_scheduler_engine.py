"""What an engine asks of the scheduler as its weighting; what a saved state may and may not do."""

import json
import math
import warnings

import pytest
from nops_schedules import FlexibleLossScheduler, SchedulerParams
from nops_testing.contract import through_file

SOON = {
    "enabled": True,
    "warmup_epochs": 0,
    "min_epochs_before_adapt": 0,
    "patience": 1,
    "adaptive_step": False,
}
AT = {"epoch": 3, "step": 40}
BASE = {
    "recFieldError": 1.0,
    "predFieldError": 1.0,
    "spectrumError": 0.0,
    "regDiv": 0.2,
    "off": 0.0,
}


def soon(**changes):
    return SchedulerParams(**{**SOON, **changes})


def moved(times, params=None, **options):
    scheduler = FlexibleLossScheduler(params or soon(), **options)
    for epoch in range(times + 1):
        scheduler.observe({"spectrum_error": 0.5}, epoch=epoch, step=9 * epoch, split="valid")
    return scheduler


def test_terms_know_the_largest_weight_of_what_begins_at_zero():
    scheduler = FlexibleLossScheduler(soon())
    assert scheduler.terms == {"recFieldError": 1.0, "predFieldError": 1.0, "spectrumError": 0.7}
    assert scheduler.weights(**AT) == scheduler.get_loss_weights()
    assert scheduler.active(**AT) == {"recFieldError", "predFieldError"}
    assert scheduler.observes == "validation"


def test_other_terms_of_the_loss_keep_their_weights():
    scheduler = moved(2, terms=BASE)
    assert scheduler.terms == {**BASE, "spectrumError": 0.7}
    assert scheduler.weights(**AT) == pytest.approx(
        {**BASE, "recFieldError": 0.8, "predFieldError": 0.8, "spectrumError": 0.2}
    )
    assert scheduler.active(**AT) == set(BASE) - {"off"}
    assert set(scheduler.get_loss_weights()) == {"recFieldError", "predFieldError", "spectrumError"}


def test_a_scale_multiplies_what_the_engine_sees():
    scheduler = moved(2, terms=BASE, scale={"spectrumError": 0.05})
    assert scheduler.terms["spectrumError"] == pytest.approx(0.7 * 0.05)
    assert scheduler.weights(**AT)["spectrumError"] == pytest.approx(0.2 * 0.05)
    assert scheduler.get_loss_weights()["spectrumError"] == pytest.approx(0.2)
    assert "spectrumError" not in moved(2, scale={"spectrumError": 0.0}).active(**AT)


MEASURED = {"spectrumError": "rest / spectrum"}
LATER = {"warmup_epochs": 2, "min_epochs_before_adapt": 1}


def fed(scheduler, first, *norms, **more):
    for epoch, (rest, spectrum) in enumerate(norms, start=first):
        values = {"spectrum_error": 0.5, "rest": rest, "spectrum": spectrum, **more}
        scheduler.observe(values, epoch=epoch, step=9 * epoch, split="valid")
    return scheduler


def test_a_scale_is_measured_once_at_the_end_of_the_warm_up():
    scheduler = FlexibleLossScheduler(soon(**LATER), terms=BASE, scale=MEASURED)
    assert scheduler.terms["spectrumError"] == 0.7  # it will have a weight, however much
    fed(scheduler, 0, (9.0, 3.0), (8.0, 2.0), (7.0, 2.0))
    assert scheduler.scale == {"spectrumError": None}
    fed(scheduler, 3, (1.0, 4.0), (1.0, 5.0))  # epoch 3 is the first from which it may adapt
    assert scheduler.scale == {"spectrumError": 0.25}
    assert scheduler.weights(**AT)["spectrumError"] == pytest.approx(0.1 * 0.25)
    assert scheduler.get_loss_weights()["spectrumError"] == pytest.approx(0.1)
    kinds = [event.kind for event in scheduler.events]
    assert kinds == ["warmup_complete", "scale", "adaptation"]
    told = str(scheduler.events[1])
    assert told == (
        "epoch 3, scale: the weight of spectrumError is multiplied by 0.25 from now on: rest / spectrum."
    )


def test_a_term_has_no_weight_before_its_scale_is_known():
    scheduler = FlexibleLossScheduler(soon(initial_weight_target=0.2), scale=MEASURED)
    assert "spectrumError" not in scheduler.active(**AT)
    useless = ((1.0, 0.0), (math.nan, 1.0), (1.0, math.inf), (-1.0, 2.0))
    fed(scheduler, 0, *useless)  # the position moves, the weight waits
    assert scheduler.weights(**AT)["spectrumError"] == 0.0
    assert scheduler.get_loss_weights()["spectrumError"] > 0.2
    fed(scheduler, 4, (1.0, 2.0))
    held = scheduler.get_loss_weights()["spectrumError"]
    assert scheduler.weights(**AT)["spectrumError"] == pytest.approx(0.5 * held)


@pytest.mark.parametrize("cut", range(7))
def test_a_measured_scale_goes_through_a_checkpoint(cut):
    norms = [(1.0 + epoch, 3.0 + epoch**2) for epoch in range(7)]
    whole = fed(FlexibleLossScheduler(soon(**LATER), scale=MEASURED), 0, *norms)
    first = fed(FlexibleLossScheduler(soon(**LATER), scale=MEASURED), 0, *norms[:cut])
    other = FlexibleLossScheduler(soon(**LATER), scale=MEASURED)
    other.load_state_dict(through_file(first.state_dict()))
    assert fed(other, cut, *norms[cut:]).state_dict() == whole.state_dict()
    assert other.weights(**AT) == whole.weights(**AT)
    assert other.scale == {"spectrumError": 4 / 12}


def test_a_scale_that_cannot_be_measured_is_told_at_once():
    with pytest.raises(
        ValueError, match=r"scale of 'spectrumError' 'rest' is not among .*spectrum"
    ):
        moved(0, scale=MEASURED)
    with pytest.raises(ValueError, match="a disabled schedule has none: give a number"):
        FlexibleLossScheduler(SchedulerParams(), scale=MEASURED)
    with pytest.raises(ValueError, match=r"scale\.spectrumError must be a name, got ' '"):
        FlexibleLossScheduler(soon(), scale={"spectrumError": " "})


def test_a_weight_that_has_come_down_to_zero_is_not_computed():
    scheduler = moved(10, soon(final_weight_source=0.0))
    assert scheduler.state == "COMPLETE"
    assert scheduler.active(**AT) == {"spectrumError"}


def test_callers_cannot_change_the_weights():
    scheduler = moved(1)
    scheduler.weights(**AT)["spectrumError"] = 9.0
    scheduler.get_loss_weights()["spectrumError"] = 9.0
    assert scheduler.weights(**AT)["spectrumError"] == pytest.approx(0.1)


@pytest.mark.parametrize(("split", "observes"), [("valid", "validation"), ("train", "epoch")])
def test_it_follows_one_split(split, observes):
    scheduler = FlexibleLossScheduler(soon(split=split))
    assert scheduler.observes == observes
    for epoch in range(3):
        for name, value in (("valid", 0.5), ("train", 9.0)):
            scheduler.observe({"spectrum_error": value}, epoch=epoch, step=0, split=name)
    assert scheduler.smoothed == {"valid": 0.5, "train": 9.0}[split]


def test_disabled_it_is_a_constant_weighting():
    scheduler = moved(9, SchedulerParams(static_components={"regDiv": 0.2}), terms=BASE)
    assert scheduler.observes is None
    assert scheduler.terms == scheduler.weights(**AT) == BASE
    assert scheduler.get_loss_weights() == {"regDiv": 0.2}


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({**BASE, "spectrumError": 0.5}, "'spectrumError' has the weight 0.5 .* starts it at 0:"),
        ({**BASE, "predFieldError": 0.9}, "'predFieldError' has the weight 0.9 .* starts it at 1:"),
        ({"recFieldError": 1, "predFieldError": 1, "spektrumError": 0}, "mean 'spektrumError'"),
        ({**BASE, "regDiv": -0.1}, "terms.regDiv must be 0 or more"),
    ],
)
def test_terms_that_contradict_the_schedule(terms, message):
    with pytest.raises(ValueError, match=message):
        FlexibleLossScheduler(soon(), terms=terms)


def test_a_scale_of_no_term():
    with pytest.raises(ValueError, match="scale: 'spectrum' is no term of the loss"):
        FlexibleLossScheduler(soon(), terms=BASE, scale={"spectrum": 0.1})


def test_from_params():
    assert FlexibleLossScheduler.from_params(soon()).params == soon()


@pytest.mark.parametrize("times", range(9))
@pytest.mark.parametrize("through", [lambda s: json.loads(json.dumps(s)), through_file])
def test_a_state_goes_through_json_and_through_a_checkpoint(times, through):
    first, second = moved(times), FlexibleLossScheduler(soon())
    second.load_state_dict(through(first.state_dict()))
    assert second.weights(**AT) == first.weights(**AT)
    assert second.active(**AT) == first.active(**AT)
    assert second.events == first.events
    assert second.state_dict() == first.state_dict()


def test_a_state_is_a_copy():
    scheduler = moved(2)
    state = scheduler.state_dict()
    scheduler.step(3, {"spectrum_error": 0.5})
    assert state == moved(2).state_dict()


def test_a_state_of_other_parameters_is_refused_with_the_difference():
    state = moved(2).state_dict()
    other = FlexibleLossScheduler(soon(patience=7, final_weight_target=0.5))
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"(?s)patience: saved 1, now 7") as told:
        other.load_state_dict(state)
    assert "final_weight_target: saved 0.7, now 0.5" in str(told.value)
    assert 'on_mismatch="override"' in str(told.value)
    assert other.state_dict() == before


def test_a_state_of_other_parameters_under_a_warning():
    other = FlexibleLossScheduler(soon(final_weight_target=0.5))
    with pytest.warns(UserWarning, match="final_weight_target: saved 0.7, now 0.5") as told:
        other.load_state_dict(moved(2).state_dict(), on_mismatch="warn")
    assert told[0].filename == __file__
    assert other.params.final_weight_target == 0.5
    assert other.weight_target == pytest.approx(0.5 * 0.2 / 0.7)


@pytest.mark.parametrize("at_construction", [True, False])
def test_a_state_of_other_parameters_overridden(at_construction):
    policy = "override" if at_construction else "error"
    other = FlexibleLossScheduler(soon(patience=7), on_mismatch=policy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(moved(2).state_dict(), None if at_construction else "override")
    assert other.get_scheduler_state()["total_adaptations"] == 2
    assert other.params.patience == 7


def test_a_path_of_more_segments_goes_on_at_the_same_progress():
    roles = {"a": ["x"], "b": ["y"]}
    ends = [{"a": 1, "b": 0}, {"a": 0.5, "b": 0.5}, {"a": 0.3, "b": 0.7}]
    other = FlexibleLossScheduler(soon(roles=roles, waypoints=ends))
    saved = moved(5)
    other.load_state_dict(saved.state_dict(), on_mismatch="override")
    assert other.progress == pytest.approx(saved.progress)
    assert other.get_scheduler_state()["position"] == [1, pytest.approx(10 / 7 - 1)]
    back = FlexibleLossScheduler(soon())
    back.load_state_dict(other.state_dict(), on_mismatch="override")
    assert back.weight_target == pytest.approx(saved.weight_target)


def test_the_end_of_the_path_bounds_what_is_loaded():
    other = FlexibleLossScheduler(soon(max_weight_target=0.4, cap_policy="clip"))
    other.load_state_dict(moved(6).state_dict(), on_mismatch="override")
    assert other.state == "COMPLETE"
    assert other.weight_target == pytest.approx(0.4)
    assert other.progress == pytest.approx(0.4 / 0.7)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {}, r"it holds \[\]"),
        (lambda s: {**s, "version": 2}, "version 2"),
        (lambda s: {**s, "weights": 1}, "'weights'"),
        (lambda s: {**s, "memory": {**s["memory"], "mood": 1}}, "mood"),
        (lambda s: {**s, "memory": {"call": 1}}, "lacks .*'position'"),
    ],
)
def test_what_is_no_state_is_refused(spoil, message):
    scheduler = moved(2)
    before = scheduler.state_dict()
    with pytest.raises(ValueError, match=message):
        scheduler.load_state_dict(spoil(before))
    assert scheduler.state_dict() == before


def test_an_unknown_policy():
    with pytest.raises(ValueError, match=r"on_mismatch must be one of .* mean 'override'"):
        FlexibleLossScheduler(soon(), on_mismatch="overrides")
    with pytest.raises(ValueError, match="on_mismatch must be one of"):
        moved(1).load_state_dict(moved(1).state_dict(), on_mismatch="force")


def first_own(metrics):
    return metrics["spectrum_error"]


def second_own(metrics):
    return metrics["spectrum_error"]


def test_callables_are_compared_by_name():
    state = moved(2, soon(monitor_metric=first_own)).state_dict()
    FlexibleLossScheduler(soon(monitor_metric=first_own)).load_state_dict(through_file(state))
    with pytest.raises(ValueError, match=r"monitor_metric: saved .*first_own', now .*second_own'"):
        FlexibleLossScheduler(soon(monitor_metric=second_own)).load_state_dict(state)


def test_a_skipped_value_leaves_nothing_that_json_lacks():
    scheduler = moved(2)
    scheduler.step(3, {"spectrum_error": math.nan})
    assert json.loads(json.dumps(scheduler.state_dict(), allow_nan=False)) == scheduler.state_dict()
