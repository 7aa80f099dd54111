"""Two reacting and diffusing species in a closed box, cosine modes and Strang splitting."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter, check_positive
from nops_physics._field_solver import FieldSolver, advance_through
from nops_physics._runge_kutta import runge_kutta_4
from nops_physics._spectral import check_shape, cosine_modes
from nops_physics._vorticity import STABILITY


@dataclass(frozen=True)
class DiffusionReaction2D(FieldSolver):
    """u_t = Du lap(u) + u - u^3 - k - v and v_t = Dv lap(v) + u - v, no flux through the sides.

    The FitzHugh-Nagumo pair of PDEBench. Points are the centres of cells. Diffusion is exact per
    cosine mode, the reaction is one Runge-Kutta step of order 4, and the two are joined by Strang
    splitting: order 2 in time, spectral in space. u = v = -k^(1/3) is a state at rest.

    Initial fields are two independent white noises under a Gaussian filter that reflects at the
    sides, divided at each point by the standard deviation that the filter leaves: the ensemble has
    variance 1 everywhere, and no flux through the sides.

    Attributes:
        shape: Cells per axis, two axes, at least 2 each.
        Du: Diffusivity of u in length^2 per time, as `solve` takes it; `trajectory` takes Du, Dv
            and k from theta.
        Dv: Diffusivity of v, likewise.
        k: Dimensionless.
        box: Where both axes begin and end.
        time_step: Largest step; an interval is cut into the fewest equal steps up to it.
        frame_interval: Time between the frames of `trajectory`.
        length_scale: Standard deviation of the filter of the initial fields, in the unit of
            length.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Takamoto et al., "PDEBench", arXiv 2210.07182; Strang, SIAM J. Numer. Anal. 5 (1968).
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    Du: float = 1e-3
    Dv: float = 5e-3
    k: float = 5e-3
    box: tuple[float, float] = (-1.0, 1.0)
    time_step: float = 0.02
    frame_interval: float = 0.5
    length_scale: float = 0.1

    name = "diffusion_reaction"
    version = "1"
    channels = 2
    channel_names = ("u", "v")
    parameters = (
        Parameter(name="Du", low=5e-4, high=2e-3, scale="log"),
        Parameter(name="Dv", low=2.5e-3, high=1e-2, scale="log"),
        Parameter(name="k", low=0.0, high=0.01),
    )
    boundary = "wall"

    def __post_init__(self) -> None:
        check_shape(self.shape, smallest=2)
        if len(self.shape) != 2:
            raise ValueError(f"{self.name}: needs two axes, got shape {tuple(self.shape)}")
        check_positive(
            self.name,
            time_step=self.time_step,
            frame_interval=self.frame_interval,
            length_scale=self.length_scale,
        )
        if not -math.inf < self.box[0] < self.box[1] < math.inf:
            raise ValueError(f"{self.name}: box needs its ends in order, got {self.box}")
        for name in ("Du", "Dv", "k"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{self.name}: {name} needs to be at least 0, got {getattr(self, name)}"
                )

    @property
    def lengths(self) -> tuple[float, ...]:
        """The box's length per axis."""
        return (self.box[1] - self.box[0],) * 2

    @property
    def positions(self) -> Float[Tensor, "point axis"]:
        """Centres of the cells, last axis fastest, in the unit of length, float64."""
        axes = [
            self.box[0] + (torch.arange(side, dtype=torch.float64) + 0.5) * (length / side)
            for side, length in zip(self.shape, self.lengths, strict=True)
        ]
        return torch.cartesian_prod(*axes)

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `filtered_noise`."""
        return ["filtered_noise"] * n

    def _draw(self, generator: torch.Generator) -> Tensor:
        noise = torch.randn(2, *self.shape, generator=generator, dtype=torch.float64)
        # a filter of standard deviation s is diffusion for the time s^2 / (2 diffusivity)
        spreads = self._spreads(torch.ones(1, dtype=torch.float64), self.length_scale**2 / 2)
        first, second = (spread.square().sum(-1).sqrt()[0] for spread in spreads)
        return _diffuse(noise, spreads) / (first[:, None] * second)

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        self._refuse_stiff(state, samples)
        interval = partial(
            self._interval, diffusivity=values[:, :2], k=values[:, 2].view(-1, 1, 1, 1)
        )
        return advance_through(state, times, interval)

    def _interval(
        self, state: Tensor, now: float, duration: float, *, diffusivity: Tensor, k: Tensor
    ) -> Tensor:
        del now
        num_steps = max(1, math.ceil(duration / self.time_step - 1e-9))
        step = duration / num_steps
        half = self._spreads(diffusivity, step / 2)
        whole = self._spreads(diffusivity, step)  # two half steps that meet between reactions
        reaction = partial(_increment, k=k, step=step)
        state = _diffuse(state, half)
        for index in range(num_steps):
            state = runge_kutta_4(state, reaction)
            state = _diffuse(state, whole if index < num_steps - 1 else half)
        return state

    def _spreads(self, diffusivity: Tensor, duration: float) -> tuple[Tensor, Tensor]:
        """Per axis, the matrix [*diffusivity, side, side] of diffusion for a duration."""
        first, second = (
            _spread(diffusivity, side, length, duration)
            for side, length in zip(self.shape, self.lengths, strict=True)
        )
        return first, second

    def _refuse_stiff(self, state: Tensor, samples: Tensor) -> None:
        """The reaction's rate is at most 1 + 3 u^2; beyond the scheme's stability it overflows."""
        rate = 1 + 3 * state[:, 0].detach().square().amax((-2, -1))
        worst = int(rate.argmax())
        if self.time_step * float(rate[worst]) > STABILITY:
            raise ValueError(
                f"{self.name}: sample {int(samples[worst])} has |u| up to "
                f"{float(state[worst, 0].detach().abs().max()):.4g}, for which time_step = "
                f"{self.time_step:g} is unstable; take at most {STABILITY / float(rate[worst]):.3g}"
            )


def _spread(diffusivity: Tensor, side: int, length: float, duration: float) -> Tensor:
    """Diffusion along one axis: to cosine modes, which decay, and back; symmetric."""
    mode = torch.arange(side, device=diffusivity.device)
    cosines = cosine_modes(side, device=diffusivity.device)
    decay = torch.exp(
        -duration * diffusivity[..., None] * (math.pi / length * mode.double()).square()
    )
    # expanded, as one product of many rows would round a sample by its place
    cosines = cosines.expand(*diffusivity.shape, side, side)
    return (cosines.mT * decay[..., None, :]) @ cosines


def _diffuse(state: Tensor, spreads: tuple[Tensor, Tensor]) -> Tensor:
    first, second = spreads
    return first @ state @ second


def _increment(state: Tensor, *, k: Tensor, step: float) -> Tensor:
    """The reaction's rate of change times the step; u and v stay a channel each."""
    u, v = state[:, :1], state[:, 1:]
    return step * torch.cat((u - u * u * u - k - v, u - v), dim=1)
