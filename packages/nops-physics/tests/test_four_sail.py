"""4SAIL: golden values, limits, reciprocity and energy of a layer of leaves."""

import math

import pytest
import torch
from nops_physics import FourSail, Prospect
from nops_physics._four_sail import faded_share
from nops_physics._leaf_angles import leaf_angle_weights
from torch.testing import assert_close

RHO = torch.tensor([0.08, 0.45, 0.3, 0.02], dtype=torch.float64)
TAU = torch.tensor([0.05, 0.47, 0.35, 0.01], dtype=torch.float64)
SOIL = torch.tensor([0.2, 0.3, 0.25, 0.1], dtype=torch.float64)
SEEN = {"tts": 35.0, "tto": 15.0, "psi": 60.0}


def layer(lai, *, rho=RHO, tau=TAU, sail=None, **changes):
    return (sail or FourSail())(rho, tau, lai=lai, **{**SEEN, **changes})


def test_golden(real_spectra):
    leaf = Prospect(real_spectra).leaf(N=1.5, cab=40.0, car=10.0, cw=0.01, cm=0.009)
    got = FourSail()(*leaf, lai=3.0, tts=30.0, tto=0.0, psi=0.0)
    nm = torch.arange(400, 2501, dtype=torch.float64)
    red = FourSail.over_soil(got, nm.sqrt() / 100)
    expected = [0.074384, 0.019794, 0.426733, 0.246693, 0.100239]
    for place, value in zip((550, 665, 800, 1650, 2200), expected, strict=True):
        assert red[place - 400].item() == pytest.approx(value, abs=6e-7)
    assert got.t_ss.item() == pytest.approx(math.exp(-0.6867716 * 3), abs=1e-7)
    assert got.t_oo.item() == pytest.approx(math.exp(-0.6368218 * 3), abs=1e-7)


def test_extinction_of_level_leaves_is_one_and_of_upright_ones_a_tangent():
    """Leaves at 2.5 degrees: G = cos(2.5) cos(t), k = cos 2.5; nearly upright: 2/pi tan(t)."""
    level = FourSail(leaf_angles=[1.0] + [0.0] * 17)
    assert layer(1.0, sail=level).t_ss.item() == pytest.approx(
        math.exp(-math.cos(math.radians(2.5)))
    )
    upright = FourSail(leaf_angles=[0.0] * 17 + [1.0])
    k = -math.log(layer(1.0, sail=upright).t_ss.item())
    assert k == pytest.approx(2 / math.pi * math.tan(math.radians(35)), rel=0.02)


def test_no_leaves_show_the_soil():
    got = layer(0.0)
    assert_close(FourSail.over_soil(got, SOIL), SOIL, rtol=0, atol=1e-15)
    thin = FourSail.over_soil(layer(1e-6), SOIL)
    assert 0 < (thin - SOIL).abs().max() < 1e-5


def test_many_leaves_hide_the_soil():
    got = layer(60.0)
    assert_close(
        FourSail.over_soil(got, SOIL), FourSail.over_soil(got, 0 * SOIL), rtol=0, atol=1e-8
    )


def test_black_leaves_over_black_soil_are_black():
    got = layer(2.0, rho=0 * RHO, tau=0 * TAU)
    assert FourSail.over_soil(got, 0 * SOIL).abs().max() == 0
    assert_close(got.t_dd.isfinite().all(), torch.tensor(True))
    shadow = FourSail.over_soil(got, SOIL)
    assert_close(shadow, got.t_sstoo * SOIL, rtol=1e-13, atol=0)


def test_sun_and_view_may_change_places():
    for psi in (0.0, 60.0, 180.0):
        one = layer(2.0, tts=50.0, tto=20.0, psi=psi)
        two = layer(2.0, tts=20.0, tto=50.0, psi=psi)
        assert_close(one.r_so, two.r_so, rtol=1e-12, atol=0)
        assert_close(one.r_sd, two.r_do, rtol=1e-12, atol=0)
        assert_close(one.t_ss, two.t_oo, rtol=1e-14, atol=0)


