"""What the parameters refuse, by name, and how they travel as plain values."""

import dataclasses
import json
import math

import pytest
from nops_schedules import FlexibleLossSchedulerConfig, SchedulerParams
from nops_schedules._params_path import path_of

ROLES = {"field": ["f"], "spectrum": ["s"]}
ENDS = [{"field": 1, "spectrum": 0}, {"field": 0.5, "spectrum": 0.5}]
PUBLISHED = {
    "enabled": False,
    "source_loss": "field_error",
    "target_loss": "spectrum_error",
    "source_components": {"recFieldError": True, "predFieldError": True},
    "target_components": {"spectrumError": True},
    "static_components": {},
    "initial_weight_source": 1.0,
    "initial_weight_target": 0.0,
    "final_weight_source": 0.3,
    "final_weight_target": 0.7,
    "max_weight_target": 0.8,
    "adaptation_trigger": "plateau",
    "patience": 5,
    "min_delta": 0.001,
    "transition_step": 0.1,
    "adaptive_step": True,
    "min_epochs_before_adapt": 10,
    "warmup_epochs": 5,
    "max_consecutive_adaptations": 10,
    "transition_schedule": "linear",
    "monitor_metric": "spectrum_error",
    "use_ema": True,
    "ema_beta": 0.9,
}
OURS = {
    "min_delta_mode": "abs",
    "monitor_mode": "min",
    "unit": "epoch",
    "min_step": 0.05,
    "pause_epochs": 5,
    "ema_in_warmup": False,
    "milestones": [],
    "trigger_value": None,
    "cap_policy": "error",
    "guard_metric": None,
    "guard_tolerance": 0.2,
    "max_rollbacks": 3,
    "roles": None,
    "waypoints": None,
    "caps": None,
    "monitors": None,
    "max_nonfinite": 10,
    "split": "valid",
    "history_size": 1000,
}


def own_trigger(scheduler, smoothed):
    return False


def test_fields_and_defaults():
    assert SchedulerParams().asDict() == {**PUBLISHED, **OURS}
    assert FlexibleLossSchedulerConfig is SchedulerParams


def test_plain_values_go_round():
    params = SchedulerParams(
        enabled=True,
        roles=ROLES,
        waypoints=ENDS,
        caps={"spectrum": 0.6},
        monitors=["a - b"],
        adaptation_trigger="epoch",
        milestones=(3, 9),
        guard_metric="field_error",
    )
    plain = json.loads(json.dumps(params.asDict(), allow_nan=False))
    assert SchedulerParams.fromDict(plain) == params
    assert plain["milestones"] == [3, 9]


def test_callables_are_written_by_name():
    params = SchedulerParams(adaptation_trigger=own_trigger)
    assert params.asDict()["adaptation_trigger"] == f"{__name__}:own_trigger"


def test_frozen_and_apart_from_what_was_given():
    given = {"recFieldError": True}
    params = SchedulerParams(source_components=given)
    given["recFieldError"] = False
    assert params.source_components == {"recFieldError": True}
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.enabled = True  # pyright: ignore[reportAttributeAccessIssue]


def test_whole_numbers_are_numbers():
    assert isinstance(SchedulerParams(min_delta=0).min_delta, float)


