"""Weightings that take turns: bounds, predicates, what is carried, and what is not shown."""

import json

import pytest
from nops_schedules import (
    AdaptiveLossWeights,
    ConstantWeights,
    CurriculumRamp,
    FlexibleLossScheduler,
    ReLoBRaLo,
    SchedulerParams,
    SoftAdapt,
    Stages,
)

PAIR = ["a", "b"]
SERIES = ({"a": 1.0, "b": 0.1}, {"a": 0.5, "b": 0.2}, {"a": 0.25, "b": 0.2})


def fixed(a=1.0, b=1.0):
    return AdaptiveLossWeights(PAIR, {"a": a, "b": b}, "fixed")


def run(stages, count, *, start=0):
    found = []
    for step in range(start, start + count):
        at = {"epoch": step // 4, "step": step}
        assert stages.active(**at) == {"a", "b"}
        found.append((stages.stage, stages.weights(**at)))
        if stages.observes == "step":
            stages.observe(SERIES[step % 3], **at, split="train")
    return found


def test_bounds_are_exclusive_and_0_based():
    found = run(Stages([(2, fixed(1, 1)), (5, fixed(2, 2)), (None, fixed(3, 3))], carry=False), 8)
    assert [stage for stage, _ in found] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [weights["a"] for _, weights in found] == [1, 1, 2, 2, 2, 3, 3, 3]


def test_bounds_may_count_epochs_of_any_length():
    stages = Stages(
        [(2, fixed(1, 1)), (None, fixed(3, 3))], carry=False, unit="epoch"
    )  # an epoch has four steps
    assert stages.scheme_at(10**6) is None  # no step says which epoch it is in
    found = run(stages, 12)
    assert [stage for stage, _ in found] == [0] * 8 + [1] * 4
    assert stages.scheme_at(0).weights(epoch=2, step=8)["a"] == 3
    with pytest.raises(ValueError, match="stage 0 must end above epoch 0"):
        Stages([(0, fixed()), (None, fixed())], unit="epoch")


def test_the_last_weights_are_the_next_schemes_initial_ones():
    first, last = SoftAdapt(PAIR), AdaptiveLossWeights(PAIR, strategy="ema", update_unit="step")
    stages = Stages([(3, first), (None, last)])
    found = run(stages, 4)
    carried = found[3][1]
    assert carried == first.get_weights() != {"a": 1.0, "b": 1.0}
    alone = AdaptiveLossWeights(PAIR, carried, "ema")
    assert stages.weights(epoch=1, step=4) == alone.update(0, SERIES[0])


def test_what_was_off_begins_at_its_own_weight_and_what_is_off_stays_off():
    first = AdaptiveLossWeights(["a", "b", "c"], {"a": 0.3, "b": 0.0, "c": 2.0}, "fixed")
    last = SoftAdapt(["a", "b", "c"], initial_weights={"a": 1.0, "b": 0.7, "c": 0.0})
    stages = Stages([(1, first), (None, last)])
    assert stages.terms == {"a": 1.0, "b": 0.7, "c": 2.0}
    assert stages.active(epoch=0, step=0) == {"a", "c"}
    assert stages.weights(epoch=0, step=1) == {"a": 0.3, "b": 0.7, "c": 0.0}
    assert stages.active(epoch=0, step=1) == {"a", "b"}


def test_carried_weights_obey_the_clamps_of_the_next():
    stages = Stages([(1, fixed(1e3, 1e-3)), (None, SoftAdapt(PAIR, min_weight=0.1, max_weight=9))])
    with pytest.warns(UserWarning, match="clamped"):
        assert stages.weights(epoch=0, step=1) == {"a": 9.0, "b": 0.1}


def test_a_scheme_that_takes_no_weights_is_left_alone():
    stages = Stages([(1, fixed(5, 6)), (None, ConstantWeights({"a": 1.0, "b": 2.0}))])
    assert stages.weights(epoch=0, step=1) == {"a": 1.0, "b": 2.0}


def test_a_predicate_ends_the_stage_after_the_step_that_makes_it_true():
    asked = []

    def small(epoch, step, values):
        asked.append((epoch, step, values))
        return values["a"] < 0.3

    stages = Stages([(small, fixed()), (None, fixed(2, 2))], carry=False)
    assert stages.observes == "step"
    assert [stage for stage, _ in run(stages, 5)] == [0, 0, 0, 1, 1]
    assert asked == [(0, step, SERIES[step]) for step in range(3)]
    assert stages.observes is None


def test_what_was_made_before_a_stage_is_not_shown_to_it():
    """An engine on a GPU tells of steps some time after it has asked for later weights."""
    last = SoftAdapt(PAIR)
    stages = Stages([(3, fixed()), (None, last)])
    assert stages.observes is None
    stages.weights(epoch=0, step=3)
    assert stages.observes == "step"
    for step in (1, 2):
        stages.observe(SERIES[step], epoch=0, step=step, split="train")
    assert last.epoch is None
    stages.observe(SERIES[0], epoch=0, step=3, split="train")
    assert last.epoch == 0


def test_what_is_observed_once_per_epoch_has_the_number_of_the_next_step():
    first = AdaptiveLossWeights(PAIR, strategy="ema")
    stages = Stages([(lambda epoch, step, values: epoch == 1, first), (None, SoftAdapt(PAIR))])
    assert stages.observes == "epoch"
    for epoch in range(2):
        assert stages.stage == 0
        end = {"epoch": epoch, "step": 4 * (epoch + 1)}
        stages.observe(SERIES[epoch], **end, split="train")
    assert stages.stage == 1
    stages.observe(SERIES[2], epoch=2, step=8, split="train")
    assert stages.active_weighting.epoch == 2


def test_what_an_epoch_left_takes_effect_before_it_is_carried():
    first = AdaptiveLossWeights(PAIR)
    stages = Stages([(4, first), (None, SoftAdapt(PAIR))])
    stages.weights(epoch=0, step=3)
    stages.observe(SERIES[0], epoch=0, step=4, split="train")
    assert stages.weights(epoch=1, step=4) == pytest.approx({"a": 2 / 11, "b": 20 / 11})


def test_stages_skipped_over_pass_the_weights_on():
    stages = Stages([(1, fixed(5, 6)), (2, SoftAdapt(PAIR)), (None, SoftAdapt(PAIR))])
    assert stages.weights(epoch=0, step=7) == {"a": 5.0, "b": 6.0}
    assert stages.stage == 2


def test_the_member_in_charge_is_found_within_stages_of_stages():
    first, inner = fixed(), SoftAdapt(PAIR)
    stages = Stages([(1, first), (None, Stages([(9, inner), (None, fixed())]))])
    assert stages.active_weighting is first
    stages.active(epoch=0, step=1)
    assert stages.active_weighting is inner


def test_the_other_weightings_of_the_package_take_part():
    params = SchedulerParams(enabled=True, warmup_epochs=0, min_epochs_before_adapt=0, patience=1)
    names = {"recFieldError": 1.0, "predFieldError": 1.0, "spectrumError": 0.7}
    ramp = CurriculumRamp(names, ramped=["spectrumError"], delay=0, ramp=1)
    stages = Stages([(4, ramp), (None, FlexibleLossScheduler(params))])
    stages.active(epoch=1, step=4)
    assert stages.observes == "validation"
    for epoch in range(1, 4):
        stages.observe({"spectrum_error": 0.5}, epoch=epoch, step=4 * epoch, split="valid")
    assert stages.weights(epoch=4, step=16)["spectrumError"] > 0


def make():
    return Stages([(4, ReLoBRaLo(PAIR)), (9, AdaptiveLossWeights(PAIR)), (None, SoftAdapt(PAIR))])


def test_refuses_a_state_of_other_stages():
    state = json.loads(json.dumps(make().state_dict()))
    for other, message in (
        (Stages([(4, ReLoBRaLo(PAIR)), (None, SoftAdapt(PAIR))]), r"ends: saved \[4, 9, None\]"),
        (
            Stages([(4, ReLoBRaLo(PAIR)), (9, SoftAdapt(PAIR)), (None, SoftAdapt(PAIR))]),
            "kinds: saved",
        ),
        (
            Stages(
                [
                    (4, ReLoBRaLo(PAIR, tau=2)),
                    (9, AdaptiveLossWeights(PAIR)),
                    (None, SoftAdapt(PAIR)),
                ]
            ),
            "tau: saved 1.0, now 2.0",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="version: saved None, now 1"):
        make().load_state_dict({})


BAD = [
    ([], "one pair"),
    ([(3, fixed())], "the last stage has no end"),
    ([(0, fixed()), (None, fixed())], "stage 0 must end above step 0"),
    ([(4, fixed()), (4, fixed()), (None, fixed())], "stage 1 must end above step 4"),
    ([(None, fixed()), (None, fixed())], "stage 0 must end above step 0"),
    ([(True, fixed()), (None, fixed())], "got True"),
    ([(2, fixed()), (None, ConstantWeights({"a": 1.0}))], r"same terms.*\['a'\] in stage 1"),
]


@pytest.mark.parametrize(("stages", "message"), BAD)
def test_refuses_what_makes_no_sense(stages, message):
    with pytest.raises(ValueError, match=message):
        Stages(stages)


def test_the_scheme_of_a_step_to_come():
    first, second, third = (ConstantWeights({"a": 1.0}) for _ in range(3))
    stages = Stages([(2, first), (5, second), (None, third)])
    assert [stages.scheme_at(step) for step in (0, 1, 2, 4, 5, 99)] == [
        first,
        first,
        second,
        second,
        third,
        third,
    ]
    unforeseen = Stages([(2, first), (lambda epoch, step, values: True, second), (None, third)])
    assert unforeseen.scheme_at(1) is first
    assert unforeseen.scheme_at(2) is None
