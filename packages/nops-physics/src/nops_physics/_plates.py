"""A pile of absorbing plates, with its slopes: reflectance and transmittance of a leaf.

Slopes are made beside the values, from the same intermediate results: a leaf has two numbers per
wavelength that vary, so that four slopes are cheaper than a pass backward, and less to keep.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._once import once

LARGEST_EXPONENT = 80.0  # exp stays finite in float32
LEAST_THROUGH = 1e-9  # of one plate: a leaf that lets through less shows no difference
TINY = 1e-30  # its square root and 1/it are finite in float32
NEAR_ZERO = 1e-3  # below, a slope by its series; from twice as much on by its formula


class LeafOptics(NamedTuple):
    """What a leaf does with light, each `[*batch, wavelength]`, from 0 to 1."""

    reflectance: Float[Tensor, "*batch wavelength"]
    transmittance: Float[Tensor, "*batch wavelength"]


class Pile(NamedTuple):
    """Reflectance and transmittance of a leaf, and their slopes, each `[*batch, wavelength]`."""

    reflectance: Tensor
    transmittance: Tensor
    r_by_absorbed: Tensor
    t_by_absorbed: Tensor
    r_by_count: Tensor
    t_by_count: Tensor


class Plate(NamedTuple):
    """One plate lit from all sides, and its slopes by the share it lets through.

    `back` is the plate's light returned from within, x t; `sinh2` and `cosh` are those of Stokes'
    exponent u: cosh(u) = (1 + t^2 - r^2) / 2t.
    """

    r: Tensor
    t: Tensor
    back: Tensor
    r_by: Tensor
    t_by: Tensor
    sinh2: Tensor
    cosh: Tensor
    sinh2_by: Tensor


class Powers(NamedTuple):
    """sinh(n u) / sinh(u) and cosh(n u), and their slopes by sinh(u)^2 and by n."""

    ratio: Tensor
    cosh: Tensor
    ratio_by: Tensor
    cosh_by: Tensor
    ratio_by_count: Tensor
    cosh_by_count: Tensor


def single_plate(absorbed: Tensor, leaving: Tensor, reflected: Tensor) -> Plate:
    """From the share absorbed on the way, and the surface's values from within."""
    through = (1 - absorbed).clamp(min=LEAST_THROUGH)
    x = reflected * through
    square = x.square()
    echoes = 1 / (1 - square)
    gain = leaving * (1 - reflected) * echoes
    t, t_by = gain * through, gain * (1 + square) * echoes
    back = x * t
    r, r_by = 1 - leaving + back, reflected * t + x * t_by
    cosh = (1 + t.square() - r.square()) / (2 * t)
    # sinh^2 by what is lost, 1 - r - t, which has no cancellation
    lost = leaving * absorbed / (1 - x)
    sinh2 = ((1 + r).square() - t.square()) * (1 - r + t) * lost / (4 * t.square())
    cosh_by = t_by - (r * r_by + cosh * t_by) / t
    return Plate(r, t, back, r_by, t_by, sinh2, cosh, 2 * cosh * cosh_by)


def hyperbolic_powers(count: Tensor, sinh2: Tensor, cosh: Tensor) -> Powers:
    """In place of powers of exp(u), so that u = 0 and n = 0 are ordinary points."""
    square = sinh2.clamp(min=TINY)
    sinh = square.sqrt()
    u = torch.log1p(sinh + square / (1 + cosh))
    grown = torch.expm1((count * u).clamp(max=LARGEST_EXPONENT))
    shrunk = grown / (1 + grown)
    ratio, power = (grown + shrunk) / (2 * sinh), 1 + (grown - shrunk) / 2
    steep = (count * power - ratio * cosh) / (2 * square * cosh)
    is_steep = (square / NEAR_ZERO - 1).clamp(0, 1)
    slope = torch.lerp(_slope_near_zero(count, square), steep, is_steep)
    return Powers(
        ratio,
        power,
        slope,
        count * ratio / (2 * cosh),
        u * power / sinh,
        u * ratio * sinh,
    )