@pytest.mark.parametrize("lai", [0.1, 2.0, 9.0])
def test_leaves_that_absorb_nothing_lose_nothing(lai):
    """r_dd + t_dd = 1 and t_ss + t_sd + r_sd = 1 where reflectance + transmittance = 1."""
    rho = torch.tensor([0.5, 0.9, 0.3], dtype=torch.float64)
    got = layer(lai, rho=rho, tau=1 - rho)
    ones = torch.ones(3, dtype=torch.float64)
    assert_close(got.r_dd + got.t_dd, ones, rtol=0, atol=1e-9)
    assert_close(got.t_ss + got.t_sd + got.r_sd, ones, rtol=0, atol=1e-9)


def test_absorbing_leaves_lose_light():
    got = layer(2.0)
    assert (got.r_dd + got.t_dd < 1).all()
    assert (got.t_ss + got.t_sd + got.r_sd < 1).all()
    for term in got:
        assert (term >= 0).all()


def test_two_layers_are_one_for_diffuse_light():
    """t = t1 t2 / (1 - r1 r2), r = r1 + t1^2 r2 / (1 - r1 r2) for leaf areas 1.2 and 0.8."""
    whole, top, below = layer(2.0), layer(1.2), layer(0.8)
    echoes = 1 - top.r_dd * below.r_dd
    assert_close(whole.t_dd, top.t_dd * below.t_dd / echoes, rtol=1e-12, atol=0)
    assert_close(whole.r_dd, top.r_dd + top.t_dd**2 * below.r_dd / echoes, rtol=1e-12, atol=0)
    lit = (
        top.t_ss * below.t_sd + (top.t_sd + top.t_ss * below.r_sd * top.r_dd) * below.t_dd / echoes
    )
    assert_close(whole.t_sd, lit, rtol=1e-12, atol=0)


def test_the_hot_spot_is_the_brightest_and_its_gap_the_larger_one():
    """At tts = tto, psi = 0 what is lit is seen: t_sstoo = sqrt(t_ss t_oo), else nearly the product."""
    at = layer(2.0, tts=30.0, tto=30.0, psi=0.0)
    beside = layer(2.0, tts=30.0, tto=25.0, psi=0.0)
    far = layer(2.0, tts=30.0, tto=30.0, psi=180.0)
    assert (at.r_so > beside.r_so).all()
    assert_close(at.t_sstoo, at.t_ss, rtol=1e-12, atol=0)
    product = (far.t_ss * far.t_oo).item()
    assert product < far.t_sstoo.item() < 1.05 * product
    near = layer(2.0, tts=30.0, tto=30.0 + 1e-7, psi=0.0)
    assert_close(near.r_so, at.r_so, rtol=1e-5, atol=0)


def test_shares_by_the_limit_and_by_the_formula_agree():
    x = torch.tensor([0.0, 1e-9, 1.4e-8, 1.6e-8, 1e-3, 2.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 1 - 5e-10, 1 - 7e-9, 1 - 8e-9, 0.99950016662, 0.43233235838])
    assert_close(faded_share(x), expected.double(), rtol=0, atol=2e-8)
    assert_close(faded_share(x[4:]), (1 - torch.exp(-x[4:])) / x[4:], rtol=1e-12, atol=0)


@pytest.mark.parametrize("seen", [SEEN, {"tts": 30.0, "tto": 30.0, "psi": 0.0}])
def test_gradients_agree_with_differences(seen):
    sail = FourSail()
    seen = {name: torch.tensor(value, dtype=torch.float64) for name, value in seen.items()}

    def over_soil(rho, tau, lai, tts, tto):
        got = sail(rho, tau, lai=lai, tts=tts, tto=tto, psi=seen["psi"])
        return sail.over_soil(got, SOIL)

    inputs = (RHO, TAU, torch.tensor(1.5).double(), seen["tts"], seen["tto"])
    inputs = tuple(value.clone().requires_grad_() for value in inputs)
    # the hot spot is a peak: a step of 1e-6 degrees across it falls by the same on both sides
    assert torch.autograd.gradcheck(over_soil, inputs, atol=1e-5)


