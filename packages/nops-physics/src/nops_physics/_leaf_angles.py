"""How leaves are inclined, and how a canopy of such leaves meets sun and view."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NUM_CLASSES = 18  # of 5 degrees
HALVINGS = 60
NODES = 16  # per class, for the integrals of the ellipsoid


def leaf_angle_weights(leaf_angles: str | float | Sequence[float] | Tensor) -> Tensor:
    """Shares of leaf area in classes of 5 degrees from level to upright, sum 1, float64.

    Args:
        leaf_angles: `uniform`, 18 weights, or a mean inclination in degrees, from 5 to 85, for
            Campbell's ellipsoid.

    Raises:
        ValueError: If it is none of the three.
    """
    if isinstance(leaf_angles, str):
        if leaf_angles != "uniform":
            raise ValueError(
                f"leaf_angles is {leaf_angles!r}, expected 'uniform', {NUM_CLASSES} weights or a "
                "mean angle in degrees"
            )
        return torch.full((NUM_CLASSES,), 1 / NUM_CLASSES, dtype=torch.float64)
    values = torch.as_tensor(leaf_angles, dtype=torch.float64)
    if values.ndim == 0:
        return _ellipsoid(values.item())
    if values.shape != (NUM_CLASSES,) or not (values >= 0).all() or not 0 < values.sum() < math.inf:
        raise ValueError(
            f"leaf_angles needs {NUM_CLASSES} weights, none negative, of a positive sum, got "
            f"{values.tolist()}"
        )
    return values / values.sum()


def _ellipsoid(mean: float) -> Tensor:
    """Shares of classes on the ellipsoid of horizontal over vertical axis chi with this mean.

    chi is found by halving, in its logarithm; the mean angle falls as chi grows.
    """
    if not 5 <= mean <= 85:
        raise ValueError(f"leaf_angles as a mean needs 5 to 85 degrees, got {mean:g}")
    low, high = math.log(1e-3), math.log(1e3)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        angle, shares = _inclinations(math.exp(middle))
        low, high = (middle, high) if (angle * shares).sum() > math.radians(mean) else (low, middle)
    return _inclinations(math.exp(low))[1].sum(-1)


def _inclinations(chi: float) -> tuple[Tensor, Tensor]:
    """Angles and their shares `[class, node]` on the surface of an ellipsoid.

    The density is sin(t) / (cos(t)^2 + chi^2 sin(t)^2)^2: Campbell, Agric. For. Meteorol. 49
    (1990).
    """
    nodes, weights = gauss_legendre(NODES)
    lower = torch.arange(NUM_CLASSES, dtype=torch.float64)[:, None]
    angle = (lower + nodes) * (math.pi / 2 / NUM_CLASSES)
    density = angle.sin() / (angle.cos().square() + chi**2 * angle.sin().square()).square()
    return angle, density * weights / (density * weights).sum()


def gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], float64, exact for polynomials up to the degree 2 count - 1.

    Source:
        Golub and Welsch, Math. Comp. 23 (1969).
    """
    k = torch.arange(1, count, dtype=torch.float64)
    beside = k / (4 * k.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return (nodes + 1) / 2, vectors[0].square()


class Geometry(NamedTuple):
    """How leaves meet the sun (s) and the view (o), each `[*batch, 1]`, dimensionless.

    `k_s` and `k_o` are extinctions per leaf area, `b_f` the mean squared cosine of inclination,
    `s_b` and `s_f` the factors of leaf reflectance and transmittance in single scattering,
    `distance` the separation of both directions that the hot spot depends on.
    """

    k_s: Tensor
    k_o: Tensor
    b_f: Tensor
    s_b: Tensor
    s_f: Tensor
    distance: Tensor


def canopy_geometry(weights: Tensor, tts: Tensor, tto: Tensor, psi: Tensor) -> Geometry:
    """Sums over the leaf classes for zenith angles and relative azimuth in degrees, `[*batch]`."""
    sun, view, turn = (torch.deg2rad(angle)[..., None] for angle in (tts, tto, psi))
    width = math.pi / 2 / NUM_CLASSES
    leaf = (torch.arange(NUM_CLASSES, dtype=sun.dtype, device=sun.device) + 0.5) * width
    cs, ss = leaf.cos() * sun.cos(), leaf.sin() * sun.sin()
    co, so = leaf.cos() * view.cos(), leaf.sin() * view.sin()
    beta_s, d_s = _transition(cs, ss)
    beta_o, d_o = _transition(co, so)
    chi_s, chi_o = _projected(beta_s, cs, ss), _projected(beta_o, co, so)
    b1, b2, b3 = _sorted(turn, (beta_s - beta_o).abs(), math.pi - (beta_s + beta_o - math.pi).abs())
    t1 = 2 * cs * co + ss * so * turn.cos()
    t2 = b2.sin() * (2 * d_s * d_o + ss * so * b1.cos() * b3.cos())
    f_b = (((math.pi - b2) * t1 + t2) / (2 * math.pi**2)).clamp(min=0)
    f_f = ((t2 - b2 * t1) / (2 * math.pi**2)).clamp(min=0)
    across = math.pi / (sun.cos() * view.cos())

    def mean(values: Tensor) -> Tensor:
        return (values * weights).sum(-1, keepdim=True)

    b_f = mean(leaf.cos().square()).expand_as(sun)
    k_s, k_o = mean(chi_s) / sun.cos(), mean(chi_o) / view.cos()
    return Geometry(
        k_s, k_o, b_f, across * mean(f_b), across * mean(f_f), _distance(sun, view, turn)
    )


def _transition(level: Tensor, upright: Tensor) -> tuple[Tensor, Tensor]:
    """Azimuth at which a leaf turns its other side to the direction, and the larger product."""
    turns = level.abs() < upright.abs()
    ratio = torch.where(turns, -level / torch.where(turns, upright, 1.0), 0.0)
    beta = torch.where(turns, torch.acos(ratio), math.pi)
    return beta, torch.where(turns, upright, level)


def _projected(beta: Tensor, level: Tensor, upright: Tensor) -> Tensor:
    return 2 / math.pi * ((beta - math.pi / 2) * level + beta.sin() * upright)


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b, c = torch.broadcast_tensors(a, b, c)
    low, high = torch.minimum(b, c), torch.maximum(b, c)
    return torch.minimum(a, low), torch.maximum(low, torch.minimum(a, high)), torch.maximum(a, high)


def _distance(sun: Tensor, view: Tensor, turn: Tensor) -> Tensor:
    """Distance of both directions in the plane of tangents; its slope at 0 is taken to be 0."""
    a, b = sun.tan(), view.tan()
    squared = (a - b).square() + 4 * a * b * (turn / 2).sin().square()
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)
