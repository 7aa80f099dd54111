"""The heat equation, exact per Fourier mode, with its decaying plane wave."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import (
    Parameter,
    check_finite,
    check_num_steps,
    check_state,
    check_theta,
    check_times,
    physical_parameters,
)
from nops_physics._initial import gaussian_random_field
from nops_physics._seeds import sample_generators
from nops_physics._spectral import check_shape, grid_dims, squared_cycles


@dataclass(frozen=True, kw_only=True)
class Heat:
    """u_t = viscosity lap(u) on a periodic domain: solver, domain and exact solution.

    Each Fourier mode decays as exp(-viscosity |2 pi k|^2 t), k in cycles per unit length, so
    `solve` has no error in time and none in space for a field the grid resolves.

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

    def initial(
        self, n: int, *, seed: int | Sequence[int]
    ) -> Float[Tensor, "sample channel *grid"]:
        """Gaussian random fields of standard deviation 1 and correlation length `length_scale`.

        Args:
            n: Number of samples, at least 1.
            seed: One integer, from which sample i draws with `derive_seed("initial", seed, i)`,
                or a sequence of n integers, the samples' own seeds.

        Returns:
            Fields `[sample, channel, *grid]`, float64.

        Raises:
            ValueError: If n is below 1, or the number of seeds is not n.
        """
        fields = [
            gaussian_random_field(
                1,
                shape=self.shape,
                std=1.0,
                length_scale=self.length_scale,
                lengths=self.lengths,
                generator=generator,
            )
            for generator in sample_generators(n, seed)
        ]
        return torch.cat(fields)

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `grf`."""
        return ["grf"] * n

    def solve(
        self,
        state: Float[Tensor, "sample channel *grid"],
        *,
        times: Sequence[float] | Float[Tensor, " time"],
    ) -> Float[Tensor, "sample time channel *grid"]:
        """States at the given times with this object's `viscosity`.

        Args:
            state: Field at time 0, any number of channels; computed in float64.
            times: Not decreasing, from 0 on.

        Returns:
            States `[sample, time, channel, *grid]`, float64, differentiable in `state`.

        Raises:
            ValueError: If the state does not fit the grid, times decrease, or a value of the
                result is not finite (sample, frame and channel are named).
        """
        channels = state.shape[1] if state.ndim > 1 else 1
        check_state(state, name=self.name, channels=channels, shape=self.shape)
        names = [str(channel) for channel in range(channels)]
        rates = torch.full((len(state),), self.viscosity, dtype=torch.float64, device=state.device)
        frames = self._decayed(state.double(), rates, check_times(times))
        return check_finite(frames, name=self.name, channel_names=names)

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
            theta: The viscosity in [0, 1]; `parameters` has its range.
            num_steps: Frames after the initial one, at least 0.

        Returns:
            Frames `[sample, num_steps + 1, channel, *grid]`, float64 inside, float32 out.

        Raises:
            ValueError: If a shape does not fit, theta is outside [0, 1], or a value of the result
                is not finite (sample, frame and channel are named).
        """
        check_state(initial, name=self.name, channels=1, shape=self.shape)
        check_theta(theta, len(initial), self.parameters)
        check_num_steps(num_steps)
        times = [frame * self.frame_interval for frame in range(num_steps + 1)]
        rates = physical_parameters(theta, self.parameters).to(initial.device)[:, 0]
        frames = self._decayed(initial.double(), rates, times).float()
        return check_finite(frames, name=self.name, channel_names=self.channel_names)

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

    def _decayed(self, state: Tensor, rates: Tensor, times: Sequence[float]) -> Tensor:
        dims = grid_dims(self.shape)
        squared = (2 * math.pi) ** 2 * squared_cycles(self.shape, self.lengths).to(state.device)
        time = torch.tensor(times, dtype=torch.float64, device=state.device)
        time = time.view(-1, 1, *[1] * len(self.shape))
        frames = [
            torch.fft.irfftn(
                torch.exp(-rate * squared * time) * torch.fft.rfftn(field, dim=dims),
                s=self.shape,
                dim=dims,
            )
            for rate, field in zip(rates, state, strict=True)
        ]
        return torch.stack(frames)


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
