"""The configuration of the app: one frozen model, validated once, apart from construction."""

from collections.abc import Iterator
from typing import Any, Literal

from nops_schedules import make_weighting
from nops_train import Config, ConstantConfig, DataConfig, TrainConfig, WeightingConfig
from pydantic import Field, field_validator, model_validator

from noa.config_tokens import AlignmentConfig, FeaturesConfig, VqvaeConfig

DomainName = Literal["gray_scott", "random_conv", "heat", "wave", "navier_stokes"]
MOST_CHANNELS, MOST_BLOCKS = 4096, 256  # beyond any device: a slip, told before it is built
COMMIT = 0.5  # weight of commit where a VQ-VAE is given and no weight
SHORT_NAMES = {
    "rd": "gray_scott",
    "reaction_diffusion": "gray_scott",
    "waves": "wave",
    "fluids": "navier_stokes",
}


class NoaDataConfig(DataConfig):
    """Trajectories of a domain, generated where they are absent, or read from a given folder."""

    domain: DomainName | None = Field(
        default="gray_scott",
        description="Dynamics to generate; null for given data of unknown origin.",
    )
    operator: Literal["smooth", "stack"] = Field(
        default="smooth",
        description="Kind of random_conv's network: smooth in its parameters, or a stack whose "
        "weights differ between trajectories, so that nothing generalises to unseen parameters.",
    )
    noise_scale: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Noise of random_conv in each step; for stack a factor on the parameters' own.",
    )

    layout: Literal["well", "spinlock"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="well",
        description="Layout of given data: a folder in the_well's, or the published script's one file.",
    )
    axis1: Literal["channels", "realisations"] | None = Field(
        default=None,
        description="What axis 1 of the spinlock file's inputs counts, where no attribute says it.",
    )
    first_frame: Literal["start", "step"] | None = Field(
        default=None,
        description="First frame of the spinlock file's outputs: the start, or a step after the input; "
        "null asks that it is the input.",
    )

    @model_validator(mode="after")
    def _a_file_is_named(self) -> "NoaDataConfig":
        if self.layout == "spinlock" and self.path is None:
            raise ValueError("layout: spinlock is read from a file; name it by data.path")
        return self

    @field_validator("domain", mode="before")
    @classmethod
    def _long_name(cls, value: object) -> object:
        return SHORT_NAMES.get(value, value) if isinstance(value, str) else value


class RolloutConfig(Config):
    """Truncated back-propagation through time."""

    mode: Literal["random_start", "sequential", "last", "pushforward"] = Field(
        default="random_start", description="Where a window starts and which steps are supervised."
    )
    window: int = Field(default=4, ge=1, description="Steps through which gradients flow.")
    checkpoint_every: int = Field(
        default=0,
        ge=0,
        description="Steps between stored states; others are recomputed. 0 stores all.",
    )
    num_pushforward: int = Field(
        default=1,
        ge=1,
        description="Steps without gradient before the window, in mode pushforward.",
    )


class ModelConfig(Config):
    """The U-AFNO; channels, parameters and residual scale follow from the data."""

    base_channels: int = Field(
        default=8, ge=1, le=MOST_CHANNELS, description="Channels at full resolution."
    )
    encoder_levels: int = Field(default=2, ge=1, le=10, description="Halvings of the grid.")
    blocks_per_level: int = Field(
        default=1, ge=1, le=MOST_BLOCKS, description="Residual blocks per level."
    )
    afno_blocks: int = Field(
        default=2, ge=0, le=MOST_BLOCKS, description="AFNO blocks in the bottleneck."
    )
    afno_groups: int = Field(
        default=4, ge=1, description="Blocks that the channels are split into."
    )
    modes: int | None = Field(
        default=None, ge=1, description="Waves kept per axis; null keeps all."
    )
    embedding: int = Field(
        default=32, ge=1, le=MOST_CHANNELS, description="Width of the parameters' embedding."
    )
    norm: Literal["none", "group", "instance"] = Field(
        default="none",
        description="Normalisation; any but none removes amplitude, which is physics here.",
    )


class LossConfig(Config):
    """Base weight of each term; 0 switches it off."""

    traj: float = Field(
        default=1.0, ge=0, description="Weight of the trajectory error over the window."
    )
    ic: float = Field(
        default=0.3, ge=0, description="Weight of the first step from the initial field."
    )
    commit: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the distance of predicted clips from tokens; null: 0.5 with "
        "alignment.vqvae, else 0.",
    )
    latent: float = Field(
        default=0.1, ge=0, description="Weight of the bottleneck's distance from the latents."
    )

    @model_validator(mode="after")
    def _some_term(self) -> "LossConfig":
        if self.traj == self.ic == 0:
            raise ValueError("traj and ic are both 0: nothing would be trained")
        return self


