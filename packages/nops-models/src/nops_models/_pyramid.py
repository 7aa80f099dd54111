"""What the U-shaped models share: the way down, the way up, and the features between."""

import abc
from collections.abc import Collection
from itertools import pairwise
from typing import Generic, Literal, TypeVar, overload

from jaxtyping import Float
from torch import Tensor, nn

from nops_models._blocks import ConvBlock, ResidualBlock
from nops_models._config import PyramidConfig
from nops_models._padding import Upsample
from nops_models._step import StepModel, condition_width

Features = Literal["bottleneck", "skips", "all"]
ConfigT = TypeVar("ConfigT", bound=PyramidConfig)


class PyramidModel(StepModel[ConfigT], Generic[ConfigT]):
    """A model of one step whose F is a U-net; what happens on the coarsest grid is its own."""

    encoder: "Encoder"
    decoder: "Decoder"

    @abc.abstractmethod
    def _coarsest(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """The layers on the coarsest grid, `[B, F, h, w]` to the same shape."""

    def _features(self, state: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        bottom, skips = self.encoder(state, condition)
        bottleneck = self._coarsest(bottom, condition)
        return self.decoder(bottleneck, skips, condition), bottleneck

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
            state: Current state [B, n·C, H, W].
            which: "bottleneck", "skips" or "all".
            skip_levels: Levels of the skips to return, 0 the finest; None: all.
            parameters: Operator parameters [B, P].

        Returns:
            For "bottleneck" the tensor [B, base·min(2^levels, 8), h, w] after the last block on the
            coarsest grid. Else a dict of `skip_0` (finest, [B, 2·base, H, W]), `skip_1`, … and, for
            "all", `bottleneck`.

        Raises:
            ValueError: As for `forward`, or if `which` or a level is unknown, or levels are given
                where no skip is asked for.
        """
        levels = self._checked_levels(which, skip_levels)
        self._check(state, parameters)
        condition = self._condition(parameters)
        bottom, skips = self.encoder(self._prepared(state), condition)
        if which == "bottleneck":
            return self._coarsest(bottom, condition)
        features = {f"skip_{level}": skips[level] for level in levels}
        if which == "all":
            features["bottleneck"] = self._coarsest(bottom, condition)
        return features

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


class Encoder(nn.Module):
    """Stem; on each level residual blocks, whose output is the skip, then half the grid."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        options = _options(config)
        channels = config.base_channels
        self.stem = ConvBlock(config.num_inputs, channels, **options)
        self.levels = nn.ModuleList()
        self.downs = nn.ModuleList()
        for out_channels in config.level_channels:
            widths = [channels] + [out_channels] * config.blocks_per_level
            self.levels.append(residual_blocks(config, widths))
            self.downs.append(ConvBlock(out_channels, out_channels, stride=2, **options))
            channels = out_channels

    def forward(self, state: Tensor, condition: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """Coarsest features and the skips, finest first, of a state `[B, n·C, H, W]`."""
        features = self.stem(state, condition=condition)
        skips = []
        for level, down in zip(self.levels, self.downs, strict=True):
            features = apply_blocks(level, features, condition)
            skips.append(features)
            features = down(features, condition=condition)
        return features, skips


class Decoder(nn.Module):
    """For each skip, coarsest first: twice the grid, join the skip, residual blocks."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        self.upsample = Upsample(padding=config.padding)
        channels = config.level_channels[-1]
        self.joins = nn.ModuleList()
        self.levels = nn.ModuleList()
        for skip_channels in reversed(config.level_channels):
            join = ConvBlock(channels + skip_channels, skip_channels, **_options(config))
            self.joins.append(join)
            widths = [skip_channels] * (config.blocks_per_level + 1)
            self.levels.append(residual_blocks(config, widths))
            channels = skip_channels

    def forward(self, features: Tensor, skips: list[Tensor], condition: Tensor | None) -> Tensor:
        """Finest features `[B, 2·base, H, W]` of the coarsest ones and the skips."""
        for skip, join, level in zip(reversed(skips), self.joins, self.levels, strict=True):
            size = (skip.shape[-2], skip.shape[-1])
            features = self.upsample(features, size=size)
            features = join(features, skip, condition=condition)
            features = apply_blocks(level, features, condition)
        return features


def residual_blocks(config: PyramidConfig, widths: list[int]) -> nn.ModuleList:
    """A block from each width to the next."""
    return nn.ModuleList(
        ResidualBlock(i, o, dropout=config.dropout, **_options(config)) for i, o in pairwise(widths)
    )


def apply_blocks(blocks: nn.Module, features: Tensor, condition: Tensor | None) -> Tensor:
    """Features after each of the blocks in turn."""
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        features = block(features, condition=condition)
    return features


def _options(config: PyramidConfig) -> dict:
    return {
        "norm": config.norm,
        "padding": config.padding,
        "embedding": condition_width(config),
    }
