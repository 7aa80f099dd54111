"""Steady flow through a porous square: finite volumes and conjugate gradients."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._domain import Parameter, check_positive
from nops_physics._field_solver import FieldSolver
from nops_physics._spectral import check_shape, cosine_modes

TOLERANCE = 1e-12  # of the residual, over that of the source; float64 leaves about 1e-15
MOST = 2000  # iterations; a contrast of c takes some 15 sqrt(c)


def darcy_pressure(
    permeability: Float[Tensor, "*batch height width"],
    source: Float[Tensor, "*#batch #height #width"],
    *,
    lengths: tuple[float, float] = (1.0, 1.0),
) -> Float[Tensor, "*batch height width"]:
    """The pressure u of -div(a grad u) = f on a rectangle, 0 on its border.

    Values are those at the centres of cells. Between two cells the flux has the harmonic mean of
    their permeabilities, and at the border a cell's own over half a cell: second order where a is
    smooth, and no flux is lost where it jumps. Conjugate gradients are preconditioned by the
    equation of constant a, so that their number grows with the contrast of a and not with the
    grid. Each sample is solved by itself.

    Args:
        permeability: a, positive; the unit of f times length squared over that of u.
        source: f, any number of which may be shared: it is broadcast.
        lengths: Extent along the two axes.

    Returns:
        u, float64; differentiable in both.

    Raises:
        ValueError: If the permeability is not positive and finite, or its contrast so high that
            the iteration does not end.
    """
    a = permeability.double()
    if not bool(((a > 0) & a.isfinite()).all()):
        raise ValueError("darcy: the permeability needs to be positive and finite everywhere")
    f = source.double().expand_as(a)
    samples = [values.reshape(-1, *a.shape[-2:]).unbind() for values in (a, f)]
    found = [_solution(*pair, lengths=lengths) for pair in zip(*samples, strict=True)]
    return torch.stack(found).view_as(a)


def _solution(a: Tensor, f: Tensor, *, lengths: tuple[float, float]) -> Tensor:
    """One sample; its gradient is a solution too, of the same symmetric equation."""
    fixed = a.detach()
    with torch.no_grad():
        found = _conjugate_gradients(fixed, f.detach(), lengths)
    if not (torch.is_grad_enabled() and (a.requires_grad or f.requires_grad)):
        return found
    residual = f - _applied(a, found, lengths)

    def solved(slope: Tensor | None) -> Tensor | None:
        return None if slope is None else _conjugate_gradients(fixed, slope, lengths)

    residual.register_hook(solved)
    return found + (residual - residual.detach())


def _conjugate_gradients(a: Tensor, f: Tensor, lengths: tuple[float, float]) -> Tensor:
    u, rest = torch.zeros_like(f), f
    direction = guess = _preconditioned(rest, lengths)
    size = first = (rest * guess).sum()
    for _ in range(MOST):
        if not size > TOLERANCE**2 * first:
            return u
        image = _applied(a, direction, lengths)
        length = size / (direction * image).sum()
        u, rest = u + length * direction, rest - length * image
        guess = _preconditioned(rest, lengths)
        before, size = size, (rest * guess).sum()
        direction = guess + (size / before) * direction
    contrast = float(a.max() / a.min())
    raise ValueError(
        f"darcy: the permeability differs by a factor of {contrast:.3g}; the iteration did not "
        f"end after {MOST} steps"
    )


def _applied(a: Tensor, u: Tensor, lengths: tuple[float, float]) -> Tensor:
    """-div(a grad u) in each cell."""
    return sum(  # type: ignore[return-value]
        -_flux(a.movedim(axis, -1), u.movedim(axis, -1)).diff().movedim(-1, axis)
        * (a.shape[axis] / length) ** 2
        for axis, length in enumerate(lengths)
    )


def _flux(a: Tensor, u: Tensor) -> Tensor:
    """Through the faces along the last axis, border included, times the spacing."""
    left, right = a[..., :-1], a[..., 1:]
    inner = 2 * left * right / (left + right)
    faces = torch.cat((2 * a[..., :1], inner, 2 * a[..., -1:]), dim=-1)
    return faces * torch.nn.functional.pad(u, (1, 1)).diff()


def _preconditioned(rest: Tensor, lengths: tuple[float, float]) -> Tensor:
    """The solution for a permeability of 1, mode by mode."""
    (first, rate1), (second, rate2) = (
        _sines(side, length) for side, length in zip(rest.shape, lengths, strict=True)
    )
    first, second, rate1, rate2 = (part.to(rest.device) for part in (first, second, rate1, rate2))
    return first.T @ ((first @ rest @ second.T) / (rate1[:, None] + rate2)) @ second


@cache
def _sines(side: int, length: float) -> tuple[Tensor, Tensor]:
    """Modes of the second difference that vanish at both ends, one a row, and their eigenvalues."""
    mode = torch.arange(1, side + 1)
    turns = mode[:, None] * (2 * torch.arange(side) + 1) % (4 * side)
    sines = torch.sin(turns.double() * (math.pi / (2 * side))) * math.sqrt(2 / side)
    sines[-1] /= math.sqrt(2)
    rates = (2 * side / length * torch.sin(mode.double() * (math.pi / (2 * side)))).square()
    return sines, rates


@dataclass(frozen=True)
class Darcy2D(FieldSolver):
    """-div(nu grad u) = beta in the unit square, u = 0 on its border: a map from nu to u.

    A state has the channels `u` and `nu`. The initial one is at rest, u = 0, with a random nu;
    every later time has the steady u of that nu, so that one frame after the start is all there
    is. Points are the centres of cells.

    nu takes two values: `high` where a Gaussian field is positive and `low` elsewhere. The field
    has a zero mean, no flux through the sides and the covariance (roughness^2 - Laplace)^-2.

    Attributes:
        shape: Cells per axis, two axes, at least 2 each.
        beta: The source, as `solve` takes it; `trajectory` takes it from theta.
        low: Lower permeability, above 0.
        high: Higher one.
        roughness: Inverse length of the field that is cut in two.
        frame_interval: Time between the frames of `trajectory`; a name, as nothing depends on it.

    Raises:
        ValueError: If a number is out of range.

    Source:
        Takamoto et al., "PDEBench", arXiv 2210.07182; Li et al., "Fourier neural operator",
        arXiv 2010.08895.
    """

    shape: tuple[int, ...]
    _: KW_ONLY
    beta: float = 1.0
    low: float = 0.1
    high: float = 1.0
    roughness: float = 3.0
    frame_interval: float = 1.0

    name = "darcy"
    version = "1"
    channels = 2
    channel_names = ("u", "nu")
    parameters = (Parameter(name="beta", low=0.1, high=10.0, scale="log"),)
    boundary = "wall"

    def __post_init__(self) -> None:
        check_shape(self.shape, smallest=2)
        if len(self.shape) != 2:
            raise ValueError(f"{self.name}: needs two axes, got shape {tuple(self.shape)}")
        positive = ("low", "high", "roughness", "frame_interval")
        check_positive(self.name, **{name: getattr(self, name) for name in positive})
        if not math.isfinite(self.beta):
            raise ValueError(f"{self.name}: beta needs to be finite, got {self.beta}")

    @property
    def lengths(self) -> tuple[float, ...]:
        """The square's sides."""
        return (1.0, 1.0)

    @property
    def positions(self) -> Float[Tensor, "point axis"]:
        """Centres of the cells, last axis fastest, float64."""
        axes = [(torch.arange(side, dtype=torch.float64) + 0.5) / side for side in self.shape]
        return torch.cartesian_prod(*axes)

    def initial_kinds(self, n: int, *, seed: int | Sequence[int]) -> list[str]:
        """Every field is of the kind `two_permeabilities`."""
        return ["two_permeabilities"] * n

    def _draw(self, generator: torch.Generator) -> Tensor:
        first, second = (cosine_modes(side) for side in self.shape)
        waves = [(math.pi * torch.arange(side, dtype=torch.float64)) ** 2 for side in self.shape]
        spread = 1 / (waves[0][:, None] + waves[1] + self.roughness**2)
        spread[0, 0] = 0.0
        noise = torch.randn(*self.shape, generator=generator, dtype=torch.float64)
        field = first.mT @ (spread * noise) @ second
        nu = torch.full_like(field, self.low).masked_fill(field > 0, self.high)
        return torch.stack((torch.zeros_like(nu), nu))

    def _evolve(
        self, state: Tensor, values: Tensor, samples: Tensor, times: Sequence[float]
    ) -> Iterator[Tensor]:
        steady = self._steady(state, values, samples) if any(times) else state
        for time in times:
            yield steady if time else state

    def _steady(self, state: Tensor, values: Tensor, samples: Tensor) -> Tensor:
        nu = state[:, 1]
        self._check_permeable(nu, samples)
        return torch.stack((darcy_pressure(nu, values[:, 0, None, None]), nu), dim=1)

    def _check_permeable(self, nu: Tensor, samples: Tensor) -> None:
        least = nu.detach().amin((-2, -1))
        worst = int(least.argmin())
        if not least[worst] > 0:
            raise ValueError(
                f"{self.name}: sample {int(samples[worst])} has nu down to "
                f"{float(least[worst]):.4g}, expected a positive one"
            )
