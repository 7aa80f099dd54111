"""The heat equation, exact per Fourier mode, with its decaying plane wave."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter
from nops_physics._field_solver import FieldSolver
from nops_physics._initial import gaussian_random_field
from nops_physics._spectral import check_shape, corners, squared_cycles
from nops_physics._transforms import grid_of, modes_of


@dataclass(frozen=True, kw_only=True)
class Heat(FieldSolver):
    """u_t = viscosity lap(u) on a periodic domain: solver, domain and exact solution.

    Each Fourier mode decays as exp(-viscosity |2 pi k|^2 t), k in cycles per unit length, so
    `solve` has no error in time and none in space for a field the grid resolves.

    `solve` takes any number of channels. Initial fields are Gaussian random fields of standard
    deviation 1 and correlation length `length_scale`.

    A trajectory depends on the initial field, theta, the fields of this object and nothing else:
    samples are computed one by one.

    Attributes:
        shape: Cells per axis, any number of axes.
        length: The domain's length along each axis.
        viscosity: Diffusivity in length^2 per time, as `solve` and `exact` take it; `trajectory`
            takes it from theta.
        frame_interval: Time between the frames of `trajectory`.
        length_scale: Correlation length of the initial fields, in the unit of length.

    Raises:
        ValueError: If a side, length, interval or scale is not positive, or the viscosity is
            negative.

    Source:
        Fourier's solution; Evans, "Partial Differential Equations", section 4.3.
    """

    shape: tuple[int, ...] = (32, 32)
    length: float = 1.0
    viscosity: float = 5e-3
    frame_interval: float = 0.05
    length_scale: float = 0.1

    name = "heat"
    version = "1"
    channels = 1
    channel_names = ("u",)
    boundary = "periodic"
    solves_any_channels = True
    parameters = (Parameter(name="viscosity", low=1e-3, high=1e-2),)

    def __post_init__(self) -> None:
        check_shape(self.shape)
        for name in ("length", "frame_interval", "length_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"heat: {name} needs to be positive, got {getattr(self, name)}")
        if not 0 <= self.viscosity < math.inf:
            raise ValueError(f"heat: viscosity needs to be at least 0, got {self.viscosity}")

    @property
    def lengths(self) -> tuple[float, ...]:
        """The domain's length per axis."""
        return (self.length,) * len(self.shape)

    @property
    def positions(self) -> Float[Tensor, "point axis"]:
        """First corners of the cells, last axis fastest, in the unit of length, float64."""
        return corners(self.shape, self.lengths)

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `grf`."""
        return ["grf"] * n

    def _draw(self, generator: torch.Generator) -> Tensor:
        return gaussian_random_field(
            1,
            shape=self.shape,
            std=1.0,
            length_scale=self.length_scale,
            lengths=self.lengths,
            generator=generator,
        )[0]

    def exact(
        self,
        position: Float[Tensor, "*points"],
        time: float | Float[Tensor, "*times"],
        *,
        wavenumber: float = 1.0,
    ) -> Float[Tensor, "*broadcast"]:
        """The decaying wave exp(-viscosity q^2 t) sin(q x), q = 2 pi wavenumber / length.

        Args:
            position: x along the first axis, in the unit of length.
            time: t, in the unit of time; a tensor broadcasts against `position`.
            wavenumber: Cycles per domain along the first axis; a whole number is periodic.

        Returns:
            u at each position and time, computed in float64, in the type of `position`.
        """
        q = 2 * math.pi * wavenumber / self.length
        time = torch.as_tensor(time, dtype=torch.float64, device=position.device)
        wave = torch.exp(-self.viscosity * q**2 * time) * torch.sin(q * position.double())
        return wave.to(position.dtype)

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        del samples
        squared = (2 * math.pi) ** 2 * squared_cycles(self.shape, self.lengths).to(state.device)
        time = torch.tensor(times, dtype=torch.float64, device=state.device)
        time = time.view(-1, 1, *[1] * len(self.shape))
        frames = [
            grid_of(
                torch.exp(-rate * squared * time) * modes_of(field, num_dims=len(self.shape)),
                shape=self.shape,
            )
            for rate, field in zip(values[:, 0], state, strict=True)
        ]
        return iter(torch.stack(frames, dim=1))


def heat_exact(
    x: Float[Tensor, "*points"],
    t: float | Float[Tensor, "*times"],
    *,
    wavenumber: float,
    diffusivity: float,
) -> Float[Tensor, "*broadcast"]:
    """The decaying wave exp(-diffusivity q^2 t) sin(q x), q = 2 pi wavenumber; see `Heat.exact`.

    Args:
        x: Position, in the unit of length.
        t: Time; a tensor broadcasts against `x`.
        wavenumber: Cycles per unit of length.
        diffusivity: Length^2 per time, at least 0.

    Returns:
        The wave at the broadcast points and times, amplitude 1, in the unit of the initial field.

    Raises:
        ValueError: If the diffusivity is negative.
    """
    return Heat(viscosity=diffusivity).exact(x, t, wavenumber=wavenumber)
