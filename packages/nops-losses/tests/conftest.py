"""Fields that the tests of this package share."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture
def fields() -> Callable[..., Tensor]:
    """`fields(seed, *shape)`: standard normal float64 numbers from a generator of their own."""

    def draw(seed: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture
def fresh_compiler() -> None:
    """Forget what was compiled before: under the shape checker all functions share one wrapper,
    and the compiler refuses to compile that more than eight times."""
    torch._dynamo.reset()


@pytest.fixture
def grid() -> Callable[..., tuple[Tensor, ...]]:
    """`grid(*sizes)`: coordinates 2πj/n on each axis, in float64."""

    def coordinates(*sizes: int) -> tuple[Tensor, ...]:
        axes = [torch.arange(n, dtype=torch.float64) * (2 * math.pi / n) for n in sizes]
        return torch.meshgrid(*axes, indexing="ij")

    return coordinates


@pytest.fixture
def slope(grid) -> Callable[[int], tuple[Tensor, Tensor]]:
    """`slope(n)`: the truth Σ m^-1.5 [cos(m x₂ + m) + cos(m x₁ + 2m)], m < n/2, on n x n cells in
    one channel, and before it the same with 0.1 cos(3 x₂ + 2 x₁) added."""

    def fields(n: int) -> tuple[Tensor, Tensor]:
        x1, x2 = grid(n, n)
        waves = [m**-1.5 * ((m * x2 + m).cos() + (m * x1 + 2 * m).cos()) for m in range(1, n // 2)]
        target = torch.stack(waves).sum(0)[None]
        return target + 0.1 * (3 * x2 + 2 * x1).cos(), target

    return fields


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def operations() -> Callable[[Callable[[], object]], list[str]]:
    """`operations(run)`: names of the tensor operators that `run()` calls, in order."""

    def names(run: Callable[[], object]) -> list[str]:
        with _Operators() as seen:
            run()
        return seen.names

    return names


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """`inverse_models.py` beside this file: encoders and decoders to work out by hand."""
    path = Path(__file__).with_name("inverse_models.py")
    spec = importlib.util.spec_from_file_location("inverse_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
