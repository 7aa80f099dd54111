"""Encoders, approximators and decoders so small that their losses can be worked out by hand."""

import torch
from torch import Tensor, nn


def line(points: int) -> Tensor:
    """Cell centres of [0, 1), (point, 1), float64."""
    return ((torch.arange(points, dtype=torch.float64) + 0.5) / points)[:, None]


def orthogonal(size: int, seed: int) -> Tensor:
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).double()
    return torch.linalg.qr(noise).Q


class PatchEncoder(nn.Module):
    """Each patch of a line is one token: tokens = patches @ matrix."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())
        self.calls: list[int] = []

    def forward(self, fields, positions):
        self.calls.append(positions.shape[1])
        (values,) = fields.values()
        return values.unflatten(1, (-1, len(self.matrix))).squeeze(-1) @ self.matrix


class PatchDecoder(nn.Module):
    """The value of the cell that a position lies in: cells = tokens @ matrix, plus an offset."""

    def __init__(self, matrix: Tensor, name: str = "u", offset: float = 0.0) -> None:
        super().__init__()
        self.matrix, self.name, self.offset = nn.Parameter(matrix.clone()), name, offset
        self.calls: list[int] = []

    def forward(self, positions, latent):
        self.calls.append(positions.shape[1])
        cells = (latent @ self.matrix).flatten(1)
        index = (positions[..., 0] * cells.shape[1]).long()
        return {self.name: cells.gather(1, index)[..., None] + self.offset}


class SetEncoder(nn.Module):
    """Means of sines of the values and their places: any set of points will do."""

    accepts_point_subset = True

    def __init__(self, channels: int = 1, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(channels + 1, width).double()
        self.calls: list[int] = []

    def forward(self, fields, positions):
        self.calls.append(positions.shape[1])
        values = torch.cat([*fields.values(), positions], dim=-1)
        return self.linear(values).sin().mean(1).unflatten(-1, (3, -1))


class PointDecoder(nn.Module):
    """Fields at any point out of three tokens of two channels."""

    def __init__(self, **channels: int) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.channels = channels or {"u": 1}
        self.linear = nn.Linear(6 + 1, sum(self.channels.values())).double()
        self.calls: list[int] = []

    def forward(self, positions, latent):
        self.calls.append(positions.shape[1])
        tokens = latent.flatten(1)[:, None].expand(-1, positions.shape[1], -1)
        values = self.linear(torch.cat([tokens, positions], dim=-1)).sin()
        parts = values.split([*self.channels.values()], dim=-1)
        return dict(zip(self.channels, parts, strict=True))


def truth(points):
    """A decoder that gives back `points` [B, N, C] by the cell that a position lies in."""

    def decode(positions, latent):
        index = (positions[..., :1] * points.shape[1]).long().expand(-1, -1, points.shape[-1])
        return {"u": points.gather(1, index)}

    return decode
