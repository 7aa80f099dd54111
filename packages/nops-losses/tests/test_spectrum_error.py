"""The log and the binned power error: golden values, which shells count, invariances, blindness."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import (
    anisotropic_spectrum_error,
    binned_spectral_power_error,
    coherence_error,
    energy_spectrum,
    log_spectrum_error,
    relative_l2,
    relative_log_spectrum_error,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)
SHELL_ERRORS = [log_spectrum_error, binned_spectral_power_error]
BLIND_TO_PHASE = [*SHELL_ERRORS, anisotropic_spectrum_error, relative_log_spectrum_error]
ERRORS = [*BLIND_TO_PHASE, coherence_error]


def double(value):
    return torch.tensor(value, dtype=torch.float64)


class TestGoldenValues:
    @pytest.mark.parametrize("n", [16, 32])
    def test_one_wave_added(self, slope, n):
        # (2, 3) has |k| = 3.6, shell 4, where the truth has 2 · 4^-3 / 4; 0.1²/4 raises it by 0.32
        pred, target = slope(n)
        shells = n // 2 - 1
        got = log_spectrum_error(pred, target)
        assert_close(got, double(math.log(1.32) ** 2 / shells), rtol=1e-12, atol=0)
        power = binned_spectral_power_error(pred, target)
        assert_close(power, double(0.32**2 / shells), rtol=1e-12, atol=0)

    def test_twenty_percent_too_much(self, slope):
        _, target = slope(16)
        got = log_spectrum_error(1.2 * target, target)
        assert got.item() == pytest.approx(0.132964600, rel=1e-8)
        assert binned_spectral_power_error(1.2 * target, target).item() == pytest.approx(0.1936)

    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_doubled_opposite_channels(self, fields, dims):
        u = fields(0, 1, *(8,) * dims)
        field = torch.cat([u, -u])
        got = log_spectrum_error(2 * field, field, spatial_dims=dims)
        assert_close(got, double((2 * math.log(2)) ** 2), rtol=1e-12, atol=0)


class TestShells:
    def wave(self, grid, *amplitudes):
        """cos(k x₁) of k = 1, 2, … with these amplitudes, on 16 x 16 cells."""
        x1, _ = grid(16, 16)
        return sum(a * (k * x1).cos() for k, a in enumerate(amplitudes, 1))[None]

    def test_shells_that_the_truth_lacks_do_not_count(self, grid):
        target = self.wave(grid, 1, 0, 1)
        pred = self.wave(grid, 2, 5, 1)
        # ln 4 in shell 1, 0 in shell 3; shell 2 is empty in the truth
        assert_close(log_spectrum_error(pred, target), double(math.log(4) ** 2 / 2))
        assert_close(binned_spectral_power_error(pred, target), double(9 / 2))

    def test_the_floor_says_what_is_empty(self, grid):
        target, pred = self.wave(grid, 1, 0, 0.1), self.wave(grid, 1, 0, 0.2)
        # Energies 1/4 and 1/400: e = 0.005 · (1/4 + 1/400) = 0.0012625 is below, 0.02 of it above
        level = 0.005 * 0.2525
        low = log_spectrum_error(pred, target, floor=0.005)
        distance = math.log((0.01 + level) / (0.0025 + level))
        assert_close(low, double(distance**2 / 2))
        assert log_spectrum_error(pred, target, floor=0.02) < 1e-20

    def test_k_range_and_weights(self, grid):
        target, pred = self.wave(grid, 1, 1, 1, 1), self.wave(grid, 1, 2, 3, 4)
        logs = [(2 * math.log(a)) ** 2 for a in (1, 2, 3, 4)]
        assert_close(log_spectrum_error(pred, target), double(sum(logs) / 4))
        chosen = log_spectrum_error(pred, target, k_range=(2, 3))
        assert_close(chosen, double(sum(logs[1:3]) / 2))
        weighted = log_spectrum_error(pred, target, shell_weights=lambda k: k)
        assert_close(weighted, double(sum(k * x for k, x in enumerate(logs, 1)) / 10))

    def test_k_range_may_hold_the_mean(self, grid):
        target, pred = self.wave(grid, 1) + 1, self.wave(grid, 1) + 3
        assert log_spectrum_error(pred, target) < 1e-20
        assert_close(
            log_spectrum_error(pred, target, k_range=(0, 1)), double((2 * math.log(3)) ** 2 / 2)
        )

    def test_default_range_ends_at_the_smallest_nyquist_number(self, grid):
        x1, _ = grid(16, 8)
        target = ((2 * x1).cos() + (6 * x1).cos())[None]
        pred = ((2 * x1).cos() + 3 * (6 * x1).cos())[None]
        assert log_spectrum_error(pred, target) < 1e-20  # Nyquist 4 along x₂
        # Square cells: dk = 2π, the waves are 1 dk and 3 dk of 4
        stretched = log_spectrum_error(pred, target, lengths=(2.0, 1.0))
        assert_close(stretched, double(math.log(9) ** 2 / 2))

    def test_a_constant_truth_counts_nothing(self, fields):
        for value in (0.0, 0.1, 1e6):
            for dtype in (torch.float32, torch.float64):
                target = torch.full((1, 15, 9), value, dtype=dtype)
                pred = fields(0, 1, 15, 9).to(dtype)
                assert log_spectrum_error(pred, target) == 0
                assert binned_spectral_power_error(pred, target) == 0

    def test_bins_and_estimators_are_passed_on(self, fields):
        pred, target = fields(0, 1, 32, 32), fields(1, 1, 32, 32)
        k, p = energy_spectrum(pred, bins="log", estimator="mean")
        _, t = energy_spectrum(target, bins="log", estimator="mean")
        inside = (k > 0) & (k <= 16)
        expected = (p.log() - t.log())[inside].square().mean()
        got = log_spectrum_error(pred, target, bins="log", estimator="mean")
        assert_close(got, expected, rtol=1e-12, atol=0)


class TestAxes:
    def test_per_says_what_is_averaged_first(self, fields):
        pred, target = fields(0, 2, 3, 1, 8, 8), fields(1, 2, 3, 1, 8, 8)
        p, t = energy_spectrum(pred).energy[..., 1:5], energy_spectrum(target).energy[..., 1:5]

        def distance(p, t):
            return (p.log() - t.log()).square().mean(-1)

        for per, expected in (
            ("frame", distance(p, t)),
            ("sequence", distance(p.mean(1), t.mean(1))),
            ("batch", distance(p.mean((0, 1)), t.mean((0, 1)))),
        ):
            got = log_spectrum_error(pred, target, per=per, reduction="none")
            assert_close(got, expected, rtol=1e-12, atol=0)
            assert_close(log_spectrum_error(pred, target, per=per), expected.mean())

    def test_channels_apart(self, fields):
        pred, target = fields(0, 2, 3, 8, 8), fields(1, 2, 3, 8, 8)
        alone = [
            log_spectrum_error(pred[:, [c]], target[:, [c]], reduction="none") for c in (0, 1, 2)
        ]
        got = log_spectrum_error(pred, target, components="each", reduction="none")
        assert_close(got, torch.stack(alone).mean(0), rtol=1e-12, atol=0)
        power = binned_spectral_power_error(pred, target, reduction="none")
        assert power.shape == (2, 3)
        one = binned_spectral_power_error(pred[1, 2:], target[1, 2:])
        assert_close(power[1, 2], one, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("error", ERRORS)
    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_every_error_keeps_leading_axes_and_counts_dimensions(self, fields, error, dims):
        options = {"spatial_dims": dims}
        if error is relative_log_spectrum_error:
            options |= {"estimator": "sum", "per": "frame"}
        pred, target = fields(0, 2, 1, *(8, 9, 10)[:dims]), fields(1, 2, 1, *(8, 9, 10)[:dims])
        kept = error(pred, target, reduction="none", **options)
        assert kept.shape == ((2, 1) if error is binned_spectral_power_error else (2,))
        assert_close(kept.mean(), error(pred, target, **options))
        assert kept.min() > 0


class TestTruthMadeBefore:
    @pytest.mark.parametrize("error", SHELL_ERRORS)
    def test_saves_its_transform_and_nothing_else(self, fields, operations, error):
        pred, target = fields(0, 2, 2, 8, 8).requires_grad_(), fields(1, 2, 2, 8, 8)
        each = "each" if error is binned_spectral_power_error else "sum"
        truth = energy_spectrum(target, components=each, bins="log")
        expected = error(pred, target, bins="log")
        got = error(pred, truth, bins="log")
        assert_close(got, expected, rtol=0, atol=0)
        transforms = "aten._fft_r2c.default"
        assert operations(lambda: error(pred, target, bins="log")).count(transforms) == 2
        assert operations(lambda: error(pred, truth, bins="log")).count(transforms) == 1

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("error", SHELL_ERRORS)
    def test_of_other_options_is_refused(self, fields, error):
        pred = fields(0, 2, 2, 8, 8)
        with pytest.raises(ValueError, match="same grid, lengths, bins and components"):
            error(pred, energy_spectrum(pred[:1], components="each"))


class TestProperties:
    @given(seed=SEEDS, scale=st.floats(1e-5, 1e5), length=st.floats(0.1, 10))
    def test_no_unit_of_field_or_length(self, fields, seed, scale, length):
        pred, target = fields(seed, 1, 8, 10), fields(seed + 1, 1, 8, 10)
        expected = log_spectrum_error(pred, target)
        moved = log_spectrum_error(scale * pred, scale * target, lengths=(length, length))
        assert_close(moved, expected, rtol=1e-12, atol=0)

    @given(seed=SEEDS, factor=st.floats(0.2, 5))
    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_of_a_scaled_field(self, fields, dims, seed, factor):
        target = fields(seed, 2, 1, *(8,) * dims)
        got = log_spectrum_error(factor * target, target, spatial_dims=dims)
        # of the root: near a factor of 1 both spectra's logarithms are rounded, and their difference is small
        assert_close(got.sqrt(), double(abs(2 * math.log(factor))), rtol=1e-12, atol=1e-14)

    def test_a_finer_grid_changes_nothing(self, grid):
        errors = []
        for n in (16, 33):
            x1, x2 = grid(n, n)
            target = ((3 * x1 + 2 * x2).cos() + 0.3 * (5 * x2).sin())[None]
            pred = (1.1 * (3 * x1 + 2 * x2).cos() + 0.4 * (5 * x2 + 1).sin())[None]
            errors.append(log_spectrum_error(pred, target))
        assert_close(*errors, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("error", ERRORS)
    def test_turned_mirrored_and_moved_pairs(self, fields, error):
        options = {"per": "frame"} if error is relative_log_spectrum_error else {}
        pred, target = fields(0, 1, 12, 12), fields(1, 1, 12, 12)
        expected = error(pred, target, **options)
        for move in (
            lambda u: u.roll((3, 5), (1, 2)),
            lambda u: u.flip(1),
            lambda u: u.rot90(1, (1, 2)),
        ):
            assert_close(error(move(pred), move(target), **options), expected, rtol=1e-11, atol=0)

    @given(seed=SEEDS)
    @pytest.mark.parametrize("error", BLIND_TO_PHASE)
    def test_a_rolled_prediction_is_not_seen(self, fields, error, seed):
        target = fields(seed, 2, 1, 8, 9)
        rolled = target.roll((2, 3), (-2, -1))
        assert error(rolled, target) < 1e-20
        assert relative_l2(rolled, target) > 0.1
        assert coherence_error(rolled, target) > 0.1


class TestDifferentiation:
    @pytest.mark.parametrize("error", ERRORS)
    def test_first_and_second_derivatives(self, fields, error):
        pred, target = fields(0, 1, 2, 8, 8).requires_grad_(), fields(1, 1, 2, 8, 8)
        assert torch.autograd.gradcheck(lambda p: error(p, target), pred)
        assert torch.autograd.gradgradcheck(lambda p: error(p, target), pred)

    @pytest.mark.parametrize("error", ERRORS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_gradients_at_zero_are_finite(self, fields, error, dtype):
        zero = torch.zeros(1, 1, 8, 8, dtype=dtype)
        for target in (zero, fields(0, 1, 1, 8, 8).to(dtype)):
            pred = zero.clone().requires_grad_()
            value = error(pred, target)
            value.backward()
            assert value.isfinite()
            assert pred.grad.isfinite().all()

    @pytest.mark.parametrize("error", ERRORS)
    def test_no_gradient_into_the_truth(self, fields, error):
        pred, target = (fields(i, 1, 1, 8, 8).requires_grad_() for i in (0, 1))
        error(pred, target).backward()
        assert pred.grad.any()
        assert target.grad is None

    @pytest.mark.parametrize("error", ERRORS)
    def test_a_broken_field_is_nan(self, fields, error):
        field = fields(0, 1, 1, 8, 8)
        broken = field.clone()
        broken[..., 3, 3] = math.nan
        constant = torch.ones_like(field)
        assert error(broken, field).isnan()
        assert error(field, broken).isnan()
        assert error(broken, constant).isnan()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("error", ERRORS)
def test_plans_made_without_numbers_are_not_kept(fields, error):
    options = {"window": "tukey"}
    with FakeTensorMode():
        error(torch.randn(1, 1, 9, 13), torch.randn(1, 1, 9, 13), **options)
    pred, target = fields(0, 1, 1, 9, 13).float(), fields(1, 1, 1, 9, 13).float()
    assert error(pred, target, **options) > 0


@pytest.mark.parametrize("error", ERRORS)
def test_transforms_of_functions(fields, error):
    options = {"per": "frame"} if error is relative_log_spectrum_error else {}
    pred, target = fields(0, 3, 1, 9, 14), fields(1, 3, 1, 9, 14)
    each = torch.func.vmap(lambda p, t: error(p, t, **options))(pred, target)
    alone = torch.stack([error(p, t, **options) for p, t in zip(pred, target, strict=True)])
    assert_close(each, alone, rtol=1e-12, atol=0)
    gradient = torch.func.grad(lambda p: error(p, target, **options))(pred)
    pred.requires_grad_()
    error(pred, target, **options).backward()
    assert_close(gradient, pred.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("error", ERRORS)
def test_a_second_call_asks_the_device_nothing(fields, operations, error):
    # No number is read back, and no plan is made on the host again: both would wait for it.
    pred, target = (fields(i, 2, 1, 8, 8).requires_grad_() for i in (0, 1))
    mask = torch.ones(8, 8, dtype=torch.bool)
    options = {"mask": mask, "window": "hann", "detrend": "mean"}
    error(pred, target, **options)
    names = operations(lambda: error(pred, target, **options).backward())
    waits = ("_local_scalar_dense", "nonzero", "arange", "fft_fftfreq", "bucketize")
    assert not [name for name in names if any(wait in name for wait in waits)]


class TestPrecision:
    @pytest.mark.parametrize("error", ERRORS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_fields_are_computed_in_float32(self, fields, error, dtype, autocast):
        pred, target = ((100 * fields(i, 1, 1, 10, 12)).to(dtype) for i in (0, 1))
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            got = error(pred, target)
        assert got.dtype == torch.float32
        assert_close(got, error(pred.float(), target.float()), rtol=0, atol=0)

    def test_float32_figure_of_the_golden_field(self, slope):
        pred, target = slope(16)
        got = log_spectrum_error(pred.float(), target.float())
        assert got.item() == pytest.approx(math.log(1.32) ** 2 / 7, rel=1e-5)

    def test_a_large_mean_does_not_hide_small_waves(self, grid):
        x1, _ = grid(16, 16)
        wave = (0.01 * (3 * x1).cos())[None]
        got = log_spectrum_error((1000 + 2 * wave).float(), (1000 + wave).float())
        assert got.item() == pytest.approx(math.log(4) ** 2, rel=0.02)  # rounding of 1000.01


@pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
@pytest.mark.parametrize("error", ERRORS)
def test_compiles(fields, error):
    pred, target = fields(0, 1, 1, 8, 8), fields(1, 1, 1, 8, 8)
    compiled = torch.compile(error, backend="eager", fullgraph=True, dynamic=False)
    assert_close(compiled(pred, target), error(pred, target), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize("error", ERRORS)
    def test_unequal_shapes_with_the_layout_that_was_read(self, error):
        pred, target = torch.zeros(2, 1, 8, 8, 8), torch.zeros(2, 1, 8, 8, 9)
        message = r"\(2, 1, 8, 8, 8\) and \(2, 1, 8, 8, 9\).*\(\.\.\., channel, \*grid\)"
        with pytest.raises(ValueError, match=message + r".*spatial_dims=2.*pass spatial_dims=3"):
            error(pred, target)

    @pytest.mark.parametrize("error", ERRORS)
    def test_too_few_axes(self, error):
        with pytest.raises(ValueError, match=r"\(8, 8\).*at least 3 axes"):
            error(torch.zeros(8, 8), torch.zeros(8, 8))

    @pytest.mark.parametrize("error", ERRORS)
    def test_short_sides(self, error):
        field = torch.zeros(1, 1, 16, 7)
        with pytest.raises(ValueError, match=r"at least 8 cells.*\(16, 7\)"):
            error(field, field)

    @pytest.mark.parametrize("error", ERRORS)
    def test_fields_that_are_not_real(self, error):
        real = torch.zeros(1, 1, 8, 8)
        for dtype in (torch.int64, torch.complex64):
            with pytest.raises(TypeError, match=f"pred.*{dtype}"):
                error(real.to(dtype), real)
            with pytest.raises(TypeError, match=f"target.*{dtype}"):
                error(real, real.to(dtype))

    @pytest.mark.parametrize("error", ERRORS)
    def test_an_unknown_reduction(self, error):
        field = torch.ones(1, 1, 8, 8)
        with pytest.raises(ValueError, match="'sum'"):
            error(field, field, reduction="sum")

    @pytest.mark.parametrize("k_range", [(3, 2), (-1, 2), (1, math.inf), (1, 2, 3)])
    def test_a_range_that_is_none(self, k_range):
        field = torch.ones(1, 8, 8)
        with pytest.raises(ValueError, match="k_range needs"):
            log_spectrum_error(field, field, k_range=k_range)

    def test_a_range_without_shells(self):
        field = torch.ones(1, 8, 8)
        with pytest.raises(ValueError, match=r"no bin.*within 7\.2 and 7\.6.*from 0 to 6"):
            log_spectrum_error(field, field, k_range=(7.2, 7.6))

    def test_a_negative_floor(self):
        field = torch.ones(1, 8, 8)
        with pytest.raises(ValueError, match=r"floor.*-1"):
            log_spectrum_error(field, field, floor=-1.0)

    @pytest.mark.parametrize("error", BLIND_TO_PHASE)
    def test_an_average_over_an_axis_that_is_not_there(self, error):
        field = torch.ones(1, 8, 8)
        with pytest.raises(ValueError, match=r"per='sequence' averages.*per='frame'"):
            error(field, field, per="sequence")
        with pytest.raises(ValueError, match="per='time' is unknown"):
            error(field, field, per="time")
