"""The same values on a device, without ever waiting for it."""

import pytest
import torch
from nops_losses import field_error, sobolev_error, structure_function, wavelet_error
from torch.testing import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CASES = {
    "field": lambda p, t, m: field_error(p, t, mask=m, channel_weights=(1.0, 3.0), centre=True),
    "legacy": lambda p, t, m: field_error(p, t, legacy=True, squared=False),
    "sobolev": lambda p, t, m: sobolev_error(p, t, order=2.0),
    "wavelet": lambda p, t, m: wavelet_error(p, t, wavelet="db4", levels=2, mask=m),
    "coefficients": lambda p, t, m: wavelet_error(p, t, undecimated=True, coefficient_weight=1.0),
    "walls": lambda p, t, m: wavelet_error(p, t, boundary="symmetric"),
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

    # float32 sums over 3,072 cells in another order
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
