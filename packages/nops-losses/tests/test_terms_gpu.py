"""The same values on a device, without ever waiting for it."""

import pytest
import torch
from nops_losses import (
    bound_log_variance,
    boundary_penalty,
    conservation_penalty,
    divergence_penalty,
    edge_penalty,
    field_error,
    gaussian_kl,
    latent_diversity_penalty,
    logistic_kl,
    logit_recovery_loss,
    mean_std_penalty,
    orthogonality_penalty,
    sobolev_error,
    structure_function,
    temporal_smoothness,
    wavelet_error,
)
from torch.testing import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GRID = {"grid_shape": (64, 48)}


def points(field, mask):
    """Frames as samples of points, and the mask for them."""
    flat = field.flatten(0, 1).flatten(2).mT
    return flat, mask.flatten().expand(flat.shape[:2])


def divergence(pred, target, mask):
    flat, keep = points(pred, mask)
    return divergence_penalty(flat, **GRID, spacing=(0.1, 0.2), periodic=(True, False), mask=keep)


def conservation(pred, target, mask):
    (flat, keep), (reference, _) = points(pred, mask), points(target, mask)
    return conservation_penalty(flat, reference, cell_volume=0.02, mask=keep)


def boundary(pred, target, mask):
    flat, keep = points(pred, mask)
    return boundary_penalty(flat, **GRID, mask=keep)


def diversity(pred, target, mask):
    return latent_diversity_penalty(pred.flatten(0, 2), mask=mask.any(1).expand(12, 64))


def latents(pred):
    """512 samples of 36 latents."""
    return pred.reshape(512, 36)


CASES = {
    "divergence": divergence,
    "conservation": conservation,
    "boundary": boundary,
    "diversity": diversity,
    "mean_std": lambda p, t, m: mean_std_penalty(p, t, mask=m),
    "field": lambda p, t, m: field_error(p, t, mask=m, channel_weights=(1.0, 3.0), centre=True),
    "legacy": lambda p, t, m: field_error(p, t, legacy=True, squared=False),
    "sobolev": lambda p, t, m: sobolev_error(p, t, order=2.0),
    "wavelet": lambda p, t, m: wavelet_error(p, t, wavelet="db4", levels=2, mask=m),
    "coefficients": lambda p, t, m: wavelet_error(p, t, undecimated=True, coefficient_weight=1.0),
    "walls": lambda p, t, m: wavelet_error(p, t, boundary="symmetric"),
    "gaussian": lambda p, t, m: gaussian_kl(latents(p), bound_log_variance(9 * latents(p))),
    "logistic": lambda p, t, m: logistic_kl(latents(p), latents(t), latents(p) / 2),
    "logits": lambda p, t, m: logit_recovery_loss(latents(p), latents(t).sigmoid()),
    "edges": lambda p, t, m: edge_penalty(latents(9 * p).sigmoid(), power=2.0),
    "basis": lambda p, t, m: orthogonality_penalty(latents(p)),
    "smoothness": lambda p, t, m: temporal_smoothness(p),
    "structure": lambda p, t, m: structure_function(p - t, order=3.0, mask=m).value.mean(),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_cpu(fields, name):
    mask = torch.ones(64, 48, dtype=torch.bool)
    mask[20:30, 10:12] = False

    def measure(device: str) -> tuple[torch.Tensor, torch.Tensor]:
        pred, target = (fields(i, 2, 3, 2, 64, 48).float().to(device) for i in range(2))
        value = CASES[name](pred.requires_grad_(), target, mask.to(device))
        value.backward()
        return value.detach().cpu(), pred.grad.cpu()

    # float32 sums over thousands of numbers in another order
    assert_close(measure("cuda"), measure("cpu"), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_the_host_never_waits(fields, name):
    pred, target = (fields(i, 2, 3, 2, 64, 48).float().cuda() for i in range(2))
    mask = (fields(2, 64, 48) > -3).cuda()
    pred.requires_grad_()
    CASES[name](pred, target, mask)  # what is made once for a grid may be copied
    torch.cuda.set_sync_debug_mode("error")
    try:
        CASES[name](pred, target, mask).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pred.grad.isfinite().all()
