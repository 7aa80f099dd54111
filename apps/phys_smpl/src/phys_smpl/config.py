"""The configuration of the app: one frozen model, validated once, apart from construction."""

from typing import Annotated, Any, Literal

from nops_schedules import ConstantWeights, Stages, make_weighting
from nops_train import Config, ConstantConfig, TrainConfig, WeightingConfig
from pydantic import Field, field_validator, model_validator

from phys_smpl.config_data import SERIES, PhysDataConfig, PhysicsConfig, Problem
from phys_smpl.config_loss import TERMS, LossConfig, PhasesConfig

Variant = Literal["A", "B", "C", "G"]
Widths = tuple[Annotated[int, Field(ge=1)], ...]
METRIC_NAMES = {
    "rec_loss": "reconstruction",
    "kl_loss": "kl",
    "syn_data_loss": "bootstrap",
    "residual_loss": "residual",
    "pregate_residual_loss": "proposed",
    "residual_rel_diff": "residual_percent",
}  # the original project's names of what is measured
NO_PHYSICS_DIMS = {"inform": 9, "okada": 10, "pendulum": 3, "advection_diffusion": 3}


class ModelConfig(Config):
    """Encoder and correction."""

    residual: Literal["low_rank", "gated", "no_physics"] = Field(
        default="low_rank",
        description="Correction of the physics; no_physics: a network in its place.",
    )
    aux_dim: int = Field(
        default=2, ge=0, description="Auxiliary latents; 0: physics without correction."
    )
    rank: int | None = Field(default=None, ge=1, description="Patterns of low_rank; null: aux_dim.")
    feature_dim: int = Field(default=128, ge=1, description="Width of the encoder's features.")
    feature_hidden: Widths = Field(
        default=(128, 128), description="Hidden widths on the way there."
    )
    physics_hidden: Widths = Field(default=(128,), description="Of the heads of physics latents.")
    aux_hidden: Widths = Field(default=(128,), description="Of the heads of auxiliary latents.")
    activation: Literal["elu", "relu", "gelu", "silu", "tanh"] = Field(
        default="elu", description="Between layers."
    )
    gate_bias: float = Field(
        default=-4.6, description="Of a gate at the start: -4.6 lets 1 % through."
    )
    prior: Literal["normal", "uniform", "ema"] = Field(
        default="normal", description="Of the physics latents in logits; ema follows the posterior."
    )
    ema_decay: float = Field(default=0.99, ge=0, lt=1, description="Of that following, per step.")
    stop_gradient: bool = Field(
        default=True, description="The correction sees physics without gradient."
    )
    encode_inputs: bool = Field(default=True, description="The encoder sees the known inputs.")
    time_features: Literal[0, 2, 4] = Field(
        default=0, description="Of a date, for low_rank: 2 annual, 4 semi-annual as well."
    )
    lnvar_bound: Literal["restoring", "hard"] = Field(
        default="restoring", description="Gradient of log-variances that leave their range."
    )

    @property
    def has_physics(self) -> bool:
        """Whether there are physics latents."""
        return self.residual != "no_physics"

    @property
    def kind(self) -> Variant:
        """A without physics, B physics alone, C with a low-rank correction, G with a gate."""
        if not self.has_physics:
            return "A"
        if self.aux_dim == 0:
            return "B"
        return "G" if self.residual == "gated" else "C"

    @model_validator(mode="after")
    def _choices_agree(self) -> "ModelConfig":
        for name, value in (("rank", self.rank), ("time_features", self.time_features)):
            if value and self.kind != "C":
                raise ValueError(
                    f"{name} = {value} belongs to a low-rank correction; found residual: "
                    f"{self.residual} with aux_dim = {self.aux_dim}"
                )
        if self.kind == "A" and self.aux_dim == 0:
            raise ValueError("residual: no_physics needs aux_dim of 1 at least, found 0")
        if self.kind == "A" and self.prior != "normal":
            raise ValueError(f"prior: {self.prior} is of physics latents; no_physics has none")
        return self


