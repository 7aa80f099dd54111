"""The weighting section: every scheme by name, with the arguments of its class."""

from typing import Annotated, Any, Literal

from nops_train import Config
from pydantic import Field, model_validator

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Period = Annotated[int, Field(ge=1)]
Unit = Literal["epoch", "step"]

KIND = "Which scheme weighs the terms."
EMA = "Share of the old weight at a measurement."
EVERY = "Optimizer steps from one measurement to the next."


class Bounded(Config):
    """What most schemes have: limits of a weight."""

    min_weight: float = Field(1e-4, ge=0, description="Least weight of a term that is on.")
    max_weight: float = Field(1e4, gt=0, description="Largest weight.")

    @model_validator(mode="after")
    def _limits_hold_something(self) -> "Bounded":
        if self.min_weight > self.max_weight:
            raise ValueError(
                f"min_weight = {self.min_weight:g} is above max_weight = {self.max_weight:g}"
            )
        return self


class FixedConfig(Config):
    """The weights of the loss section throughout."""

    kind: Literal["fixed"] = Field("fixed", description=KIND)


class AdaptiveConfig(Bounded):
    """Weights that make the weighted terms equal."""

    kind: Literal["adaptive"] = Field("adaptive", description=KIND)
    strategy: Literal["equal_init", "equal_init_ema", "ema", "fixed"] = Field(
        "equal_init", description="At the start, from there on, or all along."
    )
    ema_alpha: Share = Field(0.9, description="Share of the old average of a loss.")
    weight_beta: Share = Field(0.9, description="Share of the old weight.")
    update_every: Period = Field(1, description="Updates from one move of the weights to the next.")
    update_unit: Unit | None = Field(
        None, description="What one update is; null: epoch on wave_chain, else step."
    )
    normalize: Literal["mean", "unit", "sum", "total"] = Field(
        "mean", description="Total scale of the weights."
    )
    prior: bool = Field(False, description="Keep the ratios of the initial weights.")
    eps: float = Field(1e-8, ge=0, description="Added to a loss, in its unit.")
    floor: float = Field(0.0, ge=0, description="Loss at which a term counts as satisfied.")
    max_invalid: Period = Field(10, description="Invalid values in a row that are an error.")
    measure_batches: int = Field(
        0, ge=0, description="Batches measured before training, in place of the first update."
    )


class SoftAdaptConfig(Bounded):
    """By how each loss stands to its last value."""

    kind: Literal["softadapt"] = Field("softadapt", description=KIND)
    variant: Literal["ratio", "difference"] = Field("ratio", description="How it is compared.")
    beta: float = Field(1.0, description="Sharpness of the softmax.")
    eps: float = Field(1e-8, ge=0, description="Added to a loss, in its unit.")
    update_unit: Unit = Field("step", description="What one update is.")


class ReLoBRaLoConfig(Bounded):
    """By each loss relative to its last and first value, with random lookback."""

    kind: Literal["relobralo"] = Field("relobralo", description=KIND)
    alpha: float = Field(0.999, ge=0, le=1, description="Share of the past.")
    tau: Positive = Field(1.0, description="Temperature of the softmax.")
    beta: float = Field(0.999, ge=0, le=1, description="How often the past is the old weight.")
    eps: float = Field(1e-12, ge=0, description="Added to a loss, in its unit.")
    seed: int = Field(0, ge=0, description="Start of the draws.")
    update_unit: Unit = Field("step", description="What one update is.")


class DynamicConfig(Bounded):
    """By the ratio of the last two means."""

    kind: Literal["dwa"] = Field("dwa", description=KIND)
    temperature: Positive = Field(2.0, description="Of the softmax.")
    update_unit: Unit = Field("epoch", description="What one update is.")


class VarianceConfig(Bounded):
    """By the coefficient of variation of each loss ratio."""

    kind: Literal["variance"] = Field("variance", description=KIND)
    warmup: int = Field(1, ge=0, description="Updates at weight 1.")
    update_unit: Unit = Field("step", description="What one update is.")


