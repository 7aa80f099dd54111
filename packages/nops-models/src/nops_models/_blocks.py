"""Blocks of the U-shaped operators."""

from typing import Literal

from torch import Tensor, nn

from nops_models._afno import AFNOMixer
from nops_models._film import FiLM
from nops_models._padding import Padding, concatenate, periodic_pad

Norm = Literal["none", "group", "instance"]
NORM_GROUPS = 8


class ConvBlock(nn.Module):
    """3×3 convolution, normalisation, FiLM if there is a condition, GELU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm,
        padding: Padding,
        embedding: int | None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        periodic = padding == "circular"
        self.join = periodic_pad if periodic else concatenate
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            3,
            stride=stride,
            padding=0 if periodic else 1,
            bias=norm == "none",  # a norm has a shift of its own
        )
        self.norm = None
        if norm != "none":
            groups = NORM_GROUPS if norm == "group" else out_channels
            self.norm = nn.GroupNorm(groups, out_channels)
        self.film = None if embedding is None else FiLM(embedding, out_channels)

    def forward(self, *parts: Tensor, condition: Tensor | None) -> Tensor:
        """Map parts `[B, C_i, H, W]`, concatenated along channels; condition `[B, embedding]`."""
        features = self.conv(self.join(*parts))
        if self.norm is not None:
            features = self.norm(features)
        if self.film is not None:
            features = self.film(features, condition)
        return nn.functional.gelu(features)


class ResidualBlock(nn.Module):
    """Two convolution blocks, dropout between them, plus the input (through 1×1 if it must)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm,
        padding: Padding,
        embedding: int | None,
        dropout: float,
    ) -> None:
        super().__init__()
        options = {"norm": norm, "padding": padding, "embedding": embedding}
        self.first = ConvBlock(in_channels, out_channels, **options)
        self.dropout = nn.Dropout(dropout)
        self.second = ConvBlock(out_channels, out_channels, **options)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, features: Tensor, *, condition: Tensor | None) -> Tensor:
        """Map `[B, in_channels, H, W]` to `[B, out_channels, H, W]`."""
        branch = self.dropout(self.first(features, condition=condition))
        branch = self.second(branch, condition=condition)
        return branch + (features if self.shortcut is None else self.shortcut(features))


class AFNOBlock(nn.Module):
    """y = x + mixer(LN x), then y + MLP(LN y); normalisation and MLP act on channels alone.

    Args:
        channels: Channels of the features.
        mixer: Mixes in space; adds its own branch to its input.
        mlp_ratio: Hidden width of the MLP over `channels`.
        dropout: Share of hidden features dropped in training.

    Source:
        Guibas et al., "Adaptive Fourier neural operators", arXiv 2111.13587.
    """

    def __init__(self, channels: int, *, mixer: AFNOMixer, mlp_ratio: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_ratio * channels, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to the same shape."""
        x = features.permute(0, 2, 3, 1)  # channels last: a linear layer is a 1×1 convolution
        mixed = self.mixer(self.norm1(x).permute(0, 3, 1, 2))
        x = x + mixed.permute(0, 2, 3, 1)
        x = x + self.mlp(self.norm2(x))
        return x.permute(0, 3, 1, 2)
