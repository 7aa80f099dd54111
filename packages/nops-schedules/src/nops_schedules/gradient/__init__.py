"""Weights of loss terms from their gradients. Needs torch: the extra `torch` of nops-schedules.

`nops_schedules` itself stays free of torch; nothing here is loaded before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nops_schedules.gradient._aggregators import IMTLG as IMTLG
    from nops_schedules.gradient._aggregators import MGDA as MGDA
    from nops_schedules.gradient._aggregators import AlignedMTL as AlignedMTL
    from nops_schedules.gradient._aggregators import CAGrad as CAGrad
    from nops_schedules.gradient._aggregators import ConFIG as ConFIG
    from nops_schedules.gradient._aggregators import PCGrad as PCGrad
    from nops_schedules.gradient._aggregators import TorchJD as TorchJD
    from nops_schedules.gradient._aggregators import UPGrad as UPGrad
    from nops_schedules.gradient._backward import gradient_stats as gradient_stats
    from nops_schedules.gradient._backward import jacobian as jacobian
    from nops_schedules.gradient._causal import CausalWeights as CausalWeights
    from nops_schedules.gradient._grad_norm import GradNorm as GradNorm
    from nops_schedules.gradient._momentum import MomentumConFIG as MomentumConFIG
    from nops_schedules.gradient._norms import GradientNormWeights as GradientNormWeights
    from nops_schedules.gradient._norms import InverseDirichlet as InverseDirichlet
    from nops_schedules.gradient._norms import LearningRateAnnealing as LearningRateAnnealing
    from nops_schedules.gradient._ntk import NTKWeights as NTKWeights
    from nops_schedules.gradient._pointwise import ResidualAttention as ResidualAttention
    from nops_schedules.gradient._pointwise import SelfAdaptive as SelfAdaptive
    from nops_schedules.gradient._uncertainty import UncertaintyWeights as UncertaintyWeights
    from nops_schedules.gradient._with_pointwise import WithPointwise as WithPointwise

_MODULES = {
    "AlignedMTL": "_aggregators",
    "CAGrad": "_aggregators",
    "CausalWeights": "_causal",
    "ConFIG": "_aggregators",
    "GradNorm": "_grad_norm",
    "GradientNormWeights": "_norms",
    "IMTLG": "_aggregators",
    "InverseDirichlet": "_norms",
    "LearningRateAnnealing": "_norms",
    "MGDA": "_aggregators",
    "MomentumConFIG": "_momentum",
    "NTKWeights": "_ntk",
    "PCGrad": "_aggregators",
    "ResidualAttention": "_pointwise",
    "SelfAdaptive": "_pointwise",
    "TorchJD": "_aggregators",
    "UPGrad": "_aggregators",
    "UncertaintyWeights": "_uncertainty",
    "WithPointwise": "_with_pointwise",
    "gradient_stats": "_backward",
    "jacobian": "_backward",
}

__all__ = [
    "IMTLG",
    "MGDA",
    "AlignedMTL",
    "CAGrad",
    "CausalWeights",
    "ConFIG",
    "GradNorm",
    "GradientNormWeights",
    "InverseDirichlet",
    "LearningRateAnnealing",
    "MomentumConFIG",
    "NTKWeights",
    "PCGrad",
    "ResidualAttention",
    "SelfAdaptive",
    "TorchJD",
    "UPGrad",
    "UncertaintyWeights",
    "WithPointwise",
    "gradient_stats",
    "jacobian",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module, once.

    Raises:
        ImportError: If torch is not installed, with the extra that brings it.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "jaxtyping"):
            raise
        raise ImportError(
            f"{name} needs {error.name}: pip install 'nops-schedules[torch]'", name=error.name
        ) from error
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *__all__})
