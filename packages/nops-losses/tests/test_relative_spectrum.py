"""The published relative log spectrum error, held by an independent rewrite of its definition."""

import math

import numpy as np
import pytest
import torch
from nops_losses import energy_spectrum, relative_log_spectrum_error
from torch.testing import assert_close


def published(pred, target, *, power=2):
    """The definition in NumPy on (sample, time, channel, n, n): the full complex transform, one
    annulus after the other."""
    n = pred.shape[-1]
    k = np.fft.fftfreq(n) * n
    radius = np.hypot(k[:, None], k[None, :])

    def logs(field):
        height = np.abs(np.fft.fft2(field.mean(2))) ** power
        rows = []
        for inner in np.arange(0.5, n // 2 + 0.4):
            ring = (radius > inner) & (radius <= inner + 1)
            area = np.pi * ((inner + 1) ** 2 - inner**2)
            rows.append(height[..., ring].sum(-1) / (ring.sum() + 1e-8) * area)
        return np.log(np.stack(rows, -1) + 1e-10)

    lp, lt = logs(pred.numpy()), logs(target.numpy())
    ratio = np.square(lp - lt).mean((1, 2)) / (np.square(lt).mean((1, 2)) + 1e-10)
    return ratio.mean()


@pytest.mark.parametrize(
    ("n", "scaled", "added"),
    [(16, 9.90942254e-4, 8.20639646e-5), (32, 1.22120867e-3, 4.71955235e-5)],
)
def test_golden_values(slope, n, scaled, added):
    pred, target = (field[None] for field in slope(n))
    got = relative_log_spectrum_error(1.2 * target, target).item()
    assert got == pytest.approx(scaled, rel=1e-8)
    assert relative_log_spectrum_error(pred, target).item() == pytest.approx(added, rel=1e-8)


@pytest.mark.parametrize("n", [8, 9, 16, 33])
@pytest.mark.parametrize("power", [1, 2])
def test_legacy_is_the_published_definition(fields, n, power):
    pred, target = fields(0, 2, 3, 2, n, n), fields(1, 2, 3, 2, n, n)
    got = relative_log_spectrum_error(pred, target, power=power).item()
    assert got == pytest.approx(published(pred, target, power=power), rel=1e-11)


def test_of_a_rectangle_the_axes_are_not_exchanged(grid):
    # (5, 0) on 16 x 32 cells lies in annulus 5, as (0, 5) does
    x1, x2 = grid(16, 32)
    first, second = (5 * x1).cos()[None, None], (5 * x2).cos()[None, None]
    assert relative_log_spectrum_error(first, second) < 1e-6  # rounding in the empty annuli
    other = (4 * x2).cos()[None, None]
    assert relative_log_spectrum_error(first, other) > 0.1


def test_opposite_channels_cancel_on_average_alone(fields):
    u = fields(0, 1, 1, 8, 8)
    field = torch.cat([u, -u], 1)
    assert relative_log_spectrum_error(2 * field, field) == 0
    assert relative_log_spectrum_error(2 * field, field, channels="energy") > 0.01


def test_energy_channels_add_up(fields):
    # Two equal channels have twice the height of one: ln 2 more in each annulus of both fields
    pred, target = fields(0, 2, 1, 8, 8), fields(1, 2, 1, 8, 8)
    twice = relative_log_spectrum_error(
        pred.expand(2, 2, 8, 8), target.expand(2, 2, 8, 8), channels="energy"
    )
    once = relative_log_spectrum_error(math.sqrt(2) * pred, math.sqrt(2) * target)
    assert_close(twice, once, rtol=1e-9, atol=0)


@pytest.mark.parametrize("estimator", ["sum", "mean"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_ratio_over_our_spectra(fields, estimator, dims):
    sizes, box = (8, 9, 10)[:dims], (1.0, 2.0, 1.5)[:dims]
    pred, target = fields(0, 2, 3, 1, *sizes), fields(1, 2, 3, 1, *sizes)
    options = {"lengths": box, "estimator": estimator, "spatial_dims": dims}
    k, p = energy_spectrum(pred, **options)
    _, t = energy_spectrum(target, **options)
    nyquist = math.pi * min(n / length for n, length in zip(sizes, box, strict=True))
    inside = (k > 0) & (k < nyquist + 1e-9)
    lp, lt = ((e[..., inside] + 1e-10).log() for e in (p, t))
    expected = (lp - lt).square().mean((1, 2)) / (lt.square().mean((1, 2)) + 1e-10)
    got = relative_log_spectrum_error(pred, target, reduction="none", **options)
    assert_close(got, expected, rtol=1e-12, atol=0)


def test_per_says_which_axes_a_ratio_covers(fields):
    pred, target = fields(0, 2, 3, 1, 8, 8), fields(1, 2, 3, 1, 8, 8)
    frame = relative_log_spectrum_error(pred, target, per="frame", reduction="none")
    assert frame.shape == (2, 3)
    alone = relative_log_spectrum_error(pred[1, 2:], target[1, 2:])
    assert_close(frame[1, 2], alone, rtol=1e-12, atol=0)
    batch = relative_log_spectrum_error(pred, target, per="batch")
    assert_close(batch, relative_log_spectrum_error(*(u.flatten(0, 1) for u in (pred, target))))


def test_it_depends_on_the_unit(slope):
    _, target = slope(32)
    values = [
        relative_log_spectrum_error(1.2 * s * target[None], s * target[None]).item()
        for s in (1, 100)
    ]
    assert values == pytest.approx([1.22e-3, 3.84e-4], rel=1e-2)  # as the docstring says


def test_power_one_has_a_gradient_at_zero(fields):
    pred = torch.zeros(1, 1, 8, 8, requires_grad=True)
    relative_log_spectrum_error(pred, fields(0, 1, 1, 8, 8).float(), power=1).backward()
    assert pred.grad.isfinite().all()


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_three_dimensions_of_the_published_one(self):
        field = torch.zeros(1, 1, 8, 8, 8)
        with pytest.raises(ValueError, match=r"spatial_dims=3.*Use estimator='sum'"):
            relative_log_spectrum_error(field, field, spatial_dims=3)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"lengths": (1.0, 2.0)}, r"no lengths, got \(1.0, 2.0\)"),
            ({"power": 0.5}, "power.*at least 1; got 0.5"),
            ({"power": 1, "estimator": "sum"}, "power=1 needs estimator='legacy'"),
            ({"estimator": "median"}, "estimator='median' is unknown"),
            ({"channels": "sum"}, "channels='sum' is unknown"),
        ],
    )
    def test_options_that_exclude_each_other(self, options, message):
        field = torch.zeros(1, 1, 8, 8)
        with pytest.raises(ValueError, match=message):
            relative_log_spectrum_error(field, field, **options)
