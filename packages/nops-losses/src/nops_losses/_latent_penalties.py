"""What keeps latent tokens of one size, and apart from each other."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import masked_mean
from nops_losses._points import read_points


def latent_norm_penalty(
    latent: Float[Tensor, "sample token channel"],
    *,
    target: float | None = None,
    p: float = 2.0,
    mask: Bool[Tensor, "sample ..."] | None = None,
) -> Float[Tensor, ""]:
    """Mean over tokens z of | ‖z‖_p − target |.

    Args:
        latent: Tokens, axes (sample, token, channel), any unit.
        target: Norm that a token should have, not negative; None is D^(1/p) for D channels, the
            norm of channels that are all 1 or −1: √D for p = 2, the norm after layer normalisation.
        p: Order of the norm, at least 1; infinity is the largest magnitude.
        mask: True where a sample, (sample,), or a token, (sample, token), counts.

    Returns:
        In the unit, at least 0, float32 (float64 for float64 latents); 0 with gradient 0 where
        nothing counts. A token of zeros gets no gradient.

    Raises:
        ValueError: If latent or mask have other axes, or an option is out of range.
        TypeError: If the latent is not real floating point.
    """
    values, keep = read_points(latent, mask, name="latent")
    if not p >= 1:
        raise ValueError(f"p must be at least 1, got {p}.")
    wanted = latent.shape[-1] ** (1 / p) if target is None else target
    if not 0 <= wanted < math.inf:
        raise ValueError(f"target must be finite and not negative, got {target}.")
    norm = torch.linalg.vector_norm(values, ord=p, dim=-1)
    return masked_mean((norm - wanted).abs(), keep, (0, 1))


def latent_diversity_penalty(
    latent: Float[Tensor, "sample token channel"],
    *,
    eps: float = 1e-8,
    mask: Bool[Tensor, "sample ..."] | None = None,
) -> Float[Tensor, ""]:
    """Mean over pairs of different tokens of a sample of |cos(zᵢ, zⱼ)|.

    1 when all tokens of a sample are parallel, 0 when they are orthogonal; about √(2/(πD)) for
    unrelated normal tokens of D channels.

    Args:
        latent: Tokens z, axes (sample, token, channel), any unit.
        eps: Least norm that a token is divided by, in that unit, positive. A token of zeros is
            orthogonal to all others, and gets no gradient.
        mask: True where a sample, (sample,), or a token, (sample, token), counts; pairs count of
            which both tokens do.

    Returns:
        Dimensionless, from 0 to 1, float32 (float64 for float64 latents); 0 with gradient 0 where
        no pair counts, as with one token.

    Raises:
        ValueError: If latent or mask have other axes, or `eps` is not positive.
        TypeError: If the latent is not real floating point.
    """
    values, keep = read_points(latent, mask, name="latent")
    if not 0 < eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {eps}.")
    norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    unit = values / norm.clamp(min=eps)
    with torch.autocast(unit.device.type, enabled=False):
        cosine = torch.matmul(unit, unit.mT)
    tokens = latent.shape[1]
    pairs = torch.ones(tokens, tokens, dtype=torch.bool, device=latent.device).triu(1)
    if keep is not None:
        pairs = pairs & keep[:, :, None] & keep[:, None, :]
    return masked_mean(cosine.abs(), pairs.expand(cosine.shape), (0, 1, 2))
