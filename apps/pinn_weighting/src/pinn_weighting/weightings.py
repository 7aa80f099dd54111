"""Every weighting by its name: from the section of the config to the object that the engine calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nops_schedules import (
    AdaptiveLossWeights,
    AutoSelect,
    ConstantWeights,
    DynamicWeightAverage,
    ReLoBRaLo,
    SoftAdapt,
    Stages,
    VarianceWeights,
    gradient,
)

from pinn_weighting.config import PinnConfig
from pinn_weighting.config_weighting import POINTWISE, Scheme, StagesConfig
from pinn_weighting.problems import CHAIN, FACTS

BY_VALUES: dict[str, Callable[..., Any]] = {
    "softadapt": SoftAdapt,
    "relobralo": ReLoBRaLo,
    "dwa": DynamicWeightAverage,
    "variance": VarianceWeights,
    "auto": AutoSelect,
}
BY_GRADIENTS = {
    "uncertainty": "UncertaintyWeights",
    "gradnorm": "GradNorm",
    "gradient_norm": "GradientNormWeights",
    "inverse_dirichlet": "InverseDirichlet",
    "ntk": "NTKWeights",
    "config": "ConFIG",
    "momentum_config": "MomentumConFIG",
    "pcgrad": "PCGrad",
    "cagrad": "CAGrad",
    "mgda": "MGDA",
    "imtlg": "IMTLG",
    "aligned_mtl": "AlignedMTL",
    "upgrad": "UPGrad",
}
BY_POINTS = {"self_adaptive": "SelfAdaptive", "residual_attention": "ResidualAttention"}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A weighting, and the schemes per point that the task makes its terms with.

    Attributes:
        weighting: As the engine calls it.
        points: Scheme per point by term; empty for most.
        passes: Backward passes per optimizer step, on average.
    """

    weighting: Any
    passes: float
    points: dict[str, Any] = field(default_factory=dict)


def choose(config: PinnConfig, terms: Mapping[str, float]) -> Chosen:
    """The weighting of a config, of terms with their base weights.

    Raises:
        ValueError: If settings and terms do not fit.
        ImportError: If a scheme needs an extra that is not there.
    """
    section = config.weighting
    on = sum(weight > 0 for weight in terms.values())
    if section.kind in POINTWISE:
        points = _points(section, config)
        joined = gradient.WithPointwise(ConstantWeights(dict(terms)), points)
        return Chosen(weighting=joined, points=points, passes=1.0)
    if isinstance(section, StagesConfig):
        stages = [(stage.until, make(stage.weighting, terms, config)) for stage in section.stages]
        most = max(passes(stage.weighting, on, config) for stage in section.stages)
        return Chosen(weighting=Stages(stages, carry=section.carry), passes=most)
    return Chosen(weighting=make(section, terms, config), passes=passes(section, on, config))


def make(section: Scheme, terms: Mapping[str, float], config: PinnConfig) -> Any:
    """One scheme without stages and points."""
    kind, names = section.kind, list(terms)
    options = section.model_dump(exclude={"kind", "measure_batches"})
    if kind == "fixed":
        return ConstantWeights(dict(terms))
    if kind == "adaptive":
        by_chain = config.problem.name == CHAIN
        options["update_unit"] = options["update_unit"] or ("epoch" if by_chain else "step")
        return AdaptiveLossWeights(names, dict(terms), **options)
    if kind in BY_VALUES:
        return BY_VALUES[kind](names, initial_weights=dict(terms), **options)
    if kind == "lra":
        residuals = FACTS[config.problem.name].terms[: FACTS[config.problem.name].residuals]
        reference = options.pop("reference") or tuple(n for n in residuals if terms[n] > 0)
        return gradient.LearningRateAnnealing(dict(terms), reference=reference, **options)
    return getattr(gradient, BY_GRADIENTS[kind])(dict(terms), **options)


def _points(section: Any, config: PinnConfig) -> dict[str, Any]:
    """One scheme for each residual of the equation."""
    facts = FACTS[config.problem.name]
    options = section.model_dump(exclude={"kind"})
    names = [n for n in facts.terms[: facts.residuals] if getattr(config.loss, n) > 0]
    if section.kind == "causal":
        ends = (facts.low[-1], facts.high[-1])
        return {name: gradient.CausalWeights(t_range=ends, **options) for name in names}
    count = {**facts.points, **config.problem.points}["pde"]
    scheme = getattr(gradient, BY_POINTS[section.kind])
    return {name: scheme(count, **options) for name in names}


def passes(section: Any, terms: int, config: PinnConfig) -> float:
    """Backward passes per optimizer step, on average over steps."""
    kind = section.kind
    if kind in ("config", "pcgrad", "cagrad", "mgda", "imtlg", "aligned_mtl", "upgrad"):
        return float(terms)
    if kind in ("lra", "gradient_norm", "inverse_dirichlet", "gradnorm"):
        return 1 + terms / section.every
    if kind == "ntk":
        facts = FACTS[config.problem.name]
        counts = {**facts.points, **config.problem.points}
        rows = sum(counts.get(name.split("_")[0], counts.get("pde", 1)) for name in facts.terms)
        measured = terms * section.probes if section.method == "hutchinson" else rows
        return 1 + measured / section.every
    return 1.0
