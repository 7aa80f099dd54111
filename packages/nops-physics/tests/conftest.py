"""Domains and helpers that several test modules share."""

import pytest
from nops_physics import GrayScott, Heat, RandomConvOperator

DOMAINS = {
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
