"""The spectral losses on a device: figures of the CPU, and no wait for the device."""

import pytest
import torch
from nops_losses import (
    anisotropic_spectrum_error,
    binned_spectral_power_error,
    coherence_error,
    log_spectrum_error,
    relative_log_spectrum_error,
)
from torch.testing import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    "error",
    [
        log_spectrum_error,
        binned_spectral_power_error,
        anisotropic_spectrum_error,
        relative_log_spectrum_error,
        coherence_error,
    ],
)
def test_a_device_gives_the_figures_of_the_cpu_without_a_wait(fields, error):
    pred, target = (fields(i, 2, 3, 2, 20, 16).float() for i in (0, 1))
    near, truth = pred.cuda(), target.cuda()
    expected = error(pred, target)
    error(near, truth)  # plans of shells and transforms are made
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = error(near, truth)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-6)
