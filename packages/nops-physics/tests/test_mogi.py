"""Mogi's source: golden values, closed forms, and what every forward model refuses."""

import math

import pytest
import torch
from nops_physics import Mogi, line_of_sight, network_modes, sunflower_stations
from torch.testing import assert_close

EXACT = {"rtol": 0, "atol": 1e-13}
SOURCE = torch.tensor([1.0, -2.0, 4.0, 5e6], dtype=torch.float64)


def around(radii):
    """Stations east of the source at (0, 0)."""
    return torch.stack((radii, torch.zeros_like(radii)), dim=-1)


def test_golden():
    """C = 0.75e6 m^3 at dV = pi 1e6; R = 13 km: C 3/R^3 = 1.0241 mm; and overhead dV = 1e7, d = 5.

    Overhead: 0.75e7/pi m^3 / (5 km)^2 = 0.0954930 m.
    """
    model = Mogi([[3.0, 4.0]])
    got = model(torch.tensor([0.0, 0.0, 12.0, math.pi * 1e6], dtype=torch.float64))
    expected = torch.tensor([0.75 * 3, 0.75 * 4, 0.75 * 12], dtype=torch.float64) * 1e3 / 13**3
    assert_close(got, expected, rtol=1e-13, atol=0)
    overhead = model(torch.tensor([3.0, 4.0, 5.0, 1e7], dtype=torch.float64))
    assert_close(overhead[2].item(), 95.49296585513721, rtol=1e-13, atol=0)
    assert overhead[:2].tolist() == [0.0, 0.0]


def test_it_declares_itself():
    model = Mogi(sunflower_stations(3))
    assert model.parameter_names == ("xcen", "ycen", "d", "dV")
    assert model.parameter_units == ("km", "km", "km", "m^3")
    assert (
        model.bounds.tolist()
        == torch.tensor([[-9.33, 14.35], [-5.8, 7.62], [2, 20], [-1e7, 1e7]]).tolist()
    )
    assert model.output_names == ("E1", "E2", "E3", "N1", "N2", "N3", "U1", "U2", "U3")
    assert model.output_units == ("mm",) * 9
    assert (model.input_names, model.input_units, model.input_defaults) == ((), (), ())
    assert model.input_bounds.shape == (0, 2)
    assert set(model.state_dict()) == {"bounds", "input_bounds", "stations"}


def test_the_radial_displacement_is_steered_by_depth():
    """u_r/u_z = r/d, and u_r is largest at r = d/sqrt(2)."""
    depth, radii = 4.0, torch.linspace(0.5, 8, 1501, dtype=torch.float64)
    model = Mogi(around(radii))
    got = model(torch.tensor([0.0, 0.0, depth, 1e6], dtype=torch.float64))
    east, north, up = got.reshape(3, -1)
    assert_close(east / up, radii / depth, rtol=1e-12, atol=0)
    assert north.abs().max() == 0
    assert radii[east.argmax()].item() == pytest.approx(depth / math.sqrt(2), abs=0.005)


def test_the_lifted_volume():
    """The integral of u_z over the plane is 2 (1 - nu) dV.

    Over r up to R it is C 2 pi (1 - d / sqrt(R^2 + d^2)); trapezoids in r.
    """
    nu, depth, volume = 0.3, 2.0, 1e6
    radii = torch.linspace(0, 400, 400_001, dtype=torch.float64)  # km
    up = Mogi(around(radii), nu=nu)(torch.tensor([0.0, 0.0, depth, volume], dtype=torch.float64))
    lifted = torch.trapezoid(up.reshape(3, -1)[2] * 1e-3 * 2 * math.pi * radii * 1e6, radii)
    beyond = depth / math.sqrt(400**2 + depth**2)
    assert lifted.item() == pytest.approx(2 * (1 - nu) * volume * (1 - beyond), rel=1e-6)


def test_linear_in_the_volume_and_in_sources_at_once():
    model = Mogi(sunflower_stations(5))
    twice = SOURCE * torch.tensor([1.0, 1.0, 1.0, 2.0])
    assert_close(model(twice), 2 * model(SOURCE), rtol=1e-14, atol=0)


def test_gradients_agree_with_differences_and_are_finite_overhead():
    model = Mogi([[1.0, -2.0], [4.0, 0.0]])
    scaled = (SOURCE * torch.tensor([1, 1, 1, 1e-6])).requires_grad_()
    unit = torch.tensor([1, 1, 1, 1e6], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: model(p * unit), (scaled,))
    model(scaled * unit).sum().backward()
    assert scaled.grad.isfinite().all()


