"""Weights of loss terms and learning rates over time, as pure rules with explicit state.

Standard library only. `epoch` and `step` are 0-based. What nonsense is given raises `ValueError`;
nothing is corrected silently.
"""

from nops_schedules._adaptive import AdaptiveLossWeights
from nops_schedules._annealing import LinearAnnealing
from nops_schedules._constant import ConstantWeights
from nops_schedules._curriculum import (
    CurriculumRamp,
    compute_inverse_loss_curriculum_weight,
    inverse_loss_weight,
)
from nops_schedules._dynamic_average import DynamicWeightAverage
from nops_schedules._events import LossSchedulerEvent
from nops_schedules._kinds import make_weighting, weighting_class, weighting_kinds
from nops_schedules._learning_rate import warmup_cosine
from nops_schedules._legacy import rename_legacy_losses
from nops_schedules._normalise import WeightingError
from nops_schedules._params import SchedulerParams
from nops_schedules._phases import Phases
from nops_schedules._ramp import fade_in, grown_length, ramp
from nops_schedules._relobralo import ReLoBRaLo
from nops_schedules._scheduler import FlexibleLossScheduler
from nops_schedules._select import AutoSelect
from nops_schedules._simulate import Simulation, simulate
from nops_schedules._softadapt import SoftAdapt
from nops_schedules._stages import Stages
from nops_schedules._suggest import suggest_params
from nops_schedules._variance import VarianceWeights

FlexibleLossSchedulerConfig = SchedulerParams
"""`SchedulerParams` by the name that published configurations have."""

__all__ = [
    "AdaptiveLossWeights",
    "AutoSelect",
    "ConstantWeights",
    "CurriculumRamp",
    "DynamicWeightAverage",
    "FlexibleLossScheduler",
    "FlexibleLossSchedulerConfig",
    "LinearAnnealing",
    "LossSchedulerEvent",
    "Phases",
    "ReLoBRaLo",
    "SchedulerParams",
    "Simulation",
    "SoftAdapt",
    "Stages",
    "VarianceWeights",
    "WeightingError",
    "compute_inverse_loss_curriculum_weight",
    "fade_in",
    "grown_length",
    "inverse_loss_weight",
    "make_weighting",
    "ramp",
    "rename_legacy_losses",
    "simulate",
    "suggest_params",
    "warmup_cosine",
    "weighting_class",
    "weighting_kinds",
]
