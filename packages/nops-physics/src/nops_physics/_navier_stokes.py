"""Decaying two-dimensional turbulence with the Reynolds number as its parameter."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter, check_positive
from nops_physics._field_solver import FieldSolver, advance_through
from nops_physics._spectral import check_shape, corners
from nops_physics._vorticity import VorticityCore, largest_kept
from nops_physics._vorticity_steps import advance_stably, random_vorticity


@dataclass(frozen=True, kw_only=True)
class NavierStokes2D(FieldSolver):
    """d_t w + u.grad w = lap(w) / reynolds on [0, 2 pi)^2, unforced; a state is the vorticity w.

    Units of length and velocity are 1, so the viscosity is 1 / reynolds. The solver is that of
    `DecayingTurbulence2D`: pseudo-spectral with the 2/3 rule, Runge-Kutta 4 with an integrating
    factor (the decay has no error), and for each sample the fewest equal steps per interval that
    are stable. The mean of a state and the modes that the 2/3 rule removes stay in frame 0 and
    are gone from every later one; initial fields have neither.

    Initial fields are random with energy proportional to (k/k_p)^4 exp(-2 (k/k_p)^2) per shell.
    On a coarse grid the smallest eddies of a high Reynolds number are cut off: a mode is resolved
    up to about sqrt(rms_vorticity reynolds), which is 14 at 100 and 45 at 1000, and the grid keeps
    a third of its cells per axis.

    A trajectory depends on the initial field, theta, the fields of this object and nothing else:
    no generator, no batch size, no neighbour in the batch.

    Attributes:
        shape: Cells per axis, two axes, at least 4 each; on the CPU, a first side that is a
            multiple of 8 is fastest.
        reynolds: As `solve` takes it; `trajectory` takes it from theta.
        frame_interval: Time between the frames of `trajectory`.
        peak_wavenumber: k_p of the initial fields, in periods per domain.
        rms_vorticity: Root mean square of every initial field, per time.

    Raises:
        ValueError: If the grid is not of two axes, a number is out of range, or the 2/3 rule
            would remove the peak.

    Source:
        Canuto et al., "Spectral Methods: Fundamentals in Single Domains" (2006).
    """

    shape: tuple[int, ...] = (32, 32)
    reynolds: float = 100.0
    frame_interval: float = 0.25
    peak_wavenumber: float = 2.0
    rms_vorticity: float = 2.0

    name = "navier_stokes"
    version = "1"
    channels = 1
    channel_names = ("vorticity",)
    boundary = "periodic"
    lengths = (2 * math.pi, 2 * math.pi)
    parameters = (Parameter(name="reynolds", low=10.0, high=1000.0, scale="log"),)

    def __post_init__(self) -> None:
        check_shape(self.shape, smallest=4)
        if len(self.shape) != 2:
            raise ValueError(f"{self.name}: needs two axes, got shape {tuple(self.shape)}")
        check_positive(
            self.name,
            reynolds=self.reynolds,
            frame_interval=self.frame_interval,
            rms_vorticity=self.rms_vorticity,
        )
        largest = largest_kept(min(self.shape))
        if not 1 <= self.peak_wavenumber <= largest:
            raise ValueError(
                f"{self.name}: peak_wavenumber is {self.peak_wavenumber}; expected 1 to {largest}, "
                f"which the 2/3 rule keeps on a grid of {tuple(self.shape)}"
            )

    @property
    def positions(self) -> Float[Tensor, "point axis"]:
        """First corners of the cells, last axis fastest, in the unit of length, float64."""
        return corners(self.shape, self.lengths)

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `random_vorticity`."""
        return ["random_vorticity"] * n

    def _draw(self, generator: torch.Generator) -> Tensor:
        return random_vorticity(
            self._core(torch.device("cpu")),
            peak_wavenumber=self.peak_wavenumber,
            rms_vorticity=self.rms_vorticity,
            generator=generator,
        )

    def _core(self, device: torch.device) -> VorticityCore:
        return self._cpu_core if device.type == "cpu" else self._new_core(device)

    @cached_property
    def _cpu_core(self) -> VorticityCore:
        return self._new_core(torch.device("cpu"))

    def _new_core(self, device: torch.device) -> VorticityCore:
        height, width = self.shape
        return VorticityCore(
            shape=(height, width), lengths=self.lengths, dtype=torch.float64, device=device
        )

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        del samples
        # on the CPU, a sample that does not begin on a whole cache line is rounded by its place
        together = self.shape[0] % 8 == 0 or state.device.type != "cpu"
        size = len(state) if together else 1
        parts = zip(state.split(size), values.split(size), strict=True)
        evolved = [self._frames_of(part.clone(), value, times) for part, value in parts]
        for frames in zip(*evolved, strict=True):
            yield torch.cat(frames)

    def _frames_of(self, state: Tensor, values: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
        core = self._core(state.device)
        damping = core.squared / values[:, :, None]

        def interval(field: Tensor, now: float, duration: float) -> Tensor:
            del now
            modes = core.modes(field[:, 0]) * core.kept
            modes = advance_stably(core, modes, damping=damping, forcing=None, duration=duration)
            return core.field(modes)[:, None]

        return advance_through(state, times, interval)
