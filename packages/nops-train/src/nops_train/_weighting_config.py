"""The section `weighting` that every app has: how the weights of the loss terms change over time.

The rules themselves are given to the engine by the app, such as
`nops_schedules.make_weighting(section.kind, base_weights, **section.options())`; defaults here are
those of the rules.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from nops_train._config import Config

Unit = Literal["epoch", "step"]
Share = Annotated[float, Field(ge=0, lt=1)]
KIND = "Rule of the weights over time."


class Rule(Config):
    """What all rules have."""

    def options(self) -> dict[str, Any]:
        """The rule's own settings."""
        return self.model_dump(exclude={"kind"})


class Bounded(Rule):
    """Weights between two limits."""

    min_weight: float = Field(default=1e-4, gt=0, description="Least weight of a term that is on.")
    max_weight: float = Field(default=1e4, gt=0, description="Largest weight.")


class ByValues(Bounded):
    """Weights that follow the values of the terms."""

    update_unit: Unit = Field(default="step", description="What one update is.")
    max_invalid: int = Field(
        default=10, ge=1, description="Invalid values in a row that are an error."
    )


class ByGradients(Bounded):
    """Weights that follow the gradients of the terms, measured now and then."""

    ema: Share = Field(default=0.9, description="Share of the old weight at a measurement.")
    every: int = Field(default=100, ge=1, description="Optimizer steps from one use to the next.")


class ConstantConfig(Rule):
    """The weights of the loss section throughout."""

    kind: Literal["constant"] = Field(default="constant", description=KIND)


class CurriculumConfig(Rule):
    """Some terms come in late."""

    kind: Literal["curriculum"] = Field(default="curriculum", description=KIND)
    ramped: tuple[str, ...] = Field(
        default=("L_inv_enc", "L_inv_dec"), min_length=1, description="Terms that come in late."
    )
    delay: float = Field(default=15, ge=0, description="Last epoch (or step) of theirs at 0.")
    ramp: float = Field(default=15, ge=0, description="From there to their full weight.")
    shape: Literal["linear", "cosine", "step"] = Field(default="linear", description="Of the ramp.")
    cap: float | None = Field(
        default=0.05, gt=0, description="Highest weight of each; null: no cap."
    )
    unit: Unit = Field(default="epoch", description="What delay and ramp count.")
    every: int = Field(
        default=1, ge=1, description="Optimizer steps from one use of them to the next."
    )
    rescale: bool = Field(default=False, description="Multiply their weights by every.")


class AdaptiveConfig(ByValues):
    """Weights by a moving average of each loss."""

    kind: Literal["adaptive"] = Field(default="adaptive", description=KIND)
    strategy: Literal["equal_init", "equal_init_ema", "ema", "fixed"] = Field(
        default="equal_init",
        description="Set once; then following the average; from the start; never.",
    )
    ema_alpha: Share = Field(default=0.9, description="Share of the old average of a loss.")
    weight_beta: Share = Field(default=0.9, description="Share of the old weight.")
    normalize: Literal["mean", "unit", "sum", "total"] = Field(
        default="mean", description="What the scale of the weights keeps."
    )
    prior: bool = Field(default=False, description="Keep the ratios of the loss section's weights.")
    update_unit: Unit = Field(default="epoch", description="What one update is.")
    update_every: int = Field(
        default=1, ge=1, description="Updates between two moves of the weights."
    )
    floor: float = Field(default=0.0, ge=0, description="Loss at which a term counts as satisfied.")
    eps: float = Field(default=1e-8, gt=0, description="Added to losses, in their unit.")


class SoftAdaptConfig(ByValues):
    """More weight to the terms that fall least, from one update to the next."""

    kind: Literal["softadapt"] = Field(default="softadapt", description=KIND)
    variant: Literal["ratio", "difference"] = Field(default="ratio", description="Of two losses.")
    beta: float = Field(default=1.0, description="How strongly.")
    eps: float = Field(default=1e-8, gt=0, description="Added to losses, in their unit.")


class ReLoBRaLoConfig(ByValues):
    """Relative loss balancing with random lookback."""

    kind: Literal["relobralo"] = Field(default="relobralo", description=KIND)
    alpha: float = Field(default=0.999, ge=0, le=1, description="Share of the past.")
    tau: float = Field(default=1.0, gt=0, description="A large one makes the weights alike.")
    beta: float = Field(
        default=0.999, ge=0, le=1, description="How often the past is the old weight."
    )
    eps: float = Field(default=1e-12, gt=0, description="Added to losses, in their unit.")
    seed: int = Field(default=0, ge=0, description="Of the lookbacks.")


class DynamicAverageConfig(ByValues):
    """Softmax of the ratio of the last two epochs' means."""

    kind: Literal["dynamic_average"] = Field(default="dynamic_average", description=KIND)
    temperature: float = Field(
        default=2.0, gt=0, description="A large one makes the weights alike."
    )
    update_unit: Unit = Field(default="epoch", description="What one update is.")


class VarianceConfig(ByValues):
    """More weight to the terms that still vary."""

    kind: Literal["variance"] = Field(default="variance", description=KIND)
    warmup: int = Field(default=1, ge=1, description="Updates at the initial weights.")


