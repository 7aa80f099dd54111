"""Fields that the tests of this package share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def fields() -> Callable[..., Tensor]:
    """`fields(seed, *shape)`: standard normal float64 numbers from a generator of their own."""

    def draw(seed: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw
