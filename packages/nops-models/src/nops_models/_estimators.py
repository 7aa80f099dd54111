"""Gradients through the choice of a code, which has none."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LEAST = 1e-6  # lengths below this are no direction


@dataclass(frozen=True)
class StraightThrough:
    """The gradient of the code is that of the latent, unchanged.

    Source:
        Bengio, Léonard and Courville, arXiv 1308.3432; van den Oord et al., arXiv 1711.00937.
    """

    def __call__(
        self, latent: Float[Tensor, "*batch dim"], code: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch dim"]:
        """The code, to the last bit, with gradient 1 to the latent and none to the table."""
        return code.detach() + (latent - latent.detach())


@dataclass(frozen=True)
class RotationTrick:
    """The gradient of the code is turned and scaled as the code is from the latent.

    The code q is R·z with R = (‖q‖/‖z‖)·(I − 2rrᵀ + 2q̂ẑᵀ), r the unit vector along ẑ + q̂, all of it
    constant: the rotation in the plane of both that takes ẑ to q̂. Where z and q are opposite or one is
    zero there is none, and the gradient goes straight through.

    Source:
        Fifty et al., "Restructuring vector quantization with the rotation trick", arXiv 2410.06424.
    """

    def __call__(
        self, latent: Float[Tensor, "*batch dim"], code: Float[Tensor, "*batch dim"]
    ) -> Float[Tensor, "*batch dim"]:
        """The code, to the last bit, with gradient Rᵀ to the latent and none to the table."""
        code = code.detach()
        turned = _rotate(latent, code)
        return code + (turned - turned.detach())


def _rotate(latent: Tensor, code: Tensor) -> Tensor:
    fixed = latent.detach()
    from_length, to_length = (
        torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (fixed, code)
    )
    start, end = fixed / from_length.clamp(min=LEAST), code / to_length.clamp(min=LEAST)
    middle = start + end
    length = torch.linalg.vector_norm(middle, dim=-1, keepdim=True)
    middle = middle / length.clamp(min=LEAST)
    turned = latent - 2 * middle * _dot(middle, latent) + 2 * end * _dot(start, latent)
    turned = turned * (to_length / from_length.clamp(min=LEAST))
    possible = (from_length > LEAST) & (to_length > LEAST) & (length > LEAST)
    return torch.where(possible, turned, latent)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)
