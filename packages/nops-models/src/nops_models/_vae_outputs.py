"""What a physics-integrated VAE returns."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Encoding(NamedTuple):
    """Posterior of the latents: independent normals; zero-width where a kind is absent.

    Attributes:
        u_mean: Of the physics latents in logits, (sample, P).
        u_lnvar: Their log-variances, within their bounds.
        aux_mean: Of the auxiliary latents, (sample, A).
        aux_lnvar: Their log-variances, within their bounds.
    """

    u_mean: Tensor
    u_lnvar: Tensor
    aux_mean: Tensor
    aux_lnvar: Tensor


class Draw(NamedTuple):
    """Latents, drawn or at their means.

    Attributes:
        z: Physics latents in (0, 1), (sample, P).
        z_aux: Auxiliary latents, unbounded, (sample, A).
        u: The physics latents in logits: z = sigmoid(u).
    """

    z: Tensor
    z_aux: Tensor
    u: Tensor


class Decoding(NamedTuple):
    """What latents decode to, all standardised.

    Attributes:
        x_pb: Physics with correction, (sample, D).
        x_p: Physics alone, (sample, D); `x_pb` itself where there is no physics or no correction.
        delta: Proposed correction before gate or strength, (sample, D); 0 without a residual.
        gain: Gate g, (sample, D), or coefficients c, (sample, rank); zero-width without either.
        correction: x_pb − x_p, (sample, D).
    """

    x_pb: Tensor
    x_p: Tensor
    delta: Tensor
    gain: Tensor
    correction: Tensor


class VAEOutput(NamedTuple):
    """One pass through the model.

    Attributes:
        encoding: Posterior of the latents.
        draw: The latents that were decoded.
        decoding: What they decoded to.
    """

    encoding: Encoding
    draw: Draw
    decoding: Decoding


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Physical parameters of each observation with their uncertainty, in physical units.

    Attributes:
        names: Parameters, P.
        samples: Draws, (sample, S, P).
        mean: Mean over the draws, (sample,) by name.
        sd: Standard deviation over the draws, (sample,) by name.
        mean_tensor: The means as (sample, P).
        edge: Where the latent mean lies within 0.01 of a bound, of a range of length 1: (sample, P).
        residual_ratio: ‖x_PB − x_P‖ / ‖x_P‖ at the latent means, (sample,): what is no physics.
    """

    names: tuple[str, ...]
    samples: Float[Tensor, "sample draw parameter"]
    mean: dict[str, Tensor]
    sd: dict[str, Tensor]
    mean_tensor: Float[Tensor, "sample parameter"]
    edge: Bool[Tensor, "sample parameter"]
    residual_ratio: Float[Tensor, "sample"]

    def quantile(self, name: str, q: float) -> Float[Tensor, "sample"]:
        """Quantile of one parameter over the draws, in its unit.

        Raises:
            ValueError: If the name is unknown, or q is not within [0, 1].
        """
        if name not in self.names:
            raise ValueError(f"no parameter {name!r}; there are {', '.join(self.names)}.")
        if not 0 <= q <= 1:
            raise ValueError(f"q must be within [0, 1], got {q}.")
        return torch.quantile(self.samples[..., self.names.index(name)], q, dim=1)
