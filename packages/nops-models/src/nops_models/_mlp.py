"""Plain networks of coordinates: what a physics-informed network is made of."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._checks import check_choice, check_sizes
from nops_models._residual_heads import mlp
from nops_models._vae_config import ACTIVATIONS


class MLP(nn.Module):
    """Points to values: `layers` hidden layers of one width, and a linear layer.

    Weights start Xavier-normal, biases at 0. Smooth wherever the activation is: residuals of second
    order need tanh, silu or gelu ("relu" has no curvature, so a Laplacian of it is 0).

    Args:
        in_features: Coordinates of a point.
        out_features: Values at a point.
        hidden: Width.
        layers: Hidden layers.
        activation: "tanh", "silu", "gelu", "elu" or "relu".
        bias: What every bias starts at.

    Raises:
        ValueError: If a size is below 1, or the activation unknown.

    Source:
        Xavier-normal start: Glorot and Bengio, AISTATS 2010.
    """

    def __init__(
        self,
        *,
        in_features: int,
        out_features: int,
        hidden: int = 50,
        layers: int = 5,
        activation: str = "tanh",
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, out_features=out_features)
        check_sizes(hidden=hidden, layers=layers)
        check_choice("activation", activation, tuple(ACTIVATIONS))
        self.layers = mlp([in_features, *[hidden] * layers, out_features], activation)
        _xavier(self, bias)

    def forward(self, points: Float[Tensor, "*points features"]) -> Float[Tensor, "*points values"]:
        """Values at points, `[..., in_features]` to `[..., out_features]`."""
        return self.layers(points)


class FourierMLP(nn.Module):
    """An `MLP` on random waves of the coordinates: learns fine structure that a plain one is slow at.

    For each scale σ the points x become [cos 2πxB, sin 2πxB] with B ~ N(0, σ²) of `frequencies` waves.
    The waves of each scale pass the same hidden layers; a linear layer reads all of them.

    Args:
        in_features: Coordinates of a point.
        out_features: Values at a point.
        hidden: Width.
        layers: Hidden layers.
        activation: As of `MLP`.
        frequencies: Waves per scale.
        scales: σ of each scale, in inverse units of the coordinates.
        seed: Start of the draw of the waves, which are fixed and saved with the model.

    Raises:
        ValueError: If a size is below 1, a scale not positive, or the activation unknown.

    Source:
        Wang, Wang and Perdikaris, arXiv 2012.10047, multi-scale Fourier features.
    """

    waves: Tensor

    def __init__(
        self,
        *,
        in_features: int,
        out_features: int,
        hidden: int = 50,
        layers: int = 5,
        activation: str = "tanh",
        frequencies: int = 64,
        scales: tuple[float, ...] = (1.0, 10.0),
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(in_features=in_features, out_features=out_features)
        check_sizes(hidden=hidden, layers=layers, frequencies=frequencies)
        check_choice("activation", activation, tuple(ACTIVATIONS))
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be positive, one at least, got {scales}.")
        self.register_buffer("waves", _waves(in_features, frequencies, scales, seed))
        body = mlp([2 * frequencies, *[hidden] * layers], activation)
        self.body = nn.Sequential(*body, ACTIVATIONS[activation]())
        self.head = nn.Linear(len(scales) * hidden, out_features)
        _xavier(self, 0.0)

    def forward(self, points: Float[Tensor, "*points features"]) -> Float[Tensor, "*points values"]:
        """Values at points, `[..., in_features]` to `[..., out_features]`."""
        phase = 2 * math.pi * torch.einsum("...i,siw->...sw", points, self.waves)
        features = self.body(torch.cat([phase.cos(), phase.sin()], dim=-1))
        return self.head(features.flatten(-2))


def _waves(
    in_features: int, frequencies: int, scales: tuple[float, ...], seed: int
) -> Float[Tensor, "scale features waves"]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(scales), in_features, frequencies, generator=generator)
    return drawn * torch.tensor(scales)[:, None, None]


def _xavier(module: nn.Module, bias: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            nn.init.constant_(layer.bias, bias)
