"""Convolutions on periodic domains."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Padding = Literal["circular", "zeros"]


class _PeriodicPad(torch.autograd.Function):
    """Concatenate along channels and wrap one cell around the last two axes, in one copy.

    `torch.nn.functional.pad` pads a concatenated tensor in further copies and differentiates
    through each; on a CPU that costs as much as the convolution itself.
    """

    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.channels = channels = [part.shape[1] for part in parts]
        batch, _, height, width = parts[0].shape
        padded = parts[0].new_empty(batch, height + 2, width + 2, sum(channels))
        padded = padded.permute(0, 3, 1, 2)  # channels last, which convolutions prefer
        rows = padded[:, :, 1:-1]
        for part, place in zip(parts, rows.split(channels, dim=1), strict=True):
            place[..., 1:-1] = part
        rows[..., 0], rows[..., -1] = rows[..., -2], rows[..., 1]
        padded[:, :, 0], padded[:, :, -1] = padded[:, :, -2], padded[:, :, 1]
        return padded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        rows = grad[:, :, 1:-1].clone(memory_format=torch.channels_last)
        rows[:, :, 0] += grad[:, :, -1]
        rows[:, :, -1] += grad[:, :, 0]
        inside = rows[..., 1:-1]
        inside[..., 0] += rows[..., -1]
        inside[..., -1] += rows[..., 0]
        return inside.split(ctx.channels, dim=1)


def periodic_pad(*parts: Tensor) -> Tensor:
    """The parts concatenated along channels, with one periodic cell on each side of the grid."""
    padded = _PeriodicPad.apply(*parts)
    assert isinstance(padded, Tensor)
    return padded


def concatenate(*parts: Tensor) -> Tensor:
    """The parts concatenated along channels; one part is returned as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Upsample(nn.Module):
    """Twice the grid by bilinear interpolation, for odd sizes without the last row or column.

    Cell centres of both grids share one domain: every coarse cell is split in two, so that a fine
    value is 3/4 of its own cell and 1/4 of the neighbour, in each direction. The transposed
    convolution does this in one call; `torch.nn.functional.interpolate` is many times slower to
    differentiate on a CPU.

    Args:
        padding: "circular" takes the neighbour across the edge from the opposite one, "zeros"
            repeats the edge.
    """

    kernel: Tensor

    def __init__(self, *, padding: Padding) -> None:
        super().__init__()
        self.periodic = padding == "circular"
        taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, features: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Map `[B, C, h, w]` to `[B, C, H, W]`, size = (H, W), h = ⌈H/2⌉, w = ⌈W/2⌉."""
        if self.periodic:
            padded = periodic_pad(features)
        else:
            padded = nn.functional.pad(features, (1, 1, 1, 1), mode="replicate")
        channels = features.shape[1]
        kernel = self.kernel.expand(channels, -1, -1, -1)
        fine = nn.functional.conv_transpose2d(padded, kernel, stride=2, padding=3, groups=channels)
        return fine[..., : size[0], : size[1]]
