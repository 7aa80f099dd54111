"""What the sampling of query points refuses."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nops_losses._points import checked_grid

MAX_DIMS = 3  # of scattered points: 16 bits of each coordinate have to fit one number


def check_counts(**counts: int) -> None:
    """Raise unless each is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")


def check_places(
    grid_shape: Sequence[int] | None,
    positions: Tensor | None,
    *,
    points: int,
    batch: int,
    strategy: str,
) -> None:
    """Raise unless grid and positions, where given, have as many points as there are.

    Raises:
        ValueError: Also if a strategy that needs one of them has neither.
    """
    if grid_shape is not None:
        checked_grid(grid_shape, num_points=points)
    if positions is not None:
        _check_positions(positions, points, batch)
    if strategy == "stratified" and grid_shape is None and positions is None:
        raise ValueError(
            f"stratified sampling of {points} points needs to know where they are: give grid_shape "
            "or positions."
        )


def _check_positions(positions: Tensor, points: int, batch: int) -> None:
    expected = ((points,), (batch, points))
    if positions.shape[:-1] not in expected or not 1 <= positions.shape[-1] <= MAX_DIMS:
        raise ValueError(
            f"positions have axes (point, dim) or (sample, point, dim) with {points} points, {batch} "
            f"sample(s) and 1 to {MAX_DIMS} coordinates; got shape {tuple(positions.shape)}."
        )


def check_importance(
    importance: Tensor | None, floor: float, points: int, batch: int, strategy: str
) -> None:
    """Raise unless importance is there exactly when it is used, and fits the points."""
    if (importance is None) == (strategy == "importance"):
        there = "without" if importance is None else "with"
        raise ValueError(
            f"strategy={strategy!r} came {there} importance; give both strategy='importance' and one "
            "weight per point, or neither."
        )
    if importance is not None and importance.shape not in ((points,), (batch, points)):
        raise ValueError(
            f"importance has axes (point) or (sample, point), ({points}) or ({batch}, {points}); got "
            f"shape {tuple(importance.shape)}."
        )
    if not 0 <= floor <= 1:
        raise ValueError(f"importance_floor must be within [0, 1], got {floor}.")


def check_weights(weights: Tensor, *, floor: float, queries: int) -> None:
    """Raise unless weights [B, N] can be turned into chances; the host waits for the device, once.

    Raises:
        ValueError: If a sample has a weight that is negative or not finite, or at floor 0 fewer positive
            ones than queries.
    """
    infinite = ~weights.isfinite().all(-1)
    negative = (weights < 0).any(-1)
    positive = (weights > 0).sum(-1)
    facts = torch.stack([infinite.long(), negative.long(), positive], dim=-1).tolist()
    for sample, (is_infinite, is_negative, num_positive) in enumerate(facts):
        if is_infinite or is_negative:
            what = "not finite" if is_infinite else "negative"
            raise ValueError(f"importance of sample {sample} holds a weight that is {what}.")
        if floor == 0 and num_positive < queries:
            raise ValueError(
                f"importance of sample {sample} is positive for {num_positive} of "
                f"{weights.shape[-1]} points, too few for {queries} queries at importance_floor=0."
            )
