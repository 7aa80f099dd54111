"""The exact solution of Burgers' equation by the transform of Cole and Hopf."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import check_positive
from nops_physics._spectral import cycles

SAMPLES = 4096  # of a period, for what is needed of u0 as a whole
DECAYED = 40.0  # exp(-40) is 4e-18: where the integrand is cut off
ANTIDERIVATIVE = 1e-5  # of the potential's size; that of another field is off by 1e-3 a step
NOISE = 1e-14  # modes of u0 below this share of the largest are rounding
CHUNK = 2**20  # values of the integrand at a time: 8 MiB

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ColeHopf:
    """u(x, t) of u_t + (u^2 / 2)_x = viscosity u_xx, periodic, for any x, t and small viscosity.

    With the antiderivative I of u0, u is the mean of u0(y) under the weights
    exp(-I(y) / (2 viscosity) - (x - y)^2 / (4 viscosity t)), which are normalised in their
    logarithms: a direct transform loses every digit once max I - min I passes about 60 viscosity.
    A mean of u0 is taken off first and put back as a moving frame. The rule's equal nodes are as
    many as the viscosity and time ask for.

    Attributes:
        u0: Initial field at positions, elementwise, differentiable and periodic.
        viscosity: Length^2 per time, positive.
        length: Period.
        integral: An antiderivative of u0. None: from the Fourier series of u0, which then needs
            to be smooth on 4096 points.

    Raises:
        ValueError: If a number is not positive; when called, if u0 is not finite or not smooth
            enough, `integral` is no antiderivative of u0, or a time is negative.

    Source:
        Hopf, Comm. Pure Appl. Math. 3 (1950); Cole, Quart. Appl. Math. 9 (1951).
    """

    u0: Field
    _: KW_ONLY
    viscosity: float
    length: float = 1.0
    integral: Field | None = None

    def __post_init__(self) -> None:
        check_positive("ColeHopf", viscosity=self.viscosity, length=self.length)

    @classmethod
    def classic(cls, viscosity: float = 0.01 / math.pi) -> "ColeHopf":
        """The case u0 = -sin(pi x) on [-1, 1]; steepest, with slope -152.005, at t = 1.6037 / pi.

        Args:
            viscosity: Length^2 per time; the classic one by default, of which that slope is.

        Returns:
            The solution, periodic over 2.

        Source:
            Basdevant et al., Computers & Fluids 14 (1986).
        """
        return cls(
            lambda x: -torch.sin(math.pi * x),
            viscosity=viscosity,
            length=2.0,
            integral=lambda x: torch.cos(math.pi * x) / math.pi,
        )

    def __call__(
        self, x: Float[Tensor, "*points"], t: float | Float[Tensor, "*times"]
    ) -> Float[Tensor, "*broadcast"]:
        """The solution at positions and times that broadcast against each other.

        Args:
            x: Positions in the unit of length, any period.
            t: Times, at least 0; 0 gives u0.

        Returns:
            u in the type of `x`, computed in float64, differentiable in `x`, and in `t` above 0.

        Raises:
            ValueError: As the class says.
        """
        time = torch.as_tensor(t, dtype=torch.float64, device=x.device)
        if not bool(((time >= 0) & (time < math.inf)).all()):
            raise ValueError("ColeHopf: times need to be finite and at least 0")
        moved = x.double() - self._mean * time
        place, time = torch.broadcast_tensors(moved, time)
        nodes = self._nodes(float(time.detach().max()) if time.numel() else 0.0)
        size = max(1, CHUNK // len(nodes))
        pairs = zip(place.reshape(-1).split(size), time.reshape(-1).split(size), strict=True)
        means = [self._weighted_mean(*pair, nodes.to(x.device)) for pair in pairs]
        return (self._mean + torch.cat(means).view(place.shape)).to(x.dtype)

    def _weighted_mean(self, x: Tensor, t: Tensor, nodes: Tensor) -> Tensor:
        """Mean of u0, less its own mean, at x + reach nodes."""
        y = x[:, None] + self._reach_rate * t.sqrt()[:, None] * nodes
        gauss = self._reach_rate**2 / (4 * self.viscosity) * nodes.square()
        weights = torch.softmax(-self._potential(y) / (2 * self.viscosity) - gauss, dim=-1)
        return (weights * (self.u0(y) - self._mean)).sum(-1)

    def _nodes(self, time: float) -> Tensor:
        """Equal steps from -1 to 1 times the reach, as few as give the accuracy up to this time.

        Moved by an imaginary number i z, the integrand grows by a factor of at most
        exp(z^2 / (4 viscosity t) + sum_k |u0_k| (cosh(k z) - 1) / (k viscosity)), so steps of h
        have a relative error of that times exp(-2 pi z / h), for the best of all z.
        """
        shift = self._reach_rate / 2 * torch.logspace(-6, 2, 400, dtype=torch.float64)
        size = self._modes.abs()[1:]
        wave = 2 * math.pi * cycles((SAMPLES,), (self.length,))[0][1:]
        heard = size > NOISE * max(float(size.max()), abs(self._mean))
        growth = torch.cosh(math.sqrt(time) * shift[:, None] * wave[heard]) - 1
        nonlinear = (growth * (size / wave)[heard]).sum(-1) / self.viscosity
        exponent = DECAYED + shift.square() / (4 * self.viscosity) + nonlinear
        steps_per_reach = self._reach_rate * float((exponent / (2 * math.pi * shift)).min())
        return torch.linspace(-1, 1, 2 * math.ceil(steps_per_reach) + 1, dtype=torch.float64)

    # ---- what is needed of u0 as a whole, on one period ----

    @cached_property
    def _period(self) -> Tensor:
        return torch.arange(SAMPLES, dtype=torch.float64) * (self.length / SAMPLES)

    @cached_property
    def _modes(self) -> Tensor:
        """Modes of u0, [mode]."""
        return torch.fft.rfft(self._values, norm="forward")

    @cached_property
    def _values(self) -> Tensor:
        values = self.u0(self._period).detach().double()
        if values.shape != self._period.shape or not bool(torch.isfinite(values).all()):
            raise ValueError("ColeHopf: u0 needs to give a finite value for each position")
        return values

    @cached_property
    def _mean(self) -> float:
        return float(self._modes[0].real)

    @cached_property
    def _range(self) -> float:
        """Largest less smallest value of the potential, once its slope is known to be u0."""
        potential = self._potential(self._period).detach()
        spread = float(potential.max() - potential.min())
        u = self._values
        # Simpson's rule over every two steps of the period
        rise = (u + 4 * u.roll(-1) + u.roll(-2) - 6 * self._mean) * (self.length / SAMPLES / 3)
        error = float((potential.roll(-2) - potential - rise).abs().max())
        if not error <= ANTIDERIVATIVE * (spread + float(u.abs().max()) * self.length):
            raise ValueError("ColeHopf: integral is no antiderivative of u0 with its period")
        return spread

    @cached_property
    def _reach_rate(self) -> float:
        """The weights end at this times sqrt(t): nowhere beyond is one above exp(-DECAYED)."""
        return math.sqrt(2 * self._range + 4 * DECAYED * self.viscosity)

    def _potential(self, y: Tensor) -> Tensor:
        """Antiderivative of u0 less its mean."""
        if self.integral is not None:
            return self.integral(y) - self._mean * y
        number, cosine, sine = self._series
        angle = (2 * math.pi / self.length) * y[..., None] * number.to(y.device)
        return torch.cos(angle) @ cosine.to(y.device) + torch.sin(angle) @ sine.to(y.device)

    @cached_property
    def _series(self) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers and coefficients of the modes of the antiderivative that are not rounding."""
        size = self._modes.abs()
        size[0] = 0.0
        found = torch.nonzero(size > NOISE * max(float(size.max()), abs(self._mean)))[:, 0]
        if len(found) and int(found[-1]) > SAMPLES // 4:
            raise ValueError(
                f"ColeHopf: u0 is not smooth enough for {SAMPLES} points of a period; give its "
                "antiderivative as integral"
            )
        wave = 2 * math.pi * cycles((SAMPLES,), (self.length,))[0][found]
        coefficient = 2 * self._modes[found] / (1j * wave)
        return found.double(), coefficient.real, -coefficient.imag


BurgersColeHopf = ColeHopf.classic
"""`ColeHopf.classic` by the name that benchmarks of physics-informed networks know it by."""
