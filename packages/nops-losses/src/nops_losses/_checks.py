"""What every loss asks of its tensors: one shape, a floating type, enough axes."""

import torch
from torch import Tensor


def check_same_shape(pred: Tensor, target: Tensor) -> None:
    """Raise unless both have one shape: broadcasting would hide a lost axis."""
    if pred.shape != target.shape:
        raise ValueError(
            f"pred and target need one shape, got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}; broadcasting would hide a lost axis."
        )


def check_axes(field: Tensor, *, name: str, spatial_dims: int) -> None:
    """Raise unless `field` can be read as (..., channel, *grid) with `spatial_dims` grid axes."""
    if spatial_dims < 1:
        raise ValueError(f"spatial_dims needs at least 1, got {spatial_dims}.")
    if field.ndim < spatial_dims + 1:
        raise ValueError(
            f"{name} has shape {tuple(field.shape)}, but (..., channel, *grid) with "
            f"spatial_dims={spatial_dims} needs at least {spatial_dims + 1} axes; "
            f"pass spatial_dims for another number of grid axes."
        )


def to_working_dtype(field: Tensor, *, name: str) -> Tensor:
    """`field` in float64 if it is, else in float32; integer and complex fields are refused."""
    if not field.is_floating_point():
        raise TypeError(f"{name} must be a real floating-point tensor, got {field.dtype}.")
    return field.to(torch.promote_types(field.dtype, torch.float32))
