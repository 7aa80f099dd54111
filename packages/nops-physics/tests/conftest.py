"""Domains and helpers that several test modules share."""

import os
from pathlib import Path

import pytest
import torch
from nops_physics import (
    Advection1D,
    AllenCahn1D,
    Burgers1D,
    DiffusionReaction2D,
    GrayScott,
    Heat,
    NavierStokes2D,
    RandomConvOperator,
    Spectra,
    WaveEquation2D,
    load_spectra,
)

DOMAINS = {
    "advection": Advection1D(32),
    "advection_odd": Advection1D(21, length=3.0),
    "allen_cahn": AllenCahn1D(64, diffusivity=5e-3),
    "burgers": Burgers1D(256),
    "burgers_odd": Burgers1D(255, courant=2.0),
    "diffusion_reaction": DiffusionReaction2D((16, 16)),
    "diffusion_reaction_odd": DiffusionReaction2D((7, 9), box=(0.0, 1.0)),
    "gray_scott": GrayScott(shape=(32, 32)),
    "gray_scott_odd": GrayScott(shape=(9, 15)),
    "heat": Heat(shape=(32, 32)),
    "heat_odd": Heat(shape=(7, 9, 5)),
    "navier_stokes": NavierStokes2D(shape=(32, 32)),
    "navier_stokes_odd": NavierStokes2D(shape=(9, 14), peak_wavenumber=1.5),
    "random_conv": RandomConvOperator(shape=(32, 32)),
    "random_conv_odd": RandomConvOperator(shape=(17, 23), channels=2, weight_seed=3),
    "wave": WaveEquation2D(shape=(32, 32)),
    "wave_odd": WaveEquation2D(shape=(9, 7), length=2.0),
}


@pytest.fixture(params=DOMAINS)
def domain(request):
    return DOMAINS[request.param]


def synthetic_spectra(*, proteins=False):
    """Smooth optical constants that resemble no leaf in particular, made of formulas alone."""
    nm = torch.arange(400, 2501, dtype=torch.float64)

    def hump(centre, width, height):
        return height * torch.exp(-(((nm - centre) / width) ** 2))

    water = hump(1450, 60, 25.0) + hump(1940, 80, 100.0) + hump(2600, 300, 90.0) + 0.02
    absorption = {
        "cab": hump(430, 40, 0.06) + hump(660, 35, 0.05),
        "car": hump(450, 50, 0.08),
        "anth": hump(540, 30, 0.04),
        "cbrown": hump(400, 200, 0.5),
        "cw": water,
        "cm": hump(2100, 400, 20.0) + 2.0,
    }
    if proteins:
        absorption["prot"] = hump(2170, 60, 30.0) + 1.0
        absorption["cbc"] = hump(2270, 300, 20.0) + 2.0
    index = 1.5 - 1e-4 * (nm - 400)
    return Spectra(source="formulas", refractive_index=index, absorption=absorption)


@pytest.fixture(scope="session")
def spectra():
    return synthetic_spectra()


@pytest.fixture(scope="session")
def pro_spectra():
    return synthetic_spectra(proteins=True)


@pytest.fixture(scope="session")
def real_spectra():
    """The measured constants, where the folder of test data is named."""
    folder = os.environ.get("NOPS_TEST_DATA")
    if folder is None:
        pytest.skip("NOPS_TEST_DATA is not set: no measured optical constants")
    path = Path(folder) / "phys_smpl" / "rtm" / "prospect_pro.txt"
    if not path.exists():
        pytest.skip(f"no {path}: no measured optical constants")
    return load_spectra(path)
