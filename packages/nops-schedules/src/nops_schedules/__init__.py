"""Weights of loss terms and learning rates over time, as pure rules with explicit state.

Standard library only. `epoch` and `step` are 0-based. What nonsense is given raises `ValueError`;
nothing is corrected silently.
"""

from nops_schedules._constant import ConstantWeights
from nops_schedules._learning_rate import warmup_cosine

__all__ = ["ConstantWeights", "warmup_cosine"]
