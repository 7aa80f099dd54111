"""What losses share: checks of shape and type, masks, the last mean."""

import torch
from torch import Tensor


def check_same_shape(
    pred: Tensor, target: Tensor, *, names: tuple[str, str] = ("pred", "target")
) -> None:
    """Raise unless both have one shape: broadcasting would hide a lost axis."""
    if pred.shape != target.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} need one shape, got {tuple(pred.shape)} and "
            f"{tuple(target.shape)}; broadcasting would hide a lost axis."
        )


def check_pair(pred: Tensor, target: Tensor, *, spatial_dims: int) -> None:
    """Raise unless both have one shape that can be read as (..., channel, *grid)."""
    check_axes(pred, name="pred", spatial_dims=spatial_dims)
    if pred.shape != target.shape:
        raise ValueError(
            f"pred and target need one shape, got {tuple(pred.shape)} and {tuple(target.shape)}, "
            f"read as (..., channel, *grid) with spatial_dims={spatial_dims}; broadcasting would "
            f"hide a lost axis. {_other_grid(pred, spatial_dims)}"
        )


def check_axes(field: Tensor, *, name: str, spatial_dims: int) -> None:
    """Raise unless `field` can be read as (..., channel, *grid) with `spatial_dims` grid axes."""
    if spatial_dims < 1:
        raise ValueError(f"spatial_dims needs at least 1, got {spatial_dims}.")
    if field.ndim < spatial_dims + 1:
        raise ValueError(
            f"{name} has shape {tuple(field.shape)}, but (..., channel, *grid) with "
            f"spatial_dims={spatial_dims} needs at least {spatial_dims + 1} axes; "
            f"{_other_grid(field, spatial_dims)}"
        )


def _other_grid(field: Tensor, spatial_dims: int) -> str:
    guess = 3 if field.ndim > 3 and spatial_dims != 3 else max(field.ndim - 1, 1)
    return (
        "" if guess == spatial_dims else f"If the grid has {guess} axes, pass spatial_dims={guess}."
    )


def to_working_dtype(field: Tensor, *, name: str) -> Tensor:
    """`field` in float64 if it is, else in float32; integer and complex fields are refused."""
    if not field.is_floating_point():
        raise TypeError(f"{name} must be a real floating-point tensor, got {field.dtype}.")
    return field.to(torch.promote_types(field.dtype, torch.float32))


def read_rows(values: Tensor, *, name: str) -> Tensor:
    """`values` in the working type; ValueError unless their axes are (sample, feature)."""
    if values.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(values.shape)}, expected (sample, feature).")
    return to_working_dtype(values, name=name)


def read_row_pair(pred: Tensor, target: Tensor, *, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Both in the working type; ValueError unless both have one shape (sample, feature)."""
    check_same_shape(pred, target, names=names)
    return read_rows(pred, name=names[0]), read_rows(target, name=names[1])


def mask_over(mask: Tensor, field: Tensor) -> Tensor:
    """`mask` with the field's shape; ValueError where it does not broadcast."""
    try:
        return mask.expand(field.shape)
    except RuntimeError as error:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to the field's shape "
            f"{tuple(field.shape)}."
        ) from error


def masked_mean(values: Tensor, keep: Tensor | None, axes: tuple[int, ...]) -> Tensor:
    """Mean over the axes of the cells kept, 0 where there is none."""
    if keep is None:
        return values.mean(axes)
    return values.where(keep, 0.0).sum(axes) / keep.sum(axes).clamp(min=1)


def reduce(value: Tensor, reduction: str) -> Tensor:
    """The mean of `value` for "mean", `value` for "none"."""
    if reduction == "mean":
        return value.mean()
    if reduction == "none":
        return value
    raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}.")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}.")
