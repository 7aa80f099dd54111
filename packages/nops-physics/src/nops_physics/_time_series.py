"""Small equations in time as forward models: a pendulum, and diffusion along a line."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nops_physics._forward_model import ForwardModel, Quantity
from nops_physics._runge_kutta import runge_kutta_4_in_time

SWING = (Quantity(name="omega", unit="rad/s", low=math.pi / 8, high=9 * math.pi / 8),)
FORCING = (
    Quantity(name="gamma", unit="1/s", low=0.0, high=0.8),
    Quantity(name="A", unit="", low=0.0, high=40.0),
    Quantity(name="f", unit="1/s", low=math.pi, high=2 * math.pi),
)
START = Quantity(name="theta0", unit="rad", low=-math.pi / 2, high=math.pi / 2, default=1.0)
SUBSTEPS = 2  # steps of advection and diffusion per frame


def _check_steps(kind: str, steps: int, **positive: float) -> None:
    if steps < 1:
        raise ValueError(f"{kind}: steps needs to be at least 1, got {steps}")
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{kind}: {name} needs to be positive, got {value}")


def _check_method(kind: str, method: str) -> None:
    if method not in ADVANCE:
        raise ValueError(f"{kind}: method is {method!r}, expected {' or '.join(ADVANCE)}")


class Pendulum(ForwardModel):
    """Angle of a pendulum that starts at rest: theta'' = -omega^2 sin(theta), and what forces it.

    With `forced`, theta'' also has A omega^2 cos(2 pi f t) - gamma theta'. The parameter is
    `omega`, with `forced` also `gamma`, `A` and `f`; the input is the first angle `theta0`.
    Outputs are the angles at the times 0, dt, ... (steps - 1) dt, in rad.

    Args:
        steps: Number of angles.
        dt: Time between them, and the step of the method.
        method: `rk4` (order 4) or `euler` (order 1).
        forced: Whether friction and forcing are parameters too.

    Raises:
        ValueError: If `steps` is below 1, `dt` not positive or the method unknown.
    """

    def __init__(
        self, *, steps: int = 50, dt: float = 0.05, method: str = "rk4", forced: bool = False
    ) -> None:
        super().__init__(SWING + FORCING if forced else SWING, inputs=(START,))
        _check_steps("Pendulum", steps, dt=dt)
        _check_method("Pendulum", method)
        self.steps, self.dt, self.method, self.forced = steps, dt, method, forced
        self.output_names = tuple(f"theta_{i}" for i in range(steps))
        self.output_units = ("rad",) * steps

    def _decode(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        def rate(time: float, state: Tensor) -> Tensor:
            return self._rate(parameters, time, state)

        angle = inputs["theta0"] + torch.zeros_like(parameters["omega"])
        state = torch.stack((angle, torch.zeros_like(angle)))
        angles = [angle]
        for i in range(self.steps - 1):
            state = ADVANCE[self.method](rate, i * self.dt, state, self.dt)
            angles.append(state[0])
        return torch.stack(angles, dim=-1)

    def _rate(self, p: dict[str, Tensor], time: float, state: Tensor) -> Tensor:
        angle, speed = state.unbind()
        change = -p["omega"].square() * torch.sin(angle)
        if self.forced:
            push = p["A"] * torch.cos(2 * math.pi * p["f"] * time)
            change = change + p["omega"].square() * push - p["gamma"] * speed
        return torch.stack((speed, change))


Rate = Callable[[float, Tensor], Tensor]


def _euler(rate: Rate, time: float, state: Tensor, dt: float) -> Tensor:
    return state + dt * rate(time, state)


def _rk4(rate: Rate, time: float, state: Tensor, dt: float) -> Tensor:
    return runge_kutta_4_in_time(state, lambda stage, part: dt * rate(time + part * dt, stage))


ADVANCE = {"rk4": _rk4, "euler": _euler}


class AdvectionDiffusion(ForwardModel):
    """A field along a line: y_t = a y_xx - b y_x, which is 0 beyond both ends.

    Central differences in space, two steps of the method per frame in time. The parameter is the
    diffusivity `a`, with `advection` also the speed `b`; the input is the first field `initial`,
    `[*batch, points]`. Outputs are the fields at the times 0, dt, ... (steps - 1) dt, all points
    of one time together.

    Args:
        points: Number of points.
        dx: Distance between them.
        steps: Number of times.
        dt: Time between them.
        advection: Whether `b` is a parameter too; else it is 0.
        method: `euler` (order 1) or `rk4` (order 4).

    Raises:
        ValueError: If a number is below 1 or not positive, or the method unknown. On use, if a step is unstable:
            a dt / (2 dx^2) above 1/2.
    """

    def __init__(
        self,
        *,
        points: int = 20,
        dx: float = 0.1,
        steps: int = 50,
        dt: float = 0.02,
        advection: bool = False,
        method: str = "euler",
    ) -> None:
        _check_steps("AdvectionDiffusion", steps, points=points, dx=dx, dt=dt)
        _check_method("AdvectionDiffusion", method)
        most = dx**2 / dt * SUBSTEPS / 2
        diffusion = Quantity(name="a", unit="", low=0.005, high=0.2, least=0.0, most=most)
        speed = Quantity(name="b", unit="", low=0.005, high=0.2)
        place = dx * torch.arange(points, dtype=torch.float64)
        start = torch.sin(math.pi * place / max((points - 1) * dx, dx))
        first = Quantity(name="initial", unit="", low=-1.5, high=1.5, default=start)
        super().__init__([diffusion, speed] if advection else [diffusion], inputs=[first])
        self.points, self.dx, self.steps, self.dt, self.method = points, dx, steps, dt, method
        self.output_names = tuple(f"y_{t}_{x}" for t in range(steps) for x in range(points))
        self.output_units = ("",) * len(self.output_names)

    def _decode(self, parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        a = parameters["a"][..., None]
        b = parameters["b"][..., None] if "b" in parameters else torch.zeros_like(a)
        field = inputs["initial"] + torch.zeros_like(a)
        frames = [field]

        def rate(time: float, state: Tensor) -> Tensor:
            return self._rate(state, a, b)

        for _ in range(self.steps - 1):
            for _ in range(SUBSTEPS):
                field = ADVANCE[self.method](rate, 0.0, field, self.dt / SUBSTEPS)
            frames.append(field)
        return torch.cat(frames, dim=-1)

    def _rate(self, field: Tensor, a: Tensor, b: Tensor) -> Tensor:
        wide = torch.nn.functional.pad(field, (1, 1))
        before, after = wide[..., :-2], wide[..., 2:]
        bend = (before - 2 * field + after) / self.dx**2
        return a * bend - b * (after - before) / (2 * self.dx)
