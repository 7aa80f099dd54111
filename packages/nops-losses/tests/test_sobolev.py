import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_losses import relative_l2, sobolev_error
from torch.testing import assert_close

seeds = st.integers(0, 2**31 - 1)


def written_afresh(field, order, lengths):
    """‖u‖² of [channel, *grid] from the complex transform in NumPy, every mode as it stands."""
    sizes = field.shape[1:]
    modes = np.fft.fftn(field, axes=range(1, field.ndim), norm="forward")
    k = [
        np.fft.fftfreq(n, d=length / (2 * np.pi * n))
        for n, length in zip(sizes, lengths, strict=True)
    ]
    square = sum(axis**2 for axis in np.meshgrid(*k, indexing="ij"))
    return ((1 + square) ** order * (np.abs(modes) ** 2)).sum()


class TestByHand:
    def wave_and_ripple(self):
        x = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
        target = x.cos()[None]
        return target + 0.1 * (10 * x).cos(), target

    def test_a_ripple_on_a_wave(self):
        pred, target = self.wave_and_ripple()
        # 0.01 (1 + 100) / (1 + 1)
        squared = sobolev_error(pred, target, squared=True, spatial_dims=1)
        assert_close(squared.item(), 0.505)
        assert_close(sobolev_error(pred, target, spatial_dims=1).item(), math.sqrt(0.505))

    def test_other_orders(self):
        pred, target = self.wave_and_ripple()
        for order in (-1, 0.5, 2):
            got = sobolev_error(pred, target, order=order, squared=True, spatial_dims=1)
            assert_close(got.item(), 0.01 * (101 / 2) ** order)

    def test_lengths_set_the_wavenumbers(self):
        pred, target = self.wave_and_ripple()
        got = sobolev_error(pred, target, squared=True, lengths=(math.pi,), spatial_dims=1)
        assert_close(got.item(), 0.01 * (1 + 400) / (1 + 4))

    def test_one_norm_over_channels(self):
        _, target = self.wave_and_ripple()
        pair = torch.cat([target, 2 * target])
        pred = pair + torch.cat([target, target])
        got = sobolev_error(pred, pair, squared=True, spatial_dims=1)
        assert_close(got.item(), (1 + 1) / (1 + 4))


class TestDefinition:
    @pytest.mark.parametrize(
        ("sizes", "lengths"), [((7,), (3.0,)), ((8, 6), (2.0, 5.0)), ((5, 4, 6), (1.0, 2.0, 3.0))]
    )
    @pytest.mark.parametrize("order", [-0.5, 1.0, 2.0])
    def test_equals_the_sum_over_all_modes(self, fields, sizes, lengths, order):
        pred, target = fields(0, 3, 2, *sizes), fields(1, 3, 2, *sizes)
        got = sobolev_error(
            pred,
            target,
            order=order,
            squared=True,
            lengths=lengths,
            spatial_dims=len(sizes),
            reduction="none",
        )
        expected = [
            written_afresh((p - t).numpy(), order, lengths)
            / written_afresh(t.numpy(), order, lengths)
            for p, t in zip(pred, target, strict=True)
        ]
        assert got.tolist() == pytest.approx(expected, rel=1e-12)

    @given(seed=seeds, odd=st.booleans())
    def test_order_zero_is_relative_l2(self, fields, seed, odd):
        sizes = (5, 7) if odd else (6, 4)
        pred, target = fields(seed, 2, 3, *sizes), fields(seed + 1, 2, 3, *sizes)
        got = sobolev_error(pred, target, order=0, reduction="none")
        assert_close(got, relative_l2(pred, target, reduction="none"))

    @given(seed=seeds, factor=st.floats(1e-6, 1e6), shift=st.integers(0, 8))
    def test_has_no_unit_and_no_place(self, fields, seed, factor, shift):
        pred, target = fields(seed, 2, 3, 9, 8), fields(seed + 1, 2, 3, 9, 8)
        moved = [factor * field.roll((shift, shift), (-2, -1)) for field in (pred, target)]
        got = sobolev_error(*moved, order=2)
        assert_close(got, sobolev_error(pred, target, order=2), rtol=1e-10, atol=0)


