"""A rectangle that opens beneath a flat, elastic surface, at any dip."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from nops_physics._forward_model import Bounds, ForwardModel, Quantity, check_values
from nops_physics._mogi import check_poisson
from nops_physics._stations import displacement_names, station_tensor

MM_PER_M = 1e3
NEAR_VERTICAL = math.acos(1e-3)  # radians; from here on the general formula cancels

PARAMETERS = (
    Quantity(name="xoff", unit="km", low=-10.0, high=10.0),
    Quantity(name="yoff", unit="km", low=-10.0, high=10.0),
    Quantity(name="depth", unit="km", low=3.0, high=15.0, least=0.0, open_ends=True),
    Quantity(name="length", unit="km", low=0.5, high=6.0, least=0.0, open_ends=True),
    Quantity(name="width", unit="km", low=0.5, high=4.0, least=0.0, open_ends=True),
    Quantity(name="strike", unit="degree", low=0.0, high=180.0),
    Quantity(name="dip", unit="degree", low=0.0, high=90.0, least=0.0, most=180.0),
    Quantity(name="opening", unit="m", low=0.0, high=5.0),
)
TOP = Quantity(name="depth of the upper edge", unit="km", low=0, high=1, least=0.0, open_ends=True)


class Okada(ForwardModel):
    """Surface displacement of an opening rectangle (a dyke at dip 90, a sill at dip 0).

    Parameters are `xoff`, `yoff` (centre, km east and north), `depth` of the centre, `length`
    along strike and `width` along dip (km), `strike` and `dip` in degrees, dipping to the right of
    strike, and `opening` in m. Outputs are mm, all east components, then north, then up.

    Computed in float64 whatever the precision of the parameters. The general formula cancels near
    the vertical; where |cos dip| is below 1e-3, the parabola through the vertical limit and both
    dips with |cos dip| = 1e-3 replaces it (off by less than 1e-9 of the opening).

    Args:
        stations: Positions `[station, 2]` in km east and north.
        bounds: Range per parameter instead of the usual one, all eight by name.
        nu: Poisson's ratio.

    Raises:
        ValueError: If `stations` has another shape, a bound is missing, unknown or reversed, a
            rectangle within the bounds reaches the surface, or `nu` is impossible.

    Source:
        Okada, Bull. Seism. Soc. Am. 75 (1985), equations 24 to 30, tensile part.
    """

    stations: Tensor
    least_dtype: ClassVar[torch.dtype] = torch.float64

    def __init__(
        self,
        stations: Tensor | Sequence[Sequence[float]],
        *,
        bounds: Bounds | None = None,
        nu: float = 0.25,
    ) -> None:
        super().__init__(PARAMETERS, bounds=bounds)
        self.register_buffer("stations", station_tensor(stations, kind="Okada"))
        self.nu = check_poisson(nu, kind="Okada")
        self.output_names = displacement_names(len(self.stations))
        self.output_units = ("mm",) * len(self.output_names)
        self._check_buried()

    def _check_buried(self) -> None:
        ranges = dict(zip(self.parameter_names, self.bounds.tolist(), strict=True))
        low, high = (math.radians(end) for end in ranges["dip"])
        steepest = min(max(low, math.pi / 2), high)  # where the sine is largest
        rise = ranges["width"][1] / 2 * max(math.sin(low), math.sin(steepest))
        if ranges["depth"][0] <= rise:
            raise ValueError(
                f"Okada: bounds let the rectangle reach the surface: the least depth is "
                f"{ranges['depth'][0]:g} km, expected more than {rise:g} km, half the largest "
                "width times the sine of the steepest dip"
            )

    def _decode(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        p = {name: value[..., None] for name, value in parameters.items()}
        dip, strike = torch.deg2rad(p["dip"]), torch.deg2rad(p["strike"])
        top = parameters["depth"] - parameters["width"] / 2 * torch.sin(dip[..., 0])
        check_values({TOP.name: top}, (TOP,), kind="Okada")
        stations = self.stations.to(dip.dtype)
        east, north = stations[:, 0] - p["xoff"], stations[:, 1] - p["yoff"]
        along = east * torch.sin(strike) + north * torch.cos(strike)
        left = north * torch.sin(strike) - east * torch.cos(strike)
        x, y, up = opening_displacement(
            along, left, p["depth"], p["length"], p["width"], dip, shear=1 - 2 * self.nu
        )
        east = x * torch.sin(strike) - y * torch.cos(strike)
        north = x * torch.cos(strike) + y * torch.sin(strike)
        return MM_PER_M * p["opening"] * torch.cat((east, north, up), dim=-1)


def opening_displacement(
    along: Tensor,
    left: Tensor,
    depth: Tensor,
    length: Tensor,
    width: Tensor,
    dip: Tensor,
    *,
    shear: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Displacement per unit of opening, along strike, to the left of it, and up, at any dip.

    Args:
        along: Position along strike, from the point above the centre.
        left: Position to the left of strike.
        depth: Depth of the centre.
        length: Along strike.
        width: Along dip.
        dip: In radians, to the right of strike.
        shear: mu / (lambda + mu) = 1 - 2 nu.
    """
    source = (along, left, depth, length, width)
    steep = (dip > NEAR_VERTICAL) & (dip < math.pi - NEAR_VERTICAL)
    near = torch.where(steep, NEAR_VERTICAL, dip)
    below = _rectangle(*source, near, shear=shear, vertical=False)
    beyond = _rectangle(
        *source, torch.full_like(dip, math.pi - NEAR_VERTICAL), shear=shear, vertical=False
    )
    at = _rectangle(*source, torch.full_like(dip, math.pi / 2), shear=shear, vertical=True)
    s = (dip - math.pi / 2) / (math.pi / 2 - NEAR_VERTICAL)  # -1 to 1 over the three dips
    weights = (s * (s - 1) / 2, 1 - s.square(), s * (s + 1) / 2)
    mixed = [
        weights[0] * a + weights[1] * b + weights[2] * c
        for a, b, c in zip(below, at, beyond, strict=True)
    ]
    x, y, up = (torch.where(steep, m, a) for m, a in zip(mixed, below, strict=True))
    return x, y, up


