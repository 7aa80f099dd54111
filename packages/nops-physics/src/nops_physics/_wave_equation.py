"""The damped wave equation in a periodic square, exact per Fourier mode."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter, check_positive, check_state
from nops_physics._field_solver import FieldSolver
from nops_physics._initial import gaussian_random_field
from nops_physics._spectral import check_shape, corners, mode_weights, squared_cycles
from nops_physics._string_modes import mode_response
from nops_physics._transforms import grid_of, modes_of


@dataclass(frozen=True, kw_only=True)
class WaveEquation2D(FieldSolver):
    """u_tt + damping u_t = speed^2 lap(u) on a periodic square; a state is (u, u_t).

    Each Fourier mode is a damped oscillator, whose motion from any state has a closed form: no
    error in time at any frame, and none in space for a field the grid resolves. Mode 0, which no
    force holds, creeps: u_t decays at the rate `damping`.

    An initial field is a Gaussian random field of standard deviation 1 and of a correlation
    length uniform in `length_scales`, at rest.

    A trajectory depends on the initial field, theta, the fields of this object and nothing else:
    no generator, no batch size, no neighbour in the batch.

    Attributes:
        shape: Cells per axis, two axes.
        length: The domain's length along each axis.
        speed: c, length per time, as `solve` takes it; `trajectory` takes it from theta.
        damping: Rate at which u_t decays, per time, at least 0, likewise.
        frame_interval: Time between the frames of `trajectory`.
        length_scales: Least and largest correlation length of the initial fields, in the unit of
            length.

    Raises:
        ValueError: If the grid is not of two axes, or a number is out of range.

    Source:
        d'Alembert's equation per mode; Evans, "Partial Differential Equations", section 4.3.
    """

    shape: tuple[int, ...] = (32, 32)
    length: float = 1.0
    speed: float = 1.0
    damping: float = 0.0
    frame_interval: float = 0.02
    length_scales: tuple[float, float] = (0.1, 0.2)

    name = "wave"
    version = "1"
    channels = 2
    channel_names = ("displacement", "velocity")
    boundary = "periodic"
    parameters = (
        Parameter(name="speed", low=0.5, high=1.5),
        Parameter(name="damping", low=0.0, high=2.0),
    )

    def __post_init__(self) -> None:
        check_shape(self.shape)
        if len(self.shape) != 2:
            raise ValueError(f"{self.name}: needs two axes, got shape {tuple(self.shape)}")
        check_positive(
            self.name,
            length=self.length,
            speed=self.speed,
            frame_interval=self.frame_interval,
        )
        if not 0 <= self.damping < math.inf:
            raise ValueError(f"{self.name}: damping needs to be at least 0, got {self.damping}")
        if not 0 < self.length_scales[0] <= self.length_scales[1] < math.inf:
            raise ValueError(
                f"{self.name}: length_scales needs a least and a largest positive length, got "
                f"{self.length_scales}"
            )

    @property
    def lengths(self) -> tuple[float, ...]:
        """The domain's length per axis."""
        return (self.length,) * 2

    @property
    def positions(self) -> Float[Tensor, "point axis"]:
        """First corners of the cells, last axis fastest, in the unit of length, float64."""
        return corners(self.shape, self.lengths)

    def energy(self, state: Float[Tensor, "sample 2 height width"]) -> Float[Tensor, " sample"]:
        """Mean over the square of (u_t^2 + speed^2 |grad u|^2) / 2, with this object's `speed`.

        It falls at the rate `damping` times the mean of u_t^2. Float64, in the unit of u_t^2;
        the gradient is that of the trigonometric interpolant, Nyquist waves included.

        Raises:
            ValueError: If the state does not fit the grid.
        """
        check_state(state, name=self.name, channels=2, shape=self.shape)
        modes = modes_of(state.double(), num_dims=2, norm="forward")
        power = torch.view_as_real(modes).square().sum(-1)
        weights = mode_weights(self.shape).to(state.device)
        stiffness = self.speed**2 * self._squared.to(state.device)
        return (weights * (power[:, 1] + stiffness * power[:, 0])).sum((-2, -1)) / 2

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `grf`."""
        return ["grf"] * n

    def _draw(self, generator: torch.Generator) -> Tensor:
        low, high = self.length_scales
        part = float(torch.rand((), generator=generator, dtype=torch.float64))
        displacement = gaussian_random_field(
            1,
            shape=self.shape,
            std=1.0,
            length_scale=low + (high - low) * part,
            lengths=self.lengths,
            generator=generator,
        )[0, 0]
        return torch.stack((displacement, torch.zeros_like(displacement)))

    @property
    def _squared(self) -> Tensor:
        """|k|^2 of each mode, in radians^2 per length^2."""
        return (2 * math.pi) ** 2 * squared_cycles(self.shape, self.lengths)

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        del samples
        modes = modes_of(state, num_dims=len(self.shape))
        for time in times:
            motion = self._motion(values, time)
            moved = (motion * modes[:, None]).sum(2)
            yield grid_of(moved, shape=self.shape)

    def _motion(self, values: Tensor, time: float) -> Tensor:
        """What takes (u, u_t) to its value at `time`: [sample, 2, 2, *modes].

        Made sample by sample: a vectorised sine may round by its place in the batch.
        """
        squared = self._squared.to(values.device)
        now = torch.full_like(squared, time)
        rows = []
        for speed, damping in values:
            stiffness = speed**2 * squared
            first, second = mode_response(stiffness, damping, now)
            pairs = (first, second, -stiffness * second, first - damping * second)
            rows.append(torch.stack(pairs).unflatten(0, (2, 2)))
        return torch.stack(rows)
