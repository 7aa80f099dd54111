"""The U-shaped operator with a dense spectral bottleneck, for comparison only.

Its block is the one that surrogates of this family are often published with: a complex C×C matrix
of its own for each of 16×16 wavenumbers, instead of one small network shared by all. Written from
that description; encoder, decoder, optimiser and data are those of our model.
"""

import torch
from nops_models import UAFNO, UAFNOConfig
from torch import Tensor, nn

MODES = 16


class DenseSpectralBlock(nn.Module):
    """LN → rfft2 → a matrix per wavenumber → irfft2 → MLP, then LN → MLP; each half is added."""

    def __init__(self, channels: int, *, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        shape = (MODES, MODES, channels, channels, 2)
        self.weight = nn.Parameter(torch.randn(shape) / channels)
        self.mlp1, self.mlp2 = mlp(channels, mlp_ratio), mlp(channels, mlp_ratio)

    def forward(self, features: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to the same shape."""
        x = features.permute(0, 2, 3, 1)
        x = x + self.mlp1(self.spectral(self.norm1(x)))
        x = x + self.mlp2(self.norm2(x))
        return x.permute(0, 3, 1, 2)

    def spectral(self, x: Tensor) -> Tensor:
        """Rows and columns 0 … 15 of the spectrum, as many as the grid has; the rest is zero."""
        coefficients = torch.fft.rfft2(x, dim=(1, 2))
        rows, columns = (min(size, MODES) for size in coefficients.shape[1:3])
        weight = torch.view_as_complex(self.weight)[:rows, :columns]
        kept = torch.einsum("bxyi,xyio->bxyo", coefficients[:, :rows, :columns], weight)
        mixed = torch.zeros_like(coefficients)
        mixed[:, :rows, :columns] = kept
        return torch.fft.irfft2(mixed, s=x.shape[1:3], dim=(1, 2))


def mlp(channels: int, ratio: int) -> nn.Sequential:
    """Two 1×1 convolutions on the last axis."""
    hidden = ratio * channels
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


def dense_uafno(config: UAFNOConfig) -> UAFNO:
    """Our model of `config` with its Fourier blocks replaced by dense ones."""
    model = UAFNO(config)
    channels = config.level_channels[-1]
    blocks = [DenseSpectralBlock(channels, mlp_ratio=config.mlp_ratio) for _ in model.bottleneck]
    model.bottleneck = nn.Sequential(*blocks)
    return model
