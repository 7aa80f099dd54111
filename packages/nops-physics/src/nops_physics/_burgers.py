"""Burgers' equation on a periodic line, pseudo-spectral with an exact diffusion."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter, check_state
from nops_physics._field_solver import advance_through
from nops_physics._line import PeriodicLine
from nops_physics._runge_kutta import damped_runge_kutta_4
from nops_physics._spectral import cycles
from nops_physics._transforms import grid_of, modes_of
from nops_physics._vorticity import STABILITY, largest_kept

RESOLVED = 1e-6  # largest share of a resolved field's energy in the top third of its modes
ROUNDING = 1e-24  # a field constant to rounding has a ratio of rounding errors, which says nothing


@dataclass(frozen=True)
class Burgers1D(PeriodicLine):
    """u_t + (u^2 / 2)_x = viscosity u_xx on a periodic line.

    Pseudo-spectral with the 2/3 rule; Runge-Kutta 4 with an integrating factor, so the diffusion
    has no error in time. An interval between two times is cut into equal steps of at most
    `largest_step`; their number is rounded up to 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on, so that
    samples of one number are computed together.

    A field with more than 1e-6 of its energy (the mean left out) in the top third of the modes
    that the 2/3 rule keeps is refused, at the start and after every step: its waves would fold
    into a solution that looks plausible and is wrong.

    Initial fields are sines of 1 to 4 periods with amplitudes uniform in [0, 1 / sqrt(k)).

    Attributes:
        points: Points of the line, at least 9.
        viscosity: Length^2 per time, at least 0, as `solve` takes it; `trajectory` takes it from
            theta.
        length: The line's length.
        form: "standard" is the equation above; "pdebench" divides the viscosity by pi.
        courant: max|u| k_max step at most, k_max the largest wavenumber kept, in radians per
            length; above 2.5 the scheme is unstable, and is refused.
        time_step: Largest step besides.
        frame_interval: Time between the frames of `trajectory`.

    Raises:
        ValueError: If a number is out of range, or the form is unknown.

    Source:
        Canuto et al., "Spectral Methods: Fundamentals in Single Domains" (2006); the other form:
        Takamoto et al., "PDEBench", arXiv 2210.07182.
    """

    points: int
    _: KW_ONLY
    viscosity: float = 0.01
    length: float = 1.0
    form: Literal["standard", "pdebench"] = "standard"
    courant: float = 1.0
    time_step: float = math.inf
    frame_interval: float = 0.1

    name = "burgers"
    version = "1"
    parameters = (Parameter(name="viscosity", low=0.01, high=0.1, scale="log"),)

    def __post_init__(self) -> None:
        self._check_line()
        if not 0 <= self.viscosity < math.inf:
            raise ValueError(f"burgers: viscosity needs to be at least 0, got {self.viscosity}")
        if self.form not in ("standard", "pdebench"):
            raise ValueError(f"burgers: form is 'standard' or 'pdebench', got {self.form!r}")
        if not 0 < self.courant <= STABILITY or not self.time_step > 0:
            raise ValueError(
                f"burgers: need 0 < courant <= {STABILITY} and time_step > 0, got "
                f"courant = {self.courant}, time_step = {self.time_step}"
            )

    def largest_step(self, state: Float[Tensor, "sample channel grid"]) -> Float[Tensor, " sample"]:
        """The longest time step that `solve` takes from each state; the CFL rule and `time_step`.

        Raises:
            ValueError: If the state does not fit the grid.
        """
        check_state(state, name=self.name, channels=1, shape=self.shape)
        speed = state.detach().double().abs().amax((1, 2))
        largest = 2 * math.pi * largest_kept(self.points) / self.length
        return (self.courant / (largest * speed)).clamp(max=self.time_step)

    # ---- in Fourier space: modes are those of rfft(norm="forward"), [sample, 1, mode] ----

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        _refuse_unresolved(self._tail(_modes(state)), samples, 0.0)
        scale = 1 / math.pi if self.form == "pdebench" else 1.0
        interval = partial(self._interval, viscosity=scale * values[:, :, None], samples=samples)
        return advance_through(state, times, interval)

    def _interval(
        self, state: Tensor, now: float, duration: float, *, viscosity: Tensor, samples: Tensor
    ) -> Tensor:
        """The field after a duration; samples that need one number of steps go together."""
        steps = (duration / self.largest_step(state)).tolist()
        numbers = torch.tensor([_rounded_up(step) for step in steps], device=state.device)
        groups = [(number, torch.nonzero(numbers == number)[:, 0]) for number in numbers.unique()]
        advanced = []
        for number, rows in groups:
            modes, tail = self._advance(
                _modes(state[rows]), viscosity[rows], duration / int(number), int(number)
            )
            _refuse_unresolved(tail, samples[rows], now + duration)
            advanced.append(grid_of(modes, shape=self.shape, norm="forward"))
        order = torch.cat([rows for _, rows in groups]).argsort()
        return torch.cat(advanced)[order]

    def _advance(
        self, modes: Tensor, viscosity: Tensor, step: float, num_steps: int
    ) -> tuple[Tensor, Tensor]:
        """The modes after the steps, and each sample's largest `_tail` on the way."""
        wave = 2 * math.pi * cycles(self.shape, self.lengths)[0].to(viscosity.device)
        kept = torch.arange(len(wave), device=wave.device) <= largest_kept(self.points)
        half = torch.exp(-0.5 * step * viscosity * wave.square()).to(modes.dtype)
        operator = torch.complex(torch.zeros_like(wave), -0.5 * step * wave * kept)

        def increment(modes: Tensor) -> Tensor:
            field = grid_of(modes, shape=self.shape, norm="forward")
            return _modes(field.square()) * operator

        modes, tail = modes * kept, torch.zeros(len(modes), dtype=wave.dtype, device=wave.device)
        for _ in range(num_steps):
            modes = damped_runge_kutta_4(
                modes, half=half, first=increment(modes), increment=increment
            )
            tail = torch.maximum(tail, self._tail(modes))
        return modes, tail

    def _tail(self, modes: Tensor) -> Tensor:
        """Share of each sample's energy above two thirds of the modes kept."""
        energy = torch.view_as_real(modes.detach()).square().sum((1, 3))
        above = 2 * largest_kept(self.points) // 3 + 1
        varying = energy[:, 1:].sum(1)
        floor = ROUNDING * (energy[:, 0] + varying) + torch.finfo(energy.dtype).tiny
        return energy[:, above:].sum(1) / torch.maximum(varying, floor / RESOLVED)


def _modes(field: Tensor) -> Tensor:
    return modes_of(field, num_dims=1, norm="forward")


def _rounded_up(steps: float) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24 ... that is not below."""
    needed = max(1, math.ceil(steps * (1 - 1e-12)))
    power = 1 << (needed - 1).bit_length()  # the power of 2 that is not below
    return power * 3 // 4 if 4 * needed <= 3 * power else power


def _refuse_unresolved(tail: Tensor, samples: Tensor, time: float) -> None:
    worst = int(tail.argmax())
    if not float(tail[worst]) <= RESOLVED:  # NaN, of a field that overflowed, is refused as well
        raise ValueError(
            f"burgers: sample {int(samples[worst])} is under-resolved up to t = {time:.6g}: "
            f"{float(tail[worst]):.2g} of its energy is in the top third of the kept modes, "
            f"expected at most {RESOLVED:g}; take more points or viscosity"
        )
