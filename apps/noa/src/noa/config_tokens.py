"""The sections of the configuration that are about tokens: features, VQ-VAE, and tokens in the loop."""

import os
from typing import Annotated, Any, Literal

from nops_schedules import make_weighting
from nops_train import Config, ConstantConfig, WeightingConfig
from pydantic import Field, field_validator, model_validator

LEAST_FRAMES = 4  # of a clip: what its features need
MOST_CODES, MOST_WIDTH = 65_536, 65_536  # beyond any device: a slip, told before it is built

Codes = Annotated[int, Field(ge=1, le=MOST_CODES)]
Width = Annotated[int, Field(ge=1, le=MOST_WIDTH)]


class FeaturesConfig(Config):
    """What tokens are made of: scalars of short clips."""

    clip: int = Field(
        default=16,
        ge=LEAST_FRAMES,
        description="Frames per clip; with a VQ-VAE in the loss those that it was trained on.",
    )
    per_trajectory: int = Field(
        default=4, ge=1, le=1000, description="Clips of a trajectory, each at a random offset."
    )
    channels: Literal["mean", "each"] = Field(
        default="mean",
        description="Mean over channels, so that all domains share columns, or columns of each.",
    )


class AlignmentConfig(Config):
    """A frozen VQ-VAE in the loss: what the surrogate predicts has to remain tokens."""

    vqvae: str | None = Field(
        default=None,
        min_length=1,
        description="Run of train-vqvae whose tokens the loss reads; null: trajectories alone.",
    )
    latent: bool = Field(
        default=False, description="Whether the bottleneck, projected, learns the latents."
    )
    sample_steps: int = Field(
        default=3, ge=-1, description="Steps of a window whose bottlenecks do; -1: all."
    )
    against: str | None = Field(
        default=None,
        min_length=1,
        description="Run without tokens that the report compares the trajectory error with.",
    )

    @field_validator("vqvae", "against")
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        return value and os.path.normpath(value)

    @model_validator(mode="after")
    def _some_step(self) -> "AlignmentConfig":
        if self.sample_steps == 0:
            raise ValueError("sample_steps = 0, expected 1 or more, or -1 for all")
        return self


class TokenLossConfig(Config):
    """Base weight of each term of the VQ-VAE; 0 switches it off."""

    reconstruction: float = Field(
        default=1.0, gt=0, description="Weight of the squared error of the features."
    )
    commitment: float = Field(
        default=0.25, ge=0, description="Weight of the distance of latents from their codes."
    )
    partial: float = Field(
        default=0.1, ge=0, description="Weight of the error that each code alone decodes to."
    )
    orthogonality: float = Field(
        default=0.0, ge=0, description="Weight of correlations between categories' latents."
    )
    topographic: float = Field(
        default=0.0, ge=0, description="Weight of neighbours that do not stay neighbours."
    )
    entropy: float = Field(
        default=0.0, ge=0, description="Weight of what the use of codes lacks of an even one."
    )


class VqvaeConfig(Config):
    """The VQ-VAE, its training and its loss; the command `train-vqvae` alone reads it."""

    levels: int = Field(default=3, ge=1, le=64, description="Tokens of a category.")
    categories: Literal["family", "cluster"] = Field(
        default="family",
        description="A category per family of features, or groups of like columns within each.",
    )
    structure: Literal["parallel", "residual"] = Field(
        default="parallel",
        description="A head for each level, or levels that quantise what earlier ones left.",
    )
    latent_dims: tuple[Width, ...] | None = Field(
        default=None,
        description="Width of each level's latents; null: ½, 1, 1½ … of a category's columns.",
    )
    codebook_sizes: tuple[Codes, ...] | None = Field(
        default=None,
        description="Codes of each level; null: by the numbers of columns and clips, halved per level.",
    )
    hidden: tuple[Width, ...] = Field(
        default=(512, 256), min_length=1, description="Hidden widths of a category's encoder."
    )
    head_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of a latent dropped in training."
    )
    decay: float = Field(
        default=0.99, ge=0, lt=1, description="Share of the past in the moving codes, per step."
    )
    revive_below: float | None = Field(
        default=2.0,
        gt=0,
        description="Codes used less, per step, take a latent of the step; null: they stay.",
    )
    epochs: int = Field(default=150, ge=1, description="Passes over the training clips.")
    batch_size: int = Field(
        default=256, ge=2, description="Clips per optimizer step, all ranks together."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")
    early_stop_patience: int | None = Field(
        default=None,
        ge=1,
        description="Validations without a better reconstruction before stopping.",
    )
    loss: TokenLossConfig = Field(
        default=TokenLossConfig(), description="Loss terms and their base weights."
    )
    weighting: WeightingConfig = Field(
        default=ConstantConfig(), discriminator="kind", description="Weights over time."
    )

    @model_validator(mode="after")
    def _one_per_level(self) -> "VqvaeConfig":
        for name in ("latent_dims", "codebook_sizes"):
            values = getattr(self, name)
            if values is not None and len(values) != self.levels:
                raise ValueError(
                    f"{name} needs one number for each of the {self.levels} levels, got {list(values)}"
                )
        if self.structure == "residual" and len(set(self.latent_dims or (1,))) > 1:
            raise ValueError(
                f"latent_dims: residual levels have one latent, got widths {list(self.latent_dims or ())}"
            )
        return self

    @model_validator(mode="after")
    def _weighting_fits(self) -> "VqvaeConfig":
        try:
            self.rule()
        except ValueError as error:
            raise ValueError(f"weighting: {error}") from error
        return self

    def rule(self) -> Any:
        """The weighting of the terms; one of weight 0 is switched off.

        Raises:
            ValueError: If its settings do not fit these terms.
        """
        weights = {name: weight for name, weight in self.loss.model_dump().items() if weight > 0}
        return make_weighting(self.weighting.kind, weights, **self.weighting.options())