class PhysTrainConfig(TrainConfig):
    """Optimisation by Adam: what every app has, and Adam's own settings."""

    valid_batch_size: int = Field(
        default=64, ge=1, description="Samples per batch of a validation."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="Added to the gradient, times the weight."
    )
    amsgrad: bool = Field(default=True, description="Adam with the largest second moment so far.")
    adam_eps: float = Field(default=1e-8, gt=0, description="Adam's ε.")
    cosine_epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs to a rate of 0, pretraining not counted; null: all left.",
    )
    monitor: str = Field(
        default="reconstruction",
        min_length=1,
        description="Validation metric that decides the best model.",
    )

    @field_validator("monitor")
    @classmethod
    def _name_of_old(cls, value: str) -> str:
        """`val_rec_loss` and the like, as the original project's files have them."""
        name = value.removeprefix("val_")
        return METRIC_NAMES.get(name, name)

    @model_validator(mode="after")
    def _plain(self) -> "PhysTrainConfig":
        for name in ("compile", "shard"):
            if getattr(self, name):
                raise ValueError(f"{name} has no effect on a model whose parts are called apart")
        if self.warmup_steps:
            raise ValueError("warmup_steps: the rate of pretraining is the initial one throughout")
        if self.lr_schedule not in ("cosine", "constant"):
            raise ValueError(
                f"lr_schedule: expected cosine or constant here, found {self.lr_schedule}"
            )
        for name in ("lr_factor", "lr_step_epochs", "lr_patience"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect under a cosine or a constant rate")
        return self


class EvaluateConfig(Config):
    """The evaluation on test observations."""

    checkpoint: Literal["best", "last"] = Field(
        default="best", description="Which weights are scored."
    )
    samples: int = Field(default=256, ge=2, description="Draws from each posterior.")
    oracle_starts: int | None = Field(
        default=None,
        ge=0,
        description="Starts of the best fit of the physics to each observation; 0: none; null: 8, but "
        "none for inform, where it takes hours.",
    )
    oracle_steps: int = Field(default=1200, ge=1, description="Its steps from each start.")
    oracle_rows: int | None = Field(
        default=None,
        ge=2,
        description="Observations that it fits at most, evenly over the split; null: all.",
    )


class AblationConfig(Config):
    """What `ablate` compares."""

    variants: tuple[Variant, ...] = Field(
        default=("A", "B", "C"),
        min_length=1,
        description="A: no physics, B: no correction, C, G: with one.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0, 1, 2), min_length=1, description="Seeds of training."
    )
    no_physics_dim: int | None = Field(
        default=None,
        ge=1,
        description="Latents of A; null: those of C, or as the problem was published.",
    )

    @field_validator("variants", "seeds")
    @classmethod
    def _each_once(cls, value: tuple) -> tuple:
        if len(set(value)) < len(value):
            raise ValueError(f"one of {list(value)} is there twice")
        return value


class PhysConfig(Config):
    """Everything that a run of the app depends on."""

    problem: Problem = Field(default="mogi", description="The physics.")
    data: PhysDataConfig = Field(default=PhysDataConfig(), description="Observations.")
    physics: PhysicsConfig = Field(
        default=PhysicsConfig(), description="Files of the forward model."
    )
    model: ModelConfig = Field(default=ModelConfig(), description="Encoder and correction.")
    phases: PhasesConfig = Field(default=PhasesConfig(), description="Pretraining, then training.")
    loss: LossConfig = Field(default=LossConfig(), description="Weights of the terms.")
    weighting: Annotated[WeightingConfig, Field(discriminator="kind")] = Field(
        default=ConstantConfig(), description="Weights over time, once pretraining is over."
    )
    train: PhysTrainConfig = Field(
        default=PhysTrainConfig(epochs=140, batch_size=128), description="Optimisation."
    )
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="Evaluation.")
    ablation: AblationConfig = Field(
        default=AblationConfig(), description="What `ablate` compares."
    )

    @property
    def pretrain(self) -> int:
        """Epochs of pretraining: without physics there is nothing to simulate."""
        return self.phases.epochs_pretrain if self.model.has_physics else 0

    @property
    def oracle_starts(self) -> int:
        """Starts of the best fit of the physics; 0 for none."""
        if self.evaluate.oracle_starts is not None:
            return self.evaluate.oracle_starts
        return 0 if self.problem == "inform" else 8

    @model_validator(mode="after")
    def _training_is_left(self) -> "PhysConfig":
        if self.pretrain >= self.train.epochs:
            raise ValueError(
                f"phases.epochs_pretrain = {self.pretrain} with train.epochs = "
                f"{self.train.epochs}: no training epoch is left"
            )
        if self.pretrain and not self.loss.bootstrap:
            raise ValueError(
                f"phases.epochs_pretrain = {self.pretrain} with loss.bootstrap = 0: pretraining "
                "would train nothing; set epochs_pretrain to 0"
            )
        return self

    @model_validator(mode="after")
    def _sequences_are_there(self) -> "PhysConfig":
        if self.loss.smoothness and self.data.sequence_length is None:
            raise ValueError("loss.smoothness needs data.sequence_length: smooth along what?")
        return self

    @model_validator(mode="after")
    def _tables_have_physics(self) -> "PhysConfig":
        if self.problem in SERIES and (self.physics.bounds or self.physics.ranges):
            raise ValueError(f"physics: the range of {self.problem} is a part of it, not to be set")
        return self

    @model_validator(mode="after")
    def _weighting_fits(self) -> "PhysConfig":
        try:
            self.rule()
        except ValueError as error:
            raise ValueError(f"weighting: {error}") from error
        return self

    def rule(self) -> Any:
        """The weighting of the terms: the bootstrap alone in pretraining, then the section's rule.

        Raises:
            ValueError: If its settings do not fit the terms.
        """
        weights, kind = base_weights(self), self.weighting.kind
        then = {name: 0.0 if name == "bootstrap" else weight for name, weight in weights.items()}
        rule = make_weighting(kind, then, **self.weighting.options())
        if not self.pretrain:
            return rule
        first = {name: weight if name == "bootstrap" else 0.0 for name, weight in weights.items()}
        stages = [(self.pretrain, ConstantWeights(first)), (None, rule)]
        return Stages(stages, carry=False, unit="epoch")


def base_weights(config: PhysConfig) -> dict[str, float]:
    """The weight of each term that the variant has and the loss section switches on, in order."""
    loss, model = config.loss, config.model
    halves = 2 * loss.noise_variance  # the total is −2σ² times the usual bound
    has_aux, kind = model.aux_dim > 0, model.kind
    physics_kl = halves * loss.beta_physics if model.has_physics else 0.0
    found = {
        "bootstrap": loss.bootstrap if config.pretrain else 0.0,
        "reconstruction": 1.0,
        "kl_physics": 0.0 if loss.capacity.on else physics_kl,
        "kl_aux": halves * loss.beta_aux if has_aux else 0.0,
        "gate": loss.gate if kind == "G" else 0.0,
        "residual": loss.residual if kind in "CG" else 0.0,
        "orthogonality": loss.orthogonality if kind == "C" else 0.0,
        "coefficient": loss.coefficient if kind == "C" else 0.0,
        "edge": loss.edge if model.has_physics else 0.0,
        "smoothness": loss.smoothness if model.has_physics else 0.0,
        "capacity": physics_kl if loss.capacity.on else 0.0,
    }
    assert tuple(found) == TERMS
    return {name: weight for name, weight in found.items() if weight}
