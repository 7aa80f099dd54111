"""Every weighting: cut anywhere, restore, equal to never having stopped."""

import json
import math
from typing import ClassVar

import nops_schedules
import pytest
import torch
from nops_schedules import (
    AdaptiveLossWeights,
    AutoSelect,
    ConstantWeights,
    CurriculumRamp,
    DynamicWeightAverage,
    FlexibleLossScheduler,
    LinearAnnealing,
    Phases,
    ReLoBRaLo,
    SchedulerParams,
    SoftAdapt,
    Stages,
    VarianceWeights,
)
from nops_schedules._evidence import GradientNotes, LossWindow
from nops_schedules._loss_weights import LossWeights
from nops_schedules.gradient import (
    CausalWeights,
    GradientNormWeights,
    GradNorm,
    InverseDirichlet,
    LearningRateAnnealing,
    MomentumConFIG,
    NTKWeights,
    PCGrad,
    ResidualAttention,
    SelfAdaptive,
    UncertaintyWeights,
    WithPointwise,
)
from nops_testing.contract import CUTS, check_round_trip, stateful_classes, through_file


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


NAMES = ["a", "b", "c", "off"]
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 0.5, "off": 0.0}
VALUED = {
    "equal_init": lambda: AdaptiveLossWeights(NAMES, WEIGHTS, update_unit="step"),
    "equal_init_ema": lambda: AdaptiveLossWeights(NAMES, WEIGHTS, "equal_init_ema", update_every=2),
    "ema": lambda: AdaptiveLossWeights(NAMES, WEIGHTS, "ema", prior=True, update_unit="step"),
    "SoftAdapt": lambda: SoftAdapt(NAMES, initial_weights=WEIGHTS),
    "difference": lambda: SoftAdapt(NAMES, initial_weights=WEIGHTS, variant="difference"),
    "ReLoBRaLo": lambda: ReLoBRaLo(NAMES, initial_weights=WEIGHTS, alpha=0.7, beta=0.5),
    "dwa": lambda: DynamicWeightAverage(NAMES, initial_weights=WEIGHTS),
    "variance": lambda: VarianceWeights(NAMES, initial_weights=WEIGHTS, warmup=2),
    "window": lambda: LossWindow(
        WEIGHTS, window=100, min_weight=0.1, max_weight=9, unit="step", notes=GradientNotes()
    ),
}


