"""Estimates that a few outliers do not move."""

import itertools
import statistics
from collections.abc import Sequence

MAD_TO_SIGMA = (
    1.4826  # 1 / Φ⁻¹(3/4): the deviation of a Gaussian from its median absolute deviation
)

Point = Sequence[float]


def theil_sen(points: Sequence[Point]) -> float:
    """Median slope over all pairs of points (abscissa, value); abscissae differ, two at least."""
    pairs = itertools.combinations(points, 2)
    return statistics.median((y2 - y1) / (t2 - t1) for (t1, y1), (t2, y2) in pairs)


def mad_sigma(values: Sequence[float]) -> float:
    """Standard deviation by the median absolute deviation from the median, for Gaussian values."""
    middle = statistics.median(values)
    return MAD_TO_SIGMA * statistics.median(abs(value - middle) for value in values)
