"""The configuration of the app: one frozen model, validated once, apart from construction."""

import json
from typing import Annotated, Any, Literal

from nops_schedules import make_weighting
from nops_train import Config, ConstantConfig, TrainConfig, WeightingConfig
from pydantic import Field, ValidationError, field_validator, model_validator

from upt_inverse.config_data import UptDataConfig
from upt_inverse.config_loss import INVERSE, LossConfig
from upt_inverse.config_tasks import TaskConfig, first_problem, laid_over

Arm = Literal["none", "enc", "dec", "both"]
Count = Annotated[int, Field(ge=1)]


OF_GRADIENTS = ("balance", "accumulate", "active_weighting")  # methods of rules that see gradients


class ModelConfig(Config):
    """The transformer; fields, positions and boundaries follow from the data."""

    preset: Literal["8M", "17M", "68M"] | None = Field(
        default=None,
        description="Published sizes, in place of widths, depths, heads, tokens and dim.",
    )
    encoder: Literal["grid", "supernodes"] = Field(
        default="grid",
        description="grid reads a whole grid in patches, supernodes any set of points.",
    )
    tokens: int = Field(default=32, ge=1, description="Tokens of the latent.")
    dim: int = Field(default=64, ge=1, description="Width of a token.")
    patch_size: int | None = Field(
        default=8, ge=1, description="Cells of a patch per axis, of grid."
    )
    supernodes: int | None = Field(default=None, ge=1, description="Points that gather messages.")
    radius: float | None = Field(
        default=None, gt=0, description="How far they see, the domain's unit."
    )
    max_neighbors: int = Field(default=32, ge=1, description="Points that one hears at most.")
    encoder_width: int | None = Field(
        default=None, ge=1, description="Channels in the encoder; null: dim."
    )
    encoder_depth: int = Field(default=1, ge=1, description="Blocks of the encoder.")
    approximator_depth: int = Field(default=2, ge=1, description="Blocks of one step in time.")
    approximator_width: int | None = Field(
        default=None, ge=1, description="Their channels; null: dim."
    )
    decoder_width: int | None = Field(
        default=None, ge=1, description="Channels of a query; null: dim."
    )
    decoder_self_depth: int = Field(default=1, ge=0, description="Decoder's blocks on the tokens.")
    decoder_cross_depth: int = Field(
        default=2, ge=1, description="Blocks in which queries read tokens."
    )
    heads: int | tuple[Count, Count, Count] = Field(
        default=4, description="Attention heads: one number, or of encoder, tokens, decoder."
    )
    mlp_ratio: int = Field(
        default=4, ge=1, description="Hidden width of a block's MLP over its own."
    )
    qk_norm: bool = Field(default=False, description="Normalise queries and keys of each head.")
    drop_path: float = Field(
        default=0.0, ge=0, lt=1, description="Share of branches dropped in training."
    )
    frequencies: tuple[int, ...] = Field(
        default=(1, 2, 4, 8), description="Waves of the positions."
    )
    history: int = Field(default=1, ge=1, description="States that the encoder reads.")
    condition: tuple[str, ...] = Field(
        default=(), description="What conditions the model: time, and scalars of the files."
    )
    latent_norm: Literal["layer", "none"] = Field(
        default="layer", description="layer fixes a token's root mean square at 1."
    )

    @model_validator(mode="after")
    def _encoder_fits(self) -> "ModelConfig":
        if self.encoder == "supernodes" and (self.supernodes is None or self.radius is None):
            raise ValueError("encoder: supernodes needs supernodes and radius")
        if self.encoder == "grid" and self.patch_size is None:
            raise ValueError("encoder: grid needs patch_size")
        return self


class UptTrainConfig(TrainConfig):
    """Optimisation: what every app has, and the choice of an optimizer."""

    monitor: str = Field(
        default="rollout_nrmse",
        min_length=1,
        description="Validation metric that decides the best model.",
    )
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        default="adamw", description="Of the weights."
    )

    @model_validator(mode="after")
    def _whole_and_plain(self) -> "UptTrainConfig":
        for name in ("compile", "shard"):
            if getattr(self, name):
                raise ValueError(f"{name} has no effect on a model whose parts are called apart")
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError(
                f"weight_decay = {self.weight_decay:g} would enter adam's moments; take 0, or adamw"
            )
        return self


class EvaluateConfig(Config):
    """The evaluation on test trajectories."""

    checkpoint: Literal["best", "last"] = Field(
        default="best", description="Which weights are scored."
    )
    bootstrap: int = Field(
        default=1000, ge=1, le=100_000, description="Resamples behind each 95 % interval."
    )


