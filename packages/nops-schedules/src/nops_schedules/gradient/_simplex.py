"""Small problems over the weights of m terms, in plain floats: a simplex, and an orthant.

A Gram matrix G is m rows of m floats. Nothing here needs torch.
"""

import math
from collections.abc import Callable, Sequence

Matrix = Sequence[Sequence[float]]
TOLERANCE = 1e-12
MAX_SWEEPS = 1000  # some milliseconds; a mix that still moves is as good as its last digits


def smallest_mix(gram: Matrix) -> list[float]:
    """The w on the simplex with the smallest wᵀGw.

    Args:
        gram: Positive semidefinite, not all zero.
    """
    return _sweep(_scaled(gram), lambda gap, curvature, _change, _size: -gap / curvature)


def smallest_bound(gram: Matrix, *, radius: float) -> list[float]:
    """The w on the simplex with the smallest b·w + s √(wᵀGw), b = G 1/m, s = radius times the mean row's norm.

    Args:
        gram: Positive semidefinite, not all zero.
        radius: At least 0, dimensionless.
    """
    scaled = _scaled(gram)
    m = len(scaled)
    towards = [sum(row) / m for row in scaled]
    reach = radius * math.sqrt(max(sum(towards) / m, 0.0))

    def move(gap: float, curvature: float, change: tuple[int, int], size: float) -> float:
        slope = towards[change[0]] - towards[change[1]]
        left = reach**2 * curvature - slope**2
        if left <= 0:
            return -math.copysign(math.inf, slope)
        rest = max(size - gap**2 / curvature, 0.0)
        root = math.sqrt(slope**2 * rest / (curvature * left))
        return -gap / curvature - math.copysign(root, slope)

    return _sweep(scaled, move)


def _sweep(
    gram: Matrix, best: Callable[[float, float, tuple[int, int], float], float]
) -> list[float]:
    """Move weight between two terms at a time to where it is best, until nothing moves.

    Args:
        gram: Of trace 1.
        best: How far to move from j to i, given (Gw)_i − (Gw)_j, G_ii + G_jj − 2 G_ij, (i, j) and wᵀGw.
    """
    m = len(gram)
    w = [1.0 / m] * m
    product = [math.fsum(row) / m for row in gram]
    pairs = [(i, j) for i in range(m) for j in range(i)]
    for _ in range(MAX_SWEEPS):
        moved = 0.0
        for i, j in pairs:
            curvature = gram[i][i] + gram[j][j] - 2 * gram[i][j]
            if curvature <= 0:
                continue
            size = max(sum(a * b for a, b in zip(w, product, strict=True)), 0.0)
            x = best(product[i] - product[j], curvature, (i, j), size)
            x = min(max(x, -w[i]), w[j])
            if x != 0:
                w[i], w[j] = w[i] + x, w[j] - x
                for k in range(m):
                    product[k] += x * (gram[k][i] - gram[k][j])
                moved = max(moved, abs(x))
        if moved < TOLERANCE:
            break
    return w


def _scaled(gram: Matrix) -> list[list[float]]:
    trace = sum(row[i] for i, row in enumerate(gram))
    return [[value / trace for value in row] for row in gram]


def nearest_above(gram: Matrix, lower: Sequence[float]) -> list[float]:
    """The v with the smallest vᵀGv among those with v_i ≥ lower_i (Lawson and Hanson's active set).

    Args:
        gram: Positive definite.
        lower: m floats.
    """
    m = len(gram)
    slope = [sum(g * u for g, u in zip(row, lower, strict=True)) for row in gram]
    z = [0.0] * m  # v - lower
    free: list[int] = []
    for _ in range(3 * m + 10):
        pull = [-slope[i] - sum(gram[i][k] * z[k] for k in free) for i in range(m)]
        held = [i for i in range(m) if i not in free]
        scale = max(map(abs, slope), default=0.0)
        best = max(held, key=lambda i: pull[i], default=None)
        if best is None or pull[best] <= TOLERANCE * scale:
            break
        free.append(best)
        z = _settled(gram, slope, z, free)
    return [u + d for u, d in zip(lower, z, strict=True)]


def _settled(gram: Matrix, slope: Sequence[float], z: list[float], free: list[int]) -> list[float]:
    """The best z over the free entries, from which those that would be negative are taken out, in place."""
    while free:
        aim = solve([[gram[i][k] for k in free] for i in free], [-slope[i] for i in free])
        if all(value > 0 for value in aim):
            found = [0.0] * len(z)
            for i, value in zip(free, aim, strict=True):
                found[i] = value
            return found
        # Go towards it until the first entry is 0, and take that one out.
        shares = {
            i: z[i] / (z[i] - value) if z[i] > 0 else 0.0
            for i, value in zip(free, aim, strict=True)
            if value <= 0
        }
        first = min(shares, key=lambda i: shares[i])
        z = list(z)
        for i, value in zip(free, aim, strict=True):
            z[i] += shares[first] * (value - z[i])
        free.remove(first)
        z[first] = 0.0
    return [0.0] * len(z)


def solve(matrix: Matrix, right: Sequence[float]) -> list[float]:
    """The solution of a small linear system, by elimination with pivots."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    n = len(rows)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(k + 1, n):
            factor = rows[i][k] / rows[k][k]
            for c in range(k, n + 1):
                rows[i][c] -= factor * rows[k][c]
    x = [0.0] * n
    for k in reversed(range(n)):
        x[k] = (rows[k][n] - sum(rows[k][c] * x[c] for c in range(k + 1, n))) / rows[k][k]
    return x
