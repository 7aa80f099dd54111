"""The difference of two fields in their spatial mean and spread."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from nops_losses._checks import check_pair, mask_over, masked_mean, reduce, to_working_dtype
from nops_losses._field import safe_root


def mean_std_penalty(
    pred: Float[Tensor, "*axes"],
    target: Float[Tensor, "*axes"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    spatial_dims: int = 2,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """|⟨p⟩ − ⟨t⟩| + |σ(p) − σ(t)| for each frame and channel, then averaged.

    ⟨⟩ is the mean over space, σ = √⟨(u − ⟨u⟩)²⟩ the population's standard deviation. Blind to where
    things are: a prediction with its cells in another order scores 0.

    Args:
        pred: Predicted field p, axes (..., channel, *grid), any unit; channels add up, so give
            them one unit, such as that of normalised fields.
        target: True field t, same shape and unit; it gets no gradient.
        mask: True where a cell counts; broadcasts to the fields' shape (grid axes, or more). None
            counts all cells. A frame without any has the penalty 0.
        spatial_dims: Number of grid axes at the end.
        reduction: "mean" averages over leading axes and channels, "none" keeps both.

    Returns:
        In the unit, at least 0, float32 (float64 for float64 fields). The gradient is finite
        everywhere; a constant frame gets that of its mean alone.

    Raises:
        ValueError: If the shapes differ, an axis is missing, or `reduction` is unknown.
        TypeError: If a field is not real floating point.

    Source:
        The regularisation of mean and deviation of Kohl, Chen and Thuerey, arXiv 2309.01745. Theirs
        divides the deviation's squares by one cell less, so its second part is √(n/(n−1)) of ours
        on n cells.
    """
    check_pair(pred, target, spatial_dims=spatial_dims)
    target = to_working_dtype(target.detach(), name="target")
    pred = to_working_dtype(pred, name="pred")
    keep = None if mask is None else mask_over(mask, target)
    axes = tuple(range(-spatial_dims, 0))
    pairs = zip(_moments(pred, keep, axes), _moments(target, keep, axes), strict=True)
    mean, spread = ((p - t).abs() for p, t in pairs)
    return reduce(mean + spread, reduction)


def _moments(field: Tensor, keep: Tensor | None, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the axes of the cells kept."""
    if keep is not None:
        field = field.where(keep, 0.0)
    mean = masked_mean(field, keep, axes)
    deviation = field - mean[(..., *(None,) * len(axes))]
    return mean, safe_root(masked_mean(deviation.square(), keep, axes))
