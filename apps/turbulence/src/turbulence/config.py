"""The configuration of the app: one frozen model, validated once, apart from construction."""

from typing import Annotated, Any, Literal

from nops_schedules import make_weighting
from nops_train import Config, DataConfig, TrainConfig, WeightingConfig
from pydantic import Field, field_validator, model_validator

from turbulence.config_loss import LossConfig, check_leaves_a_phase
from turbulence.config_weighting import SchedulerConfig, checked_params

Arm = Literal["field", "schedule", "static", "matched", "low", "bsp", "wavelet", "constant"]
Source = Literal["kolmogorov", "decaying", "taylor_green", "random_field", "file"]
SCHEDULED_ARMS = ("static", "matched", "low", "bsp", "wavelet")  # made of the schedule's weights
MOST_CHANNELS, MOST_BLOCKS = 4096, 256  # beyond any device: a slip, told before it is built
SMALLEST_SPECTRUM = 8  # cells per axis: below it no spectral term has a shell worth the name


def _numbers(item: object) -> list[object]:
    """A number by itself, or all of the range `first-last`, both included."""
    first, dash, last = item.partition("-") if isinstance(item, str) else ("", "", "")
    if not (dash and first.isdecimal() and last.isdecimal()):
        return [item]
    return list(range(int(first), int(last) + 1))


class SplitConfig(Config):
    """The simulations and frames of one split, of a tree of npz files."""

    simulations: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Numbers of the simulations; text such as 10-19 is a range."
    )
    frames: tuple[int, int, int] = Field(
        default=(0, 1, 1), description="First frame, last frame and stride; the last is included."
    )

    @field_validator("simulations", mode="before")
    @classmethod
    def _ranges(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        return tuple(number for item in value for number in _numbers(item))

    @field_validator("frames")
    @classmethod
    def _rising(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        first, last, stride = value
        if not (0 <= first <= last and stride >= 1):
            raise ValueError(f"frames are [first, last, stride], 0 <= first <= last, got {value}")
        return value


class SplitsConfig(Config):
    """Which simulations of a tree are trained on, validated and tested."""

    train: SplitConfig = Field(default=SplitConfig(), description="To train on.")
    valid: SplitConfig = Field(default=SplitConfig(), description="To validate on.")
    test: SplitConfig = Field(default=SplitConfig(), description="To test on.")

    @model_validator(mode="after")
    def _no_leak(self) -> "SplitsConfig":
        found = {name: set(getattr(self, name).simulations) for name in ("train", "valid", "test")}
        for one, other in (("test", "train"), ("valid", "train"), ("test", "valid")):
            shared = sorted(found[one] & found[other])
            if shared:
                raise ValueError(f"simulations {shared} of {one} are also in {other}")
        return self


class FlowDataConfig(DataConfig):
    """Trajectories of a flow, solved where they are absent, or read from given files."""

    source: Source = Field(
        default="kolmogorov",
        description="Flow to solve; file reads `path`, or converts the tree `npz`.",
    )
    fields: tuple[str, ...] = Field(
        default=("velocity",),
        min_length=1,
        description="Fields to emulate, by their names in the files.",
    )
    parameters: tuple[str, ...] = Field(
        default=(), description="Scalars of the files that condition the model, by name."
    )
    viscosity: float = Field(
        default=1e-3, ge=0, description="Kinematic viscosity, length² per time."
    )
    drag: float = Field(
        default=0.1, ge=0, description="Linear friction of the Kolmogorov flow, per time."
    )
    forcing_wavenumber: int = Field(default=4, ge=1, description="Periods of its force per domain.")
    time_step: float = Field(default=0.012, gt=0, description="Largest time step of the solver.")
    frame_interval: float = Field(default=0.24, gt=0, description="Time between frames.")
    warmup_time: float = Field(default=10.0, ge=0, description="Time before the first frame.")
    solver_resolution: int | None = Field(
        default=None, ge=8, description="Cells per axis of the solver; null: those of `shape`."
    )
    npz: str | None = Field(
        default=None,
        min_length=1,
        description="Tree of sim_*/field_*.npz to convert, with source file.",
    )
    splits: SplitsConfig = Field(default=SplitsConfig(), description="Its simulations and frames.")
    lengths: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None, description="Extent of the tree's domain along each axis; null: 1 each."
    )
    boundary: tuple[Literal["periodic", "wall", "open"], ...] = Field(
        default=("periodic", "periodic"),
        description="Boundary of the tree's domain along each axis.",
    )
    normalise: Literal["zscore", "none", "incMixed", "traMixed", "isoSingle"] = Field(
        default="zscore",
        description="Units of training: of the training split's, or published, moments.",
    )

    @model_validator(mode="after")
    def _solver_fits(self) -> "FlowDataConfig":
        if self.source == "file":
            return self
        if len(self.shape) != 2 or self.shape[0] != self.shape[1]:
            raise ValueError(
                f"shape is {list(self.shape)}; {self.source} is solved on a square grid [n, n]"
            )
        if self.solver_resolution is not None and self.solver_resolution < self.shape[0]:
            raise ValueError(
                f"solver_resolution = {self.solver_resolution} is below shape = {list(self.shape)}"
            )
        return self


class ModelConfig(Config):
    """The emulator of one step; channels, parameters and residual scale follow from the data."""

    name: Literal["uafno", "unet", "fno"] = Field(
        default="uafno", description="U-AFNO or a control."
    )
    base_channels: int = Field(
        default=16, ge=1, le=MOST_CHANNELS, description="Channels at full resolution."
    )
    encoder_levels: int = Field(
        default=2, ge=1, le=10, description="Halvings of the grid; not of fno."
    )
    blocks_per_level: int = Field(
        default=1, ge=1, le=MOST_BLOCKS, description="Residual blocks per level; not of fno."
    )
    afno_blocks: int = Field(
        default=2, ge=0, le=MOST_BLOCKS, description="AFNO blocks in the bottleneck, of uafno."
    )
    afno_groups: int = Field(
        default=4, ge=1, description="Blocks that the channels are split into, of uafno."
    )
    bottleneck_blocks: int = Field(
        default=2,
        ge=0,
        le=MOST_BLOCKS,
        description="Residual blocks on the coarsest grid, of unet.",
    )
    num_layers: int = Field(default=4, ge=1, le=MOST_BLOCKS, description="Fourier layers, of fno.")
    modes: int | None = Field(
        default=12,
        ge=1,
        description="Waves kept per axis, of uafno and fno; null keeps all (uafno).",
    )
    previous_frames: int = Field(default=1, ge=1, le=100, description="Frames that a step sees.")
    embedding: int = Field(
        default=32, ge=1, le=MOST_CHANNELS, description="Width of the parameters' embedding."
    )
    residual: bool = Field(
        default=True, description="Predict the change of a step in units of its deviation."
    )

    @model_validator(mode="after")
    def _fno_needs_modes(self) -> "ModelConfig":
        if self.name == "fno" and self.modes is None:
            raise ValueError("modes is null, which uafno alone takes: fno needs a number")
        return self


class FlowTrainConfig(TrainConfig):
    """Optimisation: what every app has, and how a flow is trained on."""

    monitor: str = Field(
        default="field_error",
        min_length=1,
        description="Validation metric that decides the best model.",
    )
    steps_per_epoch: int | None = Field(
        default=None, ge=1, description="Optimizer steps per epoch; null takes every window once."
    )
    unroll: int = Field(
        default=2, ge=1, description="Steps that are predicted and trained through."
    )
    fadeInSeqLen: tuple[int, int] = Field(  # noqa: N815 - a published name
        default=(-1, 0),
        description="Epochs [a, b] over which `unroll` grows from 1, frames doubling each time.",
    )
    fadeInSeqLenLin: bool = Field(  # noqa: N815
        default=False, description="Grow by one step each time."
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        description="Deviation of noise on the frames to start from, in units of training.",
    )
    lr_gamma: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor on the learning rate per epoch, with lr_schedule constant.",
    )

    @model_validator(mode="after")
    def _growth_has_room(self) -> "FlowTrainConfig":
        first, last = self.fadeInSeqLen
        if first > last:
            raise ValueError(f"fadeInSeqLen = {[first, last]}; expected [a, b] with a <= b")
        if last > 0 and self.unroll == 1:
            raise ValueError(
                "fadeInSeqLen has no effect while unroll is 1: there is nothing to grow to"
            )
        if self.fadeInSeqLenLin and last <= 0:
            raise ValueError(f"fadeInSeqLenLin has no effect while fadeInSeqLen is {[first, last]}")
        return self


