"""Feature-wise linear modulation."""

from jaxtyping import Float
from torch import Tensor, nn


class FiLM(nn.Module):
    """Scale and shift each channel by what a condition says: (1 + γ)·x + β.

    γ and β are affine in the condition and start at zero, so that a new layer is the identity and
    the condition gains influence through training alone.

    Args:
        embedding: Width of the condition.
        channels: Channels of the features.

    Source:
        Perez et al., "FiLM: visual reasoning with a general conditioning layer", arXiv 1709.07871.
    """

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        features: Float[Tensor, "sample channel height width"],
        condition: Float[Tensor, "sample embedding"],
    ) -> Float[Tensor, "sample channel height width"]:
        """Modulate features `[B, C, H, W]` by a condition `[B, embedding]`, both dimensionless."""
        gamma, beta = self.linear(condition).view(-1, 2, self.channels, 1, 1).unbind(1)
        return features * (1 + gamma) + beta  # quicker to differentiate than addcmul
