"""Residuals of partial differential equations at points, 0 for a solution.

Points have a column for each axis of space, then one for time where there is one. Nothing is
averaged: a residual is [n, 1], so that a scheme may weigh its points. Fields in half precision are
computed in float32. Coefficients may be tensors, trainable ones too: the inverse problem.
"""

from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import to_working_dtype
from nops_losses._derivatives import check_column, gradient, laplacian_of

Column = Float[Tensor, "n 1"]
Points = Float[Tensor, "n axis"]
Coefficient = float | Tensor


def burgers_residual(u: Column, xt: Points, *, nu: Coefficient) -> Column:
    """u_t + u u_x − ν u_xx.

    Args:
        u: Velocity at the points, computed from `xt` with gradients on.
        xt: Points (x, t).
        nu: Viscosity ν, length² per time: a number, or a tensor of one value or of one per point.

    Returns:
        Velocity per time, axes (point, 1); the graph is kept.

    Raises:
        ValueError: If a shape does not fit, or `u` was not computed from this `xt`.
        TypeError: If a field is not real floating point.
    """
    _check_axes(xt, least=2, most=2, name="xt")
    slope, (nu,) = gradient(u, xt), _coefficients(xt, nu=nu)
    u_x, u_t = slope.split(1, dim=1)
    return u_t + to_working_dtype(u, name="u") * u_x - nu * laplacian_of(slope, xt, [0])


def helmholtz_residual(u: Column, x: Points, *, k: Coefficient, source: Coefficient) -> Column:
    """Δu + k² u − source.

    Args:
        u: Field at the points, computed from `x` with gradients on.
        x: Points, any number of axes.
        k: Wavenumber, per length: a number, or a tensor of one value or of one per point.
        source: Likewise, in the unit of u per length².

    Returns:
        In the unit of `source`, axes (point, 1); the graph is kept.

    Raises:
        ValueError: If a shape does not fit, or `u` was not computed from this `x`.
        TypeError: If a field is not real floating point.
    """
    _check_axes(x, least=1, name="x")
    k, source = _coefficients(x, k=k, source=source)
    bend = laplacian_of(gradient(u, x), x, range(x.shape[1]))
    return bend + k * k * to_working_dtype(u, name="u") - source


def poisson_residual(u: Column, x: Points, *, source: Coefficient) -> Column:
    """−Δu − source.

    Args:
        u: Field at the points, computed from `x` with gradients on.
        x: Points, any number of axes.
        source: In the unit of u per length²: a number, or a tensor of one value or one per point.

    Returns:
        In the unit of `source`, axes (point, 1); the graph is kept.

    Raises:
        ValueError: If a shape does not fit, or `u` was not computed from this `x`.
        TypeError: If a field is not real floating point.
    """
    _check_axes(x, least=1, name="x")
    (source,) = _coefficients(x, source=source)
    return -laplacian_of(gradient(u, x), x, range(x.shape[1])) - source


def heat_residual(u: Column, xt: Points, *, a: Coefficient, source: Coefficient = 0.0) -> Column:
    """u_t − a Δu − source.

    Args:
        u: Field at the points, computed from `xt` with gradients on.
        xt: Points, any number of axes and the time.
        a: Diffusivity, length² per time: a number, or a tensor of one value or of one per point.
        source: Likewise, in the unit of u per time.

    Returns:
        In the unit of `source`, axes (point, 1); the graph is kept.

    Raises:
        ValueError: If a shape does not fit, or `u` was not computed from this `xt`.
        TypeError: If a field is not real floating point.
    """
    _check_axes(xt, least=2, name="xt")
    a, source = _coefficients(xt, a=a, source=source)
    slope = gradient(u, xt)
    return slope[:, -1:] - a * _space_laplacian(slope, xt) - source


