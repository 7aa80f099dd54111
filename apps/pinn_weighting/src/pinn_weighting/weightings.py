"""Every weighting by its name: from the section of the config to the object that the engine calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nops_schedules import ConstantWeights, Stages, gradient, make_weighting

from pinn_weighting.config import PinnConfig
from pinn_weighting.config_weighting import POINTWISE, StagesConfig
from pinn_weighting.problems import FACTS

BY_POINTS = {"self_adaptive": "SelfAdaptive", "residual_attention": "ResidualAttention"}
JOINED = ("config", "pcgrad", "cagrad", "mgda", "imtl_g", "aligned_mtl", "upgrad")
MEASURED = ("learning_rate_annealing", "gradient_norm", "inverse_dirichlet", "gradnorm")


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
        stages = [(stage.until, make(stage.weighting, terms)) for stage in section.stages]
        most = max((passes(stage.weighting, on, config) for stage in section.stages), default=1.0)
        return Chosen(weighting=Stages(stages, carry=section.carry), passes=most)
    return Chosen(weighting=make(section, terms), passes=passes(section, on, config))


def make(section: Any, terms: Mapping[str, float]) -> Any:
    """One scheme without stages and points."""
    return make_weighting(section.kind, dict(terms), **section.options())


def _points(section: Any, config: PinnConfig) -> dict[str, Any]:
    """One scheme for each residual of the equation."""
    facts = FACTS[config.problem.name]
    options = section.model_dump(exclude={"kind"})
    names = [n for n in facts.terms[: facts.residuals] if getattr(config.loss, n) > 0]
    if section.kind == "causal":
        ends = (facts.low[-1], facts.high[-1])
        return {name: gradient.CausalWeights(t_range=ends, **options) for name in names}
    count = config.point_counts()["pde"]
    scheme = getattr(gradient, BY_POINTS[section.kind])
    return {name: scheme(count, **options) for name in names}


def passes(section: Any, terms: int, config: PinnConfig) -> float:
    """Backward passes per optimizer step, on average over steps."""
    if section.kind in JOINED:
        return float(terms)
    if section.kind in MEASURED:
        return 1 + terms / section.every
    if section.kind == "ntk":
        rows = terms * section.probes
        if section.method == "exact":
            rows = sum(config.rows_of(name) for name in FACTS[config.problem.name].terms)
        return 1 + rows / section.every
    return 1.0
