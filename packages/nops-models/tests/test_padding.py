import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_models._padding import Upsample, periodic_pad
from torch.nn import functional
from torch.testing import assert_close

sizes = st.integers(1, 6)


def reference_pad(*parts):
    return functional.pad(torch.cat(parts, dim=1), (1, 1, 1, 1), mode="circular")


@given(height=sizes, width=sizes, channels=st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_pads_like_torch(normal, height, width, channels):
    parts = [normal(i, 2, c, height, width).requires_grad_() for i, c in enumerate(channels)]
    padded, expected = periodic_pad(*parts), reference_pad(*parts)
    assert torch.equal(padded, expected)
    weight = normal(9, *expected.shape)
    got = torch.autograd.grad((weight * padded).sum(), parts)
    for gradient, other in zip(
        got, torch.autograd.grad((weight * expected).sum(), parts), strict=True
    ):
        assert_close(gradient, other, rtol=0, atol=1e-13)


def test_first_and_second_derivatives_of_the_pad(normal):
    parts = normal(0, 1, 2, 2, 3).requires_grad_(), normal(1, 1, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(periodic_pad, parts)
    assert torch.autograd.gradgradcheck(lambda *p: periodic_pad(*p).square(), parts)


@pytest.mark.parametrize("padding", ["circular", "zeros"])
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_upsampling_interpolates_bilinearly(normal, padding, height, width):
    coarse = normal(0, 2, 3, (height + 1) // 2, (width + 1) // 2)
    fine = Upsample(padding=padding).double()(coarse, size=(height, width))
    if padding == "circular":
        wide = functional.interpolate(reference_pad(coarse), scale_factor=2, mode="bilinear")
        expected = wide[..., 2 : 2 + height, 2 : 2 + width]
    else:
        wide = functional.interpolate(coarse, scale_factor=2, mode="bilinear")
        expected = wide[..., :height, :width]
    assert_close(fine, expected, rtol=0, atol=1e-13)


def test_upsampling_by_hand():
    fine = Upsample(padding="circular")(torch.tensor([[[[0.0, 4.0]]]]), size=(2, 4))
    assert fine[0, 0].tolist() == [[1.0, 1.0, 3.0, 3.0]] * 2


def test_upsampling_keeps_the_mean(normal):
    coarse = normal(0, 2, 3, 5, 4)
    fine = Upsample(padding="circular").double()(coarse, size=(10, 8))
    assert_close(fine.mean((2, 3)), coarse.mean((2, 3)))