def test_gradients_are_finite_where_formulas_have_holes():
    """Sun overhead, view overhead, both, psi = 0, no leaves, black and white leaves, k = m."""
    for tts, tto, psi in ((0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (0.0, 40.0, 0.0), (40.0, 40.0, 180.0)):
        values = [torch.tensor(v, dtype=torch.float64) for v in (0.0, tts, tto, psi)]
        rho = torch.tensor([0.0, 0.5, 0.3], dtype=torch.float64)
        tau = torch.tensor([0.0, 0.5, 0.2], dtype=torch.float64)
        leaves = [value.requires_grad_() for value in (rho, tau, *values)]
        lai, *angles = leaves[2:]
        seen = dict(zip(("tts", "tto", "psi"), angles, strict=True))
        got = FourSail()(*leaves[:2], lai=lai, **seen)
        FourSail.over_soil(got, SOIL[:3]).sum().backward()
        assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_extinction_may_equal_attenuation():
    """m(absorption) rises through k_s; the layer is smooth there: second differences are tiny."""
    rho = torch.linspace(0.2, 0.3, 2001, dtype=torch.float64)
    got = layer(2.0, rho=rho, tau=rho)
    for term in (got.t_sd, got.r_sd, got.r_so):
        assert term.diff(n=2).abs().max() < 1e-8


def test_float32_and_low_precision():
    sail = FourSail()
    single = [part.float() for part in layer(2.0)]
    got = sail(RHO.float(), TAU.float(), lai=2.0, **SEEN)
    for a, b in zip(got, single, strict=True):
        assert a.dtype == torch.float32
        assert_close(a, b, rtol=0, atol=1e-6)
    low = sail(RHO.half(), TAU.half(), lai=2.0, **SEEN)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sail(RHO.half().float(), TAU.half().float(), lai=2.0, **SEEN)
    assert_close(low.r_so, inside.r_so, rtol=0, atol=0)


def test_batches_of_leaves_and_angles():
    lai = torch.tensor([0.5, 2.0], dtype=torch.float64)
    tts = torch.tensor([[20.0], [40.0], [60.0]], dtype=torch.float64)
    got = FourSail()(RHO, TAU, lai=lai, tts=tts, tto=10.0, psi=5.0)
    assert got.r_so.shape == (3, 2, 4)
    one = FourSail()(RHO, TAU, lai=2.0, tts=40.0, tto=10.0, psi=5.0)
    assert_close(got.r_so[1, 1], one.r_so, rtol=1e-13, atol=0)


def test_leaf_angles():
    assert leaf_angle_weights("uniform").tolist() == [1 / 18] * 18
    assert leaf_angle_weights([2.0] * 18).tolist() == pytest.approx([1 / 18] * 18)
    centre = torch.arange(18, dtype=torch.float64) * 5 + 2.5
    for mean in (10.0, 25.0, 45.0, 70.0, 85.0):
        weights = leaf_angle_weights(mean)
        assert weights.sum().item() == pytest.approx(1)
        # angles are not even within a class of 5 degrees
        assert (weights * centre).sum().item() == pytest.approx(mean, abs=0.6)
    # a sphere has the mean of one radian and the shares sin(t)
    edges = torch.cos(torch.deg2rad(torch.arange(19, dtype=torch.float64) * 5))
    assert_close(leaf_angle_weights(math.degrees(1)), -edges.diff(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: FourSail(hotspot=0.0), "hotspot needs to be positive, got 0"),
        (lambda: FourSail(leaf_angles="flat"), "'flat', expected 'uniform', 18 weights"),
        (lambda: FourSail(leaf_angles=[0.0] * 18), "18 weights"),
        (lambda: FourSail(leaf_angles=[1.0] * 17), "18 weights"),
        (lambda: FourSail(leaf_angles=2.0), "5 to 85 degrees, got 2"),
        (lambda: layer(-0.5), r"'lai' is -0.5 m\^2/m\^2, expected at least 0"),
        (lambda: layer(1.0, tts=95.0), "'tts' is 95 degree, expected 0 to 89.99"),
        (lambda: layer(1.0, tto=-1.0), "'tto' is -1 degree"),
        (lambda: layer(1.0, psi=200.0), "'psi' is 200 degree, expected 0 to 180"),
    ],
)
def test_bad_arguments_are_refused(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()
