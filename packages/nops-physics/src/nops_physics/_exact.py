"""Exact solutions of small boundary value problems, as functions of points."""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import check_positive
from nops_physics._string_modes import standing_wave

Points = Float[Tensor, "n axis"]
Column = Float[Tensor, "n 1"]


def _check_axes(name: str, points: Tensor, axes: int) -> Tensor:
    """The points in float64, if they have one row each of this many coordinates."""
    if points.ndim != 2 or points.shape[1] != axes:
        raise ValueError(f"{name}: points have shape {tuple(points.shape)}, expected (n, {axes})")
    return points.double()


@dataclass(frozen=True)
class KovasznayExact:
    """Steady flow behind a grid: (u . grad) u + grad p = lap(u) / re, div u = 0, in the plane.

    With L = re / 2 - sqrt(re^2 / 4 + 4 pi^2): u = 1 - exp(L x) cos(2 pi y),
    v = L exp(L x) sin(2 pi y) / (2 pi), p = (1 - exp(2 L x)) / 2. Dimensionless.

    Attributes:
        re: Reynolds number, positive.

    Raises:
        ValueError: If `re` is not positive, or points are not `[n, 2]`.

    Source:
        Kovasznay, Proc. Cambridge Phil. Soc. 44 (1948).
    """

    re: float = 40.0

    def __post_init__(self) -> None:
        check_positive("KovasznayExact", re=self.re)

    @property
    def viscosity(self) -> float:
        """1 / re."""
        return 1 / self.re

    @property
    def decay(self) -> float:
        """The rate L along x, negative."""
        return self.re / 2 - math.sqrt(self.re**2 / 4 + 4 * math.pi**2)

    def __call__(self, xy: Points) -> Float[Tensor, "n 3"]:
        """Velocity u, v and pressure p at points (x, y); computed in float64, in the type of `xy`."""
        x, y = _check_axes("KovasznayExact", xy, 2).unbind(-1)
        wake = torch.exp(self.decay * x)
        u = 1 - wake * torch.cos(2 * math.pi * y)
        v = self.decay / (2 * math.pi) * wake * torch.sin(2 * math.pi * y)
        return torch.stack((u, v, (1 - wake.square()) / 2), dim=-1).to(xy.dtype)


@dataclass(frozen=True)
class HelmholtzExact:
    """u = sin(a1 pi x) sin(a2 pi y), which solves lap(u) + k^2 u = source.

    0 on the sides of [-1, 1]^2 where a1 and a2 are whole. Dimensionless.

    Attributes:
        a1: Half waves per unit length along x.
        a2: Half waves per unit length along y.
        k: Wavenumber of the equation.

    Raises:
        ValueError: If points are not `[n, 2]`.
    """

    a1: float = 1.0
    a2: float = 4.0
    _: KW_ONLY
    k: float = 1.0

    def __call__(self, x: Points) -> Column:
        """The solution at points (x, y), `[n, 1]`; computed in float64, in the type of `x`."""
        first, second = _check_axes("HelmholtzExact", x, 2).split(1, dim=-1)
        u = torch.sin(self.a1 * math.pi * first) * torch.sin(self.a2 * math.pi * second)
        return u.to(x.dtype)

    def source(self, x: Points) -> Column:
        """(k^2 - pi^2 (a1^2 + a2^2)) u at the points, `[n, 1]`."""
        return (self.k**2 - math.pi**2 * (self.a1**2 + self.a2**2)) * self(x)


@dataclass(frozen=True, kw_only=True)
class PoissonExact:
    """u = product over the axes of sin(wavenumber pi x_i), which solves -lap(u) = source.

    0 on the sides of [0, 1]^axes where the wavenumber is whole. Dimensionless.

    Attributes:
        wavenumber: Half waves per unit length along every axis.
        axes: Number of axes.

    Raises:
        ValueError: If `axes` is below 1, or points are not `[n, axes]`.
    """

    wavenumber: float = 2.0
    axes: int = 1

    def __post_init__(self) -> None:
        if self.axes < 1:
            raise ValueError(f"PoissonExact: axes needs to be at least 1, got {self.axes}")

    def __call__(self, x: Points) -> Column:
        """The solution at the points, `[n, 1]`; computed in float64, in the type of `x`."""
        points = _check_axes("PoissonExact", x, self.axes)
        waves = torch.sin(self.wavenumber * math.pi * points)
        return waves.prod(-1, keepdim=True).to(x.dtype)

    def source(self, x: Points) -> Column:
        """Axes times (wavenumber pi)^2 u at the points, `[n, 1]`."""
        return self.axes * (self.wavenumber * math.pi) ** 2 * self(x)


@dataclass(frozen=True, kw_only=True)
class WaveExact:
    """Free damped string: u_tt + k u_t = c^2 u_xx, 0 at x = 0 and `length`, at rest at t = 0.

    Attributes:
        modes: Pairs of n and the amplitude of sin(n pi x / length) at t = 0.
        c: Speed of waves, length per time.
        k: Damping, per time, at least 0.
        length: The string's length.

    Raises:
        ValueError: If a number is out of range.
    """

    modes: tuple[tuple[int, float], ...] = ((1, 1.0), (3, 0.5))
    c: float = 1.0
    k: float = 1.0
    length: float = 1.0

    def __post_init__(self) -> None:
        check_positive("WaveExact", c=self.c, length=self.length)
        if not 0 <= self.k < math.inf:
            raise ValueError(f"WaveExact: k needs to be at least 0, got {self.k}")
        if not self.modes or min(number for number, _ in self.modes) < 1:
            raise ValueError(f"WaveExact: modes need numbers from 1 on, got {self.modes}")

    def __call__(
        self, x: Float[Tensor, "*points"], t: float | Float[Tensor, "*times"]
    ) -> Float[Tensor, "*broadcast"]:
        """The solution at positions and times that broadcast; computed in float64, in the type of `x`."""
        return self.motion(x, t)[0]

    def motion(
        self, x: Float[Tensor, "*points"], t: float | Float[Tensor, "*times"]
    ) -> tuple[Float[Tensor, "*broadcast"], Float[Tensor, "*broadcast"]]:
        """The solution and its rate u_t, likewise; times are not negative."""
        u = v = torch.zeros((), dtype=torch.float64, device=x.device)
        for number, amplitude in self.modes:
            wave = number * math.pi / self.length
            motion = standing_wave(x, t, wave=wave, squared=(self.c * wave) ** 2, damping=self.k)
            u, v = u + amplitude * motion[0], v + amplitude * motion[1]
        return u.to(x.dtype), v.to(x.dtype)
