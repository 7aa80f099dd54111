"""Quantisation without a table: each number is rounded to one of a few levels."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nops_models._quantizer import NO_CODE, QuantizerOutput, check_latent, hide

MARGIN = 1e-3  # tanh reaches the outermost levels for finite latents


class FiniteScalarQuantizer(nn.Module):
    """Each component of a vector is bounded and rounded to L values; all combinations are codes.

    z̃ = h·tanh(z + s) − o with h = (L − 1)(1 + 10⁻³)/2, o = ½ for even L and 0 for odd, s = atanh(o/h);
    the code is round(z̃)/⌊L/2⌋, within [−1, 1], and its gradient that of z̃/⌊L/2⌋. Nothing is learned,
    nothing moves, and both losses are 0: it stands in for `VectorQuantizer`.

    Args:
        levels: L of each component, at least 2; the width of the vectors is their number.

    Attributes:
        num_codes: Product of the levels.

    Raises:
        ValueError: If there is no component, or one of fewer than 2 levels.

    Source:
        Mentzer et al., "Finite scalar quantization", arXiv 2309.15505.
    """

    scale: Tensor
    offset: Tensor
    shift: Tensor
    radius: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"levels needs numbers of at least 2, got {list(levels)}.")
        self.levels, self.num_codes = tuple(levels), math.prod(levels)
        count = torch.tensor(levels, dtype=torch.float64)
        scale = (count - 1) * (1 + MARGIN) / 2
        offset = torch.where(count % 2 == 0, 0.5, 0.0).double()
        basis = torch.tensor([1, *levels[:-1]]).cumprod(0)
        constants = {
            "scale": scale,
            "offset": offset,
            "shift": torch.atanh(offset / scale),
            "radius": count // 2,
            "basis": basis,
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"levels={self.levels}"

    @property
    def codebook(self) -> Float[Tensor, "code dim"]:
        """All codes in the order of their index."""
        return self.lookup(torch.arange(self.num_codes, device=self.basis.device))

    def lookup(self, index: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The codes of indices, float32; 0 for −1."""
        count = torch.tensor(self.levels, device=index.device)
        digits = index.clamp(min=0)[..., None] // self.basis % count
        return hide((digits / self.radius - count // 2 / self.radius).float(), index >= 0)

    def forward(
        self, latent: Float[Tensor, "*batch dim"], mask: Bool[Tensor, "*batch"] | None = None
    ) -> QuantizerOutput:
        """Quantise; `distance` is that of z̃/⌊L/2⌋ from the code.

        The index counts the first component fastest.

        Args:
            latent: Vectors, [..., number of levels].
            mask: True where a vector counts, [...].

        Raises:
            ValueError: If the last axis is not the number of levels, or the mask has another shape.
        """
        check_latent(latent, mask, len(self.levels))
        values = hide(latent, mask)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        scale, offset, shift, radius = (
            v.to(values.dtype) for v in (self.scale, self.offset, self.shift, self.radius)
        )
        bounded = scale * torch.tanh(values + shift) - offset
        rounded = bounded.detach().round()
        code = (rounded + (bounded - bounded.detach())) / radius
        index = ((rounded + radius).long() * self.basis).sum(-1)
        distance = ((bounded.detach() - rounded) / radius).square().sum(-1)
        if mask is not None:
            index, distance = index.masked_fill(~mask, NO_CODE), distance.masked_fill(~mask, 0)
        none = values.new_zeros(())
        return QuantizerOutput(hide(code, mask).to(latent.dtype), index, none, none, distance)
