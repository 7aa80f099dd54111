"""The slopes that INFORM makes beside its values, against the public models and their gradients."""

import pytest
import torch
from nops_physics import FourSail, Inform, Prospect, SentinelBands
from nops_physics._inform import ground_fractions
from torch.testing import assert_close

ANGLES = ("tts", "tto", "psi")


@pytest.fixture(scope="module")
def model(spectra):
    return Inform(spectra=spectra, bands=SentinelBands(nodes=3))


def draws(model, count):
    generator = torch.Generator().manual_seed(3)
    ends = torch.cat((model.bounds, model.input_bounds)).double()
    unit = torch.rand(count, len(ends), dtype=torch.float64, generator=generator)
    return (ends[:, 0] + (ends[:, 1] - ends[:, 0]) * unit).split((7, 3), dim=1)


def by_parts(model, spectra, rows, seen):
    """The same stand from a leaf, three layers and the shares of ground, by autograd."""
    n, cab, cw, cm, lai, under, cover = rows.unbind(-1)
    leaf = Prospect(spectra, wavelengths=model.bands.wavelengths).leaf(
        N=n, cab=cab, cw=cw, cm=cm, car=10.0, anth=2.0, cbrown=0.25
    )
    tts, tto, psi = seen.unbind(-1)
    sail, directions = FourSail(), {"tts": tts, "tto": tto, "psi": psi}
    below = sail.over_soil(sail(*leaf, lai=under, **directions), model.soil)
    thick = sail.over_soil(sail(*leaf, lai=15.0, **directions), below)
    crown = sail(*leaf, lai=lai, **directions)
    sun, view = crown.t_ss + crown.t_sd, crown.t_oo + crown.t_do
    distance = sail.geometry(tts, tto, psi).distance[..., 0]
    shares = ground_fractions(cover, tts, tto, distance, stem_density=500.0)
    a, b, c, d = (share[..., None] for share in shares)
    ground = a * sun * view + b * view + c * sun + d
    return model.bands(thick * a * (1 - sun * view) + below * ground)


def gradients(decode, rows, seen):
    leaves = [part.clone().requires_grad_() for part in (rows, seen)]
    out = decode(*leaves)
    weight = torch.linspace(-1, 2, out.shape[-1], dtype=torch.float64)
    return out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)


def of(model):
    return lambda rows, seen: model(rows, dict(zip(ANGLES, seen.unbind(-1), strict=True)))


def test_values_and_gradients_are_those_of_the_parts(model, spectra):
    """Over the bounds, and where the parts take limits: few leaves, N = 1, sun behind the view."""
    rows, seen = draws(model, 20)
    rows[0, 4:6], rows[1, 0], rows[2, 4:6] = 1e-4, 1.0, 0.0
    seen[3, :2], seen[3, 2] = 20.0, 0.0
    got = gradients(of(model), rows, seen)
    expected = gradients(lambda *leaves: by_parts(model, spectra, *leaves), rows, seen)
    assert_close(got[0], expected[0], rtol=0, atol=1e-13)
    for ours, theirs in zip(got[1:], expected[1:], strict=True):
        assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


def test_bands_at_every_nm_are_made_in_pieces_that_fit_together(spectra):
    model = Inform(spectra=spectra, bands=SentinelBands(sampling="full"))
    rows, seen = draws(model, 150)  # more than two pieces
    whole, *slopes = gradients(of(model), rows, seen)
    for part in (slice(0, 1), slice(64, 70), slice(148, 150)):
        values, *some = gradients(of(model), rows[part], seen[part])
        assert_close(values, whole[part], rtol=0, atol=1e-13)
        for ours, all_ in zip(some, slopes, strict=True):
            assert_close(ours, all_[part], rtol=1e-9, atol=1e-11)
    with torch.no_grad():
        assert_close(of(model)(rows, seen), whole, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")  # torch 2.15 in its own jvp
def test_jacobians_agree_by_every_way(model):
    rows, _ = draws(model, 2)
    leaf = rows.clone().requires_grad_()
    out = model(leaf)
    loop = [torch.autograd.grad(o.sum(), leaf, retain_graph=True)[0] for o in out.unbind(1)]
    expected = torch.stack(loop, 1)
    back = torch.func.vmap(torch.func.jacrev(model))(rows)
    assert_close(back, expected, rtol=1e-12, atol=0)
    ahead = torch.func.vmap(torch.func.jacfwd(model))(rows)
    assert_close(ahead, expected, rtol=1e-11, atol=1e-15)
    with torch.no_grad():  # nothing made beforehand
        tangent = torch.func.jvp(model, (rows,), (torch.ones_like(rows),))[1]
    assert_close(tangent, expected.sum(-1), rtol=1e-11, atol=1e-15)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_a_second_derivative_is_refused(model):
    rows = draws(model, 2)[0].requires_grad_()
    for decode in (model, lambda rows: model.prospect.leaf(N=rows[:, 0], cab=rows[:, 1])[0]):
        (slope,) = torch.autograd.grad(decode(rows).sum(), rows, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiable once, not twice"):
            slope.sum().backward()
        with pytest.raises(RuntimeError, match="differentiable once, not twice"):
            torch.func.hessian(lambda r, d=decode: d(r).sum())(rows.detach())


def test_beyond_the_bounds_values_and_slopes_are_finite_in_float32(model):
    """Black and white leaves, hardly any plate, many leaves, a low sun."""
    rows = torch.tensor(
        [
            [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1e-6],
            [3.0, 500.0, 1.0, 1.0, 300.0, 300.0, 1.0],
            [10.0, 80.0, 0.02, 0.05, 5.0, 3.0, 5.0],
            [1.0, 5000.0, 5.0, 5.0, 1.0, 1.0, 0.5],
        ],
        requires_grad=True,
    )
    low = {"tts": torch.tensor(89.0), "tto": torch.tensor(60.0)}
    for seen in ({}, low):
        out = model(rows, seen)
        (slopes,) = torch.autograd.grad(out.sum(), rows)
        assert out.isfinite().all()
        assert slopes.isfinite().all()
        assert_close(out.double(), model(rows.double(), seen), rtol=0, atol=2e-5)