def _rectangle(
    along: Tensor,
    left: Tensor,
    depth: Tensor,
    length: Tensor,
    width: Tensor,
    dip: Tensor,
    *,
    shear: float,
    vertical: bool,
) -> list[Tensor]:
    """The four corners of one rectangle, with the signs of Chinnery's notation."""
    sin, cos = torch.sin(dip), torch.zeros_like(dip) if vertical else torch.cos(dip)
    bottom = depth + width / 2 * sin
    y = left + width / 2 * cos
    p, q = y * cos + bottom * sin, y * sin - bottom * cos
    xi = along + length / 2
    signs = ((1, xi, p), (-1, xi, p - width), (-1, xi - length, p), (1, xi - length, p - width))
    corners = [
        [sign * part for part in _corner(x, eta, q, sin, cos, shear=shear, vertical=vertical)]
        for sign, x, eta in signs
    ]
    return [torch.stack(parts).sum(0) / (2 * math.pi) for parts in zip(*corners, strict=True)]


def _corner(
    xi: Tensor,
    eta: Tensor,
    q: Tensor,
    sin: Tensor,
    cos: Tensor,
    *,
    shear: float,
    vertical: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """f(xi, eta) of equations 26: the tensile displacements of one corner."""
    y, d = eta * cos + q * sin, eta * sin - q * cos
    r = torch.sqrt(xi.square() + eta.square() + q.square())
    i1, i3, i5 = (_vertical_terms if vertical else _terms)(xi, eta, q, y, d, r, sin, cos)
    across, along = q / (r * (r + eta)), q / (r * (r + xi))
    angle = xi * across - _arctan(xi * eta, q * r)
    squared = shear * sin.square()
    return (
        q * across - squared * i3,
        -d * along - sin * angle - squared * i1,
        y * along + cos * angle - squared * i5,
    )


def _terms(
    xi: Tensor, eta: Tensor, q: Tensor, y: Tensor, d: Tensor, r: Tensor, sin: Tensor, cos: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """I1, I3, I5 of equations 28 over mu / (lambda + mu)."""
    squares = xi.square() + q.square()
    level = torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)
    numerator = eta * (level + q * cos) + level * (r + level) * sin
    i5 = 2 / cos * _arctan(numerator, xi * (r + level) * cos)
    i4 = (torch.log(r + d) - sin * torch.log(r + eta)) / cos
    i3 = y / (cos * (r + d)) - torch.log(r + eta) + sin / cos * i4
    i1 = -xi / (cos * (r + d)) - sin / cos * i5
    return i1, i3, i5


def _vertical_terms(
    xi: Tensor, eta: Tensor, q: Tensor, y: Tensor, d: Tensor, r: Tensor, sin: Tensor, cos: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """I1, I3, I5 of equations 29, the limit cos = 0, over mu / (lambda + mu)."""
    sum_ = r + d
    i1 = -xi * q / (2 * sum_.square())
    i3 = (eta / sum_ + y * q / sum_.square() - torch.log(r + eta)) / 2
    return i1, i3, -xi * sin / sum_


def _arctan(numerator: Tensor, denominator: Tensor) -> Tensor:
    """arctan(numerator / denominator), 0 where the denominator is.

    There the value jumps by pi, which cancels between the corners; the slope does not jump, and
    is right.
    """
    steep = numerator.abs() > denominator.abs()
    over = torch.where(steep, numerator, denominator)
    under = torch.where(steep, denominator, numerator)
    angle = torch.atan(under / torch.where(over == 0, 1.0, over))
    quarter = math.pi / 2 * torch.sign(numerator) * torch.sign(denominator)
    return torch.where(steep, quarter - angle, angle)
