"""The two-dimensional vorticity equation in Fourier space: the one core of all its solvers.

d_t w + u.grad w = -damping w + forcing, u_1 = d_2 psi, u_2 = -d_1 psi, w = d_1 u_2 - d_2 u_1,
with a damping per mode such as viscosity |k|^2 + drag. Pseudo-spectral with the 2/3 rule. Modes
are those of `rfft2(norm="forward")`, so a mode is an amplitude on every grid.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nops_physics._runge_kutta import damped_runge_kutta_4
from nops_physics._spectral import cycles, mode_weights
from nops_physics._transforms import grid_of, modes_of

STABILITY = 2.5  # Runge-Kutta 4 is stable up to 2.83 on the imaginary axis; the rest is margin


@dataclass(frozen=True, kw_only=True, eq=False)
class VorticityCore:
    """Wavenumbers, operators and time steps on one periodic grid, type and device.

    Nothing here knows viscosity, drag or forcing: `advance` takes the damping per mode, of one
    flow or of one per sample, and the forcing's modes.
    """

    shape: tuple[int, int]
    lengths: tuple[float, float]
    dtype: torch.dtype
    device: torch.device

    # ---- wavenumbers ----

    @cached_property
    def wavenumbers(self) -> tuple[Tensor, Tensor]:
        """k_1 and k_2 of each mode in radians per length, 0 at an even side's Nyquist."""
        whole = torch.broadcast_tensors(*cycles(self.shape, self.lengths))
        sides = zip(self.shape, cycles(self.shape, self.shape), strict=True)
        inside = [2 * values.abs() * side < side - 0.5 for side, values in sides]
        first, second = (
            2 * math.pi * self._put(wave * keep) for wave, keep in zip(whole, inside, strict=True)
        )
        return first, second

    @cached_property
    def squared(self) -> Tensor:
        """|k|^2 of each mode, radians^2 per length^2."""
        squares = [(2 * math.pi * axis).square() for axis in cycles(self.shape, self.lengths)]
        return self._put(squares[0] + squares[1])

    @cached_property
    def kept(self) -> Tensor:
        """Whether the 2/3 rule keeps a mode: 3 |m_i| < n_i along both axes; the mean is not."""
        keep = torch.ones((), dtype=torch.bool)
        for side, values in zip(self.shape, cycles(self.shape, self.shape), strict=True):
            keep = keep & (values.abs() * side < largest_kept(side) + 0.5)
        keep[0, 0] = False
        return keep.to(self.device)

    @cached_property
    def multiplicity(self) -> Tensor:
        """How often a stored mode occurs in the full spectrum."""
        return self._put(mode_weights(self.shape))

    @property
    def complex_dtype(self) -> torch.dtype:
        """The type of the modes."""
        return torch.promote_types(self.dtype, torch.complex64)

    @property
    def largest_wavenumber(self) -> float:
        """The largest |k_i| that the 2/3 rule keeps, radians per length."""
        sides = zip(self.shape, self.lengths, strict=True)
        return max(2 * math.pi * largest_kept(side) / length for side, length in sides)

    # ---- between grid and modes ----

    def modes(self, field: Tensor) -> Tensor:
        """Modes of fields [..., *grid], unfiltered."""
        return modes_of(field.to(self.device, self.dtype), num_dims=2, norm="forward")

    def field(self, modes: Tensor) -> Tensor:
        """Fields [..., *grid] of modes."""
        return grid_of(modes, shape=self.shape, norm="forward")

    def stream(self, modes: Tensor) -> Tensor:
        """Modes of the stream function of a vorticity's modes; neither has a mean."""
        return modes * self._inverse_laplacian

    def velocity(self, modes: Tensor) -> Tensor:
        """Velocity [..., 2, *grid] of a vorticity's modes [..., *modes]."""
        return self.field(modes.unsqueeze(-3) * self._to_velocity)

    def curl(self, velocity: Tensor) -> Tensor:
        """Modes of the vorticity of velocities [..., 2, *grid]."""
        first, second = self.modes(velocity).unbind(-3)
        k_1, k_2 = self.wavenumbers
        return 1j * (k_1 * second - k_2 * first)

    # ---- in time ----

    def speed(self, velocity: Tensor) -> Tensor:
        """Largest |u_1| + |u_2| of each sample of [..., 2, *grid]."""
        return velocity.detach().abs().sum(-3).amax((-2, -1))

    def stable_step(self, speed: Tensor) -> Tensor:
        """Largest stable time step at a given `speed`; infinite at rest."""
        return STABILITY / (self.largest_wavenumber * speed)

    def advance(
        self,
        modes: Tensor,
        *,
        damping: Tensor,
        forcing: Tensor | None,
        step: float,
        num_steps: int,
    ) -> tuple[Tensor, Tensor]:
        """Steps of Runge-Kutta 4 with an integrating factor: the damping has no error.

        Args:
            modes: Vorticity [sample, *modes], of kept modes alone.
            damping: Rate per mode, [*modes] or [sample, *modes], per time.
            forcing: Modes of the vorticity's forcing, [*modes]; None for none.
            step: Time step.
            num_steps: Number of steps.

        Returns:
            The modes after the last step, and each sample's largest speed at the start and after
            every step.
        """
        half = torch.exp(-0.5 * step * damping).to(modes.dtype)
        source = None if forcing is None else step * forcing
        operator = step * self._to_rate
        fastest = modes.real.new_zeros(len(modes))

        def increment(velocity: Tensor) -> Tensor:
            change = self._transported(velocity, operator)
            return change if source is None else change + source

        for _ in range(num_steps):
            velocity = self.velocity(modes)
            # a maximum that passes over NaN: what is not finite is found at the end
            fastest = torch.fmax(fastest, self.speed(velocity))
            modes = damped_runge_kutta_4(
                modes,
                half=half,
                first=increment(velocity),
                increment=lambda stage: increment(self.velocity(stage)),
            )
        return modes, torch.fmax(fastest, self.speed(self.velocity(modes)))

    def _transported(self, velocity: Tensor, operator: Tensor) -> Tensor:
        """-u.grad w times what `operator` was multiplied with.

        It is -curl div(u u) = -(d_1^2 - d_2^2)(u_1 u_2) - d_1 d_2 (u_2^2 - u_1^2) for velocities
        without divergence: two transforms back and two forth, where u.grad w takes five.
        """
        first, second = velocity.unbind(-3)
        products = torch.stack((first * second, (second - first) * (second + first)), dim=-3)
        along, across = (self.modes(products) * operator).unbind(-3)
        return along + across

    @cached_property
    def _inverse_laplacian(self) -> Tensor:
        return torch.where(self.squared > 0, 1 / self.squared, 0.0)

    @cached_property
    def _to_velocity(self) -> Tensor:
        k_1, k_2 = self.wavenumbers
        return 1j * torch.stack((k_2, -k_1)) * self._inverse_laplacian

    @cached_property
    def _to_rate(self) -> Tensor:
        k_1, k_2 = self.wavenumbers
        operator = torch.stack((k_1.square() - k_2.square(), k_1 * k_2)) * self.kept
        return operator.to(self.complex_dtype)

    def _put(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype)


def largest_kept(side: int) -> int:
    """The largest whole number m with 3 m < side: products of kept modes fold on no kept mode."""
    return (side - 1) // 3