def test_batches_of_any_shape_give_the_same_rows():
    model = Mogi(sunflower_stations(4))
    rows = SOURCE + torch.rand(256, 4, dtype=torch.float64, generator=torch.Generator())
    single = model(rows[0])
    many = model(rows)
    cube = model(rows[:6].reshape(2, 3, 4))
    assert_close(model(rows[:3]), many[:3], rtol=1e-15, atol=0)
    assert_close(single, many[0], rtol=1e-15, atol=0)
    assert_close(cube.reshape(6, -1), many[:6], rtol=1e-15, atol=0)
    assert_close(torch.func.vmap(model)(rows), many, rtol=1e-15, atol=0)
    assert model(rows[:0]).shape == (0, 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_computed_in_float32(dtype):
    model = Mogi(sunflower_stations(4))
    low = SOURCE.to(dtype)
    got = model(low)
    assert got.dtype == dtype
    assert_close(got, model(low.float()).to(dtype), rtol=0, atol=0)
    assert_close(got.double(), model(low.double()), rtol=4 * torch.finfo(dtype).eps, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(model(SOURCE.float()), model(SOURCE.float()), rtol=0, atol=0)


def test_line_of_sight_by_hand():
    """i = 30, a = 90: e = (-1/2, 0, sqrt(3)/2); a = 0: e = (0, 1/2, sqrt(3)/2)."""
    enu = torch.tensor([1.0, 10.0, 2.0, 20.0, 3.0, 30.0], dtype=torch.float64)  # two stations
    root = math.sqrt(3) / 2
    west = line_of_sight(enu, incidence=30.0, azimuth=90.0)
    assert_close(west, torch.tensor([3 * root - 0.5, 30 * root - 5]).double(), rtol=1e-7, atol=0)
    north = line_of_sight(enu, incidence=30.0, azimuth=torch.tensor([0.0, 90.0]))
    assert_close(north, torch.tensor([1 + 3 * root, 30 * root - 5]).double(), rtol=1e-7, atol=0)
    with pytest.raises(ValueError, match="width of 3"):
        line_of_sight(enu[:4], incidence=0.0, azimuth=0.0)


def test_sunflower_and_network_modes_by_hand():
    """Two stations of radius 2: distances 2 sqrt(1/4) = 1 and 2 sqrt(3/4); tilt is x/14."""
    stations = sunflower_stations(2, radius=2.0)
    assert_close(
        stations.norm(dim=-1), torch.tensor([1.0, math.sqrt(3)]).double(), rtol=1e-7, atol=0
    )
    assert stations[0].tolist() == [1.0, 0.0]
    angle = torch.atan2(stations[1, 1], stations[1, 0]).item()
    assert angle == pytest.approx(2.399963, abs=1e-6)
    common, tilt = network_modes(stations)
    assert common.tolist() == [1.0, 1.0, 0.5, 0.5, -0.7, -0.7]
    assert tilt[:4].tolist() == [0.0] * 4
    assert_close(tilt[4:], stations[:, 0] / 14, **EXACT)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Mogi([[0.0, 1.0, 2.0]]), r"stations.*\(1, 3\)"),
        (lambda: Mogi(torch.zeros(0, 2)), "stations"),
        (lambda: Mogi([[0.0, math.nan]]), "finite"),
        (lambda: Mogi([[0.0, 0.0]], nu=0.6), "nu .*0.6"),
        (lambda: sunflower_stations(0), "count"),
        (lambda: sunflower_stations(3, radius=-1.0), "radius"),
    ],
)
def test_bad_options_are_refused_by_name(make, named):
    with pytest.raises(ValueError, match=named):
        make()


BOUNDS = {"xcen": (-1, 1), "ycen": (-1, 1), "d": (2, 8), "dV": (2e6, 1e7)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d": (8.0, 2.0)}, "'d' need low < high, got low=8, high=2"),
        ({"d": (2.0, 2.0)}, "'d'"),
        ({"d": (2.0, math.inf)}, "'d'"),
        ({"depth": (1.0, 2.0)}, r"unknown \['depth'\]; valid names: xcen, ycen, d, dV"),
    ],
)
def test_bad_bounds_are_refused_by_name(change, named):
    with pytest.raises(ValueError, match=named):
        Mogi([[0.0, 0.0]], bounds={**BOUNDS, **change})


def test_bounds_may_be_given_but_all_of_them():
    assert Mogi([[0.0, 0.0]], bounds=BOUNDS).bounds[2].tolist() == [2.0, 8.0]
    with pytest.raises(ValueError, match=r"missing \['dV', 'ycen'\]"):
        Mogi([[0.0, 0.0]], bounds={"xcen": (0, 1), "d": (2, 8)})


def test_values_beyond_bounds_are_computed_and_those_without_meaning_refused():
    model = Mogi([[0.0, 0.0]])
    assert model(torch.tensor([100.0, 0.0, 50.0, 1e9])).isfinite().all()
    with pytest.raises(ValueError, match="'d' is -1 km, expected above 0"):
        model(torch.tensor([[0.0, 0.0, 3.0, 1e6], [0.0, 0.0, -1.0, 1e6]]))
    assert model(torch.tensor([0.0, 0.0, math.nan, 1e6])).isnan().all()


def test_wrong_widths_and_inputs_are_refused():
    model = Mogi([[0.0, 0.0]])
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\) for xcen, ycen, d, dV, got \(2, 3\)"):
        model(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"unknown inputs \['tts'\]"):
        model(SOURCE, {"tts": torch.tensor(1.0)})
