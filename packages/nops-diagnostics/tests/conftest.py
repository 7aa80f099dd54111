"""Fields with a generator of their own, shared by the tests of this package."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="session")
def fields() -> Callable[..., Tensor]:
    """`fields(seed, *shape)`: standard normal numbers in float64, the global generator untouched."""

    def draw(seed: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture(scope="session")
def waves() -> Callable[..., Tensor]:
    """`waves(phases)`: cos(x + phase) on 32 x 4 cells with one channel, `[*phases, 1, 32, 4]`."""

    def draw(phases: Tensor) -> Tensor:
        x = torch.arange(32, dtype=torch.float64) * (2 * torch.pi / 32)
        wave = torch.cos(x + phases.double()[..., None, None])
        return wave[..., None].expand(*phases.shape, 1, 32, 4)

    return draw
