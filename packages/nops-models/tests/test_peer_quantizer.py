"""Quantizers against vector-quantize-pytorch, and their start against scikit-learn; `nox -s peers` runs it."""

import pytest
import torch
from nops_models import EMA, RotationTrick, StraightThrough, VectorQuantizer
from torch.testing import assert_close

pytestmark = pytest.mark.peer
DIM, CODES = 8, 24


def pair(place, *, similarity, estimator, decay=0.8, seed=0):
    """Ours and the peer's on one random table with equal counts."""
    peer = pytest.importorskip("vector_quantize_pytorch")
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(CODES, DIM, generator=generator)
    cosine = similarity == "cosine"
    table = torch.nn.functional.normalize(table, dim=-1) if cosine else table
    ours = VectorQuantizer(
        DIM,
        num_codes=CODES,
        similarity=similarity,
        update=EMA(decay=decay, kmeans_init=False, revive_below=None),
        estimator=estimator,
    )
    place(ours, table, 3.0)
    theirs = peer.VectorQuantize(
        DIM,
        CODES,
        decay=decay,
        use_cosine_sim=cosine,
        commitment_weight=0.25,
        rotation_trick=isinstance(estimator, RotationTrick),
    )
    theirs._codebook.embed.copy_(table)
    theirs._codebook.embed_avg.copy_(3 * table)
    theirs._codebook.cluster_size.fill_(3.0)
    return ours, theirs, generator


def clear(z, table):
    """Where the two best distances differ by more than 1e-5 relative."""
    least = (z[..., None, :].double() - table.double()).norm(dim=-1).topk(2, largest=False).values
    return least[..., 1] - least[..., 0] > 1e-5 * least[..., 1]


@pytest.mark.parametrize("estimator", [RotationTrick(), StraightThrough()])
@pytest.mark.parametrize(
    ("similarity", "masked"),
    # not ("cosine", True): the peer takes that commitment before it brings latents to length 1
    [("euclidean", False), ("euclidean", True), ("cosine", False)],
)
def test_one_training_step(place, similarity, masked, estimator):
    ours, theirs, generator = pair(place, similarity=similarity, estimator=estimator)
    z = torch.randn(6, 50, DIM, generator=generator, requires_grad=True)
    mask = torch.rand(6, 50, generator=generator) < 0.7 if masked else None
    compared = torch.nn.functional.normalize(z, dim=-1) if similarity == "cosine" else z
    assert clear(compared.detach(), ours.codebook).all()
    found = ours(z, mask)
    code, index, loss = theirs(z, mask=mask)
    counted = torch.ones(6, 50, dtype=torch.bool) if mask is None else mask
    assert torch.equal(found.index[counted], index[counted])
    assert_close(found.code, code, rtol=1e-5, atol=1e-5)
    assert_close(found.commitment_loss, loss.squeeze(), rtol=1e-5, atol=1e-5)
    upstream = torch.randn(6, 50, DIM, generator=generator)
    gradients = [torch.autograd.grad((c * upstream).sum(), z)[0] for c in (found.code, code)]
    assert_close(*gradients, rtol=1e-5, atol=1e-5)
    assert_close(ours.codebook, theirs.codebook, rtol=1e-5, atol=1e-5)
    assert_close(ours.cluster_size, theirs._codebook.cluster_size[0], rtol=1e-5, atol=1e-5)


def test_many_vectors_get_equal_indices(place):
    ours, theirs, generator = pair(place, similarity="euclidean", estimator=RotationTrick())
    z = torch.randn(20_000, DIM, generator=generator)
    found, index = ours.eval()(z).index, theirs.eval()(z)[1]
    sure = clear(z, ours.codebook)
    assert sure.float().mean() > 0.999
    assert torch.equal(found[sure], index[sure])


@pytest.mark.parametrize("seed", range(3))
def test_distortion_is_that_of_scikit_learn(clusters, seed):
    cluster = pytest.importorskip("sklearn.cluster")

    points, _ = clusters(24, 40, seed=seed)
    quantizer = VectorQuantizer(8, num_codes=24, update=EMA(), seed=seed)
    for part in (points, *points.split(240), *points.split(240)):
        quantizer(part)
    found = quantizer.eval()(points)
    least = cluster.KMeans(24, n_init=10, random_state=seed).fit(points.numpy()).inertia_ / len(
        points
    )
    assert found.distance.mean().item() < 1.02 * least
    assert len(found.index.unique()) == 24
