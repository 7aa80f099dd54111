"""A damped string of nodes: four ways to step it, and its exact solutions."""

import math
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import check_positive
from nops_physics._runge_kutta import runge_kutta_4
from nops_physics._seeds import generator_of
from nops_physics._string_modes import hold_modes, mode_response, standing_wave
from nops_physics._wave_samples import GaussianForce, WaveSamples, draw_samples
from nops_physics._wave_stability import ROUNDING, check_scheme, spectral_radius, stable_step


@dataclass(frozen=True)
class WaveChain:
    """du/dt = v, dv/dt = c^2 L u - k v + f on equal nodes, L the second difference; ends held at 0.

    The force is frozen in a step. Schemes: `rk4`, the classical Runge-Kutta step; `euler`, forward
    in both; `semi_implicit`, forward in v, then u with the new v; `trapezoidal`, the mean of both
    ends in both equations. Whatever the ends of a state hold is read as 0, in every stage.

    States are `[*batch, node]` in any floating type; everything is computed in float64 and
    returned in the type of `u`, on its device, differentiable in the state and the force.

    Attributes:
        n_nodes: Nodes with both ends, at least 3.
        length: The string's length.
        c: Speed of waves, length per time.
        k: Damping, per time, at least 0.
        dt: Time step.

    Raises:
        ValueError: If a number is out of range, a state's last axis is not `n_nodes`, or a scheme
            is unknown.
    """

    n_nodes: int = 100
    _: KW_ONLY
    length: float = 1.0
    c: float = 1.0
    k: float = 1.0
    dt: float = 0.01

    def __post_init__(self) -> None:
        if self.n_nodes < 3:
            raise ValueError(f"WaveChain: needs at least 3 nodes, got {self.n_nodes}")
        check_positive("WaveChain", length=self.length, c=self.c, dt=self.dt)
        if not 0 <= self.k < math.inf:
            raise ValueError(f"WaveChain: k needs to be at least 0, got {self.k}")

    @property
    def dx(self) -> float:
        """Distance between neighbours."""
        return self.length / (self.n_nodes - 1)

    @property
    def x(self) -> Float[Tensor, " node"]:
        """Positions of the nodes, both ends included, float64."""
        return torch.arange(self.n_nodes, dtype=torch.float64) * self.dx

    # ---- the equation ----

    def laplacian(self, u: Float[Tensor, "*batch node"]) -> Float[Tensor, "*batch node"]:
        """Second difference (u_{i-1} - 2 u_i + u_{i+1}) / dx^2, 0 at the ends."""
        return self._bend(self._held(u)).to(u.dtype)

    def rhs(
        self,
        u: Float[Tensor, "*batch node"],
        v: Float[Tensor, "*batch node"],
        f: float | Float[Tensor, "..."] = 0.0,
    ) -> tuple[Float[Tensor, "*batch node"], Float[Tensor, "*batch node"]]:
        """Rates of change of u and v; 0 at the ends."""
        rate = self._rate(self._state(u, v), self._force(f, u))
        return rate[0].to(u.dtype), rate[1].to(u.dtype)

    def energy(
        self, u: Float[Tensor, "*batch node"], v: Float[Tensor, "*batch node"]
    ) -> Float[Tensor, "*batch"]:
        """Discrete energy: dx sum v^2 / 2 + c^2 sum (u_{i+1} - u_i)^2 / (2 dx), never rising at f = 0."""
        held_u, held_v = self._state(u, v)
        stretch = held_u.diff(dim=-1).square().sum(-1) / self.dx
        return ((self.dx * held_v.square().sum(-1) + self.c**2 * stretch) / 2).to(u.dtype)

    # ---- steps ----

    def step(
        self,
        u: Float[Tensor, "*batch node"],
        v: Float[Tensor, "*batch node"],
        f: float | Float[Tensor, "..."] = 0.0,
        *,
        scheme: str,
    ) -> tuple[Float[Tensor, "*batch node"], Float[Tensor, "*batch node"]]:
        """The state one `dt` later.

        Args:
            u: Displacement.
            v: Velocity, same shape.
            f: Force per mass, which broadcasts against the state; frozen in the step.
            scheme: One of `rk4`, `semi_implicit`, `trapezoidal`, `euler`.

        Returns:
            The next (u, v); their ends are 0.

        Raises:
            ValueError: As the class says.

        Warns:
            RuntimeWarning: If the scheme is unstable with this `dt`.
        """
        self.warn_if_unstable(scheme)
        state = self._advance(self._state(u, v), self._force(f, u), scheme)
        return state[0].to(u.dtype), state[1].to(u.dtype)

    def rollout(
        self,
        u: Float[Tensor, "*batch node"],
        v: Float[Tensor, "*batch node"],
        force: Callable[[Tensor, float], Tensor] | None,
        steps: int,
        *,
        scheme: str,
        start: float = 0.0,
    ) -> tuple[Float[Tensor, "*batch time node"], Float[Tensor, "*batch time node"]]:
        """Frames 0 to `steps`, `dt` apart, the state itself first.

        Args:
            u: Displacement.
            v: Velocity, same shape.
            force: `force(x, t)` with positions `[node]` and a time gives what broadcasts against
                the state, as a `GaussianForce` does; None is no force.
            steps: Frames after the first, at least 0.
            scheme: As `step` takes it.
            start: Time of frame 0.

        Returns:
            u and v, time before node. An unstable scheme overflows to values that are not finite.

        Raises:
            ValueError: As the class says, or if `steps` is negative.

        Warns:
            RuntimeWarning: If the scheme is unstable with this `dt`.
        """
        if steps < 0:
            raise ValueError(f"WaveChain: steps needs to be at least 0, got {steps}")
        self.warn_if_unstable(scheme)
        x, state = self.x.to(u.device), self._state(u, v)
        frames = [state]
        for index in range(steps):
            push = 0.0 if force is None else force(x, start + index * self.dt)
            state = self._advance(state, self._force(push, u), scheme)
            frames.append(state)
        trajectory = torch.stack(frames, dim=-2).to(u.dtype)
        return trajectory[0], trajectory[1]

    def bound_energy(
        self,
        u_next: Float[Tensor, "*batch node"],
        v_next: Float[Tensor, "*batch node"],
        *,
        u: Float[Tensor, "*batch node"],
        v: Float[Tensor, "*batch node"],
        f: float | Float[Tensor, "..."] = 0.0,
    ) -> tuple[Float[Tensor, "*batch node"], Float[Tensor, "*batch node"]]:
        """A step made by anyone, no mode with more energy than it had and the push can have given.

        For mode n of frequency w_n the equation has d/dt sqrt(v_n^2 + w_n^2 u_n^2) <= |f_n|; a mode that
        is larger after the step is scaled back to that, every other one is left as it is. So no
        rollout can grow without a push, whoever makes the steps.

        Args:
            u_next: Displacement after the step.
            v_next: Velocity after the step.
            u: Displacement before it.
            v: Velocity before it.
            f: Force per mass, which broadcasts against the state; frozen in the step.
        """
        sines = self._sines.to(u.device)
        before, after = (self._state(*y)[..., 1:-1] @ sines for y in ((u, v), (u_next, v_next)))
        work = self.dt * (self._force(f, u)[..., 1:-1] @ sines).abs()
        held = hold_modes(after, before, work=work, squared=self._squared.to(u.device))
        state = torch.nn.functional.pad(held @ sines, (1, 1)).to(u_next.dtype)
        return state[0], state[1]

    # ---- stability ----

    def propagator(self, scheme: str) -> Float[Tensor, "state state"]:
        """The matrix of a step without force on (u, v) of the inner nodes, float64."""
        inner = self.n_nodes - 2
        basis = torch.eye(2 * inner, dtype=torch.float64).unflatten(-1, (2, inner))
        state = torch.nn.functional.pad(basis, (1, 1)).unbind(-2)
        columns = self._advance(torch.stack(state), self._force(0.0, state[0]), scheme)
        return columns[..., 1:-1].movedim(0, 1).flatten(1).mT.contiguous()

    def spectral_radius(self, scheme: str) -> float:
        """Largest |eigenvalue| of `propagator`, from its modes; above 1 a rollout explodes."""
        if scheme not in self._radii:
            self._radii[scheme] = spectral_radius(scheme, self._squared, self.k, self.dt)
        return self._radii[scheme]

    def stable_dt(self, scheme: str) -> float:
        """The largest time step up to which no mode grows; infinite for `trapezoidal`.

        0 where every step lets one grow: `euler` without damping.
        """
        return stable_step(scheme, self._squared, self.k)

    def warn_if_unstable(self, scheme: str) -> None:
        """Warn with the spectral radius and the stable step where a rollout of it explodes.

        Warns:
            RuntimeWarning: If the radius is above 1.
        """
        radius = self.spectral_radius(scheme)
        if radius > 1 + ROUNDING:
            warnings.warn(
                f"WaveChain: {scheme} with dt = {self.dt:g} has spectral radius {radius:.6g} > 1: "
                f"its rollouts explode; take dt <= {self.stable_dt(scheme):.4g} or another scheme",
                RuntimeWarning,
                stacklevel=3,
            )

    # ---- exact solutions ----

    def expm(
        self, u: Float[Tensor, "*batch node"], v: Float[Tensor, "*batch node"], *, t: float
    ) -> tuple[Float[Tensor, "*batch node"], Float[Tensor, "*batch node"]]:
        """The state a time t >= 0 later without force, exact in time: the matrix exponential.

        The sines are the eigenvectors of L, so it is taken mode by mode.
        """
        if not 0 <= t < math.inf:
            raise ValueError(f"WaveChain: t needs to be finite and at least 0, got {t}")
        device = u.device
        sines = self._sines.to(device)
        p, q = self._state(u, v)[..., 1:-1] @ sines
        squared = self._squared.to(device)
        first, second = mode_response(squared, self.k, torch.full_like(squared, t))
        modes = torch.stack(
            (first * p + second * q, (first - self.k * second) * q - squared * second * p)
        )
        state = torch.nn.functional.pad(modes @ sines, (1, 1)).to(u.dtype)
        return state[0], state[1]

    def modal(
        self,
        n: int,
        *,
        t: float | Float[Tensor, "*times"],
        x: Float[Tensor, "*points"] | None = None,
        discrete: bool = False,
    ) -> tuple[Float[Tensor, "*broadcast"], Float[Tensor, "*broadcast"]]:
        """The free motion that starts at rest from u = sin(n pi x / length).

        Args:
            n: Number of the mode, at least 1; below `n_nodes` - 1 where `discrete`.
            t: Times from 0 on.
            x: Positions, which broadcast against `t`; None takes the nodes.
            discrete: Whether of the chain, exact in time; else of the continuous string.

        Returns:
            u and v, computed in float64, in the type of `x`.

        Raises:
            ValueError: If there is no such mode.
        """
        if n < 1 or (discrete and n > self.n_nodes - 2):
            raise ValueError(f"WaveChain: {self.n_nodes} nodes have no mode {n}")
        place = self.x if x is None else x
        wave = n * math.pi / self.length
        squared = float(self._squared[n - 1]) if discrete else (self.c * wave) ** 2
        u, v = standing_wave(place, t, wave=wave, squared=squared, damping=self.k)
        return u.to(place.dtype), v.to(place.dtype)

    # ---- data ----

    def samples(
        self,
        n_graphs: int,
        n_steps: int,
        *,
        seed: int = 1000,
        force: GaussianForce | None = GaussianForce(),  # noqa: B008
    ) -> WaveSamples:
        """States to train on, which are no solutions: standing waves of random sizes, and a push.

        u = 0.003 e^-t sum_{n, m <= 4} a_n / (n m) sin(n pi x / length) cos(pi sqrt(n^2 + m^2) t)
        with normal a_n, v the same with numbers of its own times 15, at random times in [0, 2).

        Args:
            n_graphs: Number of chains, at least 1; number i draws with the seed `seed` + i.
            n_steps: Times of each, at least 1.
            seed: Seed of the first chain.
            force: What pushes; a location is drawn for each where it has none. None: no force.

        Returns:
            The states, the forces and the times.

        Raises:
            ValueError: If a number is below 1.
        """
        if n_graphs < 1 or n_steps < 1:
            raise ValueError(f"WaveChain: samples of {n_graphs} graphs and {n_steps} steps")
        generators = [generator_of(seed + index) for index in range(n_graphs)]
        return draw_samples(self.x, n_steps, generators, force)

    # ---- inside: states are [2, *batch, node], float64, ends 0 ----

    def _held(self, field: Tensor) -> Tensor:
        if field.ndim == 0 or field.shape[-1] != self.n_nodes:
            raise ValueError(
                f"WaveChain: the last axis of shape {tuple(field.shape)} needs {self.n_nodes} nodes"
            )
        return torch.nn.functional.pad(field.double()[..., 1:-1], (1, 1))

    def _state(self, u: Tensor, v: Tensor) -> Tensor:
        if u.shape != v.shape:
            raise ValueError(f"WaveChain: u is {tuple(u.shape)} but v is {tuple(v.shape)}")
        return torch.stack((self._held(u), self._held(v)))

    def _force(self, f: float | Tensor, u: Tensor) -> Tensor:
        """The force on the inner nodes, of the shape of `u`."""
        push = torch.as_tensor(f, dtype=torch.float64, device=u.device)
        try:
            return self._held(push.expand(u.shape))
        except RuntimeError as error:
            raise ValueError(
                f"WaveChain: f of shape {tuple(push.shape)} does not broadcast to {tuple(u.shape)}"
            ) from error

    def _bend(self, held: Tensor) -> Tensor:
        bend = held[..., :-2] - 2 * held[..., 1:-1] + held[..., 2:]
        return torch.nn.functional.pad(bend / self.dx**2, (1, 1))

    def _rate(self, state: Tensor, f: Tensor) -> Tensor:
        u, v = state
        return torch.stack((v, self.c**2 * self._bend(u) - self.k * v + f))

    def _advance(self, state: Tensor, f: Tensor, scheme: str) -> Tensor:
        match check_scheme(scheme):
            case "rk4":
                return runge_kutta_4(state, lambda stage: self.dt * self._rate(stage, f))
            case "euler":
                return state + self.dt * self._rate(state, f)
            case "semi_implicit":
                v = state[1] + self.dt * self._rate(state, f)[1]
                return torch.stack((state[0] + self.dt * v, v))
            case _:
                return self._trapezoidal(state, f)

    def _trapezoidal(self, state: Tensor, f: Tensor) -> Tensor:
        """Both equations solved for the new v, with h = dt / 2.

        (1 + k h - c^2 h^2 L) v' = (1 - k h) v + 2 h (c^2 L (u + h v / 2) + f), u' = u + h (v + v').
        """
        u, v = state
        half = self.dt / 2
        bend = self.c**2 * self._bend(u + half / 2 * v)
        known = (1 - self.k * half) * v + self.dt * (bend + f)
        inner = known[..., 1:-1] @ self._resolvent.to(u.device)
        later = torch.nn.functional.pad(inner, (1, 1))
        return torch.stack((u + half * (v + later), later))

    @cached_property
    def _resolvent(self) -> Tensor:
        """Inverse of 1 + k h - c^2 h^2 L on the inner nodes, h = dt / 2."""
        half = self.dt / 2
        weights = 1 / (1 + self.k * half + half**2 * self._squared)
        return (self._sines * weights) @ self._sines

    @cached_property
    def _sines(self) -> Tensor:
        """Orthonormal eigenvectors of L on the inner nodes, symmetric, [node, mode]."""
        numbers = torch.arange(1, self.n_nodes - 1)
        turns = numbers[:, None] * numbers % (2 * (self.n_nodes - 1))  # whole, so no digit is lost
        angle = turns.double() * (math.pi / (self.n_nodes - 1))
        return math.sqrt(2 / (self.n_nodes - 1)) * torch.sin(angle)

    @cached_property
    def _squared(self) -> Tensor:
        """Squared frequency of each mode, rising, [mode]."""
        angle = torch.arange(1, self.n_nodes - 1, dtype=torch.float64)
        angle = angle * (math.pi / (2 * (self.n_nodes - 1)))
        return (2 * self.c / self.dx * torch.sin(angle)).square()

    @cached_property
    def _radii(self) -> dict[str, float]:
        """Spectral radii by scheme, as they are asked for."""
        return {}
