"""Every weighting: cut anywhere, restore, equal to never having stopped."""

import math
from typing import ClassVar

import nops_schedules
import pytest
import torch
from nops_schedules import (
    ConstantWeights,
    CurriculumRamp,
    FlexibleLossScheduler,
    SchedulerParams,
)
from nops_schedules.gradient import (
    GradientNormWeights,
    GradNorm,
    InverseDirichlet,
    LearningRateAnnealing,
    MomentumConFIG,
    NTKWeights,
    PCGrad,
    UncertaintyWeights,
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


NAMES = ("a", "b", "c")


def draws(step, *shape):
    """Numbers that depend on the step alone."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


class OfGradients:
    """Weights from gradients that differ from step to step; the fourth step is skipped."""

    covers = None

    def __init__(self):
        self.state = self.make()
        self.at = 0

    def make(self):
        return GradientNormWeights(NAMES, every=2)

    def advance(self, step):
        x = draws(step, 4).requires_grad_()
        rows, offsets = draws(100 + step, 3, 4), draws(200 + step, 3)
        residuals = {n: (row * x + c) for n, row, c in zip(NAMES, rows, offsets, strict=True)}
        losses = {name: residual.square().mean() for name, residual in residuals.items()}
        if hasattr(self.state, "note_residuals"):
            self.state.note_residuals(residuals)
        self.state.balance(losses, [x], epoch=0, step=step)
        if step == 3:
            self.state.discard_update()
        self.at = step + 1

    def observe(self):
        return self.state.weights(epoch=0, step=self.at)


class OfAnnealing(OfGradients):
    """The same by learning rates."""

    def make(self):
        variant = "max_mean_over_weight"
        return LearningRateAnnealing(NAMES, reference="a", variant=variant, every=1)


class OfDirichlet(OfGradients):
    """The same by deviations."""

    def make(self):
        return InverseDirichlet(NAMES, every=3)


class OfGradNorm(OfGradients):
    """The same by rates of training, which remember the first losses."""

    def make(self):
        return GradNorm(NAMES)


class OfKernel(OfGradients):
    """The same by random probes."""

    def make(self):
        return NTKWeights(NAMES, method="hutchinson", every=2)


class OfUncertainty(OfGradients):
    """Scales with moments of their own."""

    covers = "UncertaintyWeights"

    def make(self):
        return UncertaintyWeights(NAMES)

    def advance(self, step):
        values = dict(zip(NAMES, draws(step, 3).tolist(), strict=True))
        self.state.observe(values, epoch=0, step=step, split="train")

    def observe(self):
        return self.state.weights(epoch=0, step=0)


class OfImpartial(OfUncertainty):
    """The same in the other form."""

    covers = None

    def make(self):
        return UncertaintyWeights(NAMES, form="imtl_l")


class OfSurgery(OfGradients):
    """Joint gradients that depend on what was drawn before, and on a base that was asked."""

    def make(self):
        return PCGrad(NAMES, base=CurriculumRamp(dict.fromkeys(NAMES, 1.0), ramped=["b"], delay=2))

    def advance(self, step):
        self.state.weights(epoch=step, step=step)
        self.join(self.state, step)
        if step == 3:
            self.state.discard_update()

    def join(self, weighting, step):
        x = torch.zeros(2, requires_grad=True, dtype=torch.float64)
        rows = draws(step, 3, 2) - 0.5
        weighting.backward(dict(zip(NAMES, rows @ x, strict=True)), [x])
        return x.grad.tolist()

    def observe(self):
        again = self.make()
        again.load_state_dict(self.state.state_dict())
        return [self.join(again, 9), self.state.weights(epoch=9, step=9)]


class OfMomenta(OfGradients):
    """Running means of gradients; a restored object gives the same bits as one that never stopped."""

    covers = "MomentumConFIG"

    def make(self):
        return MomentumConFIG(NAMES[:2])

    def advance(self, step):
        x = torch.zeros(3, requires_grad=True, dtype=torch.float64)
        self.state.backward({NAMES[step % 2]: (draws(step, 3) - 0.5) @ x}, [x])
        if step == 3:
            self.state.discard_update()

    def observe(self):
        return self.state.state_dict()


GRADIENT_CASES = [OfGradients, OfAnnealing, OfDirichlet, OfGradNorm, OfKernel, OfSurgery, OfMomenta]
CASES = [OfConstantWeights, OfCurriculum, OfScheduler, OfTrend, OfThreshold, OfMilestones]
CASES += [*GRADIENT_CASES, OfUncertainty, OfImpartial]
BASES = {"Aggregator", "BalancedWeights"}  # covered by all that inherit from them


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", CASES)
def test_round_trip(make, cut):
    check_round_trip(make, cut=cut)


def test_every_stateful_class_is_covered():
    assert stateful_classes(nops_schedules) == {case.covers for case in CASES} - {None} | BASES