REFUSED = [
    ({"source_loss": "spectrum_error"}, "source_loss and target_loss are both 'spectrum_error'"),
    ({"target_loss": " "}, "target_loss must be a name"),
    ({"enabled": 1}, "enabled must be true or false, got 1"),
    ({"ema_beta": 1.0}, r"ema_beta must be within \[0, 1\), got 1.0"),
    ({"ema_beta": -0.1}, "ema_beta must be within"),
    ({"patience": 0}, "patience must be a whole number of at least 1, got 0"),
    ({"patience": 2.5}, "patience must be a whole number"),
    ({"patience": True}, "patience must be a whole number"),
    ({"warmup_epochs": -1}, "warmup_epochs must be a whole number of at least 0"),
    ({"initial_weight_source": -0.1}, "initial_weight_source must be 0 or more, got -0.1"),
    ({"final_weight_target": math.nan}, "final_weight_target must be a finite number, got nan"),
    ({"max_weight_target": math.inf}, "max_weight_target must be a finite number"),
    ({"final_weight_source": "0.3"}, "final_weight_source must be a finite number, got '0.3'"),
    ({"transition_step": 0.0}, "transition_step must be above 0"),
    ({"min_step": -1}, "min_step must be 0 or more"),
    ({"min_delta": -1e-9}, "min_delta must be 0 or more"),
    ({"adaptation_trigger": "plato"}, "adaptation_trigger .* Did you mean 'plateau'"),
    ({"transition_schedule": "cos"}, "transition_schedule .* Did you mean 'cosine'"),
    ({"unit": "epochs"}, "unit .* Did you mean 'epoch'"),
    ({"cap_policy": "clamp"}, "cap_policy must be one of"),
    ({"split": "test"}, r"split must be one of \['valid', 'train'\]"),
    ({"milestones": [3]}, 'milestones .* belong to "epoch"'),
    ({"adaptation_trigger": "epoch"}, 'milestones .* belong to "epoch"'),
    ({"adaptation_trigger": "epoch", "milestones": [3, 3]}, "milestones must rise"),
    ({"adaptation_trigger": "epoch", "milestones": [3, 1]}, "milestones must rise"),
    ({"adaptation_trigger": "epoch", "milestones": [-3]}, r"milestones\[0\] must be a whole"),
    ({"trigger_value": 0.3}, 'trigger_value belongs to "threshold"'),
    ({"adaptation_trigger": "threshold"}, 'trigger_value belongs to "threshold"'),
    ({"final_weight_target": 0.9}, "final_weight_target=0.9 .* max_weight_target=0.8.* cap_policy"),
    ({"initial_weight_target": 0.9}, "initial_weight_target=0.9 is above max_weight_target=0.8"),
    (
        {"initial_weight_target": 0.9, "cap_policy": "clip"},
        "initial_weight_target=0.9 is above max_weight_target=0.8",
    ),
    ({"source_components": ["recFieldError"]}, "source_components must be a mapping"),
    ({"source_components": {"recFieldError": 1.0}}, "source_components.recFieldError must be true"),
    ({"source_components": {"spectrumError": True}}, "both hold .'spectrumError'."),
    (
        {"source_components": {"a": False}, "target_components": {"b": False}},
        "name no component to move",
    ),
    ({"static_components": {"regDiv": -1}}, "static_components.regDiv must be 0 or more"),
    ({"initial_weight_source": 0}, "all weights are 0 at waypoint 0"),
    ({"static_components": {"recFieldError": 0, "predFieldError": 0}}, "0 at waypoint 0"),
    ({"guard_metric": 3}, "guard_metric must be a name"),
    ({"max_rollbacks": 0}, "max_rollbacks must be a whole number of at least 1"),
    ({"waypoints": ENDS, "caps": {}}, "waypoints, caps: they belong to roles"),
    ({"roles": ROLES}, "waypoints: two at least with roles, got 0"),
    ({"roles": ROLES, "waypoints": ENDS[:1]}, "waypoints: two at least with roles, got 1"),
    ({"roles": ROLES, "waypoints": [ENDS[0]] * 2}, "waypoints 0 and 1 are equal"),
    ({"roles": ROLES, "waypoints": [ENDS[0], {"field": 1}]}, r"waypoints\[1\] needs .*'spectrum'"),
    (
        {"roles": ROLES, "waypoints": [*ENDS, {"field": 1, "spectrm": 0}]},
        r"waypoints\[2\]: 'spectrm' is no role.* Did you mean 'spectrum'",
    ),
    ({"roles": ROLES, "waypoints": ENDS, "caps": {"feld": 1}}, "caps: 'feld' .* mean 'field'"),
    ({"roles": ROLES, "waypoints": ENDS, "caps": {"spectrum": 0.4}}, "spectrum 0.5 at waypoint 1"),
    (
        {"roles": ROLES, "waypoints": ENDS, "caps": {"spectrum": 0.0}, "cap_policy": "clip"},
        "the weights could not move at all",
    ),
    (
        {"roles": ROLES, "waypoints": ENDS, "caps": {"field": 0.9}, "cap_policy": "clip"},
        "field 1 at waypoint 0 is above its cap 0.9",
    ),
    ({"roles": ROLES, "waypoints": ENDS, "monitors": ["a", "b"]}, "one per segment, 1, got 2"),
    (
        {"roles": ROLES, "waypoints": ENDS, "final_weight_target": 0.6},
        "final_weight_target: with r",
    ),
    ({"roles": {**ROLES, "c": ["s"]}, "waypoints": ENDS}, "none may have two roles"),
    ({"roles": {**ROLES, "c": []}, "waypoints": ENDS}, "each needs a component"),
    ({"roles": {"a": "f"}, "waypoints": ENDS}, "roles.a must be a list"),
    ({"roles": ROLES, "waypoints": ENDS, "monitors": "ab"}, "monitors must be a list"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        SchedulerParams(**changes)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("patiance", "patience"), ("final_target_weight", "final_weight_target"), ("role", "roles")],
)
def test_an_unknown_key_is_an_error_with_the_nearest(key, nearest):
    with pytest.raises(
        ValueError, match=f"unknown scheduler parameter '{key}'. Did you mean '{nearest}'"
    ):
        SchedulerParams.fromDict({key: 3})


@pytest.mark.parametrize("raw", [None, [1], "enabled"])
def test_parameters_are_a_mapping(raw):
    with pytest.raises(ValueError, match="must be a mapping"):
        SchedulerParams.fromDict(raw)


def test_a_cap_that_is_met_exactly_is_kept():
    assert path_of(SchedulerParams(final_weight_target=0.8)).end == (1, 0.0)


def test_one_role_may_be_empty():
    params = SchedulerParams(
        source_components={}, initial_weight_target=0.1, static_components={"predFieldError": 1.0}
    )
    assert path_of(params).roles == {"source": (), "target": ("spectrumError",)}
