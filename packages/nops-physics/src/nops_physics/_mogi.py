"""The point source of volume change beneath a flat, elastic surface."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nops_physics._forward_model import Bounds, ForwardModel, Quantity
from nops_physics._stations import displacement_names, station_tensor

MM_PER_CUBIC_M_PER_SQUARE_KM = 1e-3  # m^3 / km^2 = 1e-6 m = 1e-3 mm

PARAMETERS = (
    Quantity(name="xcen", unit="km", low=-9.33, high=14.35),
    Quantity(name="ycen", unit="km", low=-5.80, high=7.62),
    Quantity(name="d", unit="km", low=2.0, high=20.0, least=0.0, open_ends=True),
    Quantity(name="dV", unit="m^3", low=-1e7, high=1e7),
)


def check_poisson(nu: float, *, kind: str) -> float:
    """Poisson's ratio, if a material can have it."""
    if not -1 < nu <= 0.5:
        raise ValueError(f"{kind}: nu needs to be above -1 and at most 0.5, got {nu}")
    return nu


class Mogi(ForwardModel):
    """Surface displacement of a small spherical source at depth.

    u = C (x, y, d) / R^3 with C = (1 - nu) dV / pi, (x, y) from the source to the station and
    R^2 = x^2 + y^2 + d^2. Heights of stations are ignored.

    Parameters are `xcen`, `ycen` (position, km east and north), `d` (depth, km, above 0) and `dV`
    (change of volume, m^3); outputs are mm, all east components, then north, then up.

    Args:
        stations: Positions `[station, 2]` in km east and north.
        bounds: Range per parameter instead of the usual one, all four by name.
        nu: Poisson's ratio.

    Raises:
        ValueError: If `stations` has another shape, a bound is missing, unknown or reversed, or
            `nu` is impossible.

    Source:
        Mogi, Bull. Earthq. Res. Inst. 36 (1958).
    """

    stations: Tensor

    def __init__(
        self,
        stations: Tensor | Sequence[Sequence[float]],
        *,
        bounds: Bounds | None = None,
        nu: float = 0.25,
    ) -> None:
        super().__init__(PARAMETERS, bounds=bounds)
        self.register_buffer("stations", station_tensor(stations, kind="Mogi"))
        self.nu = check_poisson(nu, kind="Mogi")
        self.output_names = displacement_names(len(self.stations))
        self.output_units = ("mm",) * len(self.output_names)

    def _decode(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        x, y, d, volume = (parameters[name][..., None] for name in self.parameter_names)
        east, north = self.stations.to(x.dtype).unbind(-1)
        offsets = torch.cat((east - x, north - y, d.expand(*d.shape[:-1], len(east))), dim=-1)
        cubed = ((east - x).square() + (north - y).square() + d.square()).pow(1.5)
        strength = (1 - self.nu) / math.pi * MM_PER_CUBIC_M_PER_SQUARE_KM * volume
        return strength * offsets / torch.cat((cubed, cubed, cubed), dim=-1)
