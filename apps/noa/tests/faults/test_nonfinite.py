"""Values that are not finite: the step is skipped and told; a streak stops the run with code 3."""

import json
import math

import pytest

pytestmark = pytest.mark.fault

# The first call is the start-up check; of "backward", a step makes one call per window.
POISON = (
    {"at": "step", "do": "nan_input", "calls": [4]},
    {"at": "step", "do": "nan_loss", "calls": [9]},
    {"at": "backward", "do": "inf_gradient", "calls": [14]},
)


def events_of(runs, kind):
    lines = (runs.run / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_poisoned_step_is_skipped_and_named(runs):
    ended = runs.train(faults=POISON)
    assert (ended.code, ended.strikes) == (0, 3), ended.text
    by_input, by_loss, by_gradient = events_of(runs, "skipped")
    assert by_input["terms"] == ["traj"]
    assert (by_input["epoch"], by_input["batch"]) == (0, 2)
    assert by_input["reason"] == "traj is not finite"
    assert by_loss["terms"] == ["traj"]
    assert by_gradient["terms"] == []
    assert by_gradient["reason"].startswith("the gradient of ")
    assert runs.summary()["skipped"] == 3
    assert runs.summary()["steps"] == 8 * 3 - 3
    losses = [event["loss"] for event in events_of(runs, "train")]
    assert len(losses) == 8 * 3 - 3
    assert all(math.isfinite(float(value)) for value in losses)


def test_a_streak_stops_with_advice_and_the_command_goes_on_from_there(runs):
    streak = {"at": "step", "do": "nan_loss", "calls": list(range(8, 100))}
    ended = runs.train("--train.max_skipped_in_row=3", faults=[streak])
    assert ended.code == 3, ended.text
    assert "3 non-finite steps in a row" in ended.text
    assert "traj is not finite" in ended.text
    assert "lower learning rate" in ended.text.replace("\n", " ")
    assert str(runs.run.relative_to(runs.folder) / "events.jsonl") in ended.text
    assert "Traceback" not in ended.text
    assert runs.summary()["status"] == "diverged"
    again = runs.train("--train.max_skipped_in_row=3")
    assert again.code == 0, again.text
    assert runs.summary()["status"] == "completed"