class EvaluateConfig(Config):
    """The evaluation on test trajectories."""

    rollout: int = Field(default=29, ge=2, description="Steps of each rollout.")
    lead_window: tuple[int, int] = Field(
        default=(1, 20), description="First and last lead time that the headline figures average."
    )
    checkpoint: Literal["last", "best"] = Field(
        default="last",
        description="Weights: last is an equal budget; best may predate the schedule.",
    )
    bootstrap: int = Field(
        default=1000, ge=1, le=100_000, description="Resamples behind each 95 % interval."
    )

    @model_validator(mode="after")
    def _window_inside(self) -> "EvaluateConfig":
        first, last = self.lead_window
        if not 1 <= first <= last <= self.rollout:
            raise ValueError(
                f"lead_window = {list(self.lead_window)}; expected 1 <= first <= last <= rollout = "
                f"{self.rollout}"
            )
        return self

    def leads(self) -> tuple[int, ...]:
        """The lead times that tables and spectra show: 1, 5, 10 and the last."""
        return tuple(sorted({lead for lead in (1, 5, 10) if lead < self.rollout} | {self.rollout}))


class TurbulenceConfig(Config):
    """Everything that a run of the app depends on."""

    arms: tuple[Arm, ...] = Field(
        default=("field", "schedule"),
        min_length=1,
        description="What is compared, one run per seed each.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Seeds of training, one run per arm each; empty: train.seed alone."
    )
    data: FlowDataConfig = Field(default=FlowDataConfig(), description="Trajectories.")
    model: ModelConfig = Field(default=ModelConfig(), description="Emulator.")
    loss: LossConfig = Field(default=LossConfig(), description="Loss terms and their base weights.")
    weighting: Annotated[SchedulerConfig | WeightingConfig, Field(discriminator="kind")] = Field(
        default=SchedulerConfig(), description="Weights over time."
    )
    train: FlowTrainConfig = Field(
        default=FlowTrainConfig(), description="Optimisation and checkpoints."
    )
    evaluate: EvaluateConfig = Field(default=EvaluateConfig(), description="Evaluation.")

    @field_validator("arms", "seeds")
    @classmethod
    def _each_once(cls, value: tuple) -> tuple:
        if len(set(value)) < len(value):
            raise ValueError(f"one of {list(value)} is there twice")
        return value

    @model_validator(mode="after")
    def _extents_are_given(self) -> "TurbulenceConfig":
        if self.data.npz is None or self.data.lengths is not None:
            return self
        weights = [self.loss.weights()]
        if self.weighting.kind == "scheduler":
            weights += self.weighting.waypoint_weights(self.weighting.params()).values()
        if any(each.get("regDiv") for each in weights):
            raise ValueError(
                "loss.regDiv needs the physical extents of the tree, and data.lengths is null; "
                "expected one length per axis"
            )
        return self

    @model_validator(mode="after")
    def _arms_fit(self) -> "TurbulenceConfig":
        kind = self.weighting.kind
        still = ("schedule",) if kind == "constant" else ()
        needing = [arm for arm in self.arms if arm in (*SCHEDULED_ARMS, *still)]
        if needing and kind != "scheduler":
            others = "field and constant" if still else "field, constant and schedule"
            raise ValueError(
                f"arms {needing} are made of the schedule, and weighting.kind is {kind}; "
                f"expected scheduler, or the arms {others} alone"
            )
        if "matched" in self.arms and "schedule" not in self.arms:
            raise ValueError("arm matched takes its weights from arm schedule, which arms lacks")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> "TurbulenceConfig":
        steps, before = self.data.num_steps, self.model.previous_frames - 1
        more = f" after the {before} that model.previous_frames adds" if before else ""
        for key, needed in (
            ("train.unroll", self.train.unroll),
            ("evaluate.rollout", self.evaluate.rollout),
        ):
            if needed + before > steps:
                raise ValueError(f"{key} = {needed}{more} is beyond data.num_steps = {steps}")
        return self

    @model_validator(mode="after")
    def _grid_fits(self) -> "TurbulenceConfig":
        levels = 0 if self.model.name == "fno" else self.model.encoder_levels
        smallest = max(SMALLEST_SPECTRUM, 2**levels)
        if min(self.data.shape) < smallest:
            raise ValueError(
                f"data.shape = {list(self.data.shape)}: expected at least {smallest} cells along "
                f"each axis (spectra need {SMALLEST_SPECTRUM}, model.encoder_levels {2**levels})"
            )
        return self

    @model_validator(mode="after")
    def _scale_is_measurable(self) -> "TurbulenceConfig":
        if not self.loss.is_measured:
            return self
        if self.weighting.kind != "scheduler":
            raise ValueError(
                "loss.spectrum_scale is auto, which is measured at the end of the schedule's warm-up, "
                f"and weighting.kind is {self.weighting.kind}; give a number"
            )
        if "static" in self.arms and "schedule" not in self.arms:
            raise ValueError(
                "arm static with loss.spectrum_scale: auto takes the scale from arm schedule, which "
                "arms lacks"
            )
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> "TurbulenceConfig":
        if self.weighting.kind != "scheduler":
            if "constant" in self.arms or "schedule" in self.arms:
                check_leaves_a_phase(self.loss.weights(), where="loss")
            self.rule(self.loss.weights())
            return self
        params = checked_params(self.weighting, self.loss)
        waypoints = self.weighting.waypoint_weights(params)
        for place, weights in waypoints.items():
            check_leaves_a_phase({**self.loss.weights(), **weights}, where=f"weighting, {place}")
        if self.loss.is_measured and not [*waypoints.values()][-1].get("spectrumError"):
            raise ValueError(
                "loss.spectrum_scale is auto, but the schedule ends without spectrumError; expected "
                "it among weighting.target_components or roles"
            )
        return self

    def rule(self, weights: dict[str, float]) -> Any:
        """The weighting by its kind, but for the schedule, from base weights.

        Raises:
            ValueError: If its settings do not fit the terms that are on.
        """
        assert not isinstance(self.weighting, SchedulerConfig)
        positive = {name: weight for name, weight in weights.items() if weight}
        try:
            return make_weighting(self.weighting.kind, positive, **self.weighting.options())
        except ValueError as error:
            raise ValueError(f"weighting: {error}") from error

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds that are trained with."""
        return self.seeds or (self.train.seed,)
