"""The weighting section: what every app has, weights of points, stages; and short names for comparisons."""

from typing import Annotated, Any, Literal, TypeAlias

from nops_train import Config, MomentumConFIGConfig, NtkConfig, WeightingConfig
from pydantic import Field

from pinn_weighting.problems import CHAIN, FACTS

Positive = Annotated[float, Field(gt=0)]
KIND = "Rule of the weights over time."


class SelfAdaptiveConfig(Config):
    """A learned weight for each point of the residuals."""

    kind: Literal["self_adaptive"] = Field(default="self_adaptive", description=KIND)
    mask: Literal["square", "linear", "sigmoid"] = Field(
        default="square", description="How it enters."
    )
    lr: Positive = Field(default=5e-3, description="Learning rate of the weights.")
    init: float = Field(default=1.0, description="Of each point at first.")


class AttentionConfig(Config):
    """A weight for each point that decays, and grows where the residual is large."""

    kind: Literal["residual_attention"] = Field(default="residual_attention", description=KIND)
    gamma: float = Field(default=0.999, ge=0, lt=1, description="Share of the weight that stays.")
    eta: Positive = Field(default=1e-3, description="What the largest residual adds.")
    variant: Literal["squared", "linear"] = Field(default="squared", description="How it enters.")


class CausalConfig(Config):
    """Later times count when earlier ones are learned."""

    kind: Literal["causal"] = Field(default="causal", description=KIND)
    chunks: int = Field(default=32, ge=1, description="Stretches of time.")
    tolerances: tuple[Positive, ...] = Field(
        default=(1e-2, 1e-1, 1.0, 10.0, 100.0), description="In turn."
    )
    delta: float = Field(
        default=0.99, gt=0, lt=1, description="Least weight at which the next is taken."
    )


Scheme: TypeAlias = WeightingConfig | NtkConfig | MomentumConFIGConfig
POINTWISE = ("self_adaptive", "residual_attention", "causal")


class Stage(Config):
    """One of several weightings in turn."""

    until: int | None = Field(
        default=None, ge=1, description="Step before which it ends; null: the last."
    )
    weighting: Annotated[Scheme, Field(discriminator="kind")] = Field(description="Its rule.")


class StagesConfig(Config):
    """One weighting after another."""

    kind: Literal["stages"] = Field(default="stages", description=KIND)
    stages: tuple[Stage, ...] = Field(default=(), description="Each with until and weighting.")
    carry: bool = Field(default=True, description="Hand the last weights to the next as its first.")


Weighting = Annotated[
    Scheme | SelfAdaptiveConfig | AttentionConfig | CausalConfig | StagesConfig,
    Field(discriminator="kind"),
]

ADAPTIVE = {
    name: {"kind": "adaptive", "strategy": name} for name in ("equal_init", "equal_init_ema", "ema")
}
SHORT: dict[str, dict[str, Any]] = {
    "fixed": {"kind": "constant"},
    "tuned": {"kind": "constant"},
    **ADAPTIVE,
    "dwa": {"kind": "dynamic_average"},
    "lra": {"kind": "learning_rate_annealing", "every": 100},
}
SCHEMES = (
    *SHORT,
    *("softadapt", "relobralo", "variance", "auto", "uncertainty", "gradnorm", "gradient_norm"),
    *("inverse_dirichlet", "ntk", "config", "momentum_config", "pcgrad", "mgda", "cagrad"),
    *("imtl_g", "aligned_mtl", "upgrad"),
    *POINTWISE,
)


def named_section(scheme: str, problem: str) -> dict[str, Any]:
    """The weighting section that a scheme's name stands for on a problem.

    On points one update of a scheme by values is a step, and learning-rate annealing measures against the
    residuals.
    """
    found = dict(SHORT.get(scheme, {"kind": scheme}))
    if scheme in ADAPTIVE and problem != CHAIN:
        found["update_unit"] = "step"
    if scheme == "lra":
        facts = FACTS[problem]
        found["reference"] = list(facts.terms[: facts.residuals])
    return found
