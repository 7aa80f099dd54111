"""Decoder of tokens at any points."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from nops_models._upt_approximator import check_latent
from nops_models._upt_attention import EPS, CrossBlock, Reading, TokenBlock, linear_where_due
from nops_models._upt_condition import Conditioner, embed_with
from nops_models._upt_config import UPTConfig
from nops_models._upt_positions import FourierFeatures, check_positions


class AnyPointDecoder(nn.Module):
    """Tokens to fields at any points: each point is a query, and no query sees another.

    Blocks on the tokens → for each cross block keys and values, once per latent → queries, an MLP of
    the waves of their positions, read them → layer norm → an MLP (with `layout="paper"` a linear
    map) for each field. So a field at a point does not depend on what else is asked for, and memory
    grows by the same amount for each further query.

    Args:
        config: Sizes and choices.
        conditioner: That of a model around it; None: one of its own.
    """

    conditioner: Conditioner

    def __init__(self, config: UPTConfig, *, conditioner: Conditioner | None = None) -> None:
        super().__init__()
        self.config = config
        dim, width, widths = config.dim, config.widths.decoder, config.widths
        embed_with(self, config, conditioner)
        self.project = linear_where_due(dim, dim, config=config)
        self.blocks = nn.ModuleList(
            TokenBlock(dim, widths.latent_heads, config=config)
            for _ in range(config.decoder_self_depth)
        )
        self.to_width = linear_where_due(dim, width, config=config)
        self.waves = FourierFeatures(config)
        self.queries = _query_network(self.waves.width, config)
        self.cross = nn.ModuleList(
            CrossBlock(width, widths.decoder_heads, config=config)
            for _ in range(config.decoder_cross_depth)
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.heads = nn.ModuleList(
            _head(width, channels, config) for channels in config.fields.values()
        )

    def forward(
        self,
        positions: Float[Tensor, "... query axis"],
        latent: Float[Tensor, "sample token channel"],
        *,
        condition: Float[Tensor, "sample parameter"] | None = None,
        chunk_size: int | None = None,
        checkpoint: bool = False,
    ) -> dict[str, Float[Tensor, "sample query _"]]:
        """Decode.

        Args:
            positions: Where to, `[Q, d]` or `[B, Q, d]`.
            latent: Tokens `[B, T, D]`.
            condition: Numbers `[B, P]`; None if the model has none.
            chunk_size: Queries at a time; None: all at once. The result is the same.
            checkpoint: Keep nothing of a chunk, and compute it again in the backward pass. The
                gradient is the same.

        Returns:
            Each field `[B, Q, C]`.

        Raises:
            ValueError: If a shape or a number does not fit.
        """
        check_positions(positions, self.config, "query positions")
        check_latent(latent, self.config)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, or None for all, got {chunk_size}.")
        with self._precision(latent.device):
            if self.config.force_fp32:
                latent = latent.float()
            readings = self._readings(latent, condition)
            chunks = positions.split(chunk_size or max(positions.shape[-2], 1), dim=-2)
            parts = [self._chunk(chunk, readings, checkpoint) for chunk in chunks]
        values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        channels = list(self.config.fields.values())
        return dict(zip(self.config.fields, values.split(channels, dim=-1), strict=True))

    def _readings(self, latent: Tensor, condition: Tensor | None) -> list[Reading]:
        """What each cross block's queries need of the latent."""
        embedded = self.conditioner(condition)
        tokens = self.project(latent)
        for block in self.blocks:
            tokens = block(tokens, embedded)
        tokens = self.to_width(tokens)
        readings = []
        for block in self.cross:
            assert isinstance(block, CrossBlock)
            readings.append(block.reading(tokens, embedded))
        return readings

    def _chunk(self, positions: Tensor, readings: list[Reading], checkpoint: bool) -> Tensor:
        if checkpoint and torch.is_grad_enabled():
            values = recomputed(self._read, positions, readings, use_reentrant=False)
            assert isinstance(values, Tensor)
            return values
        return self._read(positions, readings)

    def _read(self, positions: Tensor, readings: list[Reading]) -> Tensor:
        """All fields side by side `[B, q, C]` at some positions."""
        features = self.waves(positions).to(self.norm.weight.dtype)
        queries = self.queries(features)
        queries = queries.expand(readings[0].keys.shape[0], -1, -1)
        for block, reading in zip(self.cross, readings, strict=True):
            queries = block(queries, reading)
        queries = self.norm(queries)
        values = torch.cat([head(queries) for head in self.heads], dim=-1)
        return values.sign() * values.abs().log1p() if self.config.log_compression else values

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return (
            torch.autocast(device.type, enabled=False) if self.config.force_fp32 else nullcontext()
        )


def _query_network(features: int, config: UPTConfig) -> nn.Sequential:
    width = config.widths.decoder
    if config.layout == "compact":
        return nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))
    return nn.Sequential(
        nn.Linear(features, 4 * width),
        nn.GELU(),
        nn.Linear(4 * width, 4 * width),
        nn.GELU(),
        nn.Linear(4 * width, width),
    )


def _head(width: int, channels: int, config: UPTConfig) -> nn.Module:
    if config.layout == "paper":
        return nn.Linear(width, channels)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, channels))
