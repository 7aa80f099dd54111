"""The parts of a configuration that every app shares.

Each field carries its `--help` text. Values are checked strictly: `"3"` is no integer and `true` is
no number. The learned and the physical settings belong to the apps, which put these two sections
beside their own:

    class NoaConfig(Config):
        train: TrainConfig = TrainConfig()
        data: DataConfig = DataConfig()
"""

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nops_train._progress import ProgressMode
from nops_train._sinks import SinkName

__all__ = ["Config", "DataConfig", "TrainConfig"]

LARGEST_SEED = 2**63 - 1  # what torch.Generator.manual_seed takes as a signed 64-bit integer

Count = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of every section: frozen, no unknown key, no coercion, no infinity and no NaN.

    Raises:
        pydantic.ValidationError: A `ValueError` that names each field, what was expected and found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TrainConfig(Config):
    """Optimisation, checkpoints and precision; epochs and steps are 0-based everywhere."""

    epochs: int = Field(default=25, ge=1, description="Passes over the training set.")
    batch_size: int = Field(
        default=16, ge=1, description="Samples per optimizer step, all ranks together."
    )
    accumulate: int = Field(
        default=1, ge=1, description="Micro-batches that the batch of one step is split into."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate, at its peak.")
    lr_schedule: Literal["cosine", "step", "plateau", "constant"] = Field(
        default="cosine", description="Learning rate after the warm-up; constant has none."
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        description="Optimizer steps over which the learning rate rises to its peak.",
    )
    lr_factor: float = Field(
        default=0.1, gt=0, lt=1, description="What step and plateau multiply the learning rate by."
    )
    lr_step_epochs: int = Field(default=10, ge=1, description="Epochs between two falls of step.")
    lr_patience: int = Field(
        default=5,
        ge=1,
        description="Validations without a better monitored metric before plateau falls.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Decoupled weight decay (AdamW).")
    grad_clip: float | None = Field(
        default=1.0, gt=0, description="Largest norm of the gradient over all trained parameters."
    )
    lbfgs_from: int | None = Field(
        default=None,
        ge=0,
        description="Optimizer step from which L-BFGS ends the run, in place of the optimizer; null: never. A "
        "weighting from gradients has to be over by then.",
    )
    lbfgs_max_iter: int = Field(
        default=20,
        ge=1,
        description="Iterations of L-BFGS per step, each about one evaluation of the batch.",
    )
    lbfgs_history: int = Field(
        default=10, ge=1, description="Past iterations that L-BFGS remembers."
    )
    save_every: int = Field(default=200, ge=1, description="Optimizer steps between checkpoints.")
    async_save: bool = Field(
        default=False,
        description="Write checkpoints beside training, from a copy of the state in host memory.",
    )
    compile: bool = Field(
        default=False,
        description="Compile the model with torch.compile; where that fails, go on without.",
    )
    shard: bool = Field(
        default=False,
        description="Under torchrun: each rank holds a part of weights, gradients, averages and optimizer "
        "state (fully_shard), for models past one card; on a CPU from torch 2.7 on.",
    )
    validate_every: int = Field(default=1, ge=1, description="Epochs between validations.")
    early_stop_patience: int | None = Field(
        default=None,
        ge=1,
        description="Validations without a better monitored metric before stopping.",
    )
    monitor: str = Field(
        default="nmse",
        min_length=1,
        description="Validation metric, unweighted, that decides the best model and early stopping.",
    )
    monitor_mode: Literal["min", "max"] = Field(
        default="min", description="Whether a lower or a higher monitored metric is better."
    )
    seed: int = Field(
        default=0, ge=0, le=LARGEST_SEED, description="Start of every random draw in training."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Arithmetic of the forward pass; spectral parts stay in fp32."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where to compute; auto takes a GPU where there is one."
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay of the averaged copy of the weights; null keeps none.",
    )
    max_skipped_in_row: int = Field(
        default=10, ge=1, description="Non-finite steps in a row before the run stops."
    )
    log_every: int = Field(
        default=10, ge=1, description="Optimizer steps between lines of the event log."
    )
    num_workers: int = Field(
        default=0, ge=0, le=256, description="Processes that read data; 0 reads in this one."
    )
    keep_last: int | None = Field(
        default=3,
        ge=1,
        description="Periodic checkpoints to keep, best and last aside; null keeps all.",
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="Parameters left as they are: patterns of their names, such as encoder.*",
    )
    init_from: str | None = Field(
        default=None,
        min_length=1,
        description="Run folder, checkpoint or model.safetensors whose weights a new run starts from.",
    )

    progress: ProgressMode = Field(
        default="auto",
        description="What is shown: a bar, plain lines for a log file, or nothing; auto draws a bar on "
        "a terminal.",
    )
    log_to: tuple[SinkName, ...] = Field(
        default=(),
        description="Where to watch the run beside its event log; each needs its extra installed.",
    )
    gradient_norm_per_term: bool = Field(
        default=False,
        description="Log each weighted term's own gradient norm: at logged steps a backward pass and "
        "memory for one gradient more per term.",
    )

    @field_validator("log_to")
    @classmethod
    def _each_once(cls, value: tuple[SinkName, ...]) -> tuple[SinkName, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"log_to names one of {list(value)} twice")
        return value

    @field_validator("init_from")
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        return value and os.path.normpath(value)

    @model_validator(mode="after")
    def _shards_are_known_to(self) -> "TrainConfig":
        clashes = {
            "compile": self.compile,
            "gradient_norm_per_term": self.gradient_norm_per_term,
            "precision: fp16": self.precision == "fp16",
        }
        if found := [name for name, is_set in clashes.items() if self.shard and is_set]:
            raise ValueError(f"shard does not go with {' and '.join(found)}")
        return self

    @model_validator(mode="after")
    def _lbfgs_sees_plain_gradients(self) -> "TrainConfig":
        clashes = {"shard": self.shard, "precision: fp16": self.precision == "fp16"}
        found = [name for name, is_set in clashes.items() if is_set]
        if found and self.lbfgs_from is not None:
            raise ValueError(f"lbfgs_from does not go with {' and '.join(found)}")
        for name in ("lbfgs_max_iter", "lbfgs_history"):
            default = type(self).model_fields[name].default
            if self.lbfgs_from is None and getattr(self, name) != default:
                raise ValueError(f"{name} has no effect without lbfgs_from")
        return self

    @model_validator(mode="after")
    def _chunks_fit_the_batch(self) -> "TrainConfig":
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate ({self.accumulate}) is more than batch_size ({self.batch_size}): "
                "a micro-batch needs a sample at least"
            )
        return self


class DataConfig(Config):
    """Which data, how much of it, and how it is laid out."""

    path: str | None = Field(
        default=None, min_length=1, description="Folder or file that holds the data."
    )
    layout: Literal["well"] = Field(default="well", description="Layout of the files.")
    num_train: int = Field(default=256, ge=1, description="Trajectories to train on.")
    num_valid: int = Field(default=32, ge=1, description="Trajectories to validate on.")
    num_test: int = Field(default=64, ge=1, description="Trajectories of the final evaluation.")
    num_steps: int = Field(
        default=64, ge=1, description="Steps per trajectory, its start not counted."
    )
    shape: tuple[Count, ...] = Field(
        default=(32, 32), min_length=1, max_length=3, description="Grid points along each axis."
    )
    seed: int = Field(
        default=0, ge=0, le=LARGEST_SEED, description="Start of every draw of generated data."
    )
