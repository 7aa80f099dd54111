"""Sampling and inverse losses on a device: figures of the CPU, and no wait for the device."""

import pytest
import torch
from nops_losses import inverse_decoding_loss, inverse_encoding_loss, sample_queries
from torch.testing import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def terms(tiny, fields, device, *, strategy, draw_on):
    encoder, decoder = tiny.SetEncoder().to(device), tiny.PointDecoder().to(device)
    u, x, z = fields(0, 2, 64, 1).to(device), tiny.line(64).to(device), fields(1, 2, 3, 2)
    z = z.to(device)
    generator = torch.Generator(draw_on).manual_seed(0)

    def run():
        sample = sample_queries(
            64,
            24,
            batch_size=2,
            strategy=strategy,
            grid_shape=(8, 8),
            generator=generator,
            device=device,
        )
        first = inverse_encoding_loss({"u": u}, z, decoder, x, sample=sample)
        return first + inverse_decoding_loss(z, decoder, encoder, x, sample=sample)

    return run


@pytest.mark.parametrize("strategy", ["uniform", "stratified"])
def test_a_generator_of_the_host_gives_the_figures_of_the_cpu(tiny, fields, strategy):
    options = {"strategy": strategy, "draw_on": "cpu"}
    expected = terms(tiny, fields, "cpu", **options)()
    assert_close(terms(tiny, fields, "cuda", **options)().cpu(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("strategy", ["uniform", "stratified"])
def test_the_host_never_waits(tiny, fields, strategy):
    run = terms(tiny, fields, "cuda", strategy=strategy, draw_on="cuda")
    run()  # the order of the grid is made
    torch.cuda.set_sync_debug_mode("error")
    try:
        run().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
