"""Several tables in a row: each quantises what the ones before left."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nops_models._codebook_rules import EMA, Update
from nops_models._estimators import RotationTrick, StraightThrough
from nops_models._quantizer import (
    QuantizerOutput,
    VectorQuantizer,
    check_latent,
    check_quantizer,
    hide,
    projections,
)


class ResidualVectorQuantizer(nn.Module):
    """A vector becomes a sum of codes: of the nearest, of the nearest to what is left of it, and so on.

    The estimator acts once, on the sum. Each level is a `VectorQuantizer` and stages its updates itself;
    its losses reach the latent, whatever the level.

    Args:
        dim: Width D of the vectors.
        num_quantizers: Levels L.
        num_codes: Of each level, or one number per level.
        update: How the tables move.
        estimator: The gradient of the sum by the latent.
        commitment_weight: Of each level's commitment loss; the losses of the levels are summed.
        code_dim: Width in which vectors are compared, between one pair of projections around all levels.
        seed: Of the first level; the next has the next.

    Attributes:
        levels: The quantizers, coarse to fine.

    Raises:
        ValueError: If a size is below 1, the weight negative, or `num_codes` has another length.

    Source:
        Juang and Gray, ICASSP 1982; Zeghidour et al., arXiv 2107.03312.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_quantizers: int,
        num_codes: int | Sequence[int],
        update: Update = EMA(),
        estimator: RotationTrick | StraightThrough = RotationTrick(),
        commitment_weight: float = 0.25,
        code_dim: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = [num_codes] * num_quantizers if isinstance(num_codes, int) else list(num_codes)
        if num_quantizers < 1 or len(sizes) != num_quantizers:
            raise ValueError(
                f"num_quantizers={num_quantizers} needs to be at least 1, with one number of codes for "
                f"each level, got {num_codes}."
            )
        check_quantizer(dim, code_dim, min(sizes), commitment_weight)
        self.dim, self.estimator = dim, estimator
        self.project_in, self.project_out = projections(dim, code_dim)
        self.levels = nn.ModuleList(
            VectorQuantizer(
                code_dim or dim,
                num_codes=size,
                update=update,
                estimator=StraightThrough(),
                commitment_weight=commitment_weight,
                seed=seed + level,
            )
            for level, size in enumerate(sizes)
        )

    def forward(
        self, latent: Float[Tensor, "*batch dim"], mask: Bool[Tensor, "*batch"] | None = None
    ) -> QuantizerOutput:
        """Quantise; `index` has a last axis of L, losses are summed over levels.

        `distance` is that of the latent from the sum.

        Args:
            latent: Vectors, [..., dim].
            mask: True where a vector counts, [...].

        Raises:
            ValueError: If the last axis is not `dim`, or the mask has another shape.
        """
        check_latent(latent, mask, self.dim)
        values = self.project_in(hide(latent, mask))
        found = self.coarse_to_fine(values, mask)
        code = self.project_out(found[-1].code).to(latent.dtype)
        return QuantizerOutput(
            hide(code, mask),
            torch.stack([one.index for one in found], dim=-1),
            torch.stack([one.commitment_loss for one in found]).sum(),
            torch.stack([one.codebook_loss for one in found]).sum(),
            found[-1].distance,
        )

    def coarse_to_fine(
        self,
        latent: Float[Tensor, "*batch width"],
        mask: Bool[Tensor, "*batch"] | None = None,
    ) -> list[QuantizerOutput]:
        """What each level comes to, without the projections: `code` is the sum up to it.

        Args:
            latent: Vectors in the width of the codes.
            mask: True where a vector counts, [...].
        """
        whole = latent.to(torch.promote_types(latent.dtype, torch.float32))
        reached = torch.zeros_like(whole)
        found = []
        for level in self.levels:
            one = level(whole - reached, mask)
            reached = reached + one.code.detach()
            found.append(replace(one, code=self.estimator(whole, reached).to(latent.dtype)))
        return found

    def lookup(self, index: Int[Tensor, "*batch level"]) -> Float[Tensor, "*batch dim"]:
        """The sums of the codes of indices, as `forward` returns them; 0 where they are −1.

        Raises:
            ValueError: If the last axis has not one index per level.
        """
        if index.shape[-1] != len(self.levels):
            raise ValueError(
                f"index has shape {tuple(index.shape)}, expected (..., {len(self.levels)})."
            )
        pairs = zip(self.levels, index.unbind(-1), strict=True)
        found = [cast("VectorQuantizer", level).lookup(one) for level, one in pairs]
        codes = torch.stack(found).sum(0)
        return hide(self.project_out(codes), (index >= 0).all(-1))
