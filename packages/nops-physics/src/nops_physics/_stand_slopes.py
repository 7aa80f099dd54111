"""Slopes of a stand's reflectance, by the chain rule from the reflectance back to leaf and rows.

`x_by` is the slope of the stand's reflectance by x, with the shape of x (rows: one per wavelength).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nops_physics._four_sail import LEAST_ABSORPTION
from nops_physics._stand import (
    TINY,
    Ground,
    Medium,
    Multiple,
    StandRows,
    Streams,
    medium,
    multiple_scattering,
    over_ground,
    streams,
)

NEAR_ZERO = 1e-2  # below, a slope by its series; from twice as much on by its formula


class Slopes(NamedTuple):
    """Of the reflectance, by the leaf's reflectance and transmittance and by the rows.

    `rows` has an entry per entry of `StandRows`, `[..., sample, wavelength]`, in its order.
    """

    rho: Tensor
    tau: Tensor
    rows: StandRows


class Seen(NamedTuple):
    """A stand from below: both layers over their grounds, and the mixture."""

    medium: Medium
    streams: Streams
    multiple: Multiple
    grounds: tuple[Ground, Ground]
    crown: Tensor  # total transmittances of a crown for sun and view
    value: Tensor


def stand(rho: Tensor, tau: Tensor, rows: StandRows, soil: Tensor) -> Seen:
    """Reflectance `[sample, wavelength]` of a stand, and all that it is made of."""
    c = medium(rho, tau, rows)
    s = streams(c, rows)
    more = multiple_scattering(c, s, rows)
    so = (c.w * rows.hot).add_(more.value)
    below = over_ground(so[0], s, rows, 0, soil)
    thick = over_ground(so[1], s, rows, 1, below.value)
    crown = rows.gaps[2::3] + s.through[:, 2]
    shaded, lit, open_shaded, open_lit = rows.shares
    both = crown[0] * crown[1]
    ground = (shaded * both).addcmul_(lit, crown[1]).addcmul_(open_shaded, crown[0]).add_(open_lit)
    value = (thick.value * (shaded - shaded * both)).addcmul_(below.value, ground)
    return Seen(c, s, more, (below, thick), crown, value)


def stand_slopes(seen: Seen, rho: Tensor, tau: Tensor, rows: StandRows, soil: Tensor) -> Slopes:
    """What every number that a stand is made of does to its reflectance."""
    by = _mixture(seen, rows, soil)
    medium_by, rows_by = _layers(seen, rows, by)
    return _leaf(seen.medium, rho, tau, rows, medium_by, rows_by)


class _Mixed(NamedTuple):
    """By the layers' terms: `so`, `r` of two, `through` of three, and rows of them."""

    so: Tensor
    through: Tensor
    r: Tensor
    gaps: Tensor
    both: Tensor
    shares: Tensor


def _mixture(seen: Seen, rows: StandRows, soil: Tensor) -> _Mixed:
    below, thick = (ground.value for ground in seen.grounds)
    t_s, t_o = seen.crown
    shaded, lit, open_shaded, open_lit = rows.shares
    both, higher = t_s * t_o, below - thick
    lower = below * both
    shares_by = torch.stack((thick - thick * both + lower, below * t_o, below * t_s, below))
    ground = shaded * both + lit * t_o + open_shaded * t_s + open_lit
    through_by = seen.streams.through.new_empty(seen.streams.through.shape)
    torch.mul(higher * t_o, shaded, out=through_by[0, 2]).addcmul_(below, open_shaded)
    torch.mul(higher * t_s, shaded, out=through_by[1, 2]).addcmul_(below, lit)
    gaps_by = through_by.clone()
    so_by = torch.empty_like(seen.multiple.value)
    r_by, both_by = torch.empty_like(so_by), torch.empty_like(so_by)
    parts = (so_by, through_by, r_by, gaps_by, both_by)
    thick_by = shaded - shaded * both
    below_by = ground + _ground(seen, rows, 1, below, thick_by, parts, further=True)
    _ground(seen, rows, 0, soil, below_by, parts, further=False)
    return _Mixed(so_by, through_by, r_by, gaps_by, both_by, shares_by)


