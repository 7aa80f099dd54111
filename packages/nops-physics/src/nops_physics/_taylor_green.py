"""The Taylor-Green vortex, exact solution of the two-dimensional Navier-Stokes equations."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._spectral import check_shape


@dataclass(frozen=True, kw_only=True)
class TaylorGreen:
    """u = (sin q x_1 cos q x_2, -cos q x_1 sin q x_2) exp(-2 viscosity q^2 t), unforced.

    q = 2 pi wavenumber / length. Component i and coordinate x_i belong to grid axis i, and
    x = 0 is the first cell. The convection is a gradient, which the pressure balances: the flow
    decays like a solution of the heat equation.

    Attributes:
        viscosity: Kinematic viscosity, length^2 per time, at least 0.
        resolution: Cells per axis.
        wavenumber: Whole number of periods per axis.
        length: The domain's length along each axis.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Taylor and Green, Proc. R. Soc. A 158 (1937), in two dimensions.
    """

    viscosity: float
    resolution: int = 64
    wavenumber: int = 1
    length: float = 2 * math.pi

    def __post_init__(self) -> None:
        check_shape((self.resolution,))
        if not 0 <= self.viscosity < math.inf:
            raise ValueError(f"viscosity needs to be at least 0, got {self.viscosity}")
        if self.wavenumber < 1 or not 0 < self.length < math.inf:
            raise ValueError(
                f"need wavenumber >= 1 and a positive length, got {self.wavenumber}, {self.length}"
            )

    def velocity(self, t: float | Float[Tensor, "*time"]) -> Float[Tensor, "*time 2 height width"]:
        """Velocity at time t, length per time, float64."""
        x_1, x_2 = self._phases()
        shape = torch.stack((x_1.sin() * x_2.cos(), -x_1.cos() * x_2.sin()))
        return self._decay(t, rate=2) * shape

    def velocity_at(
        self, positions: Float[Tensor, "*points 2"], t: float | Float[Tensor, "*times"]
    ) -> Float[Tensor, "*broadcast 2"]:
        """Velocity at any positions, whatever the resolution.

        Args:
            positions: x_1 and x_2, in the unit of length.
            t: Time; a tensor broadcasts against the points.

        Returns:
            Velocity, computed in float64, in the type of `positions`.
        """
        x_1, x_2 = (self._q * positions.double()).unbind(-1)
        time = torch.as_tensor(t, dtype=torch.float64, device=positions.device)
        decay = torch.exp(-2 * self.viscosity * self._q**2 * time)
        components = (decay * x_1.sin() * x_2.cos(), -decay * x_1.cos() * x_2.sin())
        return torch.stack(components, dim=-1).to(positions.dtype)

    def vorticity(self, t: float | Float[Tensor, "*time"]) -> Float[Tensor, "*time 1 height width"]:
        """Vorticity d_1 u_2 - d_2 u_1 = 2 q sin q x_1 sin q x_2 exp(-2 viscosity q^2 t)."""
        x_1, x_2 = self._phases()
        return self._decay(t, rate=2) * (2 * self._q * x_1.sin() * x_2.sin())[None]

    def pressure(self, t: float | Float[Tensor, "*time"]) -> Float[Tensor, "*time 1 height width"]:
        """Pressure of mean zero over the density, length^2 per time^2."""
        x_1, x_2 = self._phases()
        return self._decay(t, rate=4) * (((2 * x_1).cos() + (2 * x_2).cos()) / 4)[None]

    def energy(self, t: float | Float[Tensor, "*time"]) -> Float[Tensor, "*time"]:
        """Half the mean square of the velocity, exp(-4 viscosity q^2 t) / 4."""
        return self._decay(t, rate=4)[..., 0, 0, 0] / 4

    @property
    def _q(self) -> float:
        return 2 * math.pi * self.wavenumber / self.length

    def _phases(self) -> tuple[Tensor, Tensor]:
        """Q x_1 as a column and q x_2 as a row, from whole numbers, so that periods are exact."""
        cells = torch.arange(self.resolution) * self.wavenumber % self.resolution
        phase = cells.double() * (2 * math.pi / self.resolution)
        return phase[:, None], phase[None, :]

    def _decay(self, t: float | Tensor, *, rate: int) -> Tensor:
        time = torch.as_tensor(t, dtype=torch.float64).cpu()[..., None, None, None]
        return torch.exp(-rate * self.viscosity * self._q**2 * time)


def taylor_green_exact(
    xy: Float[Tensor, "*points 2"], t: float | Float[Tensor, "*times"], *, viscosity: float
) -> Float[Tensor, "*broadcast 2"]:
    """Velocity of the Taylor-Green vortex of period 2 pi; see `TaylorGreen.velocity_at`.

    Args:
        xy: Positions x_1 and x_2.
        t: Time; a tensor broadcasts against the points.
        viscosity: Kinematic viscosity, length^2 per time, at least 0.

    Returns:
        Velocity components u_1 and u_2 along the last axis; length per time.

    Raises:
        ValueError: If the viscosity is negative.
    """
    return TaylorGreen(viscosity=viscosity).velocity_at(xy, t)