def _slope_near_zero(count: Tensor, square: Tensor) -> Tensor:
    """Of sinh(n u) / sinh(u) = n + n (n^2 - 1) s^2 / 3! + n (n^2 - 1) (n^2 - 9) s^4 / 5! + ..."""
    n2 = count.square()
    first = count * (n2 - 1) / 6
    second = first * (n2 - 9) / 10
    return first + square * (second + square * (second * (n2 - 25) / 28))


def pile_with_slopes(
    count: Tensor, absorbed: Tensor, entering: Tensor, leaving: Tensor, reflected: Tensor
) -> Pile:
    """A plate lit from a cone, on top of `count` plates lit from all sides."""
    p = single_plate(absorbed, leaving, reflected)
    n = hyperbolic_powers(count, p.sinh2, p.cosh)
    top = entering / leaving
    half = (1 - p.r.square() - p.t.square()) / 2
    below = 1 / (n.ratio * half + p.t * n.cosh)
    head = top * p.t
    lead = head * p.t
    rest = p.r * n.ratio * below
    half_by = p.r * p.r_by + p.t * p.t_by
    by = (
        (n.ratio_by * half + p.t * n.cosh_by) * p.sinh2_by - n.ratio * half_by + p.t_by * n.cosh
    ) * below
    lead_by = 2 * head * p.t_by
    rest_by = (p.r_by * n.ratio + p.r * n.ratio_by * p.sinh2_by) * below - rest * by
    by_count = (n.ratio_by_count * half + p.t * n.cosh_by_count) * below
    r_by = top * (p.r_by) + lead_by * rest + lead * rest_by
    return Pile(
        1 - entering + top * p.back + lead * rest,
        lead * below,
        -r_by,
        (lead * by - lead_by) * below,
        lead * (p.r * n.ratio_by_count * below - rest * by_count),
        -lead * below * by_count,
    )


class _Pile(torch.autograd.Function):
    """`pile_with_slopes`, differentiable once by count and share absorbed."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        count: Tensor, absorbed: Tensor, entering: Tensor, leaving: Tensor, reflected: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(pile_with_slopes(count, absorbed, entering, leaving, reflected))

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        slopes = output[2:]
        ctx.mark_non_differentiable(*slopes)
        ctx.save_for_backward(*slopes, *inputs[:2])
        ctx.save_for_forward(*slopes, *inputs[:2])

    @staticmethod
    def backward(ctx, *grads: Any) -> tuple[Tensor | None, ...]:
        r_by, t_by, r_by_count, t_by_count, *inputs = ctx.saved_tensors
        by_count = grads[0] * r_by_count + grads[1] * t_by_count
        by_absorbed = grads[0] * r_by + grads[1] * t_by
        of = (*grads[:2], *inputs)
        return once(by_count, *of), once(by_absorbed, *of), None, None, None

    @staticmethod
    def jvp(ctx, *tangents: Any) -> tuple[Tensor | None, ...]:
        r_by, t_by, r_by_count, t_by_count, *_ = ctx.saved_tensors
        count, absorbed = tangents[:2]
        return (
            count * r_by_count + absorbed * r_by,
            count * t_by_count + absorbed * t_by,
            *(None,) * 4,
        )


def pile_of_plates(
    plates: Tensor, absorbed: Tensor, entering: Tensor, leaving: Tensor, reflected: Tensor
) -> LeafOptics:
    """Reflectance and transmittance of N plates, the first of them lit from a cone.

    Differentiable once, by `plates` and `absorbed`.

    Args:
        plates: N, `[*batch, 1]`.
        absorbed: Share of light that crossing one plate absorbs, `[*batch, wavelength]`.
        entering: Transmissivity of the surface for the cone, `[wavelength]`.
        leaving: The same for light from all sides.
        reflected: Reflectivity of the surface from within.

    Source:
        Stokes, Proc. R. Soc. 11 (1862).
    """
    count = (plates - 1).expand_as(absorbed)
    pile = _Pile.apply(count, absorbed, entering, leaving, reflected)
    return LeafOptics(pile[0], pile[1])
