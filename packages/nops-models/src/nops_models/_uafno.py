"""U-AFNO: a U-shaped convolutional operator with Fourier mixing in the bottleneck."""

from collections.abc import Collection
from itertools import pairwise
from typing import Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._afno import AFNOMixer
from nops_models._blocks import AFNOBlock, ConvBlock, ResidualBlock
from nops_models._config import UAFNOConfig
from nops_models._padding import Upsample

Features = Literal["bottleneck", "skips", "all"]


class UAFNO(nn.Module):
    """One step of a time-dependent operator on a 2-D grid, conditioned on its parameters.

    next state = state + residual_scale·F(state, parameters), where F is a U-net whose levels are
    residual blocks and whose bottleneck mixes in Fourier space (`AFNOMixer`). F starts at zero, so
    that an untrained model predicts persistence and the first loss is that of the trivial baseline.
    The parameters act through FiLM in encoder and decoder, never in the Fourier path.

    One set of weights serves any grid of at least 2^encoder_levels cells in each direction, odd
    sizes included. Circular padding makes the convolutions commute with shifts of
    2^encoder_levels cells on even grids; the mixers do not.

    Args:
        config: Sizes and choices.

    Source:
        The design of U-AFNO, arXiv 2406.17119; mixers of arXiv 2111.13587; FiLM of arXiv
        1709.07871.
    """

    def __init__(self, config: UAFNOConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = _embedding(config)
        self.encoder = _Encoder(config)
        self.bottleneck = nn.Sequential(*(_afno_block(config) for _ in range(config.afno_blocks)))
        self.decoder = _Decoder(config)
        self.output = nn.Conv2d(config.level_channels[0], config.num_outputs, 1)
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)
        self.scale: Tensor | None
        self.register_buffer("scale", _scale(config), persistent=False)

    @overload
    def forward(
        self,
        state: Tensor,
        parameters: Tensor | None = None,
        *,
        return_bottleneck: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self, state: Tensor, parameters: Tensor | None = None, *, return_bottleneck: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        state: Float[Tensor, "sample channel height width"],
        parameters: Float[Tensor, "sample parameter"] | None = None,
        *,
        return_bottleneck: bool = False,
    ) -> (
        Float[Tensor, "sample out_channel height width"]
        | tuple[
            Float[Tensor, "sample out_channel height width"],
            Float[Tensor, "sample feature coarse_height coarse_width"],
        ]
    ):
        """One step.

        Args:
            state: Current state [B, C, H, W], in the unit the model was trained in.
            parameters: Operator parameters [B, P], usually in the unit cube; None if P is 0.
            return_bottleneck: Also return the features after the last Fourier block.

        Returns:
            Next state, same shape, unit and dtype (other channels with `out_channels`), and with
            `return_bottleneck` the bottleneck [B, base·min(2^levels, 8), h, w].

        Raises:
            ValueError: If a shape does not fit, parameters are missing or not asked for, or the
                grid is too small for the levels.
        """
        self._check(state, parameters)
        next_state, bottleneck = self._step(state, self._condition(parameters))
        return (next_state, bottleneck) if return_bottleneck else next_state

    def rollout(
        self,
        state: Float[Tensor, "sample channel height width"],
        parameters: Float[Tensor, "sample parameter"] | None = None,
        *,
        num_steps: int,
    ) -> Float[Tensor, "sample time channel height width"]:
        """The model's own trajectory: each output is the next input.

        Args:
            state: Start [B, C, H, W].
            parameters: Operator parameters [B, P], constant along the trajectory.
            num_steps: Steps to take, at least 1.

        Returns:
            The states after each step [B, num_steps, C, H, W]; the start is not among them.

        Raises:
            ValueError: As for `forward`, or if the output cannot be fed back.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
        if self.config.num_outputs != self.config.in_channels:
            raise ValueError(
                f"a model of {self.config.in_channels} input and {self.config.num_outputs} output "
                "channels cannot be rolled out."
            )
        self._check(state, parameters)
        condition = self._condition(parameters)
        states = []
        for _ in range(num_steps):
            state, _ = self._step(state, condition)
            states.append(state)
        return torch.stack(states, dim=1)

    @overload
    def get_intermediate_features(
        self,
        state: Tensor,
        which: Literal["bottleneck"],
        *,
        skip_levels: None = None,
        parameters: Tensor | None = None,
    ) -> Tensor: ...

    @overload
    def get_intermediate_features(
        self,
        state: Tensor,
        which: Literal["skips", "all"],
        *,
        skip_levels: Collection[int] | None = None,
        parameters: Tensor | None = None,
    ) -> dict[str, Tensor]: ...

    def get_intermediate_features(
        self,
        state: Float[Tensor, "sample channel height width"],
        which: Features,
        *,
        skip_levels: Collection[int] | None = None,
        parameters: Float[Tensor, "sample parameter"] | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """Features inside the step from `state`.

        Args:
            state: Current state [B, C, H, W].
            which: "bottleneck", "skips" or "all".
            skip_levels: Levels of the skips to return, 0 the finest; None: all.
            parameters: Operator parameters [B, P].

        Returns:
            For "bottleneck" the tensor [B, base·min(2^levels, 8), h, w] after the last Fourier
            block. Else a dict of `skip_0` (finest, [B, 2·base, H, W]), `skip_1`, … and, for "all",
            `bottleneck`.

        Raises:
            ValueError: As for `forward`, or if `which` or a level is unknown, or levels are given
                where no skip is asked for.
        """
        levels = self._checked_levels(which, skip_levels)
        self._check(state, parameters)
        bottom, skips = self.encoder(self._prepared(state), self._condition(parameters))
        if which == "bottleneck":
            return self.bottleneck(bottom)
        features = {f"skip_{level}": skips[level] for level in levels}
        if which == "all":
            features["bottleneck"] = self.bottleneck(bottom)
        return features

    def _step(self, state: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        bottom, skips = self.encoder(self._prepared(state), condition)
        bottleneck = self.bottleneck(bottom)
        change = self.output(self.decoder(bottleneck, skips, condition)).to(state.dtype)
        next_state = change if self.scale is None else state + self.scale.to(state.dtype) * change
        return next_state, bottleneck

    def _prepared(self, state: Tensor) -> Tensor:
        """The state in the weights' precision: an accurate state may be stepped by bf16 weights."""
        return state.to(self.output.weight.dtype)

    def _condition(self, parameters: Tensor | None) -> Tensor | None:
        if parameters is None:
            return None
        return self.embed(parameters.to(self.output.weight.dtype))

    def _check(self, state: Tensor, parameters: Tensor | None) -> None:
        config = self.config
        if state.ndim != 4 or state.shape[1] != config.in_channels:
            raise ValueError(
                f"state needs the shape (sample, {config.in_channels}, height, width), "
                f"got {tuple(state.shape)}."
            )
        self._check_grid(state.shape[-2], state.shape[-1])
        found = None if parameters is None else tuple(parameters.shape)
        expected = (state.shape[0], config.num_parameters) if config.num_parameters else None
        if found != expected:
            raise ValueError(
                f"a model of num_parameters={config.num_parameters} needs parameters of shape "
                f"{expected} here, got {found}."
            )

    def _check_grid(self, height: int, width: int) -> None:
        levels, smallest = self.config.encoder_levels, self.config.smallest_grid
        if min(height, width) < smallest:
            raise ValueError(
                f"encoder_levels={levels} needs a grid of at least {smallest}x{smallest}, "
                f"got {height}x{width}."
            )
        if self.config.norm == "instance" and max(height, width) == smallest:
            raise ValueError(
                f"norm='instance' would erase a bottleneck of one cell: encoder_levels={levels} "
                f"needs a grid of more than {smallest}x{smallest}, got {height}x{width}."
            )

    def _checked_levels(self, which: str, skip_levels: Collection[int] | None) -> list[int]:
        if which not in ("bottleneck", "skips", "all"):
            raise ValueError(f"which must be 'bottleneck', 'skips' or 'all', got {which!r}.")
        if which == "bottleneck" and skip_levels is not None:
            raise ValueError("skip_levels chooses among skips, but which='bottleneck' has none.")
        known = range(self.config.encoder_levels)
        levels = known if skip_levels is None else skip_levels
        if unknown := [level for level in levels if level not in known]:
            raise ValueError(f"skip_levels must be within 0 and {known[-1]}, got {unknown}.")
        return sorted(set(levels))


