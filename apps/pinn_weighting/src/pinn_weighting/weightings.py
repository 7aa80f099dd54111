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
CHOSEN_PASSES = {"ConFIG": float, "GradientNormWeights": lambda terms: 1 + terms / 100}
MEASURED = ("learning_rate_annealing", "gradient_norm", "inverse_dirichlet", "gradnorm")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A weighting, and the schemes per point that the task makes its terms with.

    Attributes:
        weighting: As the engine calls it.
        points: Scheme per point by term; empty for most.
    """

    weighting: Any
    points: dict[str, Any] = field(default_factory=dict)


def choose(config: PinnConfig, terms: Mapping[str, float]) -> Chosen:
    """The weighting of a config, of terms with their base weights.

    Raises:
        ValueError: If settings and terms do not fit.
        ImportError: If a scheme needs an extra that is not there.
    """
    section = config.weighting
    if section.kind in POINTWISE:
        points = _points(section, config)
        joined = gradient.WithPointwise(ConstantWeights(dict(terms)), points)
        return Chosen(weighting=joined, points=points)
    if isinstance(section, StagesConfig):
        stages = [(stage.until, make(stage.weighting, terms)) for stage in section.stages]
        return Chosen(weighting=Stages(stages, carry=section.carry))
    return Chosen(weighting=make(section, terms))


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


def equalized_lines(state: Mapping[str, Any]) -> list[str]:
    """What equal_init set the weights to and by which losses, in the published words; else nothing.

    Args:
        state: Of a weighting.
    """
    losses: Mapping[str, float] = state.get("initial_losses", {})
    if state.get("strategy") != "equal_init" or not losses:
        return []
    unit = state["settings"]["update_unit"]
    return [f"Equalized weights at {unit} 1:"] + [
        f"  {name}: loss={loss:.3e}, weight={weight:.3e}, weighted={weight * loss:.3e}"
        for name, loss in losses.items()
        for weight in (state["weights"][name],)
    ]


def passes_made(config: PinnConfig, checkpoint: Mapping[str, Any]) -> float:
    """Backward passes per optimizer step of a run, on average over all its steps.

    What automatic selection measured and chose counts, each stage for its own steps, and every evaluation
    of L-BFGS.

    Args:
        config: Of the run.
        checkpoint: Its last.
    """
    terms = sum(weight > 0 for weight in config.base_weights().values())
    steps, first = checkpoint["train"]["step"], config.train.lbfgs_from
    plain = steps if first is None else min(first, steps)
    span, section = range(plain), config.weighting
    total = sum(
        len(part) * rate + measured * terms
        for part, rate, measured in _spans(section, span, checkpoint["weighting"], terms, config)
    )
    if plain < steps:
        total += checkpoint["lbfgs"]["state"][0]["func_evals"]
    return total / steps if steps else 1.0


Span = tuple[
    range, float, int
]  # steps, passes of each, and how often gradients were looked at besides


def _spans(
    section: Any, steps: range, state: Mapping[str, Any], terms: int, config: PinnConfig
) -> list[Span]:
    """Steps of one rate each that a section made of `steps`."""
    if isinstance(section, StagesConfig):
        found, start = [], steps.start
        for stage, own in zip(section.stages, state["schemes"], strict=True):
            stop = steps.stop if stage.until is None else min(stage.until, steps.stop)
            found += _spans(stage.weighting, range(start, stop), own, terms, config)
            start = max(start, stop)
        return found
    if section.kind == "auto":
        evidence = state["evidence"]
        stop = min(evidence["step"] + 1, steps.stop) if evidence else steps.stop
        after = CHOSEN_PASSES.get(state["choice"], lambda terms: 1.0)(terms)
        window = (range(steps.start, stop), 1.0, state["notes"]["count"])
        return [window, (range(stop, steps.stop), after, 0)]
    return [(steps, passes(section, terms, config), 0)]


def passes(section: Any, terms: int, config: PinnConfig) -> float:
    """Backward passes per optimizer step, on average over steps, of a scheme that is not chosen on the way."""
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