class TestEdges:
    @pytest.mark.parametrize("squared", [False, True])
    def test_gradient_is_zero_at_the_target(self, fields, squared):
        for target in (fields(0, 2, 1, 4, 4), torch.zeros(2, 1, 4, 4)):
            pred = target.clone().requires_grad_()
            error = sobolev_error(pred, target.requires_grad_(), squared=squared)
            assert error.item() == 0
            error.backward()
            assert torch.equal(pred.grad, torch.zeros_like(pred))
            assert target.grad is None

    def test_zero_target_gives_the_absolute_norm(self):
        x = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        pred = (2 * x).cos()[None]
        got = sobolev_error(pred, torch.zeros_like(pred), squared=True, spatial_dims=1)
        assert_close(got.item(), 0.5 * 5)

    def test_nan_stays(self, fields):
        target = fields(0, 1, 4, 4)
        assert sobolev_error(target * math.nan, target).isnan()
        assert sobolev_error(target, target * math.nan).isnan()

    def test_weights_first_made_in_inference_mode_serve_training(self, fields):
        pred, target = fields(0, 1, 5, 11), fields(1, 1, 5, 11)
        with torch.inference_mode():
            sobolev_error(pred, target)
        sobolev_error(pred.requires_grad_(), target).backward()
        assert pred.grad.isfinite().all()


class TestDifferentiation:
    @pytest.mark.parametrize("squared", [False, True])
    def test_first_and_second_derivatives(self, fields, squared):
        pred, target = fields(0, 2, 1, 4, 5).requires_grad_(), fields(1, 2, 1, 4, 5)

        def error(p):
            return sobolev_error(p, target, squared=squared, lengths=(2.0, 1.0))

        assert torch.autograd.gradcheck(error, pred)
        assert torch.autograd.gradgradcheck(error, pred)


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("autocast", [False, True])
    def test_half_fields_are_computed_in_float32(self, fields, dtype, autocast):
        pred, target = ((100 * fields(i, 2, 1, 20, 48)).to(dtype) for i in range(2))
        with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
            got = sobolev_error(pred, target)
        assert got.dtype == torch.float32
        assert_close(got, sobolev_error(pred.float(), target.float()), rtol=0, atol=0)

    @pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
    @pytest.mark.usefixtures("unchecked", "fresh_compiler")
    def test_compiles(self, fields):
        pred, target = fields(0, 2, 1, 8, 6), fields(1, 2, 1, 8, 6)
        compiled = torch.compile(sobolev_error, backend="eager", fullgraph=True, dynamic=False)
        assert_close(compiled(pred, target), sobolev_error(pred, target), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("shape", "options", "says"),
        [
            ((8, 8), {}, "spatial_dims=2"),
            ((1, 8, 8), {"order": math.inf}, "order must be finite, got inf"),
            ((1, 8, 8), {"lengths": (1.0,)}, "one positive extent for each of the 2"),
            ((1, 8, 0), {}, r"grid of \(8, 0\)"),
            ((1, 8, 8), {"reduction": "sum"}, "'sum'"),
        ],
    )
    def test_what_does_not_fit(self, shape, options, says):
        with pytest.raises(ValueError, match=says):
            sobolev_error(torch.zeros(shape), torch.zeros(shape), **options)

    def test_unequal_shapes(self):
        with pytest.raises(ValueError, match=r"\(1, 8, 8\) and \(1, 8, 1\)"):
            sobolev_error(torch.zeros(1, 8, 8), torch.zeros(1, 8, 1))

    @pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
    def test_fields_that_are_not_real(self, dtype):
        field = torch.zeros(1, 8, 8, dtype=dtype)
        with pytest.raises(TypeError, match=str(dtype)):
            sobolev_error(field, field)
