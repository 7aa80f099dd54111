"""What a model is conditioned on: parameters of the equation, and the index of a step."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._upt_config import TIME, UPTConfig


class Conditioner(nn.Module):
    """Numbers to one vector: sines and cosines of each, a small network for each, their sum.

    "time" is an index into a table of waves whose periods reach from 2π to 20,000π steps. Any other
    number is expected in the order of 1, and is read through waves of periods 4 to 1/8.

    Args:
        config: Gives the names, and the width of the result, 4·dim.
    """

    def __init__(self, config: UPTConfig) -> None:
        super().__init__()
        self.names, self.dim = config.condition, config.dim
        self.networks = nn.ModuleList(_network(config.dim, 4 * config.dim) for _ in self.names)

    def forward(
        self, condition: Float[Tensor, "sample parameter"] | None
    ) -> Float[Tensor, "sample embedding"] | None:
        """Embed conditions `[B, P]`, columns as in `config.condition`; None if there are none.

        Raises:
            ValueError: If the shape does not fit, or conditions are missing or not asked for.
        """
        self._check(condition)
        if condition is None:
            return None
        weight = next(self.parameters())
        values = condition.to(torch.promote_types(condition.dtype, torch.float32))
        total = torch.zeros((), dtype=weight.dtype, device=weight.device)
        for name, value, network in zip(self.names, values.unbind(1), self.networks, strict=True):
            total = total + network(_waves(value, self.dim, time=name == TIME).to(weight.dtype))
        return total

    def _check(self, condition: Tensor | None) -> None:
        found = None if condition is None else tuple(condition.shape)
        expected = (len(self.names),) if self.names else None
        if (None if found is None else found[1:]) != expected:
            shape = f"(sample, {len(self.names)})" if self.names else None
            raise ValueError(
                f"a model conditioned on {list(self.names)} needs a condition of shape {shape}, "
                f"got {found}."
            )


def embed_with(module: nn.Module, config: UPTConfig, shared: Conditioner | None) -> None:
    """Give `module` a conditioner: its own, or one that belongs to the model around it.

    A shared one is an attribute and no submodule: the model's state and its lists of parameters
    have it once.
    """
    if shared is None:
        module.conditioner = Conditioner(config)
    else:
        module.__dict__["conditioner"] = shared


def _network(dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width), nn.GELU())


def _waves(value: Tensor, dim: int, *, time: bool) -> Tensor:
    """Sines and cosines of numbers `[B]`, as `[B, dim]`."""
    half = (dim + 1) // 2
    share = torch.arange(half, dtype=value.dtype, device=value.device) / max(half - 1, 1)
    waves = 1e-4**share if time else math.pi / 2 * 32**share
    angles = value[:, None] * waves
    return torch.cat((angles.sin(), angles.cos()), dim=1)[:, :dim]