class EvaluateConfig(Config):
    """The evaluation on held-out trajectories."""

    lead_times: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="Steps ahead that are tabulated; null takes powers of two and the last.",
    )
    bootstrap: int = Field(
        default=1000, ge=1, le=100_000, description="Resamples behind each 95 % interval."
    )
    probe_initials: int = Field(
        default=4, ge=1, description="Initial fields on which the diversity over θ is measured."
    )
    probe_parameters: int = Field(
        default=8, ge=2, description="Parameter sets that each of them is rolled out under."
    )

    @property
    def probe(self) -> tuple[int, int]:
        """Numbers of initial fields and of parameter sets."""
        return self.probe_initials, self.probe_parameters

    @field_validator("lead_times")
    @classmethod
    def _ascending(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (value[0] < 1 or list(value) != sorted(set(value))):
            raise ValueError(f"lead times are distinct, ascending and at least 1, got {value}")
        return value

    def leads(self, num_steps: int) -> tuple[int, ...]:
        """The lead times to tabulate of a rollout over `num_steps`."""
        powers = (2**k for k in range(num_steps.bit_length()))
        return self.lead_times or tuple(sorted({*powers, num_steps}))


class NoaConfig(Config):
    """Everything that a run of the app depends on."""

    data: NoaDataConfig = Field(default=NoaDataConfig(), description="Trajectories.")
    rollout: RolloutConfig = Field(
        default=RolloutConfig(), description="Truncated back-propagation."
    )
    model: ModelConfig = Field(default=ModelConfig(), description="U-AFNO.")
    loss: LossConfig = Field(default=LossConfig(), description="Loss terms and their base weights.")
    weighting: WeightingConfig = Field(
        default=ConstantConfig(), discriminator="kind", description="Weights over time."
    )
    alignment: AlignmentConfig = Field(default=AlignmentConfig(), description="Tokens in the loss.")
    features: FeaturesConfig = Field(default=FeaturesConfig(), description="Features of clips.")
    vqvae: VqvaeConfig = Field(default=VqvaeConfig(), description="VQ-VAE of `train-vqvae`.")
    train: TrainConfig = Field(default=TrainConfig(), description="Optimisation and checkpoints.")
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="Evaluation.")

    @model_validator(mode="after")
    def _windows_fit(self) -> "NoaConfig":
        pushed = self.rollout.num_pushforward if self.rollout.mode == "pushforward" else 0
        needed = self.rollout.window + pushed
        if needed > self.data.num_steps:
            name = "rollout.window" + (" + rollout.num_pushforward" if pushed else "")
            raise ValueError(
                f"{name} = {needed} is longer than data.num_steps = {self.data.num_steps}"
            )
        return self

    @model_validator(mode="after")
    def _tokens_fit(self) -> "NoaConfig":
        for problem in self._token_problems():
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _weighting_fits(self) -> "NoaConfig":
        try:
            self.rule()
        except ValueError as error:
            raise ValueError(f"weighting: {error}") from error
        return self

    @model_validator(mode="after")
    def _leads_fit(self) -> "NoaConfig":
        leads = self.evaluate.lead_times
        if leads and leads[-1] > self.data.num_steps:
            raise ValueError(
                f"evaluate.lead_times goes to {leads[-1]}, beyond data.num_steps = "
                f"{self.data.num_steps}"
            )
        return self

    @model_validator(mode="after")
    def _grid_fits(self) -> "NoaConfig":
        smallest = 2**self.model.encoder_levels
        if min(self.data.shape) < smallest:
            raise ValueError(
                f"data.shape = {list(self.data.shape)} is too small for model.encoder_levels = "
                f"{self.model.encoder_levels}: at least {smallest} points along each axis"
            )
        if self.data.domain == "random_conv" and min(self.data.shape) < 17:
            raise ValueError(
                f"data.shape = {list(self.data.shape)} is too small for data.domain = random_conv: "
                "its kernels need at least 17 points along each axis"
            )
        return self

    def _token_problems(self) -> Iterator[str]:
        loss, alignment, window = self.loss, self.alignment, self.rollout.window
        if alignment.vqvae is None:
            needs = "needs alignment.vqvae (--vqvae-path), a run of train-vqvae"
            if loss.commit:
                yield f"loss.commit = {loss.commit} (--lambda-commit) {needs}"
            if alignment.latent:
                yield f"alignment.latent (--enable-latent-loss) {needs}"
            if alignment.against is not None:
                yield f"alignment.against {needs}"
            return
        if alignment.latent and loss.latent == 0:
            yield "alignment.latent with loss.latent = 0 trains nothing; set a weight"
        if alignment.latent and alignment.sample_steps > window:
            yield (
                f"alignment.sample_steps = {alignment.sample_steps} is more than rollout.window = {window}"
            )
        if alignment.latent and self.train.shard:
            yield "train.shard does not go with alignment.latent"
        if not alignment.latent and loss.commit == 0:
            yield (
                "alignment.vqvae with loss.commit = 0 and without alignment.latent: it would do nothing"
            )

    def term_weights(self) -> dict[str, float]:
        """Base weight of each term that the configuration has; 0 switches it off."""
        loss, alignment = self.loss, self.alignment
        weights = {"traj": loss.traj, "ic": loss.ic}
        if alignment.vqvae is not None:
            weights["commit"] = COMMIT if loss.commit is None else loss.commit
            if alignment.latent:
                weights["latent"] = loss.latent
        return weights

    def rule(self) -> Any:
        """The weighting of the terms; one of weight 0 is switched off.

        Raises:
            ValueError: If its settings do not fit these terms.
        """
        weights = {name: weight for name, weight in self.term_weights().items() if weight > 0}
        return make_weighting(self.weighting.kind, weights, **self.weighting.options())