class AutoConfig(Bounded):
    """A scheme chosen by what a window shows."""

    kind: Literal["auto"] = Field("auto", description=KIND)
    window: int = Field(200, ge=100, description="Updates before the choice.")
    cosine: float = Field(-0.1, description="Mean cosine below which terms conflict: ConFIG.")
    norm_ratio: Positive = Field(10.0, description="Ratio of gradient norms: gradient_norm.")
    drift: Positive = Field(10.0, description="Factor of a loss: relobralo.")


class UncertaintyConfig(Bounded):
    """Learned beside the network."""

    kind: Literal["uncertainty"] = Field("uncertainty", description=KIND)
    form: Literal["kendall", "imtl_l"] = Field("kendall", description="Which total.")
    lr: Positive = Field(1e-2, description="Learning rate of the scales.")


class GradNormConfig(Bounded):
    """Equal training rates by equal gradient norms."""

    kind: Literal["gradnorm"] = Field("gradnorm", description=KIND)
    alpha: float = Field(1.5, description="Strength of the pull to equal rates.")
    lr: Positive = Field(0.025, description="Learning rate of the weights.")
    every: Period = Field(1, description=EVERY)


class AnnealingConfig(Bounded):
    """Each gradient against that of a reference term."""

    kind: Literal["lra"] = Field("lra", description=KIND)
    reference: tuple[str, ...] = Field(
        (), description="Terms whose weight stays; none: the residuals of the equation."
    )
    variant: Literal["max_mean", "mean_mean", "max_mean_over_weight"] = Field(
        "max_mean", description="Which quotient."
    )
    ema: Share = Field(0.9, description=EMA)
    every: Period = Field(10, description=EVERY)


class GradientNormConfig(Bounded):
    """Every gradient brought to the mean norm."""

    kind: Literal["gradient_norm"] = Field("gradient_norm", description=KIND)
    ema: Share = Field(0.9, description=EMA)
    every: Period = Field(100, description=EVERY)


class DirichletConfig(Bounded):
    """Every gradient brought to one standard deviation."""

    kind: Literal["inverse_dirichlet"] = Field("inverse_dirichlet", description=KIND)
    reference: str | None = Field(None, description="Term that gives it; null: the largest.")
    ema: Share = Field(0.5, description=EMA)
    every: Period = Field(100, description=EVERY)


class NTKConfig(Bounded):
    """Equal rates of convergence by the neural tangent kernel."""

    kind: Literal["ntk"] = Field("ntk", description=KIND)
    method: Literal["exact", "hutchinson"] = Field("exact", description="How the trace is made.")
    probes: Period = Field(1, description="Random vectors of hutchinson.")
    reduction: Literal["mean", "sum"] = Field("mean", description="What the losses are.")
    ema: Share = Field(0.9, description=EMA)
    every: Period = Field(100, description=EVERY)
    chunk: Period = Field(256, description="Points in one traversal of exact.")
    seed: int = Field(0, ge=0, description="Of the random signs.")


class ConFIGConfig(Config):
    """A direction that no term opposes, with equal projections."""

    kind: Literal["config"] = Field("config", description=KIND)


class MomentumConFIGConfig(Config):
    """The same of momenta, one term per step."""

    kind: Literal["momentum_config"] = Field("momentum_config", description=KIND)
    beta1: Share = Field(0.9, description="Share of the old momentum.")
    beta2: Share = Field(0.999, description="Share of the old second moment.")
    eps: Positive = Field(1e-8, description="Added to its root.")


class PCGradConfig(Config):
    """Each gradient less what it opposes in the others."""

    kind: Literal["pcgrad"] = Field("pcgrad", description=KIND)
    seed: int = Field(0, ge=0, description="Of the random order.")


class CAGradConfig(Config):
    """The worst term's gain near the mean gradient."""

    kind: Literal["cagrad"] = Field("cagrad", description=KIND)
    c: float = Field(0.5, ge=0, description="Radius about the mean gradient, in its norm.")


