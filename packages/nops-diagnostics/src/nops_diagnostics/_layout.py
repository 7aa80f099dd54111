"""Axis conventions shared by every function of the package, checked in one place."""

import itertools
import math

from torch import Tensor, float64


def check_pair(pred: Tensor, target: Tensor, *, spatial_dims: int, leading: int = 0) -> None:
    """Raise unless both tensors have one shape with room for channel, space and leading axes.

    Args:
        pred: Prediction `[*leading, channel, *space]`.
        target: Reference, same shape.
        spatial_dims: Number of trailing axes that are space.
        leading: Least number of axes before the channel axis.

    Raises:
        ValueError: If the shapes differ, or have too few axes.
    """
    if pred.shape != target.shape:
        raise ValueError(
            f"pred and target need one shape, got {tuple(pred.shape)} and {tuple(target.shape)}; "
            "broadcasting would hide a lost axis."
        )
    check_axes("pred", pred, spatial_dims=spatial_dims, leading=leading)


def check_axes(name: str, field: Tensor, *, spatial_dims: int, leading: int = 0) -> None:
    """Raise unless `field` has at least `leading + 1 + spatial_dims` axes."""
    if spatial_dims < 1:
        raise ValueError(f"spatial_dims must be at least 1, got {spatial_dims}.")
    if field.ndim < leading + 1 + spatial_dims:
        raise ValueError(
            f"{name} has shape {tuple(field.shape)}; with spatial_dims={spatial_dims} it needs "
            f"{leading} leading axes, a channel axis and {spatial_dims} axes of space."
        )


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}.")


def space_axes(spatial_dims: int) -> tuple[int, ...]:
    """The trailing axes, as negative numbers: (-2, -1) in two dimensions."""
    return tuple(range(-spatial_dims, 0))


def num_cells(field: Tensor, *, spatial_dims: int) -> int:
    """Number of grid cells of one frame."""
    return math.prod(field.shape[-spatial_dims:])


def as_double(field: Tensor) -> Tensor:
    """`field` in float64, in which every sum of the package is taken."""
    return field.to(float64)


def per_channel(values: Tensor, beside: Tensor, *, spatial_dims: int) -> Tensor:
    """`values [..., channel]` in float64 with axes of length one for space, where `beside` lies."""
    values = values.to(beside.device, float64)
    return values.reshape(*values.shape, *(1,) * spatial_dims)


def pick_leads(num_steps: int, lead_times: tuple[int, ...] | None) -> tuple[int, ...]:
    """The requested 1-based lead times, all of them if None.

    Raises:
        ValueError: If a lead lies outside `1 ... num_steps`, or they do not increase.
    """
    if lead_times is None:
        return tuple(range(1, num_steps + 1))
    leads = tuple(lead_times)
    increasing = all(a < b for a, b in itertools.pairwise(leads))
    if not leads or not increasing or not 1 <= leads[0] <= leads[-1] <= num_steps:
        raise ValueError(
            f"lead_times={leads}: expected increasing steps between 1 (the first frame after the "
            f"initial one) and {num_steps} (the last frame given)."
        )
    return leads
