"""Gray-Scott reaction and diffusion, spectral in space, Strang splitting in time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter
from nops_physics._field_solver import FieldSolver, advance_through
from nops_physics._initial import gaussian_profiles
from nops_physics._runge_kutta import runge_kutta_4
from nops_physics._spectral import check_shape, corners, squared_cycles
from nops_physics._transforms import grid_of, modes_of


@dataclass(frozen=True, kw_only=True)
class GrayScott(FieldSolver):
    """Gray-Scott equations on a periodic grid, all quantities dimensionless.

    u_t = D_u lap(u) - u v^2 + F (1 - u),    v_t = D_v lap(v) + u v^2 - (F + k) v.

    A substance u is fed at the rate F and consumed by v, which is removed at the rate F + k.
    Diffusion is exact per Fourier mode, the reaction is one classical Runge-Kutta step of order 4,
    and the two are joined by Strang splitting: order 2 in time, spectral in space.

    An initial field is the state (1, 0) disturbed by bumps that reach (1/2, 1/4), Pearson's
    perturbation: periodic Gaussians g with a uniform centre and a width uniform in [2, 4] units of
    length, which join smoothly as b = 1 - prod(1 - g), and u = 1 - b/2, v = b/4. The same draw on
    another grid is the same field.

    A trajectory depends on the initial field, theta, the fields of this object and nothing else:
    no generator, no batch size, no neighbour in the batch. On the CPU the same library version
    gives the same bits in every process.

    Attributes:
        shape: Cells per axis, any number of axes.
        cell: Width of a cell; `shape` times `cell` is the domain.
        time_step: Largest step; an interval is cut into the fewest equal steps up to it.
        frame_interval: Time between the frames of `trajectory`.
        feed: F, as `solve` takes it; `trajectory` takes it from theta.
        kill: k, likewise.
        diffusivity: D_u and D_v in length^2 per time.
        num_bumps: Bumps of an initial field.

    Raises:
        ValueError: If a side, width, step or rate is not positive.

    Source:
        Pearson, "Complex Patterns in a Simple System", Science 261 (1993); Strang, SIAM J. Numer.
        Anal. 5 (1968).
    """

    shape: tuple[int, ...] = (32, 32)
    cell: float = 1.0
    time_step: float = 1.0
    frame_interval: float = 16.0
    feed: float = 0.04
    kill: float = 0.06
    diffusivity: tuple[float, float] = (0.16, 0.08)
    num_bumps: int = 4

    name = "gray_scott"
    version = "1"
    channels = 2
    channel_names = ("u", "v")
    boundary = "periodic"
    parameters = (
        Parameter(name="feed", low=0.02, high=0.06),
        Parameter(name="kill", low=0.05, high=0.065),
    )

    def __post_init__(self) -> None:
        check_shape(self.shape)
        positive = {
            "cell": self.cell,
            "time_step": self.time_step,
            "frame_interval": self.frame_interval,
            "num_bumps": self.num_bumps,
        }
        rates = {"feed": self.feed, "kill": self.kill, "diffusivity": min(self.diffusivity)}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(f"gray_scott: {name} needs to be positive, got {value}")
        for name, value in rates.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"gray_scott: {name} needs to be at least 0, got {value}")

    @property
    def lengths(self) -> tuple[float, ...]:
        """The domain's length per axis."""
        return tuple(self.cell * side for side in self.shape)

    @property
    def positions(self) -> Float[Tensor, "point axis"]:
        """First corners of the cells, last axis fastest, in the unit of length, float64."""
        return corners(self.shape, self.lengths)

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `bumps`."""
        return ["bumps"] * n

    def _draw(self, generator: torch.Generator) -> Tensor:
        bumps = gaussian_profiles(
            self.num_bumps,
            shape=self.shape,
            widths=(2.0, 4.0),
            lengths=self.lengths,
            generator=generator,
        )
        joined = 1 - (1 - bumps.clamp(max=1)).prod(0)  # an image's tail may lift g above 1
        return torch.stack((1 - joined / 2, joined / 4))

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        del samples
        # With w = 1 - u both species gain u v^2 and lose in proportion to themselves, and the
        # trivial state (1, 0) is exactly zero. The species lead, so that each is contiguous.
        start = torch.stack((1 - state[:, 0], state[:, 1]))
        feed, kill = (column.view(-1, *[1] * len(self.shape)) for column in values.unbind(1))
        interval = partial(self._interval, loss=torch.stack((feed, feed + kill)))
        for gained in advance_through(start, times, interval):
            yield torch.stack((1 - gained[0], gained[1]), dim=1)

    def _interval(self, gained: Tensor, now: float, duration: float, *, loss: Tensor) -> Tensor:
        del now
        num_steps = max(1, math.ceil(duration / self.time_step - 1e-9))
        step = duration / num_steps
        half = self._decay(step / 2).to(gained.device)
        whole = self._decay(step).to(gained.device)  # two half steps that meet between reactions
        gained = self._diffuse(gained, half)
        reaction = partial(_increment, loss=step * loss, step=step)
        for index in range(num_steps):
            gained = runge_kutta_4(gained, reaction)
            gained = self._diffuse(gained, whole if index < num_steps - 1 else half)
        return gained

    def _decay(self, duration: float) -> Tensor:
        diffusivity = torch.tensor(self.diffusivity, dtype=torch.float64)
        squared = (2 * math.pi) ** 2 * squared_cycles(self.shape, self.lengths)
        return torch.exp(-duration * diffusivity.view(2, 1, *[1] * len(self.shape)) * squared)

    def _diffuse(self, gained: Tensor, decay: Tensor) -> Tensor:
        modes = modes_of(gained, num_dims=len(self.shape))
        return grid_of(modes * decay, shape=self.shape)


def _increment(gained: Tensor, loss: Tensor, step: float) -> Tensor:
    """The reaction's rate of change times the step; `loss` holds the step already."""
    w, v = gained
    return (step * (1 - w)) * (v * v) - loss * gained