def _ground(
    seen: Seen,
    rows: StandRows,
    layer: int,
    ground: Tensor,
    value_by: Tensor,
    parts: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    *,
    further: bool,
) -> Tensor:
    """Of one layer over its ground into its place in `parts`; returns that of the ground."""
    so_by, through_by, r_by, gaps_by, both_by = (part[..., layer, :, :] for part in parts)
    s, (_, enter, per) = seen.streams, seen.grounds[layer]
    t_s, t_o = rows.gaps[layer], rows.gaps[3 + layer]
    sd, do, r = s.through[0, layer], s.through[1, layer], s.r[layer]
    so_by.copy_(value_by)
    torch.mul(value_by, ground, out=both_by)
    enter_by = both_by * per
    echo = ground * r
    lit = t_s * echo
    torch.mul(enter_by, do + t_o, out=through_by[0])
    torch.mul(enter_by, sd + t_s, out=through_by[1])
    torch.mul(enter_by, do + t_o * echo, out=gaps_by[0])
    torch.mul(enter_by, sd + lit, out=gaps_by[1])
    again = enter * per.square()
    direct = enter_by * (t_s * t_o)
    torch.mul(direct, ground, out=r_by).addcmul_(both_by * ground, again)
    if not further:
        return r_by
    return (again + rows.both[layer]).mul_(value_by).addcmul_(direct, r)


class _MediumBy(NamedTuple):
    m: Tensor
    h: Tensor
    rest: Tensor
    even: Tensor
    odd: Tensor
    w: Tensor


class _DrivenBy(NamedTuple):
    """By what layers take in and pass on: `down`, `up`, `e`, and h and 1 - h^2 of the medium."""

    down: Tensor
    up: Tensor
    e: Tensor
    h: Tensor
    rest: Tensor


def _driven(seen: Seen, by: _Mixed, once: Tensor) -> _DrivenBy:
    """From a layer's terms to its streams; changes `by.through` in place."""
    c, s, more = seen.medium, seen.streams, seen.multiple
    first = slice(None, 2)  # the layers over a ground
    h_by = -(once * more.returned).sum(0)
    returned_by = once * c.h  # with its sign turned
    by.through[1, first].addcmul_(returned_by, s.down[0, first], value=-1)
    down_by = by.through * s.per_b
    up_by = (s.q * down_by).neg_()
    q_by, b_by = -(down_by * s.up).sum(0), -(down_by * s.through).sum(0)
    up_o_by = (returned_by * s.up[0, first]).mul_(s.per_b[first]).neg_()
    up_by[1, first] += up_o_by
    up_by[0, first].addcmul_(returned_by, s.up_o, value=-1)
    down_by[1, first].addcmul_(s.q[first], up_o_by, value=-1)
    down_by[0, first].addcmul_(returned_by, s.through[1, first], value=-1)
    q_by[first].addcmul_(up_o_by, s.down[1, first], value=-1)
    b_by[first].addcmul_(up_o_by, s.up_o, value=-1)
    r_by = by.r * s.per_b[first]
    h_by += (r_by * s.faded[first]).sum(0)
    b_by[first].addcmul_(r_by, s.r, value=-1)
    q_by.addcmul_(s.q, b_by, value=-2)
    e_by = q_by * c.h
    e_by[first].addcmul_(s.e[first], r_by * c.h, value=-2)
    h_by += (q_by * s.e).sum(0)
    return _DrivenBy(down_by, up_by, e_by, h_by, -(once * more.value).sum(0))


def _layers(seen: Seen, rows: StandRows, by: _Mixed) -> tuple[_MediumBy, StandRows]:
    """From the layers' terms to the medium and the rows; changes `by` in place."""
    c, s = seen.medium, seen.streams
    once = by.so / c.rest
    d = _driven(seen, by, once)
    g = _scattered(seen, rows, by, once)
    front_by = (d.down * s.j1).sum(1).add_(g.front)
    back_by = (d.up * s.j2).sum(1).add_(g.back)
    j1_by = d.down.mul_(c.front[:, None])
    j1_by[:, :2] += g.j1
    k_by, m_by, area_by = _profiles(c, s, rows, j1_by, d.up.mul_(c.back[:, None]), d.e)
    k_by += g.sums
    m_by += g.sums.sum(0)
    both_by = front_by + back_by
    even_by = (rows.k * both_by).sum(0)
    k_by.addcmul_(both_by, c.even)
    w_by = (by.so * rows.hot).sum(0)
    medium_by = _MediumBy(m_by, d.h, d.rest, even_by, (back_by - front_by).sum(0), w_by)
    none, gaps = k_by.new_empty(0), by.gaps.flatten(0, 1)
    hot = by.so * c.w
    return medium_by, StandRows(none, k_by, none, area_by, hot, by.both, gaps, g.pair, by.shares)


