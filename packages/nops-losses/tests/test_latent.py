"""The spectral error of latent tokens: what it measures and what it cannot see."""

import pytest
import torch
from nops_losses import latent_spectrum_error
from torch.testing import assert_close


def test_by_hand():
    # rfft of (1, 1) is (2, 0), of (3, 1) it is (4, 2): differences 2 and 2
    pred, target = torch.tensor([[1.0, 1.0], [3.0, 1.0]]), torch.tensor([[3.0, 1.0], [3.0, 1.0]])
    assert_close(latent_spectrum_error(pred, target, reduction="none"), torch.tensor([4.0, 0.0]))
    assert_close(latent_spectrum_error(pred, target), torch.tensor(2.0))


def test_sign_and_roll_of_channels_are_not_seen(fields):
    latent = fields(0, 2, 5, 16)
    assert latent_spectrum_error(-latent, latent) == 0
    assert latent_spectrum_error(latent.roll(3, -1), latent) < 1e-25
    assert latent_spectrum_error(latent.roll(1, -2), latent) > 1


def test_of_unrelated_tokens_it_is_28_times_the_mean_square(fields):
    # |F|² has mean D: 2D(1 − π/4) for 63 complex modes, 2D(1 − 2/π) for 2 real ones, over 65
    pred, target = fields(0, 512, 128), fields(1, 512, 128)
    got = latent_spectrum_error(pred, target).item()
    assert got == pytest.approx(56.1, rel=0.03)
    assert got / (pred - target).square().mean().item() == pytest.approx(28, rel=0.03)


def test_gradient_matches_differences_and_is_finite_at_zero(fields):
    pred, target = fields(0, 2, 8).requires_grad_(), fields(1, 2, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: latent_spectrum_error(p, target.detach()), pred)
    latent_spectrum_error(pred, target).backward()
    assert target.grad is None
    zero = torch.zeros(2, 8, requires_grad=True)
    latent_spectrum_error(zero, zero.detach() + 1).backward()
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_float32(dtype, fields):
    pred, target = (fields(i, 3, 12).to(dtype) for i in range(2))
    got = latent_spectrum_error(pred, target)
    assert got.dtype == torch.float32
    assert_close(got, latent_spectrum_error(pred.float(), target.float()), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    def test_unequal_shapes(self):
        with pytest.raises(ValueError, match=r"\(2, 8\) and \(1, 8\)"):
            latent_spectrum_error(torch.zeros(2, 8), torch.zeros(1, 8))

    @pytest.mark.parametrize("shape", [(), (3, 0)])
    def test_no_channel(self, shape):
        with pytest.raises(ValueError, match="with a channel"):
            latent_spectrum_error(torch.zeros(shape), torch.zeros(shape))
