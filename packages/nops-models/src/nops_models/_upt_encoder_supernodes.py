"""Encoder of fields on any set of points: messages to a few of them."""

import logging
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from nops_models._upt_attention import TokenBlock, TokenPool, latent_norm, linear_where_due
from nops_models._upt_condition import Conditioner, embed_with
from nops_models._upt_config import UPTConfig
from nops_models._upt_graph import crowded_share, draw_nodes, neighbours
from nops_models._upt_positions import FourierFeatures, check_fields

logger = logging.getLogger(__name__)


class MessagePool(nn.Module):
    """Mean over a supernode's neighbours of a network of [source, destination].

    A point's features are an MLP of its values plus the waves of its position, through a linear map
    where their number is not the width. The network of a pair starts with a linear map, which is
    applied to points before they are paired, and ends with one, which is applied after the mean:
    the same numbers, from fewer products.
    """

    def __init__(self, config: UPTConfig) -> None:
        super().__init__()
        width = config.widths.encoder
        self.features = nn.Sequential(
            nn.Linear(config.history * config.channels, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, width),
        )
        self.waves = FourierFeatures(config)
        same = self.waves.width == width
        self.place = nn.Identity() if same else nn.Linear(self.waves.width, width)
        self.source = nn.Linear(width, 2 * width)
        self.destination = nn.Linear(width, 2 * width, bias=False)
        self.message = nn.Sequential(nn.GELU(), nn.Linear(2 * width, width), nn.GELU())
        self.output = nn.Linear(width, width)

    def forward(
        self, values: Tensor, positions: Tensor, nodes: Tensor, index: Tensor, counts: Tensor
    ) -> Tensor:
        """Map values `[B, N, C]` to supernodes `[B, S, width]`.

        Args:
            values: All fields of a point, side by side.
            positions: `[B, N, d]`.
            nodes: Indices of the supernodes `[B, S]`.
            index: Indices of their neighbours `[B, S, K]`.
            counts: Which of those count `[B, S, K]`.
        """
        dtype = self.output.weight.dtype
        points = self.features(values.to(dtype)) + self.place(self.waves(positions).to(dtype))
        pairs = _take(self.source(points), index)
        pairs = pairs + self.destination(_take(points, nodes))[:, :, None]
        messages = self.message(pairs)
        share = counts.to(messages.dtype)
        share = share / share.sum(-1, keepdim=True)
        return self.output((share[:, :, None] @ messages)[:, :, 0])


class SupernodeEncoder(nn.Module):
    """Fields on any points, in 1 to 3 dimensions, to tokens.

    Supernodes, a uniform random subset of the points, gather messages of the nearest points within a
    radius, themselves included → blocks → tokens read by learned queries. Points may be any subset
    of a larger set: their order and their number are free.

    When first called, and never while a compiler looks on, it reads the share of supernodes that
    have more points within the radius than they may hear, and warns if it is most of them.

    Args:
        config: Sizes and choices, with encoder="supernodes".
        conditioner: That of a model around it; None: one of its own.
    """

    accepts_point_subset: ClassVar[bool] = True
    conditioner: Conditioner

    def __init__(self, config: UPTConfig, *, conditioner: Conditioner | None = None) -> None:
        super().__init__()
        assert config.supernodes is not None, "a set encoder needs encoder='supernodes'"
        self.config, self.supernodes = config, config.supernodes
        width, heads = config.widths.encoder, config.widths.encoder_heads
        embed_with(self, config, conditioner)
        self.messages = MessagePool(config)
        self.project = linear_where_due(width, width, config=config)
        self.blocks = nn.ModuleList(
            TokenBlock(width, heads, config=config) for _ in range(config.encoder_depth)
        )
        self.to_latent = linear_where_due(width, config.dim, config=config)
        self.pool = TokenPool(config)
        self._looked = False

    def forward(
        self,
        fields: dict[str, Float[Tensor, "_ _ _"]],
        positions: Float[Tensor, "... _ axis"],
        *,
        condition: Float[Tensor, "_ parameter"] | None = None,
        supernodes: Int[Tensor, "... _"] | None = None,
        generator: Generator | None = None,
    ) -> Float[Tensor, "_ token channel"]:
        """Encode.

        Args:
            fields: Each field `[B, N, history·C]`.
            positions: Of the points, `[N, d]` or `[B, N, d]`.
            condition: Numbers `[B, P]`; None if the model has none.
            supernodes: Indices of the points that are supernodes, `[S]` or `[B, S]`, any number;
                None: `config.supernodes` of them are drawn for each sample.
            generator: To draw from; None: the device's own.

        Returns:
            Tokens `[B, T, D]`.

        Raises:
            KeyError: If a field is missing.
            ValueError: If a shape does not fit, or there are more supernodes than points.
        """
        check_fields(fields, positions, self.config)
        values = torch.cat([fields[name] for name in self.config.fields], dim=-1)
        positions = positions.expand(values.shape[0], -1, -1)
        nodes = self._nodes(positions, supernodes, generator)
        self._look(positions, nodes)
        embedded = self.conditioner(condition)
        index, counts = neighbours(positions, nodes, self.config)
        tokens = self.project(self.messages(values, positions, nodes, index, counts))
        for block in self.blocks:
            tokens = block(tokens, embedded)
        return latent_norm(self.pool(self.to_latent(tokens), embedded), self.config)

    def _nodes(
        self, positions: Tensor, supernodes: Tensor | None, generator: Generator | None
    ) -> Tensor:
        """Indices of the supernodes `[B, S]`."""
        samples, points, _ = positions.shape
        count = self.supernodes if supernodes is None else supernodes.shape[-1]
        if count > points:
            raise ValueError(f"{count} supernodes cannot be chosen among {points} points.")
        if supernodes is not None:
            return supernodes.expand(samples, -1)
        return draw_nodes(samples, points, count, device=positions.device, generator=generator)

    def _look(self, positions: Tensor, nodes: Tensor) -> None:
        if self._looked or torch.compiler.is_compiling() or positions.is_meta:
            return
        self._looked = True
        share = crowded_share(positions, nodes, self.config).item()
        if share > 0.5:
            logger.warning(
                "radius=%g holds more than max_neighbors=%d points for %.0f %% of the supernodes, "
                "which hear the nearest only: take a smaller radius or more neighbours.",
                *(self.config.radius, self.config.max_neighbors, 100 * share),
            )


def _take(features: Tensor, index: Tensor) -> Tensor:
    """Rows of features `[B, N, C]` at an index `[B, ...]` into each sample's points."""
    samples, points, width = features.shape
    first = torch.arange(samples, device=index.device) * points
    rows = index + first.view(-1, *[1] * (index.ndim - 1))
    return features.reshape(-1, width).index_select(0, rows.flatten()).view(*index.shape, width)
