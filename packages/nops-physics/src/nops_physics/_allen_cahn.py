"""The Allen-Cahn equation on a periodic line, pseudo-spectral with an exact linear part."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter, check_positive
from nops_physics._field_solver import advance_through
from nops_physics._line import PeriodicLine
from nops_physics._runge_kutta import damped_runge_kutta_4
from nops_physics._spectral import cycles
from nops_physics._transforms import grid_of, modes_of

BENCHMARK_POINTS = 1024


@dataclass(frozen=True)
class AllenCahn1D(PeriodicLine):
    """u_t = diffusivity u_xx + rate (u - u^3) on a periodic line.

    Diffusion and growth are exact per Fourier mode, the cubic term is Runge-Kutta 4 with an
    integrating factor: order 4 in time, spectral in space for a front the grid resolves, whose
    width is about sqrt(diffusivity / rate).

    Initial fields are sines of 1 to 4 periods with amplitudes uniform in [0, 1 / sqrt(k)).

    Attributes:
        points: Points of the line, at least 9.
        diffusivity: Length^2 per time, at least 0, as `solve` takes it; `trajectory` takes it from
            theta.
        rate: Of growth near u = 0, per time, at least 0.
        length: The line's length.
        time_step: Largest step; an interval is cut into the fewest equal steps up to it.
        frame_interval: Time between the frames of `trajectory`.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Allen and Cahn, Acta Metallurgica 27 (1979).
    """

    points: int
    _: KW_ONLY
    diffusivity: float = 1e-4
    rate: float = 5.0
    length: float = 2.0
    time_step: float = 5e-3
    frame_interval: float = 0.1

    name = "allen_cahn"
    version = "1"
    parameters = (Parameter(name="diffusivity", low=1e-4, high=1e-2, scale="log"),)

    def __post_init__(self) -> None:
        self._check_line()
        check_positive(self.name, time_step=self.time_step)
        for name in ("diffusivity", "rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{self.name}: {name} needs to be at least 0, got {getattr(self, name)}"
                )

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        del samples
        interval = partial(self._interval, diffusivity=values[:, :, None])
        return advance_through(state, times, interval)

    def _interval(
        self, state: Tensor, now: float, duration: float, *, diffusivity: Tensor
    ) -> Tensor:
        del now
        num_steps = max(1, math.ceil(duration / self.time_step - 1e-9))
        step = duration / num_steps
        wave = 2 * math.pi * cycles(self.shape, self.lengths)[0].to(state.device)
        half = torch.exp(step / 2 * (self.rate - diffusivity * wave.square())).to(torch.complex128)

        def increment(modes: Tensor) -> Tensor:
            field = grid_of(modes, shape=self.shape, norm="forward")
            return modes_of(-step * self.rate * field * field * field, num_dims=1, norm="forward")

        modes = modes_of(state, num_dims=1, norm="forward")
        for _ in range(num_steps):
            modes = damped_runge_kutta_4(
                modes, half=half, first=increment(modes), increment=increment
            )
        return grid_of(modes, shape=self.shape, norm="forward")


def allen_cahn_reference(
    times: Sequence[float] | Float[Tensor, " time"],
    *,
    diffusivity: float = 1e-4,
    rate: float = 5.0,
    points: int = BENCHMARK_POINTS,
) -> tuple[Float[Tensor, " point"], Float[Tensor, "time point"]]:
    """The benchmark of physics-informed networks: from x^2 cos(pi x) on [-1, 1), periodic.

    Args:
        times: Not decreasing, from 0 on.
        diffusivity: Length^2 per time.
        rate: Per time.
        points: Points of the line.

    Returns:
        Positions from -1 on, and u at each time, float64. With the defaults within 5e-6 at
        t = 0.25, where the kink that x^2 cos(pi x) has at the ends is seen, and 1e-7 at t = 1.

    Raises:
        ValueError: As `AllenCahn1D.solve`.
    """
    solver = AllenCahn1D(points, diffusivity=diffusivity, rate=rate)
    x = solver.positions[:, 0] - solver.length / 2
    start = x.square() * torch.cos(math.pi * x)
    return x, solver.solve(start[None, None], times=times)[0, :, 0]
