"""Numbers as people read them."""

import math
from typing import Any

from torch import Tensor

from nops_diagnostics._bootstrap import Estimate

MISSING = "–"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

METRIC_NAMES = {
    "mse": "MSE",
    "nmse": "NMSE",
    "vrmse": "VRMSE",
    "nrmse": "nRMSE",
    "relative_l2": "relative L2",
    "spectrum_error": "log spectrum error",
}


def format_number(value: float, *, digits: int = 3) -> str:
    """`value` to `digits` significant digits, without an exponent where the digits suffice.

    Integers are exact, with thousands set apart; NaN is a dash, infinity its sign.

    Args:
        value: Any real number; a bool reads yes or no.
        digits: Significant digits of what is not an integer.

    Returns:
        The text.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _signed(f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value))
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0.0:
        return "0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < digits + 2:
        return _signed(f"{value:.{max(digits - 1 - power, 0)}f}")
    return _signed(mantissa) + "·10" + str(power).translate(SUPERSCRIPTS)


def format_estimate(estimate: Estimate, *, digits: int = 3) -> tuple[str, str]:
    """The value, and its interval as `[low, high]` (empty without spread)."""
    value, low, high = float(estimate.value), float(estimate.low), float(estimate.high)
    if value == low == high or math.isnan(value):
        return format_number(value, digits=digits), ""
    low_text, high_text = (format_number(end, digits=digits) for end in (low, high))
    return format_number(value, digits=digits), f"[{low_text}, {high_text}]"


def format_cell(value: Any) -> tuple[str, str, bool]:
    """Text, smaller second text, and whether the cell is a number."""
    if isinstance(value, Estimate):
        return *format_estimate(value), True
    if isinstance(value, Tensor) and value.ndim == 0:
        value = value.item()
    if value is None:
        return MISSING, "", True
    if isinstance(value, int | float):
        return format_number(value), "", not isinstance(value, bool)
    return str(value), "", False


def heading_of(name: str) -> str:
    """A column's or key's heading from its name: known metrics by theirs, `_` as a space."""
    return METRIC_NAMES.get(name) or name.replace("_", " ")


def _signed(text: str) -> str:
    return text.replace("-", "−")