class UptConfig(Config):
    """Everything that a run of the app depends on."""

    arms: tuple[Arm, ...] = Field(
        default=("none", "enc", "dec", "both"),
        min_length=1,
        description="Of ablate: which inverse losses keep their weight.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0, 1, 2), min_length=1, description="Of ablate: seeds of training."
    )
    horizons: tuple[Count, ...] = Field(
        default=(), description="Of ablate: values of loss.rollout_horizon; empty: that one."
    )
    data: UptDataConfig = Field(
        default=UptDataConfig(num_steps=8, shape=(256,)), description="Trajectories."
    )
    model: ModelConfig = Field(default=ModelConfig(), description="Transformer.")
    loss: LossConfig = Field(
        default=LossConfig.model_construct(),  # nulls, so that the preset of a file decides its weights
        description="Loss terms and their base weights.",
    )
    weighting: WeightingConfig = Field(
        default=ConstantConfig(), discriminator="kind", description="Weights over time."
    )
    train: UptTrainConfig = Field(
        default=UptTrainConfig(epochs=10, batch_size=8, learning_rate=2e-3),
        description="Optimisation.",
    )
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="Evaluation.")
    tasks: dict[str, TaskConfig] = Field(
        default={},
        description="Several equations in place of data, which share the approximator; a step has a "
        "batch of each.",
    )
    rounds: Count | None = Field(
        default=None,
        description="With tasks: steps of an epoch; null: as many as the largest task needs.",
    )

    @field_validator("arms", "seeds", "horizons")
    @classmethod
    def _each_once(cls, value: tuple) -> tuple:
        if len(set(value)) < len(value):
            raise ValueError(f"one of {list(value)} is there twice")
        return value

    @field_validator("tasks")
    @classmethod
    def _named_by_words(cls, value: dict[str, TaskConfig]) -> dict[str, TaskConfig]:
        for name in value:
            if not (name.isascii() and name.isidentifier()):
                raise ValueError(f"{name!r} is no name: expected letters, digits and underscores")
        return value

    @model_validator(mode="after")
    def _tasks_fit(self) -> "UptConfig":
        if self.rounds is not None and not self.tasks:
            raise ValueError("rounds has no effect without tasks")
        for name in self.tasks:
            self.of_task(name)
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> "UptConfig":
        if self.tasks:
            return self
        needed, steps = self.model.history - 1 + self.loss.steps, self.data.num_steps
        if needed > steps:
            raise ValueError(
                f"model.history = {self.model.history} and loss.rollout_horizon = "
                f"{self.loss.rollout_horizon} need {needed} steps; data.num_steps = {steps}"
            )
        return self

    @model_validator(mode="after")
    def _steady_has_no_time(self) -> "UptConfig":
        if self.data.steady and "time" in self.model.condition:
            raise ValueError(f"model.condition: time, but data.pde = {self.data.pde} is steady")
        return self

    @model_validator(mode="after")
    def _weighting_fits(self) -> "UptConfig":
        try:
            self.rule()
        except ValueError as error:
            raise ValueError(f"weighting: {error}") from error
        return self

    @model_validator(mode="after")
    def _sampling_does_something(self) -> "UptConfig":
        if self.tasks:
            return self
        sampling, points = self.loss.query_sampling, 1
        for side in self.data.shape:
            points *= side
        if sampling.enabled and (sampling.num_queries or 0) >= points:
            raise ValueError(
                f"loss.query_sampling.num_queries = {sampling.num_queries}: sampling would do "
                f"nothing: N = {points}"
            )
        if sampling.enabled and sampling.strategy == "importance" and self.model.encoder != "grid":
            raise ValueError(
                "loss.query_sampling.strategy: importance, but model.encoder: supernodes would read the "
                "drawn points alone, more of them where fields are steep, and all points when it is "
                "used; take stratified or uniform, or model.encoder: grid"
            )
        read = sampling.num_queries if sampling.enabled else points
        supernodes = self.model.supernodes if self.model.encoder == "supernodes" else None
        if supernodes and read and supernodes > read:
            raise ValueError(
                f"model.supernodes = {supernodes} are more than the {read} points that are read"
            )
        return self

    def rule(self) -> Any:
        """The weighting of the terms that are on.

        Raises:
            ValueError: If its settings do not fit these terms.
        """
        section, weights = self.weighting, self.weights()
        options = section.options()
        if self.tasks and "ramped" in options:
            options["ramped"] = _in_tasks(options["ramped"], weights)
        rule = make_weighting(section.kind, weights, **options)
        if self.tasks and any(hasattr(rule, name) for name in OF_GRADIENTS):
            raise ValueError(
                f"kind = {section.kind} weighs by the gradients of one batch; with tasks a step has "
                "a batch of each, so take constant, curriculum, or a rule of the losses' values"
            )
        return rule

    def weights(self) -> dict[str, float]:
        """Base weight of each term that is on; with tasks, `<task>.<term>`."""
        if not self.tasks:
            return self.loss.weights()
        return {
            f"{name}.{term}": task.weight * weight
            for name, task in self.tasks.items()
            for term, weight in self.of_task(name).loss.weights().items()
        }

    def of_task(self, name: str) -> "UptConfig":
        """The config of a run of one task alone.

        Raises:
            ValueError: If what the task has of its own does not fit the rest, naming it.
        """
        try:
            plain = laid_over(self.model_dump(mode="json"), self.tasks[name])
            return UptConfig.model_validate_json(json.dumps(plain))
        except ValidationError as error:
            raise ValueError(f"tasks.{name}: {first_problem(error)}") from error
        except ValueError as error:
            raise ValueError(f"tasks.{name}: {error}") from error

    def parts(self) -> dict[str, "UptConfig"]:
        """The config of each task by name; without tasks this one, whose name is empty."""
        return {name: self.of_task(name) for name in self.tasks} or {"": self}

    @property
    def frames(self) -> int:
        """Frames of a trajectory that are used."""
        return self.data.num_steps + 1

    def ablates(self, arm: str) -> tuple[str, ...]:
        """The inverse losses that an arm switches off."""
        keep = {"none": (), "enc": INVERSE[:1], "dec": INVERSE[1:], "both": INVERSE}[arm]
        return tuple(name for name in INVERSE if name not in keep)


def _in_tasks(names: tuple[str, ...], weights: dict[str, float]) -> list[str]:
    """Names of terms as those of all tasks that have them; others as they are."""
    found = []
    for name in names:
        found += [term for term in weights if term.partition(".")[2] == name] or [name]
    known = [name for name in found if name in weights]
    return known if known and set(found) - set(known) <= set(INVERSE) else found
