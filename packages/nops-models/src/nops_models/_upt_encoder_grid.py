"""Encoder of fields on one grid: patches to tokens."""

from math import prod
from typing import ClassVar

from einops import rearrange
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from nops_models._upt_attention import TokenBlock, TokenPool, latent_norm, linear_where_due
from nops_models._upt_condition import Conditioner, embed_with
from nops_models._upt_config import UPTConfig
from nops_models._upt_positions import FourierFeatures, check_fields

_CUT = {
    1: ("b (x p) c -> b x (p c)", "xp"),
    2: ("b (x p y q) c -> b (x y) (p q c)", "xpyq"),
    3: ("b (x p y q z r) c -> b (x y z) (p q r c)", "xpyqzr"),
}


class GridEncoder(nn.Module):
    """Fields on a grid of 1 to 3 dimensions to tokens.

    Cells in patches that do not overlap → a linear map per field, summed → plus a linear map of the
    waves of patch centres → blocks → tokens read by learned queries. Where there are as many tokens
    as patches, each patch is a token.

    Args:
        config: Sizes and choices, with encoder="grid".
        conditioner: That of a model around it; None: one of its own.
    """

    accepts_point_subset: ClassVar[bool] = False
    conditioner: Conditioner

    def __init__(self, config: UPTConfig, *, conditioner: Conditioner | None = None) -> None:
        super().__init__()
        assert config.grid_shape is not None, "a grid encoder needs encoder='grid'"
        self.config, self.cells = config, prod(config.grid_shape)
        width, heads = config.widths.encoder, config.widths.encoder_heads
        size = prod(config.patch) * config.history
        embed_with(self, config, conditioner)
        self.patches = nn.ModuleList(
            nn.Linear(size * channels, width, bias=False) for channels in config.fields.values()
        )
        self.waves = FourierFeatures(config)
        self.centres = nn.Linear(self.waves.width, width)
        self.project = linear_where_due(width, width, config=config)
        self.blocks = nn.ModuleList(
            TokenBlock(width, heads, config=config) for _ in range(config.encoder_depth)
        )
        self.to_latent = linear_where_due(width, config.dim, config=config)
        self.pool = TokenPool(config) if config.tokens < prod(config.patch_grid) else None

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
            fields: Each field `[B, N, history·C]` on the whole grid, last axis fastest.
            positions: Cell centres `[N, d]` or `[B, N, d]`.
            condition: Numbers `[B, P]`; None if the model has none.
            supernodes: None: a grid has none.
            generator: Not used: nothing is drawn.

        Returns:
            Tokens `[B, T, D]`.

        Raises:
            KeyError: If a field is missing.
            ValueError: If a shape does not fit, another grid's points among them.
        """
        del generator
        self._check(fields, positions, supernodes)
        embedded = self.conditioner(condition)
        tokens = self._tokens(fields, positions)
        for block in self.blocks:
            tokens = block(tokens, embedded)
        tokens = self.to_latent(tokens)
        if self.pool is not None:
            tokens = self.pool(tokens, embedded)
        return latent_norm(tokens, self.config)

    def _tokens(self, fields: dict[str, Tensor], positions: Tensor) -> Tensor:
        """One token for each patch `[B, n, C]`."""
        dtype = self.centres.weight.dtype
        batched = positions if positions.ndim == 3 else positions[None]
        centres = rearrange(self._cut(batched), "b n (cell d) -> b n cell d", d=self.config.ndim)
        tokens = self.centres(self.waves(centres.mean(2)).to(dtype))
        for name, patches in zip(self.config.fields, self.patches, strict=True):
            tokens = tokens + patches(self._cut(fields[name].to(dtype)))
        return self.project(tokens)

    def _cut(self, values: Tensor) -> Tensor:
        """Cells `[B, N, C]` as patches `[B, n, cells·C]`, all axes in the order of the grid."""
        pattern, letters = _CUT[self.config.ndim]
        sizes = [
            size
            for pair in zip(self.config.patch_grid, self.config.patch, strict=True)
            for size in pair
        ]
        return rearrange(values, pattern, **dict(zip(letters, sizes, strict=True)))

    def _check(
        self, fields: dict[str, Tensor], positions: Tensor, supernodes: Tensor | None
    ) -> None:
        if supernodes is not None:
            raise ValueError("supernodes have no meaning with encoder='grid'.")
        check_fields(fields, positions, self.config)
        if positions.shape[-2] != self.cells:
            raise ValueError(
                f"encoder='grid' reads grid_shape={self.config.grid_shape}, {self.cells} points, "
                f"got {positions.shape[-2]}. For several resolutions, make batches of one task "
                "each with a model for each grid, or take encoder='supernodes'."
            )
