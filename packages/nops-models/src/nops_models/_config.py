"""Sizes and choices of a U-AFNO."""

import math
from dataclasses import dataclass
from typing import get_args

from nops_models._blocks import NORM_GROUPS, Norm
from nops_models._padding import Padding


@dataclass(frozen=True, kw_only=True, slots=True)
class UAFNOConfig:
    """Everything that fixes a U-AFNO's parameters and their use.

    Attributes:
        in_channels: Channels of the state.
        out_channels: Channels of the output; None: those of the state.
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
        residual_scale: s in next state = state + s·F, one number or one per channel, in the
            state's unit; the standard deviation of one-step increments is a good choice. None:
            the output is F alone.
        embedding: Width of the embedded parameters.
        dropout: Share of features dropped in training, inside residual blocks and MLPs.

    Raises:
        ValueError: At construction, if a field is out of range or two contradict each other.
    """

    in_channels: int = 1
    out_channels: int | None = None
    num_parameters: int = 0
    base_channels: int = 32
    encoder_levels: int = 3
    blocks_per_level: int = 2
    afno_blocks: int = 4
    afno_groups: int = 8
    modes: int | None = None
    mlp_ratio: int = 2
    sparsity: float = 0.01
    norm: Norm = "none"
    padding: Padding = "circular"
    residual_scale: float | tuple[float, ...] | None = 0.1
    embedding: int = 64
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check each field, then what fields must agree on."""
        self._check_counts()
        _check_choice("norm", self.norm, get_args(Norm))
        _check_choice("padding", self.padding, get_args(Padding))
        if not 0 <= self.sparsity < math.inf:
            raise ValueError(f"sparsity must be finite and not negative, got {self.sparsity}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be within [0, 1), got {self.dropout}.")
        self._check_groups()
        self._check_residual()

    @property
    def num_outputs(self) -> int:
        """Channels of the output."""
        return self.in_channels if self.out_channels is None else self.out_channels

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

    def _check_counts(self) -> None:
        positive = (
            "in_channels",
            "base_channels",
            "encoder_levels",
            "blocks_per_level",
            "afno_groups",
            "mlp_ratio",
            "embedding",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("num_parameters", "afno_blocks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        for name in ("out_channels", "modes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or None, got {value}.")

    def _check_groups(self) -> None:
        bottleneck = self.level_channels[-1]
        if self.afno_blocks and bottleneck % self.afno_groups:
            raise ValueError(
                f"afno_groups={self.afno_groups} must divide the {bottleneck} channels of the "
                f"bottleneck (base_channels={self.base_channels}, "
                f"encoder_levels={self.encoder_levels})."
            )
        if self.norm == "group" and self.base_channels % NORM_GROUPS:
            raise ValueError(
                f"norm='group' needs base_channels in multiples of {NORM_GROUPS}, "
                f"got {self.base_channels}."
            )

    def _check_residual(self) -> None:
        scale = self.residual_scale
        if scale is None:
            return
        if self.num_outputs != self.in_channels:
            raise ValueError(
                f"{self.num_outputs} output channels cannot be added to {self.in_channels} input "
                "channels: set residual_scale=None."
            )
        scales = scale if isinstance(scale, tuple) else (scale,)
        if not all(0 < s < math.inf for s in scales):
            raise ValueError(f"residual_scale must be positive and finite, got {scale}.")
        if isinstance(scale, tuple) and len(scale) != self.in_channels:
            raise ValueError(
                f"residual_scale needs one number, or one for each of the {self.in_channels} "
                f"channels, got {len(scale)}."
            )


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
