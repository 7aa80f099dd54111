"""Okada's opening rectangle: golden values, limits, symmetries, and the way through the vertical."""

import math

import pytest
import torch
from mpmath import mp
from nops_physics import Mogi, Okada, sunflower_stations
from nops_physics._okada import opening_displacement
from torch.testing import assert_close

#                       xoff yoff depth length width strike dip opening
SILL = torch.tensor([0.5, -0.5, 3.0, 2.0, 1.5, 30.0, 20.0, 1.0], dtype=torch.float64)


def changed(**values):
    names = Okada([[0.0, 0.0]]).parameter_names
    source = SILL.clone()
    for name, value in values.items():
        source[names.index(name)] = value
    return source


@pytest.mark.parametrize(
    ("dip", "place", "expected"),
    [
        (70.0, (2.0, 3.0), (-2.660e-4, 1.056e-2, 3.214e-3)),
        (90.0, (0.0, 0.0), (1.223e-2, 0.0, -1.606e-2)),
    ],
)
def test_golden_in_okadas_own_frame(dip, place, expected):
    """Table 2 of the paper: d = 4 (lower edge), L = 3, W = 2, U3 = 1, origin above its corner."""
    angle = math.radians(dip)
    along, left = place[0] - 1.5, place[1] - math.cos(angle)
    numbers = (along, left, 4 - math.sin(angle), 3.0, 2.0, angle)
    tensors = [torch.tensor([value], dtype=torch.float64) for value in numbers]
    got = torch.cat(opening_displacement(*tensors, shear=0.5))
    assert_close(got, torch.tensor(expected).double(), rtol=0, atol=6e-6)  # four digits printed


def test_golden_in_our_frame():
    got = Okada([[1.0, 2.0]])(SILL)
    expected = torch.tensor([4.69197, 23.3937, 31.46672], dtype=torch.float64)
    assert_close(got, expected, rtol=0, atol=5e-5)


def test_a_small_sill_is_a_point():
    """u_z = 3 V d^3 / (2 pi R^5), V the opened volume: here 1e-4 km^2 m, so mm after 1e-3."""
    model = Okada(sunflower_stations(8))
    got = model(changed(xoff=0, yoff=0, length=0.01, width=0.01, dip=0)).reshape(3, -1)[2]
    r = (model.stations.square().sum(-1) + 9).sqrt()
    expected = 1e3 * 3 * 1e-4 * 27 / (2 * math.pi * r**5)
    assert_close(got, expected, rtol=1e-4, atol=0)


def test_a_level_square_knows_no_strike_and_four_quarters_turn_into_each_other():
    model = Okada(sunflower_stations(9))
    level = {"dip": 0, "length": 2, "width": 2}
    first = model(changed(**level))
    assert_close(model(changed(**level, strike=120)), first, rtol=0, atol=1e-10)
    assert (model(changed(**level, strike=75)) - first).abs().max() > 1e-2


def test_strike_turns_the_whole_picture():
    """Stations turned clockwise by 50 degrees about the centre see the same, turned."""
    angle = math.radians(50)
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    ).double()
    stations, centred = sunflower_stations(6), changed(xoff=0, yoff=0, dip=55)
    still = Okada(stations)(centred).reshape(3, -1)
    turned = Okada(stations @ turn)(changed(xoff=0, yoff=0, dip=55, strike=80)).reshape(3, -1)
    assert_close(turned[:2].mT, still[:2].mT @ turn, rtol=0, atol=1e-5)
    assert_close(turned[2], still[2], rtol=0, atol=1e-5)


