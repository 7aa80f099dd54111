"""Every weighting: cut anywhere, restore, equal to never having stopped."""

import math
from typing import ClassVar

import nops_schedules
import pytest
from nops_schedules import (
    ConstantWeights,
    CurriculumRamp,
    FlexibleLossScheduler,
    LinearAnnealing,
    Phases,
    SchedulerParams,
)
from nops_testing.contract import CUTS, check_round_trip, stateful_classes


class OfConstantWeights:
    """They remember nothing: what they say over a run is kept beside them and compared."""

    covers = "ConstantWeights"

    def __init__(self):
        self.weights = self.make()
        self.said = []

    def make(self):
        return ConstantWeights({"a": 1.0, "b": 0.0, "c": 0.25})

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"weights": self.weights.state_dict(), "said": list(self.said)}

    def load_state_dict(self, state):
        self.weights.load_state_dict(state["weights"])
        self.said = list(state["said"])

    def advance(self, step):
        self.weights.observe({"a": 1.0 / (step + 1)}, epoch=0, step=step, split="train")
        at = {"epoch": step, "step": 3 * step}
        self.said.append([self.weights.weights(**at), sorted(self.weights.active(**at))])

    def observe(self):
        return self.said


class OfCurriculum(OfConstantWeights):
    """A ramp that begins, skips steps and ends within the run."""

    covers = "CurriculumRamp"

    def make(self):
        base = {"a": 1.0, "b": 0.0, "c": 0.25}
        return CurriculumRamp(base, ramped=["b", "c"], delay=1, ramp=3, every=2, rescale=True)


class OfPhases(OfConstantWeights):
    """A pretraining that ends within the run, and an annealing that does not."""

    covers = "Phases"

    def make(self):
        train = {"b": 1.0, "c": LinearAnnealing(end=0.25, epochs=4)}
        return Phases(pretrain=2, pretrain_weights={"a": 1.0}, train_weights=train)


class OfScheduler:
    """A schedule with a guard, a pause, a streak, a NaN, and two monitors: all that it remembers moves."""

    covers = "FlexibleLossScheduler"
    metrics = (0.5, 0.4, math.nan, 0.4, 0.4, 0.41)
    harm = (0.1, 0.1, 0.1, 0.1, 0.5, 0.1)
    settings: ClassVar = {
        "enabled": True,
        "warmup_epochs": 0,
        "min_epochs_before_adapt": 0,
        "patience": 1,
        "use_ema": True,
        "guard_metric": "harm",
        "max_consecutive_adaptations": 2,
        "roles": {"a": ["x"], "b": ["y"]},
        "waypoints": [{"a": 1, "b": 0}, {"a": 0.9, "b": 0.1}, {"a": 0.5, "b": 0.5}],
        "monitors": ["error", "2*error"],
    }

    def __init__(self):
        self.state = FlexibleLossScheduler(SchedulerParams(**self.settings, **self.more))

    more: ClassVar = {}

    def advance(self, step):
        last = self.state.get_scheduler_state()["epoch"]
        values = {"error": self.metrics[step], "harm": self.harm[step]}
        self.state.observe(
            values, epoch=0 if last is None else last + 1, step=9 * step, split="valid"
        )

    def observe(self):
        state = self.state
        at = {"epoch": 0, "step": 0}
        told = [str(event) for event in state.events]
        return [state.get_scheduler_state(), state.weights(**at), sorted(state.active(**at)), told]


class OfTrend(OfScheduler):
    """The same by the trend of the raw values, counted in calls."""

    covers = None
    more: ClassVar = {"adaptation_trigger": "trend", "unit": "call"}


class OfThreshold(OfScheduler):
    """The same by a value that is reached."""

    covers = None
    more: ClassVar = {"adaptation_trigger": "threshold", "trigger_value": 0.45}


class OfMilestones(OfScheduler):
    """The same at fixed epochs."""

    covers = None
    more: ClassVar = {"adaptation_trigger": "epoch", "milestones": [1, 3]}


CASES = [OfConstantWeights, OfCurriculum, OfPhases, OfScheduler, OfTrend, OfThreshold, OfMilestones]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", CASES)
def test_round_trip(make, cut):
    check_round_trip(make, cut=cut)


def test_every_stateful_class_is_covered():
    assert stateful_classes(nops_schedules) == {case.covers for case in CASES} - {None}
