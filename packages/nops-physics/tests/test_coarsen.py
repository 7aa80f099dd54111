"""Fewer points: modes that they hold stay, all others go."""

import math

import pytest
import torch
from nops_physics import coarsen, random_field
from torch.testing import assert_close


def points(count: int) -> torch.Tensor:
    return 2 * math.pi * torch.arange(count, dtype=torch.float64) / count


def test_a_fine_field_on_a_coarse_grid_keeps_its_modes() -> None:
    x = points(32)
    beyond = 0.5 * torch.sin(11 * x) + 0.25 * torch.cos(8 * x)  # above, and at, what 16 points hold
    fine = torch.cos(3 * x[:, None] + 2 * x) + beyond
    coarse = coarsen(fine.expand(1, 32, 32), shape=(16, 16))
    y = points(16)
    assert_close(coarse[0], torch.cos(3 * y[:, None] + 2 * y))


def test_a_box_of_odd_and_even_sides() -> None:
    def field(n: int, m: int, p: int) -> torch.Tensor:
        x, y, z = points(n)[:, None, None], points(m)[:, None], points(p)
        return 1.5 + torch.sin(2 * x + y - 3 * z) + torch.cos(4 * x) * torch.sin(3 * y)

    fine = field(20, 15, 12) + torch.cos(5 * points(20))[:, None, None]  # 9 points hold 4 at most
    assert_close(coarsen(fine, shape=(9, 7, 12)), field(9, 7, 12))
    assert_close(coarsen(field(9, 15, 12), shape=(7, 12)), field(9, 7, 12))  # the last axes alone


def test_in_two_steps_or_in_one() -> None:
    field = random_field(lambda k: k**-2, shape=(32, 24), batch=(3,), seed=0)
    once = coarsen(field, shape=(8, 6))
    assert_close(coarsen(coarsen(field, shape=(16, 12)), shape=(8, 6)), once)
    assert torch.equal(coarsen(field, shape=(32, 24)), field)
    assert coarsen(field.float(), shape=(8, 6)).dtype == torch.float32


@pytest.mark.parametrize("shape", [(16, 40), (2, 4, 8), (0, 8)])
def test_what_is_no_coarser_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        coarsen(torch.zeros(32, 32), shape=shape)
