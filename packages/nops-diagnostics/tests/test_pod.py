"""Proper modes: fields made of known patterns, orthogonality, nothing averaged before."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import proper_modes
from torch.testing import assert_close


def patterns():
    """Two orthogonal patterns of mean square 1 on 8 x 6 cells."""
    x = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    y = torch.arange(6, dtype=torch.float64) * (2 * math.pi / 6)
    one = (x.cos() * math.sqrt(2))[:, None].expand(8, 6)
    return one, (y.cos() * math.sqrt(2))[None].expand(8, 6)


def test_a_field_made_of_two_patterns():
    one, two = patterns()
    # two samples of two times; coefficients of mean 0, and orthogonal: mean squares 10 and 1
    a = torch.tensor([[4.0, -4.0], [2.0, -2.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    field = 5 + a[..., None, None] * one + b[..., None, None] * two
    got = proper_modes(field[:, :, None], num_modes=2)
    assert_close(got.mean, torch.full((1, 8, 6), 5.0, dtype=torch.float64))
    assert_close(got.energy, torch.tensor([[10.0, 1.0]], dtype=torch.float64))
    assert_close(got.total, torch.tensor([11.0], dtype=torch.float64))
    for mode, (pattern, coefficient) in enumerate(((one, a), (two, b))):
        sign = torch.sign((got.modes[0, mode] * pattern).mean())
        assert_close(got.modes[0, mode], sign * pattern)
        assert_close(got.coefficients[:, :, 0, mode], sign * coefficient)


def test_samples_that_mirror_each_other_keep_their_modes():
    one, _ = patterns()
    amplitude = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    got = proper_modes((amplitude[..., None, None] * one)[:, :, None])
    assert_close(got.energy[0, 0].item(), 2.5)  # averaged over samples first, nothing is left


@given(
    seed=st.integers(0, 2**31 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 2)),
    spatial_dims=st.integers(1, 3),
)
def test_all_modes_restore_the_field(fields, seed, shape, spatial_dims):
    field = fields(seed, *shape, *(3,) * spatial_dims) + 2
    got = proper_modes(field, spatial_dims=spatial_dims)
    modes = got.modes.flatten(2)
    restored = torch.einsum("btcm,cmx->btcx", got.coefficients, modes) + got.mean.flatten(1)
    assert_close(restored, field.flatten(3))
    if shape[0] * shape[1] > 1:
        assert_close(got.energy[:, 0], got.coefficients[..., 0].square().mean((0, 1)))
    variance = (field.flatten(3) - got.mean.flatten(1)).square().mean((0, 1, 3))
    assert_close(got.total, variance)
    gram = modes @ modes.transpose(1, 2) / modes.shape[-1]
    assert_close(gram, torch.eye(modes.shape[1]).double().expand_as(gram))
    assert (modes.amax(-1) >= modes.abs().amax(-1)).all()


def test_components_are_apart(fields):
    field = fields(0, 2, 5, 2, 4, 4)
    got = proper_modes(field, num_modes=3)
    for channel in range(2):
        alone = proper_modes(field[:, :, channel : channel + 1], num_modes=3)
        assert_close(got.energy[channel], alone.energy[0])
        assert_close(got.modes[channel], alone.modes[0])
        assert_close(got.coefficients[:, :, channel], alone.coefficients[:, :, 0])


def test_projection_of_the_field_itself_and_of_another(fields):
    field = fields(1, 2, 5, 2, 4, 4)
    got = proper_modes(field, num_modes=3)
    assert_close(got.project(field), got.coefficients)
    assert_close(got.project(field + 2 * got.modes[:, 1]) - got.coefficients, _only_second(2.0))


def _only_second(value):
    change = torch.zeros(2, 5, 2, 3, dtype=torch.float64)
    change[..., 1] = value
    return change


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(2, 2, 3, 1, 4, 4)
    with pytest.raises(ValueError, match="leading axes"):
        proper_modes(field[0])
    for number in (0, 7):
        with pytest.raises(ValueError, match=f"num_modes={number} needs to lie between 1 and 6"):
            proper_modes(field, num_modes=number)
    with pytest.raises(ValueError, match="not finite"):
        proper_modes(field * math.inf)
    with pytest.raises(ValueError, match=r"\(2, 3, 1, 4, 2\).*\(1, 4, 4\)"):
        proper_modes(field).project(field[..., :2])
