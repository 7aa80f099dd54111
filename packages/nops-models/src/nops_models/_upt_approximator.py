"""One step in time on tokens."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._upt_attention import TokenBlock, latent_norm
from nops_models._upt_condition import Conditioner, embed_with
from nops_models._upt_config import UPTConfig


class Approximator(nn.Module):
    """Tokens to the tokens one step later: pre-norm blocks, the identity at the start.

    The blocks' gates start at zero; a condition drives scales, shifts and gates. With a width of its
    own, a linear map leads in, and one that starts at zero leads back, added to the tokens. With
    `layout="paper"` and no width of its own, a linear map that starts at the identity leads in. The
    identity is exact with `latent_norm="none"`, and to 1e-5 with "layer", for tokens of unit size.

    Args:
        config: Sizes and choices.
        conditioner: That of a model around it; None: one of its own.
    """

    conditioner: Conditioner

    def __init__(self, config: UPTConfig, *, conditioner: Conditioner | None = None) -> None:
        super().__init__()
        self.config = config
        width, heads = config.widths.approximator, config.widths.latent_heads
        embed_with(self, config, conditioner)
        self.into, self.back = _maps(config.dim, width, paper=config.layout == "paper")
        self.blocks = nn.ModuleList(
            TokenBlock(width, heads, config=config, gate=0.0)
            for _ in range(config.approximator_depth)
        )

    @property
    def is_conditioned(self) -> bool:
        """Whether the blocks take a condition: their own, or that of another model they are shared with."""
        block = self.blocks[0]
        assert isinstance(block, TokenBlock)
        return block.modulation.linear is not None

    def share(self, other: "Approximator") -> None:
        """Step with the weights of another approximator, which both then train.

        The conditioner stays its own. Without a condition, blocks that take one are given zeros.

        Raises:
            ValueError: If the sizes differ, or `other` takes no condition and this one does.
        """
        found, expected = _trunk(self.config), _trunk(other.config)
        if different := [name for name in expected if found[name] != expected[name]]:
            name = different[0]
            raise ValueError(
                f"a shared approximator needs one {name}, got {found[name]} and {expected[name]}."
            )
        if self.config.condition and not other.is_conditioned:
            raise ValueError(
                f"an approximator without conditions cannot be shared with one of "
                f"{list(self.config.condition)}; share the latter."
            )
        self.into, self.back, self.blocks = other.into, other.back, other.blocks

    def forward(
        self,
        latent: Float[Tensor, "sample token channel"],
        *,
        condition: Float[Tensor, "sample parameter"] | None = None,
    ) -> Float[Tensor, "sample token channel"]:
        """Tokens `[B, T, D]` one step later, under numbers `[B, P]` if the model has any.

        Raises:
            ValueError: If a shape does not fit.
        """
        check_latent(latent, self.config)
        embedded = self.conditioner(condition)
        if embedded is None and self.is_conditioned:
            embedded = latent.new_zeros(len(latent), 4 * self.config.dim)
        tokens = self.into(latent)
        for block in self.blocks:
            tokens = block(tokens, embedded)
        if self.back is not None:
            tokens = latent + self.back(tokens)
        return latent_norm(tokens, self.config)


def _trunk(config: UPTConfig) -> dict[str, object]:
    """What two models that share an approximator have in common."""
    names = (
        "dim",
        "approximator_depth",
        "mlp_ratio",
        "qk_norm",
        "drop_path",
        "latent_norm",
        "layout",
    )
    widths = {"approximator_width": config.widths.approximator, "heads": config.widths.latent_heads}
    return {**{name: getattr(config, name) for name in names}, **widths}


def check_latent(latent: Tensor, config: UPTConfig) -> None:
    """Refuse what is not `[B, T, D]` with the model's D.

    Raises:
        ValueError: With the shape found.
    """
    if latent.ndim != 3 or latent.shape[-1] != config.dim:
        raise ValueError(
            f"a latent needs the shape (sample, token, {config.dim}), got {tuple(latent.shape)}."
        )


@torch.no_grad()
def _maps(dim: int, width: int, *, paper: bool) -> tuple[nn.Module, nn.Linear | None]:
    """The maps to and from the width of the blocks."""
    if width == dim and not paper:
        return nn.Identity(), None
    into = nn.Linear(dim, width)
    back = nn.Linear(width, dim) if width != dim else None
    if back is None:
        nn.init.eye_(into.weight)
        nn.init.zeros_(into.bias)
    else:
        nn.init.zeros_(back.weight)
        nn.init.zeros_(back.bias)
    return into, back
