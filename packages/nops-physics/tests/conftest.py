"""Domains and helpers that several test modules share."""

import pytest
from nops_physics import (
    Advection1D,
    Burgers1D,
    DiffusionReaction2D,
    GrayScott,
    Heat,
    RandomConvOperator,
)

DOMAINS = {
    "advection": Advection1D(32),
    "advection_odd": Advection1D(21, length=3.0),
    "burgers": Burgers1D(256),
    "burgers_odd": Burgers1D(255, courant=2.0),
    "diffusion_reaction": DiffusionReaction2D((16, 16)),
    "diffusion_reaction_odd": DiffusionReaction2D((7, 9), box=(0.0, 1.0)),
    "gray_scott": GrayScott(shape=(32, 32)),
    "gray_scott_odd": GrayScott(shape=(9, 15)),
    "heat": Heat(shape=(32, 32)),
    "heat_odd": Heat(shape=(7, 9, 5)),
    "random_conv": RandomConvOperator(shape=(32, 32)),
    "random_conv_odd": RandomConvOperator(shape=(17, 23), channels=2, weight_seed=3),
}


@pytest.fixture(params=DOMAINS)
def domain(request):
    return DOMAINS[request.param]
