"""Log spectrum error: golden values, invariances, empty shells."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import spectrum_error
from nops_losses import log_spectrum_error
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)


def slope_field(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A sum of waves m^-1.5 along both axes, and the same with 0.1 cos(3 x2 + 2 x1) added."""
    x = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    x1, x2 = x[:, None], x[None, :]
    field = torch.zeros(n, n, dtype=torch.float64)
    for m in range(1, n // 2):
        field += m**-1.5 * (torch.cos(m * x2 + m) + torch.cos(m * x1 + 2 * m))
    return (field + 0.1 * torch.cos(3 * x2 + 2 * x1))[None], field[None]


@pytest.mark.parametrize(
    ("n", "expected"), [(16, math.log(1.32) ** 2 / 7), (32, math.log(1.32) ** 2 / 15)]
)
def test_an_added_wave_by_hand(n, expected):
    # The wave (2, 3) has |k| = 3.61, shell 4, where the truth has 4^-3 / 2 of energy in all: the
    # added 0.1^2 / 4 raises it by 0.0025 / 0.0078125 = 0.32. One of n/2 - 1 shells differs.
    pred, target = slope_field(n)
    assert_close(
        spectrum_error(pred, target), torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=0
    )


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@given(seed=SEEDS, scale=st.floats(1e-5, 1e5))
def test_a_scaled_field_in_any_unit(fields, spatial_dims, seed, scale):
    target = scale * fields(seed, 2, 1, *(8,) * spatial_dims)
    got = spectrum_error(1.2 * target, target, spatial_dims=spatial_dims)
    assert_close(
        got, torch.tensor((2 * math.log(1.2)) ** 2, dtype=torch.float64), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize(
    ("sizes", "lengths"), [((16,), None), ((12, 9), (2.0, 1.0)), ((8, 9, 10), (1.0, 2.0, 3.0))]
)
def test_is_the_loss_of_the_same_name_at_its_defaults(fields, sizes, lengths):
    # The loss refuses axes of fewer than 8 cells; the metric scores what it is given.
    pred, target = fields(0, 2, 2, *sizes), fields(1, 2, 2, *sizes)
    got = spectrum_error(pred, target, lengths=lengths, spatial_dims=len(sizes))
    expected = log_spectrum_error(pred, target, lengths=lengths, spatial_dims=len(sizes))
    assert_close(got, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("window", ["hann", "tukey"])
def test_with_a_window_it_is_the_loss_without_the_mean(fields, window):
    pred, target = fields(0, 2, 2, 16, 12) + 3, fields(1, 2, 2, 16, 12)
    got = spectrum_error(pred, target, window=window)
    expected = log_spectrum_error(pred, target, window=window, detrend="mean")
    assert_close(got, expected, rtol=1e-12, atol=0)


def test_float32_input_gives_the_same_figure():
    pred, target = slope_field(16)
    got = spectrum_error(pred.float(), target.float())
    expected = torch.tensor(math.log(1.32) ** 2 / 7, dtype=torch.float64)
    assert_close(got, expected, rtol=1e-5, atol=0)  # float32 rounding of the input


@given(seed=SEEDS)
def test_blind_to_phase_and_mean(fields, seed):
    target = fields(seed, 2, 2, 8, 9)
    moved = target.roll((3, 2), (-2, -1)) + 0.5
    assert_close(
        spectrum_error(moved, target), torch.tensor(0.0, dtype=torch.float64), atol=1e-20, rtol=0
    )


def test_empty_shells_of_the_truth_do_not_count(fields):
    # A truth of one wave: only its shell is compared, whatever the prediction has elsewhere.
    x = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    target = torch.cos(3 * x).expand(1, 16, 16)
    pred = 2 * target + torch.cos(5 * x)[:, None]
    assert_close(spectrum_error(pred, target), torch.tensor(math.log(4) ** 2, dtype=torch.float64))
    offset = spectrum_error(pred + 50, target + 50)
    assert_close(offset, torch.tensor(math.log(4) ** 2, dtype=torch.float64))


def test_a_large_mean_does_not_hide_small_waves():
    # In float32 a shell counts from 1e-10 of the energy *outside* the mean, 2.3e-13 of all.
    x = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    wave = (0.01 * torch.cos(3 * x)).expand(1, 16, 16)
    got = spectrum_error((1000 + 2 * wave).float(), (1000 + wave).float())
    assert float(got) == pytest.approx(math.log(4) ** 2, rel=0.02)  # rounding of 1000.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(16, 16), (15, 9)])
def test_a_constant_truth_counts_nothing(fields, dtype, shape):
    target = torch.full((2, 1, *shape), 0.1, dtype=dtype)
    pred = fields(0, 2, 1, *shape).to(dtype)
    assert spectrum_error(pred, target) == 0.0


def test_lengths_move_the_nyquist_limit(fields):
    # On 16 x 8 cells of unequal size the shells up to the smaller Nyquist number are compared.
    x = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    target = (torch.cos(2 * x) + torch.cos(6 * x))[:, None].expand(1, 16, 8)
    pred = (torch.cos(2 * x) + 3 * torch.cos(6 * x))[:, None].expand(1, 16, 8)
    square_box = spectrum_error(pred, target)  # Nyquist 4: the wave 6 is beyond
    assert_close(square_box, torch.tensor(0.0, dtype=torch.float64))
    square_cells = spectrum_error(pred, target, lengths=(2.0, 1.0))  # dk = 2 pi: waves 1 and 3 of 4
    assert_close(square_cells, torch.tensor(math.log(9) ** 2 / 2, dtype=torch.float64))


def test_reduction_and_leading_axes(fields):
    pred, target = fields(1, 2, 3, 1, 8, 8), fields(2, 2, 3, 1, 8, 8)
    kept = spectrum_error(pred, target, reduction="none")
    assert kept.shape == (2, 3)
    assert_close(kept.mean(), spectrum_error(pred, target))
    assert_close(kept[1, 2], spectrum_error(pred[1, 2], target[1, 2]))


def test_gradient(fields):
    target = fields(3, 1, 1, 6, 6)
    pred = fields(4, 1, 1, 6, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: spectrum_error(p, target), (pred,))


def test_a_broken_prediction_is_nan(fields):
    target = fields(5, 1, 8, 8)
    assert spectrum_error(target * math.nan, target).isnan()


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(6, 1, 8, 8)
    with pytest.raises(ValueError, match="one shape"):
        spectrum_error(field, field[:, :4])
    with pytest.raises(ValueError, match="reduction='sum'"):
        spectrum_error(field, field, reduction="sum")
    with pytest.raises(ValueError, match="lengths"):
        spectrum_error(field, field, lengths=(1.0,))
