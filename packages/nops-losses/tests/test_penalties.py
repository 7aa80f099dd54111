"""What all penalties at points share: masks, gradients, precision."""

import math

import pytest
import torch
from nops_losses import (
    boundary_penalty,
    conservation_penalty,
    divergence_penalty,
    latent_diversity_penalty,
    latent_norm_penalty,
    positivity_penalty,
)
from torch.testing import assert_close

GRID = {"grid_shape": (4, 5)}
REFERENCE = 1 + torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(9))
REFERENCE = REFERENCE.bfloat16().double()  # of numbers that every type holds


def conserved(field, *, mask=None, scale):
    reference = REFERENCE[: len(field)].to(field)
    return conservation_penalty(field, reference, mask=mask, scale=scale)


CASES = {
    "divergence": lambda u, **o: divergence_penalty(u, **GRID, spacing=(0.5, 2.0), **o),
    "periodic": lambda u, **o: divergence_penalty(
        u, **GRID, spacing=1.0, periodic=True, power=2, **o
    ),
    "rms": lambda u, **o: conserved(u, scale="rms", **o),
    "integral": lambda u, **o: conserved(u, scale="integral", **o),
    "boundary": lambda u, **o: boundary_penalty(u, **GRID, value=0.3, **o),
    "side": lambda u, **o: boundary_penalty(u, **GRID, sides=[(1, "high")], **o),
    "positivity": lambda u, **o: positivity_penalty(u, minimum=0.1, **o),
    "norm": lambda u, **o: latent_norm_penalty(u, target=1.3, **o),
    "norm3": lambda u, **o: latent_norm_penalty(u, target=0.5, p=3.0, **o),
    "diversity": lambda u, **o: latent_diversity_penalty(u, **o),
}
every = pytest.mark.parametrize("penalty", CASES.values(), ids=CASES)


@every
def test_a_mask_of_true_changes_nothing(fields, penalty):
    field = fields(0, 3, 20, 2)
    expected = penalty(field)
    assert expected > 0
    for shape in ((3,), (3, 20)):
        assert_close(penalty(field, mask=torch.ones(shape, dtype=torch.bool)), expected)


@every
def test_samples_left_out_are_as_if_they_were_not_there(fields, penalty):
    field = fields(0, 3, 20, 2)
    field[2] = math.nan
    field.requires_grad_()
    mask = torch.tensor([True, True, False])
    got = penalty(field, mask=mask)
    assert_close(got, penalty(field[:2]))
    got.backward()
    assert field.grad.isfinite().all()
    assert torch.equal(field.grad[2], torch.zeros(20, 2, dtype=torch.float64))
    assert field.grad[:2].abs().max() > 0
    assert_close(penalty(field, mask=mask[:, None].expand(3, 20)), got)


@every
def test_points_left_out_are_never_seen(fields, penalty):
    field, mask = fields(0, 3, 20, 2), torch.ones(3, 20, dtype=torch.bool)
    mask[0, 7] = mask[2, 9] = mask[1, 4] = False
    expected = penalty(field, mask=mask)
    assert expected != penalty(field)
    field[~mask] = math.inf
    field.requires_grad_()
    got = penalty(field, mask=mask)
    assert torch.equal(got, expected)
    got.backward()
    assert torch.equal(field.grad[~mask], torch.zeros(3, 2, dtype=torch.float64))
    assert field.grad.isfinite().all()


@every
@pytest.mark.parametrize("shape", [(3,), (3, 20)])
@pytest.mark.parametrize("fill", [1.0, math.nan])
def test_where_nothing_counts_it_is_zero_with_gradient_zero(fields, penalty, shape, fill):
    field = (fill * fields(0, 3, 20, 2)).requires_grad_()
    got = penalty(field, mask=torch.zeros(shape, dtype=torch.bool))
    assert got.item() == 0
    got.backward()
    assert torch.equal(field.grad, torch.zeros(3, 20, 2, dtype=torch.float64))


@every
def test_gradient_matches_differences(fields, penalty):
    field, mask = fields(1, 2, 20, 2).requires_grad_(), fields(2, 2, 20) > -1.5
    assert torch.autograd.gradcheck(lambda u: penalty(u, mask=mask), field)


@every
def test_gradient_is_finite_at_zero(penalty):
    field = torch.zeros(2, 20, 2, requires_grad=True)
    penalty(field).backward()
    assert field.grad.isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_fields_are_computed_in_float32(fields, penalty, dtype, autocast):
    field = fields(0, 3, 20, 2).to(dtype)
    with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
        got = penalty(field)
    assert got.dtype == torch.float32
    assert got.shape == ()
    assert_close(got, penalty(field.float()), rtol=1e-6, atol=0)


@every
@pytest.mark.filterwarnings("ignore")  # the tracer warns of the interpreter and of itself
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
def test_compiles(fields, penalty):
    field, mask = fields(0, 3, 20, 2), fields(1, 3, 20) > -1
    compiled = torch.compile(penalty, backend="eager", fullgraph=True)
    assert_close(compiled(field, mask=mask), penalty(field, mask=mask), rtol=0, atol=0)


@every
@pytest.mark.usefixtures("unchecked")
def test_refuses_other_masks_and_fields(penalty):
    for shape in ((20,), (3, 19), (3, 20, 2), (1, 20)):
        with pytest.raises(ValueError, match=r"\(3,\), or one per sample and point, \(3, 20\)"):
            penalty(torch.ones(3, 20, 2), mask=torch.ones(shape, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"torch\.int32"):
        penalty(torch.ones(3, 20, 2, dtype=torch.int32))
