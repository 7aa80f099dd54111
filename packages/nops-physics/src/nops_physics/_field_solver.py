"""What solvers with one row of parameters per sample have in common: draw, solve, trajectory."""

import abc
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import (
    Parameter,
    by_chunks,
    check_finite,
    check_num_steps,
    check_state,
    check_theta,
    check_times,
    physical_parameters,
)
from nops_physics._seeds import sample_generators


class FieldSolver(abc.ABC):
    """A family of initial value problems on one grid: solver and `Domain` in one.

    A subclass has one attribute per entry of `parameters`, of the same name: its own physical
    value, which `solve` takes; `trajectory` takes each sample's from theta. Everything is computed
    in float64, on the device of the state, and is a pure function of its arguments; no sample
    depends on the others of its batch.

    Attributes:
        solves_any_channels: Whether `solve` takes any number of channels, as none acts on another.
    """

    solves_any_channels = False
    name: str
    version: str
    channels: int
    channel_names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    boundary: str
    frame_interval: float
    shape: tuple[int, ...]

    @property
    @abc.abstractmethod
    def positions(self) -> Float[Tensor, "point axis"]:
        """Coordinates of the points in the unit of length, last grid axis fastest, float64."""

    @abc.abstractmethod
    def _draw(self, generator: torch.Generator) -> Tensor:
        """One initial field [channel, *grid], float64."""

    @abc.abstractmethod
    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        """States at each time, of samples of these numbers with these parameter values."""

    def initial(
        self, n: int, *, seed: int | Sequence[int]
    ) -> Float[Tensor, "sample channel *grid"]:
        """Draw n random initial fields; the class says of which kind.

        Args:
            n: Number of samples, at least 1.
            seed: One integer, from which sample i draws with `derive_seed("initial", seed, i)`,
                or a sequence of n integers, the samples' own seeds.

        Returns:
            Fields `[sample, channel, *grid]`, float64.

        Raises:
            ValueError: If n is below 1, or the number of seeds is not n.
        """
        return torch.stack([self._draw(generator) for generator in sample_generators(n, seed)])

    def solve(
        self,
        state: Float[Tensor, "sample channel *grid"],
        *,
        times: Sequence[float] | Float[Tensor, " time"],
    ) -> Float[Tensor, "sample time channel *grid"]:
        """States at the given times with this object's own parameters.

        Args:
            state: Field at time 0; computed in float64 whatever its type. It has `channels`
                channels, or any number with `solves_any_channels`.
            times: Not decreasing, from 0 on; 0 returns the state itself.

        Returns:
            States `[sample, time, channel, *grid]`, float64, differentiable in `state`.

        Raises:
            ValueError: If the state does not fit the grid, times decrease, the solver refuses the
                state, or a value is not finite (sample, frame and channel are named).
        """
        names = self.channel_names
        if self.solves_any_channels and state.ndim > 1:
            names = tuple(map(str, range(state.shape[1])))
        check_state(state, name=self.name, channels=len(names), shape=self.shape)
        own = [getattr(self, parameter.name) for parameter in self.parameters]
        values = torch.tensor(own, dtype=torch.float64, device=state.device)
        values = values.expand(len(state), -1)
        return self._frames(state, values, check_times(times), dtype=torch.float64, names=names)

    def trajectory(
        self,
        initial: Float[Tensor, "sample channel *grid"],
        theta: Float[Tensor, "sample parameter"],
        *,
        num_steps: int,
    ) -> Float[Tensor, "sample time channel *grid"]:
        """Frames 0 to `num_steps`, `frame_interval` apart, each sample with its own theta.

        Args:
            initial: Field at time 0.
            theta: Parameters in the unit cube; `parameters` has their physical ranges.
            num_steps: Frames after the initial one, at least 0.

        Returns:
            Frames `[sample, num_steps + 1, channel, *grid]`, float64 inside, float32 out.

        Raises:
            ValueError: If a shape does not fit, theta is outside the unit cube, the solver refuses
                a state, or a value is not finite (sample, frame and channel are named).
        """
        check_state(initial, name=self.name, channels=self.channels, shape=self.shape)
        check_theta(theta, len(initial), self.parameters)
        check_num_steps(num_steps)
        times = [frame * self.frame_interval for frame in range(num_steps + 1)]
        values = physical_parameters(theta, self.parameters).to(initial.device)
        names = self.channel_names
        return self._frames(initial, values, times, dtype=torch.float32, names=names)

    def _frames(
        self,
        state: Tensor,
        values: Tensor,
        times: Sequence[float],
        *,
        dtype: torch.dtype,
        names: Sequence[str],
    ) -> Tensor:
        check_finite(state[:, None], name=self.name, channel_names=names)

        def compute(state: Tensor, values: Tensor, samples: Tensor) -> Tensor:
            evolved = self._evolve(state, values, samples, times)
            return torch.stack([frame.to(dtype) for frame in evolved], dim=1)

        numel = len(names) * math.prod(self.shape)
        samples = torch.arange(len(state), device=state.device)
        frames = by_chunks(compute, state.double(), values, samples, numel=numel)
        return check_finite(frames, name=self.name, channel_names=names)


def advance_through(
    state: Tensor, times: Sequence[float], interval: Callable[[Tensor, float, float], Tensor]
) -> Iterator[Tensor]:
    """States at each time; `interval` takes a state, its time and the time to cover."""
    now = 0.0
    for time in times:
        if time > now:
            state = interval(state, now, time - now)
        now = time
        yield state
