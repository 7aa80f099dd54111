"""Transformer blocks that a condition may modulate."""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from nops_models._upt_config import UPTConfig

EPS = 1e-6


class HeadNorm(nn.Module):
    """Divide by the root mean square over channels, times a weight; any mix of precisions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., width]`."""
        return nn.functional.rms_norm(x, x.shape[-1:], eps=EPS) * self.weight


class Attention(nn.Module):
    """Multi-head attention, without weights returned: no matrix of queries by keys is stored."""

    def __init__(self, width: int, heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.query_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(width // heads) if qk_norm else nn.Identity()

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `[B, heads, T, C/heads]` of tokens `[B, T, C]`."""
        pattern = "b t (two h c) -> two b h t c"
        keys, values = rearrange(self.key_value(tokens), pattern, two=2, h=self.heads).unbind(0)
        return self.key_norm(keys), values

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What `x` `[B, Q, C]` reads; no entry of it sees another."""
        queries = rearrange(self.query(x), "b q (h c) -> b h q c", h=self.heads)
        queries = self.query_norm(queries)
        read = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return self.output(rearrange(read, "b h q c -> b q (h c)"))


class Modulation(nn.Module):
    """Scale and shift after each norm of a block, and the gates of its two branches.

    With a condition they are affine in it, the affine map's matrix starting at zero; without one
    they are parameters. Scales and shifts start at the identity, gates at 0 or 1. A gate of 1
    without a condition is left out: the layer before it can do the same.
    """

    def __init__(self, width: int, *, norms: int, condition: int | None, gate: float) -> None:
        super().__init__()
        self.norms = norms
        start = torch.zeros(2 * norms + 2, width)
        start[2 * norms :] = gate
        self.gated = condition is not None or gate != 1
        self.start = None
        self.linear = None
        if condition is None:
            self.start = nn.Parameter(start if self.gated else start[: 2 * norms].clone())
        else:
            self.linear = nn.Linear(condition, start.numel())
            nn.init.zeros_(self.linear.weight)
            with torch.no_grad():
                self.linear.bias.copy_(start.flatten())

    def forward(self, condition: Tensor | None) -> tuple[list[Tensor], list[Tensor | None]]:
        """Scales and shifts in turn, and two gates: each `[C]`, or `[B, 1, C]` of a condition."""
        if self.linear is None:
            assert self.start is not None
            parts = list(self.start.unbind(0))
        else:
            assert condition is not None
            width = self.linear.out_features // (2 * self.norms + 2)
            values = rearrange(self.linear(condition), "b (part c) -> part b 1 c", c=width)
            parts = list(values.unbind(0))
        affine = parts[: 2 * self.norms]
        return affine, [*parts[2 * self.norms :]] if self.gated else [None, None]


def modulated_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm over channels, times 1 + scale, plus shift."""
    width = x.shape[-1:]
    if scale.ndim == 1:  # one kernel, and fewer copies kept
        return nn.functional.layer_norm(x, width, 1 + scale, shift, EPS)
    return nn.functional.layer_norm(x, width, eps=EPS) * (1 + scale) + shift


def latent_norm(latent: Tensor, config: UPTConfig) -> Tensor:
    """Tokens `[B, T, D]` with a root mean square of 1 each, or as they are."""
    if config.latent_norm == "none":
        return latent
    return nn.functional.layer_norm(latent, latent.shape[-1:], eps=EPS)


def mlp(width: int, ratio: int) -> nn.Sequential:
    """The MLP of a block."""
    return nn.Sequential(
        nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width)
    )


def linear_where_due(width: int, out_width: int, *, config: UPTConfig) -> nn.Module:
    """A linear map where widths differ, or the layout has one everywhere."""
    if width == out_width and config.layout == "compact":
        return nn.Identity()
    return nn.Linear(width, out_width)


class TokenBlock(nn.Module):
    """Self-attention and an MLP, each behind a norm and added to what came in.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        config: Gives ratio of the MLP, dropping, and width of the condition.
        gate: What the gates start at: at 0 the block is the identity.
    """

    def __init__(self, width: int, heads: int, *, config: UPTConfig, gate: float = 1.0) -> None:
        super().__init__()
        self.modulation = Modulation(width, norms=2, condition=config.condition_width, gate=gate)
        self.attention = Attention(width, heads, qk_norm=config.qk_norm)
        self.mlp = mlp(width, config.mlp_ratio)
        self.drop = config.drop_path

    def forward(self, tokens: Tensor, condition: Tensor | None) -> Tensor:
        """Map tokens `[B, T, C]` under an embedded condition `[B, E]`."""
        (scale1, shift1, scale2, shift2), (gate1, gate2) = self.modulation(condition)
        normed = modulated_norm(tokens, scale1, shift1)
        branch = self.attention(normed, *self.attention.keys_values(normed))
        tokens = tokens + self._dropped(_gated(branch, gate1))
        branch = self.mlp(modulated_norm(tokens, scale2, shift2))
        return tokens + self._dropped(_gated(branch, gate2))

    def _dropped(self, branch: Tensor) -> Tensor:
        """The branch, in training zero for some samples and larger for the rest."""
        if not self.training or self.drop == 0:
            return branch
        keep = 1 - self.drop
        mask = branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep)
        return branch * (mask / keep)


class Reading(NamedTuple):
    """What queries need of a latent in one block: computed once, used by any number of queries."""

    keys: Tensor
    values: Tensor
    affine: list[Tensor]
    gates: list[Tensor | None]


class CrossBlock(nn.Module):
    """Queries read tokens, then pass through an MLP; they never see each other."""

    def __init__(self, width: int, heads: int, *, config: UPTConfig) -> None:
        super().__init__()
        self.modulation = Modulation(width, norms=3, condition=config.condition_width, gate=1.0)
        self.attention = Attention(width, heads, qk_norm=config.qk_norm)
        self.mlp = mlp(width, config.mlp_ratio)

    def reading(self, tokens: Tensor, condition: Tensor | None) -> Reading:
        """Keys, values and modulation of tokens `[B, T, C]` under a condition `[B, E]`."""
        affine, gates = self.modulation(condition)
        keys, values = self.attention.keys_values(modulated_norm(tokens, affine[0], affine[1]))
        return Reading(keys, values, affine[2:], gates)

    def forward(self, queries: Tensor, reading: Reading) -> Tensor:
        """Map queries `[B, Q, C]`."""
        scale1, shift1, scale2, shift2 = reading.affine
        branch = modulated_norm(queries, scale1, shift1)
        branch = self.attention(branch, reading.keys, reading.values)
        queries = queries + _gated(branch, reading.gates[0])
        branch = self.mlp(modulated_norm(queries, scale2, shift2))
        return queries + _gated(branch, reading.gates[1])


class TokenPool(nn.Module):
    """Learned queries read any number of tokens into `config.tokens` of them."""

    def __init__(self, config: UPTConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(config.tokens, config.dim))
        nn.init.trunc_normal_(self.query)
        self.cross = CrossBlock(config.dim, config.widths.latent_heads, config=config)

    def forward(self, tokens: Tensor, condition: Tensor | None) -> Tensor:
        """Map tokens `[B, n, D]` to `[B, T, D]`."""
        queries = self.query.expand(tokens.shape[0], -1, -1)
        return self.cross(queries, self.cross.reading(tokens, condition))


def _gated(branch: Tensor, gate: Tensor | None) -> Tensor:
    return branch if gate is None else gate * branch
