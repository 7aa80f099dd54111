"""Incompressible flows in a periodic square, in vorticity form."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nops_physics._periodic_flow import PeriodicFlow
from nops_physics._vorticity import VorticityCore, largest_kept


@dataclass(frozen=True, kw_only=True)
class DecayingTurbulence2D(PeriodicFlow):
    """d_t w + u.grad w = viscosity lap(w) in a periodic square, unforced.

    `PeriodicFlow` has the methods: `initial`, `step`, `solve`, `velocity`, `budget` and others.

    Attributes:
        resolution: Cells per axis, at least 4.
        length: The domain's length along each axis.
        viscosity: Kinematic viscosity, length^2 per time, at least 0.
        dtype: float64 or float32, of the computation and the results.
        device: Where it is computed.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Canuto et al., "Spectral Methods: Fundamentals in Single Domains" (2006); Orszag's 2/3
        rule, J. Atmos. Sci. 28 (1971).
    """

    resolution: int = 64
    length: float = 2 * math.pi
    viscosity: float = 1e-3
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    name = "decaying"

    def __post_init__(self) -> None:
        self._check_common()

    @property
    def _drag(self) -> float:
        return 0.0

    def _force(self, core: VorticityCore) -> Tensor | None:
        return None


@dataclass(frozen=True, kw_only=True)
class KolmogorovFlow(PeriodicFlow):
    """d_t w + u.grad w = viscosity lap(w) - drag w - A q cos(q x_2): the force is A sin(q x_2).

    The force points along axis 1 and varies along axis 2; q = 2 pi forcing_wavenumber / length.
    `PeriodicFlow` has the methods: `initial`, `step`, `solve`, `velocity`, `budget` and others.

    Attributes:
        resolution: Cells per axis, at least 4.
        length: The domain's length along each axis.
        viscosity: Kinematic viscosity, length^2 per time, at least 0.
        drag: Linear friction, per time, at least 0.
        forcing_wavenumber: Whole number of the force's periods per domain.
        forcing_amplitude: A, length per time^2.
        dtype: float64 or float32, of the computation and the results.
        device: Where it is computed.

    Raises:
        ValueError: If a number is out of range, or the 2/3 rule would remove the force.

    Source:
        Meshalkin and Sinai, J. Appl. Math. Mech. 25 (1961); with drag as in Chandler and Kerswell,
        J. Fluid Mech. 722 (2013), and numerous learned solvers.
    """

    resolution: int = 64
    length: float = 2 * math.pi
    viscosity: float = 1e-3
    drag: float = 0.1
    forcing_wavenumber: int = 4
    forcing_amplitude: float = 1.0
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    name = "kolmogorov"

    def __post_init__(self) -> None:
        self._check_common()
        if not 0 <= self.drag < math.inf or not math.isfinite(self.forcing_amplitude):
            raise ValueError(
                f"{self.name}: need drag >= 0 and a finite forcing_amplitude, got {self.drag}, "
                f"{self.forcing_amplitude}"
            )
        largest = largest_kept(self.resolution)
        if not 1 <= self.forcing_wavenumber <= largest:
            raise ValueError(
                f"{self.name}: forcing_wavenumber is {self.forcing_wavenumber}; expected 1 to "
                f"{largest}, which the 2/3 rule keeps at resolution {self.resolution}"
            )

    @property
    def _drag(self) -> float:
        return self.drag

    def _force(self, core: VorticityCore) -> Tensor | None:
        force = torch.zeros_like(core.squared, dtype=core.complex_dtype)
        wavenumber = 2 * math.pi * self.forcing_wavenumber / self.length
        force[0, self.forcing_wavenumber] = -self.forcing_amplitude * wavenumber / 2
        return force