def test_a_dyke_widens_to_both_sides():
    """Dip 90, strike 0: mirrored in the east; the west moves west, the east moves east."""
    model = Okada([[2.0, 0.3], [-2.0, 0.3]])
    east, north, up = model(changed(xoff=0, yoff=0, dip=90, strike=0)).reshape(3, 2)
    assert east[0] > 0
    assert_close(east[0], -east[1], rtol=1e-12, atol=0)
    assert_close(north[0], north[1], rtol=1e-12, atol=0)
    assert_close(up[0], up[1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("edge", [90.0, math.degrees(math.acos(1e-3))])
def test_continuous_where_the_formula_changes(edge):
    """A step of 1e-7 degrees moves the surface by some 1e-8 mm, not by what cancels."""
    model = Okada(sunflower_stations(8))
    below, above = (model(changed(dip=edge + step)) for step in (-1e-7, 1e-7))
    assert (above - below).abs().max() < 2e-6


def test_near_the_vertical_it_follows_the_neighbourhood():
    """Third differences of dips 0.02 degree apart, over both edges of the parabola, are small."""
    model = Okada(sunflower_stations(8))
    dips = [90 + 0.02 * i for i in range(-6, 7)]
    values = torch.stack([model(changed(dip=dip)) for dip in dips])
    assert values.diff(n=3, dim=0).abs().max() < 1e-6  # mm


def exact_corner(x, eta, q, sin, cos, shear):
    """Equations 26 and 28 in 50 digits."""
    y, d = eta * cos + q * sin, eta * sin - q * cos
    r, level = mp.sqrt(x**2 + eta**2 + q**2), mp.sqrt(x**2 + q**2)
    up = eta * (level + q * cos) + level * (r + level) * sin
    i5 = shear * 2 / cos * mp.atan(up / (x * (r + level) * cos))
    i4 = shear / cos * (mp.log(r + d) - sin * mp.log(r + eta))
    i3 = shear * (y / (cos * (r + d)) - mp.log(r + eta)) + sin / cos * i4
    i1 = -shear * x / (cos * (r + d)) - sin / cos * i5
    angle = x * q / (r * (r + eta)) - mp.atan(x * eta / (q * r))
    return mp.matrix(
        [
            q**2 / (r * (r + eta)) - i3 * sin**2,
            -d * q / (r * (r + x)) - sin * angle - i1 * sin**2,
            y * q / (r * (r + x)) + cos * angle - i5 * sin**2,
        ]
    )


def exact(along, left, depth, length, width, dip):
    sin, cos = mp.sin(dip), mp.cos(dip)
    y, bottom, xi = left + width / 2 * cos, depth + width / 2 * sin, along + length / 2
    p, q = y * cos + bottom * sin, y * sin - bottom * cos
    total = mp.matrix([0, 0, 0])
    for x, right in ((xi, 1), (xi - length, -1)):
        for eta, top in ((p, 1), (p - width, -1)):
            total += right * top * exact_corner(x, eta, q, sin, cos, mp.mpf("0.5"))
    return [float(value / (2 * mp.pi)) for value in total]


@pytest.mark.parametrize("dip", [40.0, 89.0, 89.9, 89.94, 89.95, 89.97, 89.99, 89.9999999, 90.03])
def test_near_the_vertical_it_keeps_nine_digits_of_the_opening(dip):
    places = [(0.3, 1.7), (-2.1, -0.4), (5.0, -6.0), (0.1, 0.2)]
    for place in places:
        with mp.workdps(50):
            numbers = (*place, 3.0, 2.0, 1.5, math.radians(dip))
            expected = exact(*(mp.mpf(value) for value in numbers))
        tensors = [torch.tensor([value], dtype=torch.float64) for value in numbers]
        got = torch.cat(opening_displacement(*tensors, shear=0.5)).tolist()
        assert got == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("dip", [0.0, 35.0, 89.9, 89.97, 90.0])
def test_gradients_agree_with_differences(dip):
    model = Okada([[1.0, 2.0], [-3.0, 0.5]])
    source = changed(dip=dip)
    kept = source.clone()
    free = [i for i in range(8) if i != 6 or dip > 0]

    def displaced(values):
        return model(kept.index_put((torch.tensor(free),), values))

    point = source[free].requires_grad_()  # steps of 1e-3: at 89.9 values carry noise of 1e-8 mm
    assert torch.autograd.gradcheck(displaced, (point,), eps=1e-3, atol=3e-4)


def test_gradients_are_finite_above_the_source_and_on_its_planes():
    """A station above the centre, one on the outcrop of the plane, one above the lower edge."""
    for strike, dip in ((0.0, 45.0), (0.0, 90.0), (90.0, 0.0)):
        source = changed(xoff=0, yoff=0, strike=strike, dip=dip).requires_grad_()
        Okada([[0.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [-3.0, 1.0]])(source).sum().backward()
        assert source.grad.isfinite().all()


def test_the_outcrop_of_the_plane_is_an_ordinary_place():
    """Dip 45, depth 3: the plane meets the surface 3 km to the left, where q changes its sign."""
    places = torch.tensor([[-3.0 - 1e-9, 0.2], [-3.0, 0.2], [-3.0 + 1e-9, 0.2]])
    source = changed(xoff=0, yoff=0, strike=0, dip=45)
    got = Okada(places.double())(source).reshape(3, 3)
    assert (got - got[:, :1]).abs().max() < 1e-6


def test_batches_and_precision():
    model = Okada(sunflower_stations(4))
    rows = SILL + torch.rand(33, 8, dtype=torch.float64, generator=torch.Generator())
    many = model(rows)
    assert_close(model(rows[:3].reshape(1, 3, 8)).reshape(3, -1), many[:3], rtol=1e-12, atol=0)
    assert_close(torch.func.vmap(model)(rows), many, rtol=1e-12, atol=0)
    single = model(rows.float())
    assert single.dtype == torch.float32
    assert_close(single, model(rows.float().double()).float(), rtol=0, atol=0)


def test_it_declares_itself():
    model = Okada(sunflower_stations(2))
    assert model.parameter_names[:4] == ("xoff", "yoff", "depth", "length")
    assert model.parameter_names[4:] == ("width", "strike", "dip", "opening")
    assert len(model.parameter_units) == len(model.bounds) == 8
    assert model.output_names == Mogi(sunflower_stations(2)).output_names
    assert model.output_units == ("mm",) * 6


def usual(**changes):
    model = Okada([[0.0, 0.0]])
    pairs = zip(model.parameter_names, model.bounds.tolist(), strict=True)
    return {name: tuple(pair) for name, pair in pairs} | changes


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"depth": (1.0, 5.0)}, "least depth is 1 km, expected more than 2 km"),
        ({"width": (0.5, 6.0)}, "expected more than 3 km"),
        ({"width": (0.5, 6.5), "dip": (0.0, 135.0)}, "expected more than 3.25 km"),
    ],
)
def test_bounds_that_reach_the_surface_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        Okada([[0.0, 0.0]], bounds=usual(**changes))


def test_a_flat_rectangle_may_be_shallow():
    shallow = usual(depth=(1.0, 5.0), dip=(0.0, 10.0))
    assert Okada([[0.0, 0.0]], bounds=shallow).bounds[2].tolist() == [1.0, 5.0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"depth": 0.1}, "upper edge' is -0.156515 km, expected above 0"),
        ({"width": -1.0}, "'width' is -1 km, expected above 0"),
        ({"dip": -2.0}, "'dip' is -2 degree, expected 0 to 180"),
    ],
)
def test_values_without_meaning_are_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        Okada([[0.0, 0.0]])(changed(**changes))