class _Encoder(nn.Module):
    """Stem; on each level residual blocks, whose output is the skip, then half the grid."""

    def __init__(self, config: UAFNOConfig) -> None:
        super().__init__()
        options = _options(config)
        channels = config.base_channels
        self.stem = ConvBlock(config.in_channels, channels, **options)
        self.levels = nn.ModuleList()
        self.downs = nn.ModuleList()
        for out_channels in config.level_channels:
            self.levels.append(_blocks(config, channels, out_channels))
            self.downs.append(ConvBlock(out_channels, out_channels, stride=2, **options))
            channels = out_channels

    def forward(self, state: Tensor, condition: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        features = self.stem(state, condition=condition)
        skips = []
        for level, down in zip(self.levels, self.downs, strict=True):
            for block in _children(level):
                features = block(features, condition=condition)
            skips.append(features)
            features = down(features, condition=condition)
        return features, skips


class _Decoder(nn.Module):
    """For each skip, coarsest first: twice the grid, join the skip, residual blocks."""

    def __init__(self, config: UAFNOConfig) -> None:
        super().__init__()
        self.upsample = Upsample(padding=config.padding)
        channels = config.level_channels[-1]
        self.joins = nn.ModuleList()
        self.levels = nn.ModuleList()
        for skip_channels in reversed(config.level_channels):
            join = ConvBlock(channels + skip_channels, skip_channels, **_options(config))
            self.joins.append(join)
            self.levels.append(_blocks(config, skip_channels, skip_channels))
            channels = skip_channels

    def forward(self, features: Tensor, skips: list[Tensor], condition: Tensor | None) -> Tensor:
        for skip, join, level in zip(reversed(skips), self.joins, self.levels, strict=True):
            size = (skip.shape[-2], skip.shape[-1])
            features = self.upsample(features, size=size)
            features = join(features, skip, condition=condition)
            for block in _children(level):
                features = block(features, condition=condition)
        return features


def _options(config: UAFNOConfig) -> dict:
    embedding = config.embedding if config.num_parameters else None
    return {"norm": config.norm, "padding": config.padding, "embedding": embedding}


def _blocks(config: UAFNOConfig, in_channels: int, out_channels: int) -> nn.ModuleList:
    widths = [in_channels] + [out_channels] * config.blocks_per_level
    return nn.ModuleList(
        ResidualBlock(i, o, dropout=config.dropout, **_options(config)) for i, o in pairwise(widths)
    )


def _children(level: nn.Module) -> nn.ModuleList:
    assert isinstance(level, nn.ModuleList)
    return level


def _afno_block(config: UAFNOConfig) -> AFNOBlock:
    channels = config.level_channels[-1]
    mixer = AFNOMixer(
        channels, groups=config.afno_groups, sparsity=config.sparsity, modes=config.modes
    )
    return AFNOBlock(channels, mixer=mixer, mlp_ratio=config.mlp_ratio, dropout=config.dropout)


def _embedding(config: UAFNOConfig) -> nn.Sequential:
    if not config.num_parameters:
        return nn.Sequential()
    return nn.Sequential(
        nn.Linear(config.num_parameters, config.embedding),
        nn.SiLU(),
        nn.Linear(config.embedding, config.embedding),
    )


def _scale(config: UAFNOConfig) -> Tensor | None:
    if config.residual_scale is None:
        return None
    scale = config.residual_scale
    return torch.tensor(scale if isinstance(scale, tuple) else (scale,)).view(-1, 1, 1)
