"""PROSPECT: golden values, limits of a pile of plates, and refusals."""

import math

import pytest
import torch
from nops_physics import Prospect
from nops_physics._exponential_integral import absorbed_share, exponential_integral
from nops_physics._prospect import check_version, pile_of_plates, surface_transmissivity
from scipy.special import exp1
from torch.testing import assert_close

FEW = torch.arange(400, 2501, 60, dtype=torch.float64)
LEAF = {"N": 1.5, "cab": 40.0, "car": 10.0, "cw": 0.01, "cm": 0.009}


def named(values, names):
    return dict(zip(names, values.unbind(-1), strict=True))


def draws(model, count, seed=0):
    low, high = model.bounds.double().unbind(-1)
    unit = torch.rand(
        count, len(low), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return low + (high - low) * unit


def test_golden(real_spectra):
    leaf = Prospect(real_spectra).leaf(**LEAF)
    expected = {
        550: (0.148798, 0.147677),
        670: (0.036352, 0.006068),
        800: (0.442543, 0.474635),
        1650: (0.310483, 0.401549),
        2200: (0.154747, 0.253136),
    }
    for nm, (r, t) in expected.items():
        assert leaf.reflectance[nm - 400].item() == pytest.approx(r, abs=6e-7)
        assert leaf.transmittance[nm - 400].item() == pytest.approx(t, abs=6e-7)


def test_exponential_integral_at_tabulated_points():
    """Abramowitz and Stegun, tables 5.1 and 5.2, and the small-x limit -gamma - ln x + x."""
    x = torch.tensor([0.5, 1.0, 2.0, 10.0], dtype=torch.float64)
    expected = torch.tensor(
        [0.559773594776160, 0.219383934395520, 0.048900510708061, 4.156968929685324e-06]
    )
    assert_close(exponential_integral(x), expected.double(), rtol=3e-7, atol=0)
    got = exponential_integral(torch.tensor([1e-6], dtype=torch.float64)).item()
    assert got == pytest.approx(-0.5772156649015329 - math.log(1e-6) + 1e-6, abs=1e-11)


def test_exponential_integral_follows_scipy():
    small, large = torch.logspace(-12, 0, 300), torch.linspace(1, 80, 300)
    x = torch.cat((small, large)).double()
    expected = torch.from_numpy(exp1(x.numpy()))
    assert_close(exponential_integral(x), expected, rtol=1e-13, atol=0)
    # float32 has an exponential of its own rounding: 80 halves of 6e-8
    single = exponential_integral(x.float()).double()
    assert_close(single, torch.from_numpy(exp1(x.float().double().numpy())), rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")  # torch 2.15 in its own jvp
def test_absorbed_share_at_its_limits():
    """1 - tau: 0 with slope 2 at k = 0; all of it for large k; float32 keeps small shares."""
    k = torch.tensor([0.0, 1e-9, 0.3, 1.0, 5.0, 200.0], dtype=torch.float64, requires_grad=True)
    share = absorbed_share(k)
    assert share[0] == 0
    assert share[1].item() == pytest.approx(2e-9, rel=1e-7)
    assert share[-1].item() == pytest.approx(1.0, abs=1e-15)
    share.sum().backward()
    assert k.grad[0] == 2
    assert torch.autograd.gradcheck(absorbed_share, (k[2:5].detach().requires_grad_(),))
    low = absorbed_share(k.detach().float()).double()
    assert_close(low, share.detach(), rtol=4e-7, atol=0)  # three roundings
    slopes = torch.func.vmap(torch.func.grad(absorbed_share))(k.detach()[1:])
    assert_close(slopes, k.grad[1:], rtol=1e-12, atol=0)
    _, pushed = torch.func.jvp(absorbed_share, (k.detach(),), (torch.ones_like(k),))
    assert_close(pushed, k.grad, rtol=1e-12, atol=0)


def test_a_surface_lets_through_what_fresnel_says():
    """A narrow cone is the normal: 4n/(n+1)^2. And n^2 - 1 small: hardly any reflection."""
    index = torch.tensor([1.3, 1.5], dtype=torch.float64)
    expected = 4 * index / (index + 1).square()
    assert_close(surface_transmissivity(index, 0.5), expected, rtol=1e-5, atol=0)
    angles = torch.linspace(0, math.pi / 2, 200_001, dtype=torch.float64)[:-1]
    inner = torch.asin(angles.sin() / 1.5)
    s = ((inner - angles).sin() / (inner + angles).sin()).square()
    p = ((inner - angles).tan() / (inner + angles).tan()).square()
    through = 1 - (s[1:] + p[1:]) / 2
    mean = torch.trapezoid(through * (2 * angles[1:]).sin(), angles[1:])
    assert surface_transmissivity(index, 90.0)[1].item() == pytest.approx(mean.item(), abs=1e-8)


def test_no_leaf_gives_more_than_it_gets(spectra):
    model = Prospect(spectra, wavelengths=FEW)
    leaf = model.leaf(**named(draws(model, 100), model.parameter_names))
    assert (leaf.reflectance > 0).all()
    assert (leaf.transmittance > 0).all()
    assert (leaf.reflectance + leaf.transmittance).max() <= 1


@pytest.mark.parametrize("plates", [1.0, 1.7, 3.0])
def test_without_absorption_nothing_is_lost(spectra, plates):
    leaf = Prospect(spectra, wavelengths=FEW).leaf(N=plates)
    assert_close(leaf.reflectance + leaf.transmittance, torch.ones(36).double(), rtol=0, atol=1e-13)


def test_one_plate_is_the_single_layer(spectra):
    """T = t40 tau t21 / (1 - r21^2 tau^2), R = 1 - t40 + r21 tau T."""
    model = Prospect(spectra, wavelengths=FEW)
    leaf = model.leaf(**{**LEAF, "N": 1.0})
    contents = torch.tensor([40.0, 10.0, 0.0, 0.0, 0.01, 0.009], dtype=torch.float64)
    tau = 1 - absorbed_share(contents @ model._absorption)
    t40, r21 = model._entering, model._reflected
    t = t40 * tau * (1 - r21) / (1 - (r21 * tau).square())
    assert_close(leaf.transmittance, t, rtol=1e-13, atol=0)
    assert_close(leaf.reflectance, 1 - t40 + r21 * tau * t, rtol=1e-13, atol=0)


def test_two_and_three_plates_add_up_by_echoes(spectra):
    """N = 3 beneath: a plate over the rest, R = r + t^2 Rs / (1 - r Rs), built by hand."""
    model = Prospect(spectra, wavelengths=FEW)
    absorbed = absorbed_share(torch.full_like(FEW, 0.3))
    t90, r21, tau = model._leaving, model._reflected, 1 - absorbed
    t = t90 * tau * (1 - r21) / (1 - (r21 * tau).square())
    r = 1 - t90 + r21 * tau * t
    two_r, two_t = r + t * t * r / (1 - r * r), t * t / (1 - r * r)
    top_t = model._entering * tau * (1 - r21) / (1 - (r21 * tau).square())
    top_r = 1 - model._entering + r21 * tau * top_t
    three = torch.full((1,), 3.0, dtype=torch.float64)
    got = pile_of_plates(three, absorbed, model._entering, t90, r21)
    echoes = 1 - two_r * r
    assert_close(got.reflectance, top_r + top_t * two_r * t / echoes, rtol=1e-12, atol=0)
    assert_close(got.transmittance, top_t * two_t / echoes, rtol=1e-12, atol=0)


def test_more_pigment_takes_more(spectra):
    model = Prospect(spectra, wavelengths=FEW)
    pigment = torch.linspace(0, 100, 30, dtype=torch.float64)
    leaf = model.leaf(**{**LEAF, "cab": pigment})
    absorbed = 1 - leaf.reflectance - leaf.transmittance
    assert (absorbed.diff(dim=0) >= -1e-15).all()
    assert (absorbed[-1] - absorbed[0]).max() > 0.1


@pytest.mark.parametrize("changes", [{}, {"N": 1.0}, {"absorbing": 0.0}])
def test_gradients_agree_with_differences(spectra, changes):
    model = Prospect(spectra, wavelengths=FEW[::6])
    scale = torch.tensor([1.0, 40.0, 10.0, 2.0, 0.3, 0.01, 0.01], dtype=torch.float64)
    unit = torch.ones(7, dtype=torch.float64)
    unit[0] = changes.get("N", 1.6)
    unit[1:] *= changes.get("absorbing", 1.0)

    def shifted(step):
        values = named((unit + step) * scale, model.parameter_names)
        return torch.cat(model.optics(values))

    step = torch.full((7,), 1e-5 if changes else 0.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(shifted, (step,), atol=1e-6)


def test_gradients_are_finite_at_one_plate_without_absorption(spectra):
    model = Prospect(spectra, wavelengths=FEW)
    values = torch.zeros(7, dtype=torch.float64)
    values[0] = 1
    values.requires_grad_()
    model(values).sum().backward()
    assert values.grad.isfinite().all()
    assert (values.grad[1:] < 0).all()


def test_strong_absorption_stays_finite_in_float32(spectra):
    model = Prospect(spectra, wavelengths=FEW)
    leaf = model.leaf(N=torch.tensor(8.0), cw=torch.tensor(300.0), cm=torch.tensor(500.0))
    assert leaf.reflectance.isfinite().all()
    assert (leaf.transmittance >= 0).all()
    assert leaf.transmittance.max() < 1e-6


def test_float32_follows_float64(spectra):
    model = Prospect(spectra, wavelengths=FEW)
    values = draws(model, 200).float()
    assert_close(model(values).double(), model(values.double()), rtol=0, atol=1e-6)
    half = model(values.half())
    assert half.dtype == torch.float16
    assert_close(half, model(values.half().float()).half(), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model(values)
    assert_close(inside, model(values), rtol=0, atol=0)


def test_as_a_forward_model_it_gives_both_by_wavelength(spectra):
    model = Prospect(spectra, wavelengths=FEW[:2])
    assert model.parameter_names == ("N", "cab", "car", "anth", "cbrown", "cw", "cm")
    assert model.output_names == ("R_400", "R_460", "T_400", "T_460")
    values = draws(model, 6)
    leaf = model.leaf(**named(values, model.parameter_names))
    assert_close(model(values), torch.cat(leaf, dim=-1), rtol=1e-14, atol=0)
    assert_close(model(values.reshape(2, 3, 7)).reshape(6, 4), model(values), rtol=1e-14, atol=0)


def test_version_pro_counts_proteins_and_carbon_apart(pro_spectra):
    model = Prospect(pro_spectra, version="PRO", wavelengths=FEW)
    assert model.parameter_names == ("N", "cab", "car", "anth", "cbrown", "cw", "prot", "cbc")
    plain = model.leaf(N=1.5, cbc=0.01)
    more = model.leaf(N=1.5, cbc=0.01, prot=0.002, cm=0.0)
    assert (more.reflectance < plain.reflectance).all()


@pytest.mark.parametrize(
    ("version", "values", "expected"),
    [
        ("PRO", {"N": 1.5, "cm": 0.01, "prot": 0.001}, "cm is 0.01 .* counted twice"),
        ("PRO", {"N": 1.5, "lma": 0.01}, "expected 'N' and any of .*prot, cbc"),
        ("D", {"N": 1.5, "prot": 0.001}, "found N, prot, expected 'N'"),
        ("D", {"cab": 40.0}, "expected 'N'"),
        ("D", {"N": 0.9}, "'N' is 0.9, expected at least 1"),
        ("D", {"N": 1.5, "cw": -0.1}, "'cw' is -0.1 cm, expected at least 0"),
    ],
)
def test_bad_leaves_are_refused(pro_spectra, version, values, expected):
    with pytest.raises(ValueError, match=expected):
        Prospect(pro_spectra, version=version, wavelengths=FEW).leaf(**values)


def test_bad_options_are_refused(spectra):
    with pytest.raises(ValueError, match="'PRO' needs prot, cbc, which the constants of formulas"):
        Prospect(spectra, version="PRO")
    with pytest.raises(ValueError, match="one of D, PRO, got '5'"):
        check_version(spectra, "5")
    with pytest.raises(ValueError, match=r"400 to 2500 nm.*399"):
        Prospect(spectra, wavelengths=torch.tensor([399.0, 500.0]))
