"""Advection along a periodic line, exact per Fourier mode."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from nops_physics._domain import Parameter
from nops_physics._line import PeriodicLine
from nops_physics._spectral import cycles
from nops_physics._transforms import grid_of, modes_of


@dataclass(frozen=True)
class Advection1D(PeriodicLine):
    """u_t + speed u_x = 0 on a periodic line: each Fourier mode turns by its phase.

    There is no error in time, and none in space for a field the grid resolves: `solve` returns
    u(x - speed t). An even number of points cannot move its Nyquist mode by a part of a cell; that
    mode shrinks by the cosine of its phase instead.

    Initial fields are sines of 1 to 4 periods with amplitudes uniform in [0, 1 / sqrt(k)).

    Attributes:
        points: Points of the line, at least 9.
        speed: Length per time, either sign, as `solve` takes it; `trajectory` takes it from theta.
        length: The line's length.
        frame_interval: Time between the frames of `trajectory`.

    Raises:
        ValueError: If a number is out of range.
    """

    points: int
    _: KW_ONLY
    speed: float = 0.4
    length: float = 1.0
    frame_interval: float = 0.1

    name = "advection"
    version = "1"
    parameters = (Parameter(name="speed", low=0.1, high=1.0),)

    def __post_init__(self) -> None:
        self._check_line()
        if not math.isfinite(self.speed):
            raise ValueError(f"advection: speed needs to be finite, got {self.speed}")

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        del samples
        modes = modes_of(state, num_dims=1)
        turns_per_time = values[:, :, None] * cycles(self.shape, self.lengths)[0].to(state.device)
        for time in times:
            if time == 0:
                yield state
                continue
            # whole turns are taken off before the sine, which would lose digits to them
            phase = 2 * math.pi * torch.remainder(turns_per_time * time, 1.0)
            turned = torch.complex(torch.cos(phase), -torch.sin(phase))
            yield grid_of(modes * turned, shape=self.shape)
