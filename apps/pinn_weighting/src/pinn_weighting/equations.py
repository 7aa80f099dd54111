"""The problems of points: which residual, which exact solution, which values are given where."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from nops_losses import (
    allen_cahn_residual,
    burgers_residual,
    heat_residual,
    helmholtz_residual,
    kovasznay_residual,
    partial,
    poisson_residual,
    wave_residual,
)
from nops_physics import (
    BurgersColeHopf,
    HelmholtzExact,
    KovasznayExact,
    PoissonExact,
    WaveExact,
    allen_cahn_reference,
    heat_exact,
)
from torch import Tensor, nn

DIFFUSIVITY = 0.4  # of heat
REYNOLDS = 40.0
SETS = {"ic_u": "ic", "ic_v": "ic"}  # terms that share a set of points

Fields = Callable[[Tensor], Tensor]
Sets = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Equation:
    """One problem on points `[n, columns]`.

    Attributes:
        exact: Fields `[n, outputs]` at points.
        residual: Residuals by term, of fields, points and the source there.
        source: Of the equation at points, `[n, 1]`; None: it has none.
        periodic: Whether `bc` asks for equal values and slopes at both ends of x, and not for given ones.
    """

    exact: Fields
    residual: Callable[[Tensor, Tensor, Tensor | None], dict[str, Tensor]]
    source: Fields | None = None
    periodic: bool = False

    def given(self, sets: Sets) -> dict[str, Tensor]:
        """Sets of points with what is known at them: `<set>` and, where there is one, `<set>_value`."""
        found = dict(sets)
        for name, points in sets.items():
            if name != "pde" and not (name == "bc" and self.periodic):
                found[f"{name}_value"] = self.exact(points)
            elif name == "pde" and self.source is not None:
                found["pde_value"] = self.source(points)
        return found

    def residuals(
        self, model: nn.Module, batch: Sets, *, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """What each active term is the mean square of: `[n, …]`, with its graph."""
        found: dict[str, Tensor] = {}
        points = batch["pde"].detach().requires_grad_()
        known = {"bc", "ic", "ic_u", "ic_v"}
        if active - known:
            parts = self.residual(model(points), points, batch.get("pde_value"))
            found |= {name: value for name, value in parts.items() if name in active}
        for name in sorted(active & known):
            found[name] = self._given_residual(model, batch, name)
        return found

    def _given_residual(self, model: nn.Module, batch: Sets, name: str) -> Tensor:
        points = batch[SETS.get(name, name)]
        if name == "ic_v":  # at rest
            points = points.detach().requires_grad_()
            return partial(model(points), points, points.shape[1] - 1)
        if name == "bc" and self.periodic:
            return _ends_differ(model, points)
        return model(points) - batch[f"{SETS.get(name, name)}_value"]


def _ends_differ(model: nn.Module, points: Tensor) -> Tensor:
    """Difference of values and of slopes at the two ends of x, at the times of the points."""
    found = []
    for side in (-1.0, 1.0):
        ends = points.detach().clone()
        ends[:, 0] = side
        ends.requires_grad_()
        values = model(ends)
        found.append(torch.cat([values, partial(values, ends, 0)], dim=1))
    return found[1] - found[0]


def make_equation(name: str) -> Equation:
    """The problem of that name."""
    return _MAKERS[name]()


def _known(source: Tensor | None) -> Tensor:
    assert source is not None
    return source


def _poisson() -> Equation:
    exact = PoissonExact()
    return Equation(
        exact=exact,
        residual=lambda u, x, f: {"pde": poisson_residual(u, x, source=_known(f))},
        source=exact.source,
    )


def _heat() -> Equation:
    def exact(points: Tensor) -> Tensor:
        x, t = points.split(1, dim=1)
        return heat_exact(x, t, wavenumber=0.5, diffusivity=DIFFUSIVITY)

    return Equation(
        exact=exact, residual=lambda u, xt, _: {"pde": heat_residual(u, xt, a=DIFFUSIVITY)}
    )


def _burgers() -> Equation:
    solution = BurgersColeHopf()

    def exact(points: Tensor) -> Tensor:
        return solution(points[:, 0], points[:, 1])[:, None]

    nu = solution.viscosity
    return Equation(exact=exact, residual=lambda u, xt, _: {"pde": burgers_residual(u, xt, nu=nu)})


def _wave() -> Equation:
    solution = WaveExact()

    def exact(points: Tensor) -> Tensor:
        return solution(points[:, :1], points[:, 1:])

    speed = {"c": solution.c, "k": solution.k}
    return Equation(exact=exact, residual=lambda u, xt, _: {"pde": wave_residual(u, xt, **speed)})


def _helmholtz() -> Equation:
    exact = HelmholtzExact()
    return Equation(
        exact=exact,
        residual=lambda u, x, f: {"pde": helmholtz_residual(u, x, k=exact.k, source=_known(f))},
        source=exact.source,
    )


def _kovasznay() -> Equation:
    exact = KovasznayExact(REYNOLDS)
    return Equation(
        exact=exact, residual=lambda u, xy, _: kovasznay_residual(u, xy, nu=exact.viscosity)
    )


def _allen_cahn() -> Equation:
    reference = Tabulated.of_allen_cahn()
    return Equation(
        exact=reference,
        residual=lambda u, xt, _: {"pde": allen_cahn_residual(u, xt)},
        periodic=True,
    )


@dataclass(frozen=True, kw_only=True)
class Tabulated:
    """A solution on a grid of times and periodic positions, linear between its nodes.

    Attributes:
        x: Positions `[X]`, equally spaced from -1 on.
        t: Times `[T]`, equally spaced.
        values: `[T, X]`.
    """

    x: Tensor
    t: Tensor
    values: Tensor

    @classmethod
    def of_allen_cahn(cls, *, frames: int = 101) -> "Tabulated":
        """The benchmark's reference at so many times in [0, 1]."""
        times = torch.linspace(0.0, 1.0, frames, dtype=torch.float64)
        x, values = allen_cahn_reference(times)
        return cls(x=x, t=times, values=values)

    def __call__(self, points: Tensor) -> Tensor:
        """Values `[n, 1]` at points (x, t)."""
        place, time = points.double().to(self.x.device).unbind(1)
        column = (place - self.x[0]) / (self.x[1] - self.x[0])
        row = (time - self.t[0]) / (self.t[1] - self.t[0])
        left, below = column.floor().long(), row.floor().long().clamp(0, len(self.t) - 2)
        right = (column - left)[:, None], (row - below)[:, None]
        corners = [
            self.values[below + up, (left + over) % len(self.x)][:, None]
            for up in (0, 1)
            for over in (0, 1)
        ]
        lower = corners[0].lerp(corners[1], right[0])
        upper = corners[2].lerp(corners[3], right[0])
        return lower.lerp(upper, right[1]).to(points)


_MAKERS = {
    "poisson": _poisson,
    "heat": _heat,
    "burgers": _burgers,
    "wave": _wave,
    "helmholtz": _helmholtz,
    "kovasznay": _kovasznay,
    "allen_cahn": _allen_cahn,
}
