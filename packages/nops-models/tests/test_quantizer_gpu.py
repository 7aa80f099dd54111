"""Quantizers on a device as on the CPU."""

import pytest
import torch
from nops_models import EMA, FiniteScalarQuantizer, ResidualVectorQuantizer, VectorQuantizer
from torch.testing import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_start_steps_and_revival(normal, similarity):
    update = EMA(decay=0.5, revive_below=1.5)
    quantizers = [
        VectorQuantizer(8, num_codes=16, similarity=similarity, update=update).to(device)
        for device in ("cpu", "cuda")
    ]
    for step in range(4):
        z = normal(step, 100, 8).float() + step
        found = [q(z.to(q.codebook.device)) for q in quantizers]
        assert torch.equal(found[0].index, found[1].index.cpu())
        assert_close(found[0].commitment_loss, found[1].commitment_loss.cpu())
    for a, b in zip(*(q.state_dict().values() for q in quantizers), strict=True):
        assert_close(a, b.cpu(), rtol=1e-4, atol=1e-5)


def test_the_other_kinds(normal):
    z = normal(0, 100, 3).float()
    residual = ResidualVectorQuantizer(3, num_quantizers=2, num_codes=8).eval()
    for module in (residual, FiniteScalarQuantizer([8, 5, 5])):
        expected, found = module(z), module.cuda()(z.cuda())
        assert torch.equal(found.index.cpu(), expected.index)
        assert_close(found.code.cpu(), expected.code)
        assert_close(module.lookup(found.index), found.code)
