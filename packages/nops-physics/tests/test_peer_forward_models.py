"""Leaf and canopy against `prosail`, the opening rectangle against `cutde`.

`nox -s peers` runs it; both packages are installed nowhere else.
"""

import math

import numpy as np
import pytest
import torch
from nops_physics import FourSail, Inform, Okada, Prospect, load_spectra, sunflower_stations
from torch.testing import assert_close

pytestmark = pytest.mark.peer

prosail = pytest.importorskip("prosail")
halfspace = pytest.importorskip("cutde.halfspace")

LEAF_BOUNDS = {
    "N": (1.0, 3.0),
    "cab": (0.0, 100.0),
    "car": (0.0, 25.0),
    "anth": (0.0, 20.0),
    "cbrown": (0.0, 1.0),
    "cw": (0.0005, 0.05),
    "cm": (0.001, 0.05),
}

TERMS = ("t_ss", "t_oo", "t_sstoo", "r_dd", "t_dd", "r_sd", "t_sd", "r_do", "t_do", "r_so")


def draws(count, seed=0):
    low, high = torch.tensor(list(LEAF_BOUNDS.values()), dtype=torch.float64).unbind(-1)
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, 7, dtype=torch.float64, generator=generator)


@pytest.fixture(scope="module")
def prospect():
    return Prospect(load_spectra())


def their_leaf(row):
    n, cab, car, anth, cbrown, cw, cm = row.tolist()
    _, rho, tau = prosail.run_prospect(n, cab, car, cbrown, cw, cm, ant=anth, prospect_version="D")
    return torch.from_numpy(rho), torch.from_numpy(tau)


def test_leaf(prospect):
    rows = draws(100)
    ours = prospect(rows)
    theirs = torch.stack([torch.cat(their_leaf(row)) for row in rows])
    assert_close(ours, theirs, rtol=0, atol=1e-8)


def test_the_measured_constants_are_those_of_the_peer(real_spectra):
    ours, theirs = real_spectra, load_spectra()
    assert_close(ours.refractive_index, theirs.refractive_index, rtol=0, atol=0)
    for name, values in theirs.absorption.items():
        assert_close(ours.absorption[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("mean", [None, 35.0, 70.0])
def test_canopy(prospect, mean):
    """All terms and the mixed reflectance over a soil, for 20 leaves, areas and directions."""
    rows, generator = draws(20, seed=1), torch.Generator().manual_seed(2)
    if mean is None:
        weights, theirs = "uniform", {"typelidf": 1, "lidfa": 0.0, "lidfb": 0.0}
    else:
        weights = prosail.FourSAIL.campbell(mean, 18).tolist()
        theirs = {"typelidf": 2, "lidfa": mean}
    sail, soil = FourSail(leaf_angles=weights), prospect.wavelengths.sqrt() / 100
    for row in rows:
        lai, tts, tto, psi = torch.rand(4, dtype=torch.float64, generator=generator).tolist()
        numbers = (8 * lai + 0.01, 75 * tts, 60 * tto, 180 * psi)
        rho, tau = their_leaf(row)
        layer = sail(rho, tau, **dict(zip(("lai", "tts", "tto", "psi"), numbers, strict=True)))
        run = (rho.numpy(), tau.numpy(), numbers[0], theirs["lidfa"], 0.01, *numbers[1:])
        options = {name: theirs[name] for name in theirs if name != "lidfa"}
        options |= {"rsoil0": soil.numpy(), "factor": "ALLALL"}
        terms = prosail.run_sail(*run, **options)
        for place, name in enumerate(TERMS):
            ours = getattr(layer, name).expand(len(soil))
            their = torch.as_tensor(terms[place], dtype=torch.float64).expand(len(soil))
            assert_close(ours, their, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
        red = prosail.run_sail(*run, **{**options, "factor": "SDR"})
        assert_close(sail.over_soil(layer, soil), torch.from_numpy(red), rtol=0, atol=1e-6)


def test_inform_takes_the_peers_constants(real_spectra):
    centre = torch.tensor([[2.0, 45.0, 0.0105, 0.0275, 2.0, 1.5, 0.55]], dtype=torch.float64)
    assert_close(Inform()(centre), Inform(spectra=real_spectra)(centre), rtol=0, atol=0)


def corners(source):
    """The four corners of our rectangle in m, for the half space z < 0."""
    x, y, depth, length, width, strike, dip = source[:7]
    strike, dip = math.radians(strike), math.radians(dip)
    along = np.array([math.sin(strike), math.cos(strike), 0.0]) * length / 2
    right = np.array([math.cos(strike), -math.sin(strike), 0.0])
    down = (right * math.cos(dip) - np.array([0.0, 0.0, math.sin(dip)])) * width / 2
    centre = np.array([x, y, -depth])
    return [1e3 * (centre + i * along + j * down) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


def their_displacement(stations, source):
    a, b, c, d = corners(source)
    flat = np.concatenate((1e3 * stations.numpy(), np.zeros((len(stations), 1))), axis=1)
    triangles = np.array([[a, b, c], [a, c, d]])
    slips = np.array([[0.0, 0.0, source[7]]] * 2)
    return torch.from_numpy(halfspace.disp_free(flat, triangles, slips, 0.25))


@pytest.mark.parametrize("dip", [None, 0.0, 89.0, 89.9999999, 90.0])
def test_opening_rectangle(dip):
    """In m, over the prior, level and upright.

    Between 89.9 and 89.9999 degrees the triangles cancel (3e-6 m at 89.99); there
    `test_okada.py` compares with our formula in 50 digits.
    """
    model = Okada(sunflower_stations(30))
    low, high = model.bounds.double().unbind(-1)
    generator = torch.Generator().manual_seed(5)
    rows = low + (high - low) * torch.rand(40, 8, dtype=torch.float64, generator=generator)
    if dip is not None:
        rows[:, 6] = dip
    for row in rows:
        ours = model(row).reshape(3, -1).mT / 1e3
        theirs = their_displacement(model.stations, row.tolist())
        sign = torch.sign((ours * theirs).sum())  # the sense of opening depends on the normal
        assert_close(ours, sign * theirs, rtol=0, atol=1e-8)
        assert sign != 0
