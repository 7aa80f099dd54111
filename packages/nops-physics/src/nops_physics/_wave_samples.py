"""Random states of a string to train on, and pushes: Gaussian in place and time."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

NUM_MODES = 4  # along each of two indices
SIZE = 0.003  # of the displacement
SPEED_RATIO = 15.0  # of the velocity to the displacement
LAST_TIME = 2.0


class WaveSamples(NamedTuple):
    """States of a `WaveChain` and the force on it, float64.

    Attributes:
        u: Displacement `[graph, time, node]`.
        v: Velocity, likewise.
        f: Force per mass, likewise.
        t: The times `[graph, time]`.
    """

    u: Float[Tensor, "graph time node"]
    v: Float[Tensor, "graph time node"]
    f: Float[Tensor, "graph time node"]
    t: Float[Tensor, "graph time"]


@dataclass(frozen=True, kw_only=True)
class GaussianForce:
    """f(x, t) = amplitude exp(-sharpness (x - location)^2 - (t - time)^2 / spread).

    Attributes:
        amplitude: Acceleration at the centre, length per time^2; its sign is the push's side.
        location: Position of the centre. None: drawn evenly for each sample, `margin` of the
            length away from the ends.
        margin: Share of the length, in [0, 1/2).
        time: Time of the centre.
        sharpness: Per length^2, positive.
        spread: Time^2, positive.

    Raises:
        ValueError: If a number is out of range.
    """

    amplitude: float = -3.0
    location: float | None = None
    margin: float = 0.1
    time: float = 1.0
    sharpness: float = 400.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 0.5:
            raise ValueError(f"GaussianForce: margin needs to be in [0, 0.5), got {self.margin}")
        if not (0 < self.sharpness < math.inf and 0 < self.spread < math.inf):
            raise ValueError(
                "GaussianForce: sharpness and spread need to be positive, got "
                f"{self.sharpness} and {self.spread}"
            )

    def draw(self, length: float, *, generator: torch.Generator) -> "GaussianForce":
        """The same push at a place of its own; the generator is read even where it is given."""
        unit = float(torch.rand((), generator=generator, dtype=torch.float64))
        if self.location is not None:
            return self
        place = length * (self.margin + (1 - 2 * self.margin) * unit)
        return dataclasses.replace(self, location=place)

    def __call__(
        self, x: Float[Tensor, "*points"], t: float | Float[Tensor, "*times"]
    ) -> Float[Tensor, "*broadcast"]:
        """The force at positions and times that broadcast against each other.

        Raises:
            ValueError: If no location was given or drawn.
        """
        if self.location is None:
            raise ValueError("GaussianForce: give a location, or draw one by `draw`")
        late = torch.as_tensor(t, dtype=x.dtype, device=x.device) - self.time
        away = x - self.location
        decay = -self.sharpness * away.square() - late.square() / self.spread
        return self.amplitude * torch.exp(decay)


def draw_samples(
    x: Tensor, n_steps: int, generators: Sequence[torch.Generator], force: GaussianForce | None
) -> WaveSamples:
    """Random standing waves on the nodes `x`, one for each generator; see `WaveChain.samples`."""
    drawn = [_draw(x, n_steps, generator, force) for generator in generators]
    return WaveSamples(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))


def _draw(
    x: Tensor, n_steps: int, generator: torch.Generator, force: GaussianForce | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    length = float(x[-1])
    sizes = torch.randn(2, NUM_MODES, generator=generator, dtype=torch.float64)
    push = (force or GaussianForce(amplitude=0.0)).draw(length, generator=generator)
    t = LAST_TIME * torch.rand(n_steps, generator=generator, dtype=torch.float64)
    number = torch.arange(1, NUM_MODES + 1, dtype=torch.float64)
    beat = math.pi * torch.hypot(number[:, None], number)[..., None] * t  # [n, m, time]
    swing = torch.exp(-t) * (torch.cos(beat) / number[:, None]).sum(1)  # [n, time]
    waves = torch.sin(math.pi / length * number[:, None] * x) / number[:, None]  # [n, node]
    waves[:, (0, -1)] = 0.0  # where a sine of whole turns is rounding
    u, v = SIZE * torch.einsum("sn,nt,nx->stx", sizes, swing, waves)
    return u, SPEED_RATIO * v, push(x, t[:, None]), t
