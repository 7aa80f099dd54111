"""Sizes and choices of the models.

The classes have no slots: the compiler of torch 2.6 cannot read those that are inherited.
"""

import abc
import math
from dataclasses import dataclass
from typing import get_args

from nops_models._blocks import NORM_GROUPS, Norm
from nops_models._checks import check_at_least, check_choice, check_optional, check_share
from nops_models._padding import Padding


@dataclass(frozen=True, kw_only=True)
class StepConfig(abc.ABC):
    """What every model of one step is told: see `UAFNOConfig`."""

    in_channels: int = 1
    out_channels: int | None = None
    previous_frames: int = 1
    num_parameters: int = 0
    padding: Padding = "circular"
    residual_scale: float | tuple[float, ...] | None = 0.1
    embedding: int = 64

    @property
    def num_inputs(self) -> int:
        """Channels of the state: those of all the frames that a step sees."""
        return self.previous_frames * self.in_channels

    @property
    def num_outputs(self) -> int:
        """Channels of the output."""
        return self.in_channels if self.out_channels is None else self.out_channels

    @abc.abstractmethod
    def check_grid(self, height: int, width: int) -> None:
        """Refuse a grid that the model cannot step on.

        Raises:
            ValueError: With the smallest grid that will do.
        """


@dataclass(frozen=True, kw_only=True)
class PyramidConfig(StepConfig):
    """What every U-shaped model is told: see `UAFNOConfig`."""

    base_channels: int = 32
    encoder_levels: int = 3
    blocks_per_level: int = 2
    norm: Norm = "none"
    dropout: float = 0.0

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first: min(2^(l+1), 8)·base_channels."""
        return tuple(
            self.base_channels * min(2 ** (level + 1), 8) for level in range(self.encoder_levels)
        )

    @property
    def smallest_grid(self) -> int:
        """Smallest height and width that the levels can halve."""
        return 2**self.encoder_levels

    def check_grid(self, height: int, width: int) -> None:
        """Refuse a grid that the levels cannot halve, or that a norm would erase.

        Raises:
            ValueError: With the smallest grid that will do.
        """
        levels, smallest = self.encoder_levels, self.smallest_grid
        if min(height, width) < smallest:
            raise ValueError(
                f"encoder_levels={levels} needs a grid of at least {smallest}x{smallest}, "
                f"got {height}x{width}."
            )
        if self.norm == "instance" and max(height, width) == smallest:
            raise ValueError(
                f"norm='instance' would erase a bottleneck of one cell: encoder_levels={levels} "
                f"needs a grid of more than {smallest}x{smallest}, got {height}x{width}."
            )


@dataclass(frozen=True, kw_only=True)
class UAFNOConfig(PyramidConfig):
    """Everything that fixes a U-AFNO's parameters and their use.

    Attributes:
        in_channels: Channels of a frame, C.
        out_channels: Channels of the output; None: those of a frame.
        previous_frames: Frames n that a step sees: a state is the last n, oldest first, as n·C
            channels.
        num_parameters: Numbers that condition the operator, P; 0: none.
        base_channels: Channels b of the stem; level l has min(2^(l+1), 8)·b.
        encoder_levels: Times the grid is halved.
        blocks_per_level: Residual blocks on each level, on the way down and on the way up.
        afno_blocks: Fourier blocks in the bottleneck; 0 leaves a plain U-net.
        afno_groups: Blocks that a mixer splits the bottleneck's channels into.
        modes: Wavenumbers kept per axis in the bottleneck; None: all.
        mlp_ratio: Hidden width of the bottleneck's MLPs over its channels.
        sparsity: Threshold of the mixers' soft shrink, dimensionless.
        norm: Normalisation after each convolution: "none", "group" (8 groups) or "instance".
            Normalisation removes amplitude, which is physics in most fields.
        padding: "circular" for periodic domains, "zeros" for the rest.
        residual_scale: s in next frame = last frame + s·F, one number or one per channel, in the
            frame's unit; the standard deviation of one-step increments is a good choice. None:
            the output is F alone.
        embedding: Width of the embedded parameters.
        dropout: Share of features dropped in training, inside residual blocks and MLPs.

    Raises:
        ValueError: At construction, if a field is out of range or two contradict each other.
    """

    afno_blocks: int = 4
    afno_groups: int = 8
    modes: int | None = None
    mlp_ratio: int = 2
    sparsity: float = 0.01

    def __post_init__(self) -> None:
        """Check each field, then what fields must agree on."""
        _check_pyramid(self)
        check_at_least(self, 1, "afno_groups", "mlp_ratio")
        check_at_least(self, 0, "afno_blocks")
        check_optional(self, "modes")
        if not 0 <= self.sparsity < math.inf:
            raise ValueError(f"sparsity must be finite and not negative, got {self.sparsity}.")
        bottleneck = self.level_channels[-1]
        if self.afno_blocks and bottleneck % self.afno_groups:
            raise ValueError(
                f"afno_groups={self.afno_groups} must divide the {bottleneck} channels of the "
                f"bottleneck (base_channels={self.base_channels}, "
                f"encoder_levels={self.encoder_levels})."
            )


@dataclass(frozen=True, kw_only=True)
class UNetConfig(PyramidConfig):
    """Everything that fixes a U-net's parameters and their use.

    Attributes:
        in_channels: Channels of a frame, C.
        out_channels: Channels of the output; None: those of a frame.
        previous_frames: Frames n that a step sees: a state is the last n, oldest first, as n·C
            channels.
        num_parameters: Numbers that condition the operator, P; 0: none.
        base_channels: Channels b of the stem; level l has min(2^(l+1), 8)·b.
        encoder_levels: Times the grid is halved.
        blocks_per_level: Residual blocks on each level, on the way down and on the way up.
        bottleneck_blocks: Residual blocks on the coarsest grid.
        norm: Normalisation after each convolution: "none", "group" (8 groups) or "instance".
            Normalisation removes amplitude, which is physics in most fields.
        padding: "circular" for periodic domains, "zeros" for the rest.
        residual_scale: s in next frame = last frame + s·F, as for `UAFNOConfig`.
        embedding: Width of the embedded parameters.
        dropout: Share of features dropped in training, inside residual blocks.

    Raises:
        ValueError: At construction, if a field is out of range or two contradict each other.
    """

    bottleneck_blocks: int = 2

    def __post_init__(self) -> None:
        """Check each field, then what fields must agree on."""
        _check_pyramid(self)
        check_at_least(self, 0, "bottleneck_blocks")


@dataclass(frozen=True, kw_only=True)
class FNOConfig(StepConfig):
    """Everything that fixes an FNO's parameters and their use.

    Attributes:
        in_channels: Channels of a frame, C.
        out_channels: Channels of the output; None: those of a frame.
        previous_frames: Frames n that a step sees: a state is the last n, oldest first, as n·C
            channels.
        num_parameters: Numbers that condition the operator, P; 0: none.
        base_channels: Channels inside.
        num_layers: Fourier layers.
        modes: Wavenumbers |k| < modes that a layer keeps per axis; each has weights of its own.
        mlp_ratio: Hidden width of the last two pointwise layers over `base_channels`.
        padding: "circular" for periodic domains. "zeros" lets the layers work on a domain that is
            an eighth longer along each axis, zero there, so that opposite edges are no neighbours.
        residual_scale: s in next frame = last frame + s·F, as for `UAFNOConfig`.
        embedding: Width of the embedded parameters.

    Raises:
        ValueError: At construction, if a field is out of range or two contradict each other.
    """

    base_channels: int = 32
    num_layers: int = 4
    modes: int = 12
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        """Check each field, then what fields must agree on."""
        _check_step(self)
        check_at_least(self, 1, "base_channels", "num_layers", "modes", "mlp_ratio")

    @property
    def smallest_grid(self) -> int:
        """Smallest height and width: any."""
        return 1

    def check_grid(self, height: int, width: int) -> None:
        """Refuse an empty grid; any other will do.

        Raises:
            ValueError: If there is no cell.
        """
        if min(height, width) < 1:
            raise ValueError(f"a grid needs cells, got {height}x{width}.")


def _check_step(config: StepConfig) -> None:
    check_at_least(config, 1, "in_channels", "previous_frames", "embedding")
    check_at_least(config, 0, "num_parameters")
    check_optional(config, "out_channels")
    check_choice("padding", config.padding, get_args(Padding))
    _check_residual(config)


def _check_pyramid(config: PyramidConfig) -> None:
    _check_step(config)
    check_at_least(config, 1, "base_channels", "encoder_levels", "blocks_per_level")
    check_choice("norm", config.norm, get_args(Norm))
    check_share(config, "dropout")
    if config.norm == "group" and config.base_channels % NORM_GROUPS:
        raise ValueError(
            f"norm='group' needs base_channels in multiples of {NORM_GROUPS}, "
            f"got {config.base_channels}."
        )


def _check_residual(config: StepConfig) -> None:
    scale = config.residual_scale
    if scale is None:
        return
    if config.num_outputs != config.in_channels:
        raise ValueError(
            f"{config.num_outputs} output channels cannot be added to {config.in_channels} input "
            "channels: set residual_scale=None."
        )
    scales = scale if isinstance(scale, tuple) else (scale,)
    if not all(0 < s < math.inf for s in scales):
        raise ValueError(f"residual_scale must be positive and finite, got {scale}.")
    if isinstance(scale, tuple) and len(scale) != config.in_channels:
        raise ValueError(
            f"residual_scale needs one number, or one for each of the {config.in_channels} "
            f"channels, got {len(scale)}."
        )
