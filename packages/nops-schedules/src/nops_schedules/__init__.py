"""Weights of loss terms and learning rates over time, as pure rules with explicit state.

Standard library only. `epoch` and `step` are 0-based. What nonsense is given raises `ValueError`;
nothing is corrected silently.
"""

from nops_schedules._annealing import LinearAnnealing
from nops_schedules._constant import ConstantWeights
from nops_schedules._curriculum import (
    CurriculumRamp,
    compute_inverse_loss_curriculum_weight,
    inverse_loss_weight,
)
from nops_schedules._events import LossSchedulerEvent
from nops_schedules._learning_rate import warmup_cosine
from nops_schedules._legacy import rename_legacy_losses
from nops_schedules._params import SchedulerParams
from nops_schedules._phases import Phases
from nops_schedules._ramp import fade_in, grown_length, ramp
from nops_schedules._scheduler import FlexibleLossScheduler
from nops_schedules._simulate import Simulation, simulate
from nops_schedules._suggest import suggest_params

FlexibleLossSchedulerConfig = SchedulerParams

__all__ = [
    "ConstantWeights",
    "CurriculumRamp",
    "FlexibleLossScheduler",
    "FlexibleLossSchedulerConfig",
    "LinearAnnealing",
    "LossSchedulerEvent",
    "Phases",
    "SchedulerParams",
    "Simulation",
    "compute_inverse_loss_curriculum_weight",
    "fade_in",
    "grown_length",
    "inverse_loss_weight",
    "ramp",
    "rename_legacy_losses",
    "simulate",
    "suggest_params",
    "warmup_cosine",
]
