"""From a field of features to a latent vector."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._checks import check_choice

ProjectorNorm = Literal["layer", "batch"]


class LatentProjector(nn.Module):
    """Spatial mean, then Linear, norm, ReLU, dropout, Linear: a bottleneck's features as a latent.

    It is trained with what it aligns: give its parameters to the optimizer.

    Args:
        in_channels: Channels of the features.
        latent_dim: Width of the latent.
        hidden: Width between.
        norm: "layer", or "batch" for weights from elsewhere: that one needs more than one sample in
            training, and depends on which.
        dropout: Share dropped in training, within [0, 1).

    Raises:
        ValueError: If a size is below 1, the norm unknown, or the dropout out of range.
    """

    def __init__(
        self,
        in_channels: int,
        latent_dim: int,
        *,
        hidden: int = 512,
        norm: str = "layer",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if min(in_channels, latent_dim, hidden) < 1:
            raise ValueError(
                "in_channels, latent_dim and hidden must be at least 1, got "
                f"{in_channels}, {latent_dim} and {hidden}."
            )
        check_choice("norm", norm, get_args(ProjectorNorm))
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be within [0, 1), got {dropout}.")
        self.in_channels, self.latent_dim = in_channels, latent_dim
        self.layers = nn.Sequential(
            nn.Linear(in_channels, hidden),
            nn.LayerNorm(hidden) if norm == "layer" else nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, latent_dim),
        )

    def forward(
        self, features: Float[Tensor, "*batch channel height width"]
    ) -> Float[Tensor, "*batch latent"]:
        """Latents of features with any leading axes: (sample, channel, …) or (sample, time, channel, …).

        Raises:
            ValueError: If the features have not `in_channels` channels before two axes of space.
        """
        if features.ndim < 3 or features.shape[-3] != self.in_channels:
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected "
                f"(..., {self.in_channels}, height, width)."
            )
        means = features.mean((-2, -1))
        latent = self.layers(means.reshape(-1, self.in_channels))
        return torch.unflatten(latent, 0, means.shape[:-1]) if means.ndim > 1 else latent[0]