class _Scattered(NamedTuple):
    j1: Tensor
    sums: Tensor  # by k + m
    front: Tensor
    back: Tensor
    pair: Tensor


def _scattered(seen: Seen, rows: StandRows, by: _Mixed, once: Tensor) -> _Scattered:
    """Through both ways that light takes which is scattered more than once."""
    c, s, more = seen.medium, seen.streams, seen.multiple
    far = (once * more.crossed[:, None]).mul_(s.per.flip(0))
    opposite = rows.gaps.unflatten(0, (2, 3))[:, :2].flip(0)
    by.gaps[:, :2] -= (far * s.j1[:, :2]).flip(0)
    crossed_by = (once * more.g).sum(1)
    return _Scattered(
        -far * opposite,
        -(far * more.g).sum(1).flip(0),
        crossed_by * c.back.flip(0),
        (crossed_by * c.front).flip(0),
        far.sum(0),
    )


def _profiles(
    c: Medium, s: Streams, rows: StandRows, j1_by: Tensor, j2_by: Tensor, e_by: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """By k, m and leaf area, through the integrals over depth J1, J2 and what is left, e."""
    k, area = rows.k[:, None], rows.areas
    gap = torch.exp(-k * area)
    is_far = s.x.abs().div_(NEAR_ZERO).sub_(1).clamp_(0, 1)
    series = (s.x * (-1 / 8)).add_(1 / 3).mul_(s.x).sub_(0.5)
    psi_by = series.lerp_((1 - s.psi).div_(s.x).sub_(s.psi), is_far)
    j1_by_k = psi_by.mul_(area.square() * s.e)
    left = gap * s.e
    j2_by_k = (left * area).sub_(s.j2).mul_(s.per).mul_(j2_by)
    shift = j1_by_k.mul_(j1_by)
    k_by = (shift + j2_by_k).sum(1)
    shorter = (e_by * s.e).addcmul_(j1_by[0], s.j1[0]).addcmul_(j1_by[1], s.j1[1])
    m_by = (j2_by_k - shift).sum(0).addcmul_(shorter, area, value=-1).sum(0)
    area_by = (j1_by * gap).addcmul_(j2_by, left).sum(0).addcmul_(shorter, c.m, value=-1)
    return k_by, m_by, area_by


def _leaf(
    c: Medium, rho: Tensor, tau: Tensor, rows: StandRows, by: _MediumBy, rows_by: StandRows
) -> Slopes:
    """From the medium to the leaf."""
    v_by = (by.even * c.total).addcmul_(by.odd, c.skew, value=-1).add_(by.h, alpha=2)
    v_by.addcmul_(c.h, by.rest, value=-4)
    y_by = v_by.mul_(c.v).mul_(c.v).mul_(c.y).neg_()  # times y
    m_by = by.m * c.m
    lost_by = (m_by + y_by).div_(2 * c.lost)
    lost_by.mul_((c.lost - LEAST_ABSORPTION[rho.dtype]).div_(TINY).clamp_(0, 1))
    width_by = (m_by - y_by).div_(2 * c.width)
    total_by = (by.even * c.v).sub_(lost_by)
    skew_by = (by.odd * (1 - c.v)).add_(width_by).mul_(rows.level[0])
    single = torch.stack((by.w * rho, by.w * tau))
    w_rho, w_tau = by.w * rows.single[0], by.w * rows.single[1]
    return Slopes(
        w_rho.add_(total_by).add_(skew_by),
        w_tau.add_(total_by).sub_(skew_by),
        rows_by._replace(single=single),
    )