class OfValues:
    """Weights that follow losses: two observations per step, an epoch of four, a NaN and a zero."""

    covers = "LossWeights"
    kind: ClassVar = ""
    per_step = 2

    def __init__(self):
        self.state = self.make()
        self.at = {"epoch": 0, "step": 0}

    def make(self):
        return VALUED[self.kind]()

    def advance(self, step):
        for number in range(self.per_step * step, self.per_step * (step + 1)):
            self.at = at = {"epoch": number // (2 * self.per_step), "step": number}
            self.state.weights(**at)
            losses = {"a": 0.9**number, "b": 1 + 0.3 * (-1) ** number, "c": 0.1 * (number + 1)}
            bad = {3: {"b": math.nan}, 6: {"c": 0.0}}.get(number, {})
            self.state.observe({**losses, **bad}, **at, split="train")

    def observe(self):
        watched = through_file(self.state.state_dict())
        return [watched, self.state.observes, sorted(self.state.active(**self.at))]


OF_VALUES = [type(f"Of_{kind}", (OfValues,), {"kind": kind}) for kind in VALUED]


class OfStages(OfValues):
    """Three schemes by a bound and a predicate, with weights that are carried."""

    covers = "Stages"

    def make(self):
        schemes = [VALUED[kind]() for kind in ("ReLoBRaLo", "ema", "SoftAdapt")]
        ends = [3, lambda epoch, step, values: step >= 7, None]
        return Stages(list(zip(ends, schemes, strict=True)))


class OfSelection(OfValues):
    """A window of 100, gradient statistics within it, and then the scheme chosen."""

    covers = "AutoSelect"
    per_step = 30
    norms: ClassVar = [1.0, 2.0, 3.0]

    def make(self):
        return AutoSelect(
            NAMES,
            window=100,
            initial_weights=WEIGHTS,
            candidates={"ConFIG": SoftAdapt, "GradientNormWeights": VarianceWeights},
        )

    def advance(self, step):
        cosines = [[1.0, 0.1, math.nan], [0.1, 1.0, 0.3], [math.nan, 0.3, 1.0]]
        self.state.note({"cosine": cosines, "norm": [n * (step + 1) for n in self.norms]})
        super().advance(step)


class OfSelectionByNorms(OfSelection):
    """The same with another choice."""

    norms: ClassVar = [1.0, 2.0, 30.0]


THREE = ("a", "b", "c")


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
        return GradientNormWeights(THREE, every=2)

    def advance(self, step):
        x = draws(step, 4).requires_grad_()
        rows, offsets = draws(100 + step, 3, 4), draws(200 + step, 3)
        residuals = {n: (row * x + c) for n, row, c in zip(THREE, rows, offsets, strict=True)}
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
        return LearningRateAnnealing(THREE, reference="a", variant=variant, every=1)


class OfDirichlet(OfGradients):
    """The same by deviations."""

    def make(self):
        return InverseDirichlet(THREE, every=3)


class OfGradNorm(OfGradients):
    """The same by rates of training, which remember the first losses."""

    def make(self):
        return GradNorm(THREE)


class OfKernel(OfGradients):
    """The same by random probes."""

    def make(self):
        return NTKWeights(THREE, method="hutchinson", every=2)


class OfUncertainty(OfGradients):
    """Scales with moments of their own."""

    covers = "UncertaintyWeights"

    def make(self):
        return UncertaintyWeights(THREE)

    def advance(self, step):
        values = dict(zip(THREE, draws(step, 3).tolist(), strict=True))
        self.state.observe(values, epoch=0, step=step, split="train")

    def observe(self):
        return self.state.weights(epoch=0, step=0)


class OfImpartial(OfUncertainty):
    """The same in the other form."""

    covers = None

    def make(self):
        return UncertaintyWeights(THREE, form="imtl_l")


class OfSurgery(OfGradients):
    """Joint gradients that depend on what was drawn before, and on a base that was asked."""

    def make(self):
        return PCGrad(THREE, base=CurriculumRamp(dict.fromkeys(THREE, 1.0), ramped=["b"], delay=2))

    def advance(self, step):
        self.state.weights(epoch=step, step=step)
        self.join(self.state, step)
        if step == 3:
            self.state.discard_update()

    def join(self, weighting, step):
        x = torch.zeros(2, requires_grad=True, dtype=torch.float64)
        rows = draws(step, 3, 2) - 0.5
        weighting.backward(dict(zip(THREE, rows @ x, strict=True)), [x])
        return x.grad.tolist()

    def observe(self):
        again = self.make()
        again.load_state_dict(self.state.state_dict())
        return [self.join(again, 9), self.state.weights(epoch=9, step=9)]


class OfMomenta(OfGradients):
    """Running means of gradients; a restored object gives the same bits as one that never stopped."""

    covers = "MomentumConFIG"

    def make(self):
        return MomentumConFIG(THREE[:2])

    def advance(self, step):
        x = torch.zeros(3, requires_grad=True, dtype=torch.float64)
        self.state.backward({THREE[step % 2]: (draws(step, 3) - 0.5) @ x}, [x])
        if step == 3:
            self.state.discard_update()

    def observe(self):
        return self.state.state_dict()


class OfPoints(OfGradients):
    """Weights of points by a learned mask; half of them per step, the fourth step skipped."""

    def make(self):
        return SelfAdaptive(4, mask="sigmoid")

    def advance(self, step):
        index = torch.tensor([step % 4, (step + 1) % 4])
        self.state.loss(draws(step, 2, 1), index)
        if step == 3:
            self.state.forget()
        self.state.step()

    def observe(self):
        return self.state.state_dict()


class OfAttention(OfPoints):
    """The same by a moving average."""

    def make(self):
        return ResidualAttention(4)


class OfCauses(OfPoints):
    """Weights along time, of a tolerance that tightens within the run."""

    covers = "CausalWeights"

    def make(self):
        return CausalWeights(2, tolerances=(0.1, 1.0, 10.0))

    def advance(self, step):
        self.state.loss(draws(step, 2) * 10.0 ** (-step), torch.tensor([0.0, 1.0]))
        self.state.step()


class OfJoint(OfPoints):
    """Points beside a weighting that moves as well."""

    covers = "WithPointwise"

    def make(self):
        points = {"a": ResidualAttention(4), "c": CausalWeights(2)}
        return WithPointwise(VALUED["ReLoBRaLo"](), points)

    def advance(self, step):
        values = dict(zip(THREE, draws(step, 3).tolist(), strict=True))
        self.state.points["a"].loss(draws(step, 2), torch.tensor([step % 4, (step + 2) % 4]))
        self.state.points["c"].loss(draws(step, 2) * 10.0 ** (-step), torch.tensor([0.0, 1.0]))
        self.state.observe(values, epoch=0, step=step, split="train")


GRADIENT_CASES = [OfGradients, OfAnnealing, OfDirichlet, OfGradNorm, OfKernel, OfSurgery, OfMomenta]
POINT_CASES = [OfPoints, OfAttention, OfCauses, OfJoint]
CASES = [
    OfConstantWeights,
    OfCurriculum,
    OfPhases,
    OfScheduler,
    OfTrend,
    OfThreshold,
    OfMilestones,
    *OF_VALUES,
    OfStages,
    OfSelection,
    OfSelectionByNorms,
    *GRADIENT_CASES,
    OfUncertainty,
    OfImpartial,
    *POINT_CASES,
]
BASES = {
    "Aggregator",
    "BalancedWeights",
    "PointScheme",
    "PointWeights",
}  # covered by all that inherit from them


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", CASES)
def test_round_trip(make, cut):
    check_round_trip(make, cut=cut)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", [*OF_VALUES, OfStages, OfSelection])
def test_round_trip_through_json(make, cut):
    strictly = {"allow_nan": False}
    check_round_trip(make, cut=cut, through=lambda s: json.loads(json.dumps(s, **strictly)))


@pytest.mark.parametrize("kind", VALUED)
def test_a_state_is_small(kind):
    case = type("_", (OfValues,), {"kind": kind})()
    for step in range(6):
        case.advance(step)
    assert len(json.dumps(case.state.state_dict())) <= 1024 * len(NAMES)


def test_every_rule_is_covered():
    made = {type(make()) for make in VALUED.values()}
    assert made == set(LossWeights.__subclasses__())


def test_every_stateful_class_is_covered():
    assert stateful_classes(nops_schedules) == {case.covers for case in CASES} - {None} | BASES
