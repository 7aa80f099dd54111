"""What the flows in a periodic square share: states, time steps, budgets."""

import abc
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import by_chunks, check_finite, check_state, check_times
from nops_physics._seeds import sample_generators
from nops_physics._spectral import check_shape
from nops_physics._vorticity import VorticityCore, largest_kept
from nops_physics._vorticity_steps import advance_stably, random_vorticity

TIME_ROUNDING = 1e-4  # frames 0.24 apart at t = 24, in float32, are 1e-5 of it off


class Budget(NamedTuple):
    """Energy and enstrophy per area, and what changes them per time.

    d(energy)/dt = input - viscous_loss - drag_loss, and likewise for the enstrophy. Each entry
    has one value per leading index of the vorticity.

    Attributes:
        energy: Half the mean square of the velocity.
        enstrophy: Half the mean square of the vorticity.
        input: Mean power of the force, <f.u>.
        viscous_loss: 2 viscosity enstrophy.
        drag_loss: 2 drag energy.
        enstrophy_input: Mean of vorticity times the curl of the force.
        enstrophy_viscous_loss: viscosity <|grad w|^2>.
        enstrophy_drag_loss: 2 drag enstrophy.
    """

    energy: Tensor
    enstrophy: Tensor
    input: Tensor
    viscous_loss: Tensor
    drag_loss: Tensor
    enstrophy_input: Tensor
    enstrophy_viscous_loss: Tensor
    enstrophy_drag_loss: Tensor


