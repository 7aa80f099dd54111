"""Derivatives of a network's output at points, with a graph that a loss can go back through."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import to_working_dtype


def gradient(y: Float[Tensor, "n 1"], x: Float[Tensor, "n axis"]) -> Float[Tensor, "n axis"]:
    """∂y/∂x of each point, one backward pass; the graph is kept.

    Row i of `y` may depend on row i of `x` alone, as a network without batch statistics has it:
    the derivative is that of Σ y.

    Args:
        y: Output, axes (point, 1).
        x: The very points that `y` was computed from, axes (point, axis), with `requires_grad`.

    Returns:
        In the unit of y per unit of x, float32 at least, differentiable again.

    Raises:
        ValueError: If a shape does not fit, or `y` was not computed from this `x` with gradients on.
        TypeError: If `y` or `x` is not real floating point.
    """
    check_column(y, x, name="y", columns=1)
    found = _slope(y, x)
    if found is None:
        raise ValueError(
            "y was not computed from this x with gradients on: call x.requires_grad_() before the "
            "network, and give the tensor that went into it, not a copy or slice."
        )
    return found


def partial(
    y: Float[Tensor, "n 1"], x: Float[Tensor, "n axis"], *dims: int
) -> Float[Tensor, "n 1"]:
    """The derivative of `y` along the axes of `x` in turn; `partial(y, x, 0, 0)` is ∂²y/∂x₀².

    A backward pass for each of `dims`; the graph is kept. A derivative that no longer depends on
    `x` has the derivative 0.

    Args:
        y: Output, axes (point, 1); see `gradient`.
        x: The points that `y` was computed from, axes (point, axis).
        *dims: Columns of `x`, at least one; negative ones count from the last.

    Returns:
        Axes (point, 1), float32 at least.

    Raises:
        ValueError: As `gradient`; if no axis is named, or `x` has none of that number.
        TypeError: If `y` or `x` is not real floating point.
    """
    first, *others = _checked_dims(dims, x)
    found = gradient(y, x)[:, first, None]
    for dim in others:
        found = _again(found, x)[:, dim, None]
    return found


def laplacian(
    y: Float[Tensor, "n 1"], x: Float[Tensor, "n axis"], dims: Sequence[int] | None = None
) -> Float[Tensor, "n 1"]:
    """Σ ∂²y/∂xᵢ² over some axes; a backward pass, and one more for each axis.

    Args:
        y: Output, axes (point, 1); see `gradient`.
        x: The points that `y` was computed from, axes (point, axis).
        dims: Columns of `x`; None takes all.

    Returns:
        Axes (point, 1), float32 at least; the graph is kept.

    Raises:
        ValueError: As `partial`.
        TypeError: If `y` or `x` is not real floating point.
    """
    axes = _checked_dims(range(x.shape[-1]) if dims is None else dims, x)
    return laplacian_of(gradient(y, x), x, axes)


def laplacian_of(slope: Tensor, x: Tensor, dims: Sequence[int]) -> Tensor:
    """The Laplacian over `dims` of what has the gradient `slope`, [n, 1]."""
    parts = [_again(slope[:, dim, None], x)[:, dim, None] for dim in dims]
    return torch.stack(parts).sum(0)


def check_column(y: Tensor, x: Tensor, *, name: str, columns: int) -> None:
    """Raise unless `y` has this many columns and a row for each point of `x`."""
    if x.ndim != 2 or y.shape != (x.shape[0], columns):
        raise ValueError(
            f"{name} and the points need shapes (n, {columns}) and (n, axis), got "
            f"{tuple(y.shape)} and {tuple(x.shape)}."
        )
    for field, label in ((y, name), (x, "x")):
        to_working_dtype(field, name=label)


def _checked_dims(dims: Sequence[int], x: Tensor) -> list[int]:
    axes = x.shape[-1] if x.ndim else 0
    if not dims or not all(-axes <= dim < axes for dim in dims):
        raise ValueError(f"dims name columns of x, which has {axes}; got {tuple(dims)}.")
    return list(dims)


def _slope(y: Tensor, x: Tensor) -> Tensor | None:
    """The gradient of Σ y, None where `y` does not depend on `x`."""
    if not (y.requires_grad and x.requires_grad):
        return None
    (found,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True, allow_unused=True)
    return None if found is None else to_working_dtype(found, name="gradient")


def _again(slope: Tensor, x: Tensor) -> Tensor:
    found = _slope(slope, x)
    return torch.zeros_like(x) if found is None else found
