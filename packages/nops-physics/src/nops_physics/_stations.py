"""Networks of stations: positions, what disturbs them together, and the view of a satellite."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

COMMON_MODE = (1.0, 0.5, -0.7)  # east, north, up: the same at every station
TILT_LENGTH = 14.0  # km east over which the second pattern reaches 1


def station_tensor(stations: Tensor | Sequence[Sequence[float]], *, kind: str) -> Tensor:
    """Positions `[station, 2]`, float64.

    Raises:
        ValueError: If the shape is another, there is no station, or a value is not finite.
    """
    positions = torch.as_tensor(stations, dtype=torch.float64)
    if positions.ndim != 2 or positions.shape[-1] != 2 or not len(positions):
        raise ValueError(
            f"{kind}: stations need the shape (station, 2), km east and north, "
            f"got {tuple(positions.shape)}"
        )
    if not positions.isfinite().all():
        raise ValueError(f"{kind}: stations need finite positions, got {positions.tolist()}")
    return positions


def displacement_names(count: int) -> tuple[str, ...]:
    """E1 ... ES, N1 ... NS, U1 ... US."""
    return tuple(f"{axis}{i + 1}" for axis in "ENU" for i in range(count))


def sunflower_stations(count: int = 12, *, radius: float = 14.0) -> Float[Tensor, "station 2"]:
    """Stations that fill a disc evenly around the origin.

    Station i lies at the distance radius sqrt((i + 1/2) / count), i golden angles (2.399963) from
    the east, counter-clockwise.

    Args:
        count: Number of stations, at least 1.
        radius: Radius of the disc in km, positive.

    Returns:
        Positions `[station, 2]` in km east and north, float64.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Vogel, "A better way to construct the sunflower head", Math. Biosciences 44 (1979).
    """
    if count < 1 or not 0 < radius < math.inf:
        raise ValueError(f"need count >= 1 and radius > 0, got {count} and {radius}")
    index = torch.arange(count, dtype=torch.float64)
    distance = radius * torch.sqrt((index + 0.5) / count)
    angle = math.pi * (3 - math.sqrt(5)) * index
    return torch.stack((distance * torch.cos(angle), distance * torch.sin(angle)), dim=-1)


def network_modes(stations: Float[Tensor, "station 2"]) -> Float[Tensor, "2 output"]:
    """Two disturbances of a whole network that no source causes.

    The first shifts all stations alike, by (1, 0.5, -0.7) east, north and up. The second tilts
    the network: up by 1 for every 14 km to the east.

    Args:
        stations: Positions `[station, 2]` in km east and north.

    Returns:
        Patterns `[2, 3 stations]`, dimensionless, all east components first, then north, then up;
        float64.

    Raises:
        ValueError: If `stations` has another shape or is not finite.
    """
    positions = station_tensor(stations, kind="network_modes")
    common = torch.tensor(COMMON_MODE, dtype=torch.float64).repeat_interleave(len(positions))
    tilt = torch.zeros_like(common)
    tilt[2 * len(positions) :] = positions[:, 0] / TILT_LENGTH
    return torch.stack((common, tilt))


def line_of_sight(
    enu: Float[Tensor, "*batch output"],
    *,
    incidence: float | Tensor,
    azimuth: float | Tensor,
) -> Float[Tensor, "*batch station"]:
    """Displacement towards a satellite: e . u with e = (-sin i sin a, sin i cos a, cos i).

    Args:
        enu: Displacements `[*batch, 3 stations]`: all east components, then north, then up.
        incidence: Angle i between the line of sight and the vertical in degrees, one number or
            one per station.
        azimuth: Angle a in degrees, anti-clockwise from north, of the horizontal direction from
            the ground to the satellite; one number or one per station.

    Returns:
        `[*batch, station]` in the unit of `enu`, positive towards the satellite.

    Raises:
        ValueError: If the width of `enu` is no multiple of 3.
    """
    if enu.shape[-1] % 3:
        raise ValueError(f"enu needs a width of 3 per station, got {tuple(enu.shape)}")
    east, north, up = enu.unflatten(-1, (3, -1)).unbind(-2)
    tilt = torch.deg2rad(torch.as_tensor(incidence, dtype=enu.dtype, device=enu.device))
    turn = torch.deg2rad(torch.as_tensor(azimuth, dtype=enu.dtype, device=enu.device))
    level = north * torch.cos(turn) - east * torch.sin(turn)
    return torch.sin(tilt) * level + torch.cos(tilt) * up
