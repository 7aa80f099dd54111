"""A forest stand's reflectance at one wavelength: a crown over undergrowth over soil.

What `FourSail` says of a layer, for three layers of one leaf at once and without what a stand does
not need. These are its formulas rewritten, for in-place arithmetic and slopes by hand; `FourSail` is
written for autograd, and so the reference of values and slopes alike (`test_stand.py`). What both
have letter by letter, the geometry included, is imported from there. Tensors are `[wavelength]`-last; an axis of two in front is sun and view, one of three is
undergrowth, closed canopy and crown (the first two of it: those that lie over a ground).

With s = rho + tau and d = b_f (rho - tau), what is lost is l = 1 - s, and with y = sqrt(l/(1 + d)):
m = y (1 + d), h = (1 - y)/(1 + y) and 1 - h^2 = 4 y/(1 + y)^2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nops_physics._four_sail import LEAST_ABSORPTION

TINY = 1e-30
MOST_NEGATIVE = -60.0  # its exponential is finite in float32


class StandRows(NamedTuple):
    """What does not depend on the wavelength, each `[..., sample, 1]`.

    Attributes:
        level: b_f, the mean squared cosine of the leaves' inclination, `[1, sample, 1]`.
        k: Extinctions for sun and view, `[2, sample, 1]`.
        single: Factors of leaf reflectance and transmittance in single scattering, `[2, ...]`.
        areas: Leaf area of the three layers, `[3, ...]`.
        hot: Leaf area seen and lit, of both layers over a ground, `[2, ...]`.
        both: Gaps seen in both directions at once, of the same, `[2, ...]`.
        gaps: Gaps for sun and view, `[2 * 3, ...]`: all of the sun first.
        pair: Leaf area seen and lit if both directions had nothing in common, `[2, ...]`.
        shares: Shares of the ground, `[4, ...]`.
    """

    level: Tensor
    k: Tensor
    single: Tensor
    areas: Tensor
    hot: Tensor
    both: Tensor
    gaps: Tensor
    pair: Tensor
    shares: Tensor


WIDTHS = StandRows(1, 2, 2, 3, 2, 2, 6, 2, 4)  # pyright: ignore[reportArgumentType]


class Medium(NamedTuple):
    """Scattering per leaf area; `front` and `back` drive the streams down and up, `[2, ...]`."""

    total: Tensor
    skew: Tensor
    lost: Tensor
    width: Tensor
    y: Tensor
    m: Tensor
    v: Tensor  # 1 / (1 + y)
    h: Tensor
    rest: Tensor  # 1 - h^2
    even: Tensor
    odd: Tensor
    front: Tensor
    back: Tensor
    w: Tensor


class Streams(NamedTuple):
    """The four streams in layers: `down` and `up` are what the sun (the view) drives.

    `through` is t_sd and t_do of all layers, `up_o` r_do and `r` r_dd of the first two.
    """

    e: Tensor
    x: Tensor  # (k - m) L
    psi: Tensor  # (1 - exp(-x)) / x
    j1: Tensor
    j2: Tensor
    per: Tensor  # 1 / (k + m)
    q: Tensor  # h e
    faded: Tensor  # 1 - e^2
    per_b: Tensor  # 1 / (1 - h^2 e^2)
    down: Tensor
    up: Tensor
    through: Tensor
    up_o: Tensor
    r: Tensor


class Multiple(NamedTuple):
    """Light scattered more than once from the sun to the view, `[2, sample, wavelength]`."""

    value: Tensor
    crossed: Tensor  # c_o a_s and c_s a_o
    g: Tensor
    returned: Tensor


class Ground(NamedTuple):
    """A layer over a ground g: its reflectance and what slopes need."""

    value: Tensor
    enter: Tensor
    per: Tensor  # 1 / (1 - g r)


def medium(rho: Tensor, tau: Tensor, rows: StandRows) -> Medium:
    """Coefficients per leaf area of a leaf `[sample, wavelength]`."""
    total, skew = rho + tau, rows.level[0] * (rho - tau)
    lost = (1 - total).clamp_(min=LEAST_ABSORPTION[rho.dtype])
    width = 1 + skew
    y = (lost / width).sqrt_()
    v = 1 / (1 + y)
    yv = y * v
    even, odd = total * v, skew * yv
    driven = rows.k * even
    w = rows.single[0] * rho + rows.single[1] * tau
    front, back = driven - odd, driven + odd
    return Medium(
        total, skew, lost, width, y, y * width, v, v - yv, 4 * v * yv, even, odd, front, back, w
    )


def streams(c: Medium, rows: StandRows) -> Streams:
    """All layers of one medium."""
    k, area = rows.k[:, None], rows.areas
    depth = c.m * area
    e = torch.exp(-depth)
    f = torch.expm1(depth.neg_()).neg_()
    x = ((k - c.m) * area).clamp_(min=MOST_NEGATIVE).add_(TINY)  # no 0
    psi = torch.expm1(-x).neg_().div_(x)
    j1 = psi * (area * e)
    per = 1 / (k + c.m)
    filled = -torch.expm1(-k * area)
    j2 = (f * (1 - filled)).add_(filled).mul_(per)
    q, faded = c.h * e, f * (1 + e)
    per_b = 1 / (c.h.square() * faded).add_(c.rest)
    down, up = c.front[:, None] * j1, c.back[:, None] * j2
    through = (down - q * up).mul_(per_b)
    first = slice(None, 2)
    up_o = (up[1, first] - q[first] * down[1, first]).mul_(per_b[first])
    r = (c.h * faded[first]).mul_(per_b[first])
    return Streams(e, x, psi, j1, j2, per, q, faded, per_b, down, up, through, up_o, r)


def multiple_scattering(c: Medium, s: Streams, rows: StandRows) -> Multiple:
    """Of the two layers that lie over a ground."""
    t_o, t_s = rows.gaps[3:5], rows.gaps[0:2]
    crossed = torch.stack((c.back[1] * c.front[0], c.back[0] * c.front[1]))
    g = torch.stack(
        (
            (rows.pair - s.j1[0, :2] * t_o).mul_(s.per[1]),
            (rows.pair - s.j1[1, :2] * t_s).mul_(s.per[0]),
        )
    )
    returned = (s.up_o * s.up[0, :2]).addcmul_(s.through[1, :2], s.down[0, :2])
    total = (crossed[0] * g[0]).addcmul_(crossed[1], g[1]).addcmul_(c.h, returned, value=-1)
    return Multiple(total.div_(c.rest), crossed, g, returned)


def over_ground(so: Tensor, s: Streams, rows: StandRows, layer: int, ground: Tensor) -> Ground:
    """A layer over a ground that scatters evenly."""
    t_s, t_o = rows.gaps[layer], rows.gaps[3 + layer]
    sd, do, r = s.through[0, layer], s.through[1, layer], s.r[layer]
    echo = ground * r
    enter = ((t_s + sd) * do).addcmul_(sd + t_s * echo, t_o.expand_as(sd))
    per = 1 / (1 - echo)
    value = (so + rows.both[layer] * ground).addcmul_(enter * ground, per)
    return Ground(value, enter, per)