def wave_residual(
    u: Column, xt: Points, *, c: Coefficient, k: Coefficient = 0.0, source: Coefficient = 0.0
) -> Column:
    """u_tt + k u_t − c² Δu − source.

    Args:
        u: Displacement at the points, computed from `xt` with gradients on.
        xt: Points, any number of axes and the time.
        c: Speed of waves, length per time: a number, or a tensor of one value or of one per point.
        k: Damping, per time, likewise.
        source: Acceleration, likewise.

    Returns:
        In the unit of u per time², axes (point, 1); the graph is kept.

    Raises:
        ValueError: If a shape does not fit, or `u` was not computed from this `xt`.
        TypeError: If a field is not real floating point.
    """
    _check_axes(xt, least=2, name="xt")
    c, k, source = _coefficients(xt, c=c, k=k, source=source)
    slope = gradient(u, xt)
    u_tt = laplacian_of(slope, xt, [-1])
    return u_tt + k * slope[:, -1:] - c * c * _space_laplacian(slope, xt) - source


def allen_cahn_residual(
    u: Column, xt: Points, *, d: Coefficient = 1e-4, r: Coefficient = 5.0
) -> Column:
    """u_t − d Δu − r (u − u³).

    Args:
        u: Field at the points, dimensionless, computed from `xt` with gradients on.
        xt: Points, any number of axes and the time.
        d: Diffusivity, length² per time: a number, or a tensor of one value or of one per point.
        r: Rate of the reaction, per time, likewise.

    Returns:
        Per time, axes (point, 1); the graph is kept.

    Raises:
        ValueError: If a shape does not fit, or `u` was not computed from this `xt`.
        TypeError: If a field is not real floating point.
    """
    _check_axes(xt, least=2, name="xt")
    d, r = _coefficients(xt, d=d, r=r)
    slope, field = gradient(u, xt), to_working_dtype(u, name="u")
    return slope[:, -1:] - d * _space_laplacian(slope, xt) - r * (field - field * field * field)


def kovasznay_residual(
    uvp: Float[Tensor, "n 3"], xy: Points, *, nu: Coefficient
) -> dict[str, Column]:
    """The steady Navier-Stokes equations in the plane, which Kovasznay's flow solves.

    (u·∇)u + ∇p − ν Δu and ∇·u, the density 1.

    Args:
        uvp: Velocity (u, v) and pressure p, columns, computed from `xy` with gradients on.
        xy: Points (x, y).
        nu: Viscosity ν: a number, or a tensor of one value or of one per point.

    Returns:
        "momentum_x", "momentum_y" and "divergence", each with axes (point, 1); the graph is kept.

    Raises:
        ValueError: If a shape does not fit, or `uvp` was not computed from this `xy`.
        TypeError: If a field is not real floating point.
    """
    _check_axes(xy, least=2, most=2, name="xy")
    check_column(uvp, xy, name="uvp", columns=3)
    (nu,) = _coefficients(xy, nu=nu)
    of_u, of_v, of_p = (gradient(part, xy) for part in uvp.split(1, dim=1))
    velocity = to_working_dtype(uvp, name="uvp")[:, :2]

    def momentum(slope: Tensor, push: Tensor) -> Tensor:
        carried = (velocity * slope).sum(1, keepdim=True)
        return carried + push - nu * laplacian_of(slope, xy, [0, 1])

    return {
        "momentum_x": momentum(of_u, of_p[:, :1]),
        "momentum_y": momentum(of_v, of_p[:, 1:]),
        "divergence": of_u[:, :1] + of_v[:, 1:],
    }


def _space_laplacian(slope: Tensor, xt: Tensor) -> Tensor:
    return laplacian_of(slope, xt, range(xt.shape[1] - 1))


def _check_axes(points: Tensor, *, least: int, most: int | None = None, name: str) -> None:
    if points.ndim != 2 or points.shape[1] < least or (most and points.shape[1] > most):
        columns = f"{least}" if most == least else f"at least {least}"
        raise ValueError(
            f"{name} has shape {tuple(points.shape)}, expected (n, axis) with {columns} columns: "
            "space, then time."
        )


def _coefficients(points: Tensor, **values: Coefficient) -> list[Coefficient]:
    """The values, if each is a number, one value, or a column with one per point."""
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() != 1 and value.shape != (len(points), 1):
            raise ValueError(
                f"{name} is a number, one value, or one per point, ({len(points)}, 1); got shape "
                f"{tuple(value.shape)}."
            )
    return [
        to_working_dtype(value, name=name).reshape(-1, 1) if isinstance(value, Tensor) else value
        for name, value in values.items()
    ]
