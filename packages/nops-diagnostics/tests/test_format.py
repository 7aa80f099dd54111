"""Numbers as people read them."""

import math

import pytest
import torch
from nops_diagnostics import Estimate, format_number
from nops_diagnostics._format import format_cell, heading_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1.00"),
        (0.12345, "0.123"),
        (0.9996, "1.00"),
        (-2.5, "−2.50"),
        (12.3456, "12.3"),
        (1234.5, "1234"),
        (99499.0, "99499"),
        (99999.0, "1.00·10⁵"),
        (123456.0, "1.23·10⁵"),
        (0.00012345, "0.000123"),
        (0.000012345, "1.23·10⁻⁵"),
        (-1.5e-7, "−1.50·10⁻⁷"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (7, "7"),
        (-7, "−7"),
        (9999, "9999"),
        (297728, "297\u202f728"),
        (True, "yes"),
        (False, "no"),
    ],
)
def test_numbers(value, text):
    assert format_number(value) == text


def test_digits():
    assert format_number(0.123456, digits=5) == "0.12346"
    assert format_number(1234567.0, digits=4) == "1.235·10⁶"


def test_cells():
    estimate = Estimate(value=torch.tensor(0.5), low=torch.tensor(-0.25), high=torch.tensor(0.75))
    assert format_cell(estimate) == ("0.500", "[−0.250, 0.750]", True)
    sharp = Estimate(value=torch.tensor(1.0), low=torch.tensor(1.0), high=torch.tensor(1.0))
    assert format_cell(sharp) == ("1.00", "", True)
    undefined = Estimate(
        value=torch.tensor(math.nan), low=torch.tensor(math.nan), high=torch.tensor(math.nan)
    )
    assert format_cell(undefined) == ("–", "", True)
    assert format_cell(torch.tensor(3)) == ("3", "", True)
    assert format_cell(None) == ("–", "", True)
    assert format_cell("gray_scott") == ("gray_scott", "", False)
    assert format_cell(True) == ("yes", "", False)


def test_headings():
    assert heading_of("relative_l2") == "relative L2"
    assert heading_of("skill_persistence") == "skill persistence"