class AggregatorConfig(Config):
    """A rule on the gradients without settings."""

    kind: Literal["mgda", "imtlg", "aligned_mtl", "upgrad"] = Field("mgda", description=KIND)


class SelfAdaptiveConfig(Config):
    """A learned weight for each point of the residuals."""

    kind: Literal["self_adaptive"] = Field("self_adaptive", description=KIND)
    mask: Literal["square", "linear", "sigmoid"] = Field("square", description="How it enters.")
    lr: Positive = Field(5e-3, description="Learning rate of the weights.")
    init: float = Field(1.0, description="Of each point at first.")


class AttentionConfig(Config):
    """A weight for each point that decays, and grows where the residual is large."""

    kind: Literal["residual_attention"] = Field("residual_attention", description=KIND)
    gamma: Share = Field(0.999, description="Share of the weight that stays.")
    eta: Positive = Field(1e-3, description="What the largest residual adds.")
    variant: Literal["squared", "linear"] = Field("squared", description="How it enters.")


class CausalConfig(Config):
    """Later times count when earlier ones are learned."""

    kind: Literal["causal"] = Field("causal", description=KIND)
    chunks: Period = Field(32, description="Stretches of time.")
    tolerances: tuple[Positive, ...] = Field((1e-2, 1e-1, 1.0, 10.0, 100.0), description="In turn.")
    delta: float = Field(0.99, gt=0, lt=1, description="Least weight at which the next is taken.")


Scheme = (
    FixedConfig
    | AdaptiveConfig
    | SoftAdaptConfig
    | ReLoBRaLoConfig
    | DynamicConfig
    | VarianceConfig
    | AutoConfig
    | UncertaintyConfig
    | GradNormConfig
    | AnnealingConfig
    | GradientNormConfig
    | DirichletConfig
    | NTKConfig
    | ConFIGConfig
    | MomentumConFIGConfig
    | PCGradConfig
    | CAGradConfig
    | AggregatorConfig
    | SelfAdaptiveConfig
    | AttentionConfig
    | CausalConfig
)
POINTWISE = ("self_adaptive", "residual_attention", "causal")
AGGREGATORS = (
    *("config", "momentum_config", "pcgrad", "cagrad"),
    *("mgda", "imtlg", "aligned_mtl", "upgrad"),
)


class Stage(Config):
    """One of several weightings in turn."""

    until: Period | None = Field(None, description="Step before which it ends; null: the last.")
    weighting: Annotated[Scheme, Field(discriminator="kind")] = Field(description="Its rule.")


class StagesConfig(Config):
    """One weighting after another."""

    kind: Literal["stages"] = Field("stages", description=KIND)
    stages: tuple[Stage, ...] = Field(min_length=1, description="Each with until and weighting.")
    carry: bool = Field(True, description="Hand the last weights to the next as its first.")


Weighting = Annotated[Scheme | StagesConfig, Field(discriminator="kind")]

# Short names of schemes, for comparisons: what `compare.schemes` may list beside every kind.
NAMED: dict[str, dict[str, Any]] = {
    "equal_init": {"kind": "adaptive", "strategy": "equal_init"},
    "equal_init_ema": {"kind": "adaptive", "strategy": "equal_init_ema"},
    "ema": {"kind": "adaptive", "strategy": "ema"},
    "lra": {"kind": "lra", "every": 100},
    "tuned": {"kind": "fixed"},
    **{name: {"kind": name} for name in ("mgda", "imtlg", "aligned_mtl", "upgrad")},
}
KINDS = (
    *("fixed", "adaptive", "softadapt", "relobralo", "dwa", "variance", "auto", "uncertainty"),
    *("gradnorm", "lra", "gradient_norm", "inverse_dirichlet", "ntk"),
    *AGGREGATORS,
    *POINTWISE,
)
SCHEMES = tuple(dict.fromkeys([*NAMED, *KINDS]))


def named_section(scheme: str) -> dict[str, Any]:
    """The weighting section that a scheme's name stands for."""
    return dict(NAMED.get(scheme, {"kind": scheme}))
