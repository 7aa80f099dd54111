"""One Runge-Kutta step, and what a network's step of a string leaves of an integrator's."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_choice, check_same_shape, to_working_dtype

SCHEMES = ("rk4", "semi_implicit", "trapezoidal", "euler")
STENCIL = 3  # nodes of a second difference
State = TypeVar("State", Tensor, tuple[Tensor, ...])


def rk4_step(rhs: Callable[..., Any], y: State, *, dt: float, t: float | None = None) -> State:
    """One classical Runge-Kutta step of order 4 of y' = rhs(y), or of y' = rhs(t, y).

    Args:
        rhs: Rate of change, of the structure of `y`; called with the state, or with time and state
            where `t` is given.
        y: State, a tensor or a tuple of tensors, any shapes.
        dt: Time step.
        t: Time at the start, for a rate that depends on it.

    Returns:
        The state one `dt` later, of the structure of `y`, float32 at least, differentiable.

    Raises:
        ValueError: If `rhs` gives another structure or shape than `y`.
        TypeError: If `y` is not real floating point.
    """
    parts = (y,) if isinstance(y, Tensor) else y
    start = tuple(to_working_dtype(part, name="y") for part in parts)

    def rate(state: tuple[Tensor, ...], after: float) -> tuple[Tensor, ...]:
        given: Any = state[0] if isinstance(y, Tensor) else state
        found = rhs(given) if t is None else rhs(t + after, given)
        found = (found,) if isinstance(found, Tensor) else tuple(found)
        if [part.shape for part in found] != [part.shape for part in start]:
            raise ValueError(
                f"rhs gives shapes {[tuple(part.shape) for part in found]}, but y has "
                f"{[tuple(part.shape) for part in start]}."
            )
        return found

    k1 = rate(start, 0.0)
    k2 = rate(_moved(start, k1, dt / 2), dt / 2)
    k3 = rate(_moved(start, k2, dt / 2), dt / 2)
    k4 = rate(_moved(start, k3, dt), dt)
    rates = zip(start, k1, k2, k3, k4, strict=True)
    later = tuple(part + dt / 6 * (a + 2 * (b + c) + d) for part, a, b, c, d in rates)
    return later[0] if isinstance(y, Tensor) else later  # pyright: ignore[reportReturnType]


def wave_step_residuals(
    u: Float[Tensor, "*batch node"],
    v: Float[Tensor, "*batch node"],
    f: Float[Tensor, "*batch node"],
    u_next: Float[Tensor, "*batch node"],
    v_next: Float[Tensor, "*batch node"],
    *,
    dt: float,
    dx: float,
    c: float = 1.0,
    k: float = 1.0,
    scheme: str = "trapezoidal",
    f_next: Float[Tensor, "*batch node"] | None = None,
) -> tuple[Float[Tensor, "*batch inner"], Float[Tensor, "*batch inner"]]:
    """By how much a step misses that of an integrator of u' = v, v' = c² L u − k v + f.

    L is the second difference; the ends are held at 0, whatever the tensors hold there.

    | scheme | r1 | r2 |
    |---|---|---|
    | euler | u + dt v − u_next | v_next − v − dt (c² L u − k v + f) |
    | semi_implicit | u + dt v_next − u_next | the same |
    | trapezoidal | u + dt (v + v_next) / 2 − u_next | the rate's mean over both ends |
    | rk4 | u of `rk4_step` − u_next | v_next − v of `rk4_step` |

    A network that brings both to 0 has learned that integrator, its instability included: euler
    steps explode. Gradients flow into all tensors.

    Args:
        u: Displacement, axes (..., node), both ends included.
        v: Velocity, same shape.
        f: Force per mass, same shape; frozen in the step.
        u_next: Predicted displacement, same shape.
        v_next: Predicted velocity, same shape.
        dt: Time step.
        dx: Distance between nodes.
        c: Speed of waves, length per time.
        k: Damping, per time.
        scheme: As above.
        f_next: Force at the end of the step, for `trapezoidal` alone; None takes `f`.

    Returns:
        r1 in the unit of u and r2 in that of v, axes (..., inner node), two nodes less, float32 at
        least.

    Raises:
        ValueError: If shapes differ, there are fewer than 3 nodes, the scheme is unknown, or
            `f_next` comes with another scheme.
        TypeError: If a field is not real floating point.
    """
    check_choice("scheme", scheme, SCHEMES)
    if f_next is not None and scheme != "trapezoidal":
        raise ValueError(f"f_next is for scheme='trapezoidal', got scheme={scheme!r}.")
    u, v, f, u_next, v_next, f_last = _inner(
        u=u, v=v, f=f, u_next=u_next, v_next=v_next, f_next=f if f_next is None else f_next
    )

    def acceleration(u: Tensor, v: Tensor, f: Tensor) -> Tensor:
        wide = torch.nn.functional.pad(u, (1, 1))
        bend = (wide[..., :-2] - 2 * u + wide[..., 2:]) / dx**2
        return c**2 * bend - k * v + f

    if scheme == "rk4":
        u_rk, v_rk = rk4_step(lambda y: (y[1], acceleration(y[0], y[1], f)), (u, v), dt=dt)
        return u_rk - u_next, v_next - v_rk
    speed, rate = v, acceleration(u, v, f)
    if scheme == "semi_implicit":
        speed = v_next
    if scheme == "trapezoidal":
        speed, rate = (v + v_next) / 2, (rate + acceleration(u_next, v_next, f_last)) / 2
    return u + dt * speed - u_next, v_next - v - dt * rate


def _inner(**fields: Tensor) -> list[Tensor]:
    """The inner nodes of fields of one shape, in the working type."""
    shape = fields["u"].shape
    if not shape or shape[-1] < STENCIL:
        raise ValueError(f"a string needs at least {STENCIL} nodes, got shape {tuple(shape)}.")
    for name, field in fields.items():
        check_same_shape(fields["u"], field, names=("u", name))
    return [to_working_dtype(field, name=name)[..., 1:-1] for name, field in fields.items()]


def _moved(state: tuple[Tensor, ...], rates: tuple[Tensor, ...], step: float) -> tuple[Tensor, ...]:
    return tuple(part + step * rate for part, rate in zip(state, rates, strict=True))