class PeriodicFlow(abc.ABC):
    """What `KolmogorovFlow` and `DecayingTurbulence2D` have in common; states are vorticities.

    Pseudo-spectral with the 2/3 rule, Runge-Kutta 4 with an integrating factor: viscosity and
    drag are exact. A state is `[sample, 1, height, width]`; its mean and the modes that the 2/3
    rule removes are taken off first. Computed in `dtype` on `device`, differentiable. On the CPU
    no bit of a sample depends on the others of its batch; a resolution that is a multiple of 8 is
    fastest there.
    """

    name: str
    resolution: int
    length: float
    viscosity: float
    dtype: torch.dtype
    device: torch.device | str

    @property
    @abc.abstractmethod
    def _drag(self) -> float:
        """Linear friction, per time."""

    @abc.abstractmethod
    def _force(self, core: VorticityCore) -> Tensor | None:
        """Modes of the curl of the force; None for none."""

    # ---- states ----

    def initial(
        self,
        n: int,
        *,
        seed: int | Sequence[int],
        peak_wavenumber: float = 4.0,
        rms_vorticity: float = 4.0,
    ) -> Float[Tensor, "sample 1 height width"]:
        """Random vorticity with energy proportional to (k/k_p)^4 exp(-2 (k/k_p)^2) per shell.

        Args:
            n: Number of samples, at least 1.
            seed: One integer, from which sample i draws with `derive_seed("initial", seed, i)`,
                or a sequence of n integers, the samples' own seeds.
            peak_wavenumber: k_p, where the energy is largest, in periods per domain.
            rms_vorticity: Root mean square of every sample's vorticity, per time.

        Returns:
            Vorticity `[sample, 1, height, width]`.

        Raises:
            ValueError: If n is below 1, the number of seeds is not n, or a number is out of range.
        """
        largest = largest_kept(self.resolution)
        if not 1 <= peak_wavenumber <= largest:
            raise ValueError(
                f"{self.name}: peak_wavenumber is {peak_wavenumber}; expected 1 to "
                f"{largest}, which the 2/3 rule keeps at resolution {self.resolution}"
            )
        if not 0 < rms_vorticity < math.inf:
            raise ValueError(
                f"{self.name}: rms_vorticity needs to be positive, got {rms_vorticity}"
            )
        drawn = [
            random_vorticity(
                self._core,
                peak_wavenumber=peak_wavenumber,
                rms_vorticity=rms_vorticity,
                generator=generator,
            )
            for generator in sample_generators(n, seed)
        ]
        return torch.stack(drawn)

    def velocity(
        self, vorticity: Float[Tensor, "*batch 1 height width"]
    ) -> Float[Tensor, "*batch 2 height width"]:
        """Velocity of mean zero, component i along grid axis i."""
        self._check_channels(vorticity, 1)
        core = self._core
        return self._each(lambda w: core.velocity(core.modes(w[..., 0, :, :])), vorticity)

    def vorticity(
        self, velocity: Float[Tensor, "*batch 2 height width"]
    ) -> Float[Tensor, "*batch 1 height width"]:
        """d_1 u_2 - d_2 u_1; a mean velocity, and a part with divergence, leave no trace."""
        self._check_channels(velocity, 2)
        core = self._core
        return self._each(lambda u: core.field(core.curl(u)).unsqueeze(-3), velocity)

    # ---- time ----

    def stable_dt(
        self, vorticity: Float[Tensor, "*batch 1 height width"]
    ) -> Float[Tensor, "*batch"]:
        """Largest stable time step of each state, max(|u_1| + |u_2|) k_max dt = 2.5.

        k_max is the largest wavenumber after the 2/3 rule. Infinite at rest.
        """
        return self._core.stable_step(self._core.speed(self.velocity(vorticity)))

    def step(
        self, vorticity: Float[Tensor, "sample 1 height width"], dt: float, *, steps: int = 1
    ) -> Float[Tensor, "sample 1 height width"]:
        """The state after a number of time steps of length dt.

        Args:
            vorticity: The state.
            dt: Time step, positive.
            steps: Number of steps, at least 1.

        Returns:
            The state at `steps * dt`.

        Raises:
            ValueError: If the state does not fit, a number is out of range, dt is above the
                stable step of a state on the way, or a value of the result is not finite.
        """
        if not 0 < dt < math.inf or steps < 1:
            raise ValueError(f"{self.name}: need dt > 0 and steps >= 1, got {dt}, {steps}")

        def compute(state: Tensor) -> Tensor:
            return self._core.field(self._fixed(self._kept(state), dt, steps))

        advanced = self._by_chunks(compute, vorticity)
        self._check_finite(advanced[:, None])
        return advanced

    def solve(
        self,
        vorticity: Float[Tensor, "sample 1 height width"],
        *,
        times: Sequence[float] | Float[Tensor, " time"],
        dt: float | None = None,
    ) -> Float[Tensor, "sample time 1 height width"]:
        """States at the given times. A frame, taken as the start of another call, leads on equally.

        Args:
            vorticity: The state at time 0.
            times: Not decreasing, from 0 on; 0 gives the state without what the 2/3 rule removes.
            dt: Largest time step: each interval takes equal steps of at most dt, give or take
                the rounding of times in float32. None takes the largest stable step that divides
                the interval, for each sample by itself; those of one step go together.

        Returns:
            Vorticity `[sample, time, 1, height, width]`.

        Raises:
            ValueError: If the state does not fit, times decrease, dt is not positive or above the
                stable step of a state on the way (which is named), or a value of the result is
                not finite.
        """
        wanted = check_times(times)
        if dt is not None and not 0 < dt < math.inf:
            raise ValueError(f"{self.name}: dt needs to be positive, got {dt}")

        def compute(state: Tensor) -> Tensor:
            frames, field, now = [], state, 0.0
            for time in wanted:
                # each frame is entered anew: a restart from it takes the same path, bit by bit
                modes = self._kept(field)
                if time > now:
                    field = self._core.field(self._interval(modes, time - now, dt))
                    now = time
                frames.append(field if now > 0 else self._core.field(modes))
            return torch.stack(frames, dim=1)

        return self._check_finite(self._by_chunks(compute, vorticity))

    # ---- what changes energy and enstrophy ----

    def budget(self, vorticity: Float[Tensor, "*batch 1 height width"]) -> Budget:
        """Energy, enstrophy and their rates of change, one value per leading index."""
        self._check_channels(vorticity, 1)
        core = self._core
        modes = core.modes(vorticity[..., 0, :, :])
        stream = core.stream(modes)
        force = self._force(core)
        force = torch.zeros_like(modes) if force is None else force

        def mean(first: Tensor, second: Tensor) -> Tensor:
            return ((first * second.conj()).real * core.multiplicity).sum((-2, -1))

        energy, enstrophy = mean(stream, modes) / 2, mean(modes, core.squared * stream) / 2
        return Budget(
            energy=energy,
            enstrophy=enstrophy,
            input=mean(force, stream),
            viscous_loss=2 * self.viscosity * enstrophy,
            drag_loss=2 * self._drag * energy,
            enstrophy_input=mean(force, modes),
            enstrophy_viscous_loss=self.viscosity * mean(modes, core.squared * modes),
            enstrophy_drag_loss=2 * self._drag * enstrophy,
        )

    # ---- inside ----

    @cached_property
    def _core(self) -> VorticityCore:
        return VorticityCore(
            shape=(self.resolution, self.resolution),
            lengths=(self.length, self.length),
            dtype=self.dtype,
            device=torch.device(self.device),
        )

    @property
    def _damping(self) -> Tensor:
        return self.viscosity * self._core.squared + self._drag

    def _check_common(self) -> None:
        check_shape((self.resolution, self.resolution), smallest=4)
        if not 0 < self.length < math.inf:
            raise ValueError(f"{self.name}: length needs to be positive, got {self.length}")
        if not 0 <= self.viscosity < math.inf:
            raise ValueError(f"{self.name}: viscosity needs to be at least 0, got {self.viscosity}")
        if self.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{self.name}: dtype is float32 or float64, got {self.dtype}")

    def _check_channels(self, field: Tensor, channels: int) -> None:
        expected = (channels, self.resolution, self.resolution)
        if field.shape[-3:] != expected:
            raise ValueError(
                f"{self.name}: found shape {tuple(field.shape)}; expected (..., "
                f"{', '.join(map(str, expected))})"
            )

    def _by_chunks(self, compute: Callable[[Tensor], Tensor], vorticity: Tensor) -> Tensor:
        side = self.resolution
        check_state(vorticity, name=self.name, channels=1, shape=(side, side))
        self._check_finite(vorticity[:, None])
        if self._aligned:
            result = by_chunks(compute, vorticity.clone(), numel=2 * side**2)
        else:
            result = torch.cat([compute(state.clone()) for state in vorticity.split(1)])
        return result.unsqueeze(-3)

    @property
    def _aligned(self) -> bool:
        """Whether samples may be computed together and keep their bits.

        On the CPU, one that does not begin on a whole cache line is rounded by its place.
        """
        return self.resolution % 8 == 0 or torch.device(self.device).type != "cpu"

    def _each(self, compute: Callable[[Tensor], Tensor], fields: Tensor) -> Tensor:
        """Call `compute` on fields [..., channel, *grid], one by one where bits ask for it."""
        if self._aligned or fields.ndim == 3:
            return compute(fields)
        leading = fields.shape[:-3]
        results = [compute(field.clone()) for field in fields.reshape(-1, *fields.shape[-3:])]
        return torch.stack(results).unflatten(0, leading)

    def _check_finite(self, frames: Tensor) -> Tensor:
        return check_finite(frames, name=self.name, channel_names=("vorticity",))

    def _kept(self, vorticity: Tensor) -> Tensor:
        core = self._core
        return core.modes(vorticity.reshape(-1, *core.shape)) * core.kept

    def _interval(self, modes: Tensor, duration: float, dt: float | None) -> Tensor:
        if dt is not None:
            num_steps = max(1, math.ceil(duration / dt * (1 - TIME_ROUNDING)))
            return self._fixed(modes, duration / num_steps, num_steps)
        return advance_stably(
            self._core,
            modes,
            damping=self._damping,
            forcing=self._force(self._core),
            duration=duration,
        )

    def _fixed(self, modes: Tensor, dt: float, num_steps: int) -> Tensor:
        core = self._core
        stable = float(core.stable_step(core.speed(core.velocity(modes))).min())
        if dt <= stable:
            modes, stable = self._advance(modes, dt, num_steps)
        if dt > stable:
            raise ValueError(
                f"{self.name}: the time step {dt:.6g} is above the stable step of a state on the "
                f"way; take dt <= {_rounded_down(stable):.6g}, or dt=None in solve"
            )
        return modes

    def _advance(self, modes: Tensor, dt: float, num_steps: int) -> tuple[Tensor, float]:
        """The advanced modes and the smallest stable step on the way."""
        core = self._core
        advanced, fastest = core.advance(
            modes,
            damping=self._damping,
            forcing=self._force(core),
            step=dt,
            num_steps=num_steps,
        )
        return advanced, float(core.stable_step(fastest).min())


def _rounded_down(value: float) -> float:
    """Five digits that are not above the value."""
    if value <= 0:
        return 0.0  # a flow that overflowed
    unit = 10.0 ** (math.floor(math.log10(value)) - 4)
    return math.floor(value / unit) * unit
