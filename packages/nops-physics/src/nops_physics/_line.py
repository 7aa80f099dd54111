"""The periodic line: points, initial fields, and what its solvers have in common."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import check_positive
from nops_physics._field_solver import FieldSolver
from nops_physics._spectral import check_shape

NUM_MODES = 4
SMALLEST = 2 * NUM_MODES + 1  # all modes of an initial field are below the Nyquist wavenumber


class PeriodicLine(FieldSolver):
    """What `Advection1D` and `Burgers1D` have in common: one periodic field u on one axis.

    Initial fields are sines of 1 to 4 periods with amplitudes uniform in [0, 1 / sqrt(k)).
    """

    points: int
    length: float

    channels = 1
    channel_names = ("u",)
    boundary = "periodic"

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Points, as a grid of one axis."""
        return (self.points,)

    @property
    def lengths(self) -> tuple[float, ...]:
        """The line's length, as a grid of one axis."""
        return (self.length,)

    @property
    def positions(self) -> Float[Tensor, "point axis"]:
        """x_i = i length / points, float64: the right end, which is the left one, is left out."""
        return (torch.arange(self.points, dtype=torch.float64) * (self.length / self.points))[
            :, None
        ]

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `sines`."""
        return ["sines"] * n

    def _draw(self, generator: torch.Generator) -> Tensor:
        return sine_modes(self.points, generator)

    def _check_line(self) -> None:
        check_shape((self.points,), smallest=SMALLEST)
        check_positive(self.name, length=self.length, frame_interval=self.frame_interval)


def sine_modes(points: int, generator: torch.Generator) -> Tensor:
    """Sum over k = 1 to 4 of a_k sin(2 pi k x / length + phase), [1, point].

    The amplitude a_k is uniform in [0, 1 / sqrt(k)), the phase in [0, 2 pi); the same draw on
    another grid is the same field.
    """
    k = torch.arange(1, NUM_MODES + 1, dtype=torch.float64)
    drawn = torch.rand(2, NUM_MODES, generator=generator, dtype=torch.float64)
    cycle = torch.arange(points, dtype=torch.float64) / points
    angle = 2 * math.pi * (k[:, None] * cycle + drawn[1, :, None])
    return ((drawn[0] / k.sqrt())[:, None] * torch.sin(angle)).sum(0, keepdim=True)
