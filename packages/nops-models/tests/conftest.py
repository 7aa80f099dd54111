"""Numbers and waves that the tests of this package share."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

COMPILED_ONCE = ("unet", "uafno", "supernodes")  # ten seconds each


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The large models go through the compiler once, with what takes long; a small one of each kind always."""
    once = {f"test_compiles_in_one_graph[{name}]" for name in COMPILED_ONCE}
    for item in items:
        if item.name in once:
            item.add_marker(pytest.mark.fault)


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """`normal(seed, *shape)`: standard normal float64 numbers from a generator of their own."""

    def draw(seed: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture
def wave() -> Callable[..., Tensor]:
    """`wave(size, rows, columns, phase)`: cos(rows·y + columns·x + phase) as [1, 1, size, size]."""

    def draw(size: int, rows: int, columns: int, phase: float = 0.0) -> Tensor:
        x = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
        return torch.cos(rows * x[:, None] + columns * x[None, :] + phase)[None, None]

    return draw


@pytest.fixture
def shaken() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Give every parameter of a module a random value: zero-initialised layers hide mistakes."""

    def shake(module: torch.nn.Module, *, seed: int = 0, size: float = 0.3) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for parameter in module.parameters():
            value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(size * value)
        return module

    return shake


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """`tiny_physics.py` beside this file: forward models to work out by hand."""
    path = Path(__file__).with_name("tiny_physics.py")
    spec = importlib.util.spec_from_file_location("tiny_physics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place() -> Callable[..., None]:
    """`place(quantizer, table, counts=1.0)`: codes written into a quantizer with moving means."""

    def write(quantizer: torch.nn.Module, table: list | Tensor, counts: float = 1.0) -> None:
        codes = torch.as_tensor(table, dtype=torch.float32)
        codes = codes[:, None] if codes.ndim == 1 else codes
        quantizer.book.begin(codes, torch.full((len(codes),), counts))
        quantizer.started.fill_(True)

    return write


@pytest.fixture
def clusters() -> Callable[..., tuple[Tensor, Tensor]]:
    """`clusters(count, each, seed=0)`: points around separated centres, and the centre of each."""

    def draw(count: int, each: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        centres = 10 * torch.randn(count, 8, generator=generator)
        label = torch.arange(count).repeat(each)
        return centres[label] + 0.3 * torch.randn(len(label), 8, generator=generator), label

    return draw
