"""A periodic field on a coarser grid."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._spectral import check_shape, grid_dims


def coarsen(
    field: Float[Tensor, "*leading_and_grid"], *, shape: Sequence[int]
) -> Float[Tensor, "*leading_and_coarse_grid"]:
    """A periodic field on fewer points of the same domain, without the modes they cannot hold.

    Taking every second point would fold those modes onto others. The Nyquist mode of an even side goes
    too: there it stands for two. Fields without such modes keep their values where points coincide.

    Args:
        field: `[..., *grid]`, real, periodic in each axis of the grid, any unit.
        shape: Points per axis of the coarse grid, for the last axes; an axis that keeps its points is
            left as it is.

    Returns:
        `[..., *shape]`, in the field's unit and type.

    Raises:
        ValueError: If the grid has too few axes, or an axis fewer points than asked for.
    """
    shape = check_shape(shape)
    grid = tuple(field.shape[-len(shape) :])
    if len(grid) < len(shape) or any(new > old for new, old in zip(shape, grid, strict=True)):
        raise ValueError(f"shape {shape} is no coarser grid than {grid}, the field's")
    for axis, new in zip(grid_dims(shape), shape, strict=True):
        if field.shape[axis] > new:
            field = _coarsen_axis(field, axis, new)
    return field


def _coarsen_axis(field: Tensor, axis: int, new: int) -> Tensor:
    modes = torch.fft.rfft(field, dim=axis, norm="forward")
    kept = modes.narrow(axis, 0, (new + 1) // 2)  # those below half of the new number of points
    return torch.fft.irfft(kept, n=new, dim=axis, norm="forward")
