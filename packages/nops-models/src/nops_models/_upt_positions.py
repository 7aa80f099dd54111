"""Positions as waves, and the layers that read them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._upt_config import UPTConfig


class FourierFeatures(nn.Module):
    """Sines and cosines of positions, for each axis and each frequency f.

    A periodic axis of length L is read as sin, cos(2πf·x/L), which has the domain's period because
    f is an integer. Any other axis is read as sin, cos(πf·x/L), so that its two ends differ.
    Angles are computed in float32, or float64 for float64 positions, whatever surrounds them.

    Args:
        config: Gives frequencies, lengths and periodic axes.

    Attributes:
        width: Number of features, 2·ndim·frequencies.
    """

    def __init__(self, config: UPTConfig) -> None:
        super().__init__()
        self.width = 2 * config.ndim * len(config.frequencies)
        self.waves = tuple(float(wave) for wave in config.frequencies)
        self.units = tuple(
            (2 if axis in config.periodic else 1) * math.pi / length
            for axis, length in enumerate(config.domain)
        )

    def forward(self, positions: Float[Tensor, "*point axis"]) -> Float[Tensor, "*point feature"]:
        """Map positions `[..., d]`, in the unit of the domain's length, to `[..., width]`."""
        dtype = torch.promote_types(positions.dtype, torch.float32)
        unit = torch.tensor(self.units, dtype=dtype, device=positions.device)
        wave = torch.tensor(self.waves, dtype=dtype, device=positions.device)
        angles = ((positions.to(dtype) * unit)[..., None] * wave).flatten(-2)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


def check_positions(positions: Tensor, config: UPTConfig, name: str = "positions") -> None:
    """Refuse positions that are not `[B, N, ndim]` or `[N, ndim]`.

    Raises:
        ValueError: With the shape found.
    """
    if positions.ndim not in (2, 3) or positions.shape[-1] != config.ndim:
        raise ValueError(
            f"{name} need the shape (sample, point, {config.ndim}) or (point, {config.ndim}), "
            f"got {tuple(positions.shape)}."
        )


def check_fields(fields: dict[str, Tensor], positions: Tensor, config: UPTConfig) -> None:
    """Refuse fields that are missing, of other channels, or of other points than the positions.

    Raises:
        KeyError: If a field is missing.
        ValueError: With the shapes found.
    """
    check_positions(positions, config)
    points = positions.shape[-2]
    for name, channels in config.fields.items():
        if name not in fields:
            raise KeyError(f"the model reads a field {name!r}; given: {', '.join(fields)}.")
        shape = tuple(fields[name].shape)
        expected = config.history * channels
        if len(shape) != 3 or shape[-1] != expected:
            raise ValueError(
                f"field {name!r} needs the shape (sample, point, {expected}), {config.history} "
                f"states of {channels} channels, got {shape}."
            )
        if shape[1] != points:
            raise ValueError(f"field {name!r} has {shape[1]} points, the positions {points}.")
