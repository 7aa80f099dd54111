"""How steep a field is: exact where it is quadratic, of second order elsewhere, and what is refused."""

import math

import pytest
import torch
from nops_losses import gradient_magnitude, sample_queries
from torch.testing import assert_close


def test_both_channels_and_axes_count():
    # u = 3x + 4y, v = 12x on cells 0.5 apart: √(9 + 16 + 144) = 13 everywhere, ends included
    x, y = torch.meshgrid(torch.arange(3.0) / 2, torch.arange(4.0) / 2, indexing="ij")
    field = torch.stack([3 * x + 4 * y, 12 * x], -1).reshape(1, 12, 2)
    assert_close(
        gradient_magnitude(field, grid_shape=(3, 4), spacing=0.5), torch.full((1, 12), 13.0)
    )


def test_a_periodic_axis_closes_and_an_open_one_does_not():
    # on 0, 1, 2, 6: closed, the ends differ by (1 - 6)/2 and (0 - 2)/2
    field = torch.tensor([0.0, 1.0, 2.0, 6.0]).reshape(1, 4, 1)
    closed = gradient_magnitude(field, grid_shape=(4,), periodic=True)
    assert_close(closed, torch.tensor([[2.5, 1.0, 2.5, 1.0]]))
    assert_close(gradient_magnitude(field, grid_shape=(4,)), torch.tensor([[1.0, 1.0, 2.5, 4.0]]))


def test_it_is_of_second_order():
    def error(points: int) -> float:
        x = torch.arange(points, dtype=torch.float64) / points * 2 * math.pi
        options = {"grid_shape": (points, 1), "spacing": (2 * math.pi / points, 1.0)}
        found = gradient_magnitude(x.sin().reshape(1, -1, 1), periodic=(True, False), **options)
        return float((found - x.cos().abs()).abs().max())

    assert math.log2(error(32) / error(64)) == pytest.approx(2.0, abs=0.05)


def test_a_constant_field_is_flat_and_draws_as_evenly_as_any():
    flat = gradient_magnitude(torch.ones(2, 9, 1, requires_grad=True), grid_shape=(3, 3))
    assert not flat.requires_grad
    assert_close(flat, torch.zeros(2, 9))
    drawn = sample_queries(9, 4, batch_size=2, strategy="importance", importance=flat)
    assert_close(drawn.inclusion, torch.full((2, 4), 4 / 9, dtype=torch.float64))


def test_other_grids_are_refused():
    with pytest.raises(ValueError, match="12 cells"):
        gradient_magnitude(torch.ones(1, 9, 1), grid_shape=(3, 4))
    with pytest.raises(ValueError, match="each of 2 axes"):
        gradient_magnitude(torch.ones(1, 9, 1), grid_shape=(3, 3), periodic=(True,))
