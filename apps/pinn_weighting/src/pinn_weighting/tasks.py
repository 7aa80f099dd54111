"""What the engine trains: residuals at points, or a step of the chain."""

from collections.abc import Callable, Mapping
from typing import Any

from nops_losses import relative_l2, wave_step_residuals
from nops_physics import WaveChain
from torch import Tensor, nn

from pinn_weighting.equations import SETS, Equation

Values = Mapping[str, Tensor]


def relative_error(pred: Tensor, target: Tensor, *, reduction: Any = "mean") -> Tensor:
    """Relative L2 error of each field over all points, `[…, fields]`; their mean, or "none" for each."""
    found, true = (values.flatten(0, -2).double().mT[:, None] for values in (pred, target))
    return relative_l2(found, true, spatial_dims=1, reduction=reduction)


class PointTask:
    """Mean squared residuals at collocation points; terms with a scheme per point go through it.

    Args:
        model: Fields at points.
        equation: The problem.
        points: Scheme per point by term; empty for none.

    Attributes:
        note_residuals: Set by the engine where the weighting measures residuals.
    """

    def __init__(
        self, model: nn.Module, equation: Equation, *, points: Mapping[str, Any] | None = None
    ) -> None:
        self.model, self._equation = model, equation
        self._points = dict(points or {})
        self.note_residuals: Callable[[dict[str, Tensor]], None] | None = None

    def losses(
        self, batch: Values, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """The mean square of each active term."""
        residuals = self._equation.residuals(self.model, batch, active=active)
        if self.note_residuals is not None:
            self.note_residuals({name: value.flatten() for name, value in residuals.items()})
        return {name: self._loss(name, value, batch) for name, value in residuals.items()}

    def _loss(self, name: str, residual: Tensor, batch: Values) -> Tensor:
        scheme = self._points.get(name)
        if scheme is None:
            return residual.square().mean()
        if scheme.takes_time:
            return scheme.loss(residual.flatten(), batch[SETS.get(name, "pde")][:, -1])
        return scheme.loss(residual.flatten())

    def metrics(self, batch: Values) -> dict[str, Tensor]:
        """`error`: relative L2 against the reference."""
        return {"error": relative_error(self.model(batch["points"]), batch["target"])}


class ChainTask:
    """A step of the chain: residuals of an integrator, and the distance to a Runge-Kutta step.

    Args:
        model: State (u, v, f) `[B, N, 3]` to next (u, v).
        chain: Gives steps in time and space, speed and damping.
        scheme: Integrator of the residuals.
    """

    def __init__(self, model: nn.Module, chain: WaveChain, *, scheme: str) -> None:
        self.model, self._scheme = model, scheme
        self._numbers: dict[str, Any] = {"dt": chain.dt, "dx": chain.dx, "c": chain.c, "k": chain.k}

    def losses(
        self, batch: Values, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        """PI_loss1, PI_loss2 of the integrator in u and v; RK4_loss1, RK4_loss2 likewise."""
        u_next, v_next = self.model(batch["state"]).unbind(-1)
        found: dict[str, Tensor] = {}
        if active & {"PI_loss1", "PI_loss2"}:
            u, v, f = batch["state"].unbind(-1)
            r1, r2 = wave_step_residuals(
                u, v, f, u_next, v_next, **self._numbers, scheme=self._scheme
            )
            found |= {"PI_loss1": r1.square().mean(), "PI_loss2": r2.square().mean()}
        u, v = batch["target"].unbind(-1)
        found["RK4_loss1"] = (u_next - u).square().mean()
        found["RK4_loss2"] = (v_next - v).square().mean()
        return {name: value for name, value in found.items() if name in active}

    def metrics(self, batch: Values) -> dict[str, Tensor]:
        """`error`: of the increments of u and v over their size, mean of both; each as well."""
        errors = increment_errors(self.model(batch["state"]), batch["target"], batch["state"])
        return {
            "error": errors.mean(),
            "increment_error_u": errors[0],
            "increment_error_v": errors[1],
        }


def increment_errors(pred: Tensor, target: Tensor, state: Tensor) -> Tensor:
    """‖pred − target‖ / ‖target − state‖ of u and of v over all samples and nodes, `[2]`."""
    before = state[..., :2]
    return relative_error(pred - before, target - before, reduction="none")