class AutoConfig(Bounded):
    """Constant weights for a window, then the rule that what was seen there asks for."""

    kind: Literal["auto"] = Field(default="auto", description=KIND)
    window: int = Field(default=200, ge=100, description="Updates before the choice.")
    cosine: float = Field(default=-0.1, description="Mean cosine below which gradients conflict.")
    norm_ratio: float = Field(
        default=10.0, gt=0, description="Ratio of gradient norms out of balance."
    )
    drift: float = Field(
        default=10.0, gt=0, description="Change of a loss that asks for a moving rule."
    )
    update_unit: Unit = Field(default="step", description="What one update is.")


class GradientNormConfig(ByGradients):
    """Weighted gradients of one norm."""

    kind: Literal["gradient_norm"] = Field(default="gradient_norm", description=KIND)


class AnnealingConfig(ByGradients):
    """Gradients as large as those of a reference term."""

    kind: Literal["learning_rate_annealing"] = Field(
        default="learning_rate_annealing", description=KIND
    )
    reference: str | tuple[str, ...] = Field(description="Term, or terms, to compare with.")
    variant: Literal["max_mean", "mean_mean", "max_mean_over_weight"] = Field(
        default="max_mean", description="Which quotient of gradients."
    )
    every: int = Field(default=10, ge=1, description="Optimizer steps from one use to the next.")


class InverseDirichletConfig(ByGradients):
    """Gradients of one variance."""

    kind: Literal["inverse_dirichlet"] = Field(default="inverse_dirichlet", description=KIND)
    reference: str | None = Field(
        default=None, description="Term to compare with; null: the largest."
    )
    ema: Share = Field(default=0.5, description="Share of the old weight at a measurement.")


class GradNormConfig(Bounded):
    """Terms that train at one pace."""

    kind: Literal["gradnorm"] = Field(default="gradnorm", description=KIND)
    alpha: float = Field(default=1.5, description="How strongly slow terms are pulled up.")
    lr: float = Field(default=0.025, gt=0, description="Learning rate of the log weights.")
    every: int = Field(default=1, ge=1, description="Optimizer steps from one use to the next.")


class UncertaintyConfig(Bounded):
    """Weights that are trained as variances of the terms."""

    kind: Literal["uncertainty"] = Field(default="uncertainty", description=KIND)
    form: Literal["kendall", "imtl_l"] = Field(default="kendall", description="Which total.")
    lr: float = Field(default=1e-2, gt=0, description="Learning rate of the variances.")


class NtkConfig(ByGradients):
    """Weights by traces of the tangent kernel; for tasks that hand over residuals."""

    kind: Literal["ntk"] = Field(default="ntk", description=KIND)
    method: Literal["exact", "hutchinson"] = Field(
        default="exact", description="How traces are found."
    )
    probes: int = Field(default=1, ge=1, description="Random vectors of hutchinson.")
    reduction: Literal["mean", "sum"] = Field(
        default="mean", description="What losses are of squares."
    )
    chunk: int = Field(default=256, ge=1, description="Points in one traversal of exact.")
    seed: int = Field(default=0, ge=0, description="Of the random vectors.")


class JointConfig(Rule):
    """Gradients of the terms joined into one; nothing else to set."""

    kind: Literal["config", "mgda", "imtl_g", "aligned_mtl", "upgrad"] = Field(
        default="config", description=KIND
    )


class PCGradConfig(Rule):
    """Gradients freed of their conflicts, pair by pair."""

    kind: Literal["pcgrad"] = Field(default="pcgrad", description=KIND)
    seed: int = Field(default=0, ge=0, description="Of the order of pairs.")


class CAGradConfig(Rule):
    """The mean gradient, and what lets the worst term gain most."""

    kind: Literal["cagrad"] = Field(default="cagrad", description=KIND)
    c: float = Field(
        default=0.5, ge=0, description="Length of what is added, over that of the mean."
    )


class MomentumConFIGConfig(Rule):
    """Joined running means, one term's gradient a step; for plain SGD without momentum."""

    kind: Literal["momentum_config"] = Field(default="momentum_config", description=KIND)
    beta1: Share = Field(default=0.9, description="Share of the old mean of gradients.")
    beta2: Share = Field(default=0.999, description="Share of the old mean of squares.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root, in a gradient's unit.")


WeightingConfig: TypeAlias = (
    ConstantConfig
    | CurriculumConfig
    | AdaptiveConfig
    | SoftAdaptConfig
    | ReLoBRaLoConfig
    | DynamicAverageConfig
    | VarianceConfig
    | AutoConfig
    | GradientNormConfig
    | AnnealingConfig
    | InverseDirichletConfig
    | GradNormConfig
    | UncertaintyConfig
    | JointConfig
    | PCGradConfig
    | CAGradConfig
)
"""What any app can train with. A field of it wants `Field(discriminator="kind")`; `NtkConfig` and
`MomentumConFIGConfig` go beside it where a task gives residuals, or an app makes plain SGD steps."""
