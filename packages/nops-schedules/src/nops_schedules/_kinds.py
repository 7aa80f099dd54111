"""A weighting by its name and options, as a configuration has them."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from nops_schedules._names import did_you_mean

KINDS = {
    "constant": ("_constant", "ConstantWeights"),
    "curriculum": ("_curriculum", "CurriculumRamp"),
    "adaptive": ("_adaptive", "AdaptiveLossWeights"),
    "softadapt": ("_softadapt", "SoftAdapt"),
    "relobralo": ("_relobralo", "ReLoBRaLo"),
    "dynamic_average": ("_dynamic_average", "DynamicWeightAverage"),
    "variance": ("_variance", "VarianceWeights"),
    "auto": ("_select", "AutoSelect"),
    "gradient_norm": ("gradient", "GradientNormWeights"),
    "learning_rate_annealing": ("gradient", "LearningRateAnnealing"),
    "inverse_dirichlet": ("gradient", "InverseDirichlet"),
    "gradnorm": ("gradient", "GradNorm"),
    "uncertainty": ("gradient", "UncertaintyWeights"),
    "ntk": ("gradient", "NTKWeights"),
    "config": ("gradient", "ConFIG"),
    "momentum_config": ("gradient", "MomentumConFIG"),
    "pcgrad": ("gradient", "PCGrad"),
    "mgda": ("gradient", "MGDA"),
    "cagrad": ("gradient", "CAGrad"),
    "imtl_g": ("gradient", "IMTLG"),
    "aligned_mtl": ("gradient", "AlignedMTL"),
    "upgrad": ("gradient", "UPGrad"),
}  # name: its module, and the class in it


def weighting_class(kind: str) -> type:
    """The class of a weighting by its name; those that go by gradients are loaded when asked for.

    Args:
        kind: One of `weighting_kinds()`.

    Returns:
        The class, such as `ReLoBRaLo`; its first argument is the terms.

    Raises:
        ValueError: If there is none of the name, with the nearest.
        ImportError: If it needs torch, and torch is not installed.
    """
    if kind not in KINDS:
        raise ValueError(
            f"weighting '{kind}' is none of {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
        )
    module, name = KINDS[kind]
    return getattr(importlib.import_module(f"nops_schedules.{module}"), name)


def make_weighting(kind: str, terms: Mapping[str, float], **options: Any) -> Any:
    """The weighting of a name, for an engine.

    Args:
        kind: One of `weighting_kinds()`.
        terms: Base weight by name of the loss term; those of weight 0 are off for ever. For a kind that
            balances by itself these are the initial weights, or only say which terms are on: see its
            class.
        options: What its class takes by keyword, such as `tau` of "relobralo".

    Returns:
        With `terms`, `observes`, `active`, `weights`, `observe`, `state_dict` and `load_state_dict`.

    Raises:
        ValueError: If there is no such kind or option, with the nearest, or a value makes no sense.
        TypeError: If a value is of the wrong type.
        ImportError: If it needs torch, and torch is not installed.
    """
    make = weighting_class(kind)
    known = _options_of(make)
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"weighting '{kind}': '{name}' is none of {', '.join(known)}.{hint}")
    missing = [name for name, default in known.items() if default is _REQUIRED]
    if absent := [name for name in missing if name not in options]:
        raise ValueError(f"weighting '{kind}' needs {', '.join(absent)}.")
    try:
        if "initial_weights" in inspect.signature(make).parameters:
            return make(list(terms), initial_weights=terms, **options)
        return make(terms, **options)
    except KeyError as error:  # a name in an option that is no term
        raise ValueError(f"weighting '{kind}': {error.args[0]}") from error


def weighting_kinds() -> tuple[str, ...]:
    """The names that `make_weighting` knows.

    Returns:
        Names such as "constant" and "relobralo".
    """
    return tuple(KINDS)


_REQUIRED = inspect.Parameter.empty


def _options_of(make: type) -> dict[str, Any]:
    """Keywords with their defaults, without the terms and their weights."""
    _, *rest = inspect.signature(make).parameters.values()
    return {one.name: one.default for one in rest if one.name != "initial_weights"}
