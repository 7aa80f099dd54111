"""Query points: a few of all points, drawn anew for each sample, with their exact chances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nops_losses._checks import check_choice
from nops_losses._hilbert import grid_order, scattered_order
from nops_losses._query_checks import check_counts, check_importance, check_places, check_weights
from nops_losses._query_strategies import (
    Rand,
    draw_by_inclusion,
    draw_stratified,
    draw_uniform,
    inclusion_of,
)

Strategy = Literal["uniform", "stratified", "importance"]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class QuerySample:
    """The points drawn for each sample of a batch.

    Attributes:
        indices: Indices of the points, (sample, query), rising and without repeats in each sample.
        inclusion: Chance of each of them to be drawn, the same axes, float64, dimensionless.
        num_points: N, how many points there are to draw from.
    """

    indices: Int64[Tensor, "sample query"]
    inclusion: Float[Tensor, "sample query"]
    num_points: int

    def gather(
        self, tensor: Float[Tensor, "..."] | Int64[Tensor, "..."]
    ) -> Float[Tensor, "sample query channel"] | Int64[Tensor, "sample query channel"]:
        """What stands at the points drawn.

        Args:
            tensor: Axes (sample, point, channel), or (point, channel) for what all samples share.

        Returns:
            Axes (sample, query, channel).

        Raises:
            ValueError: If the samples or the points are not as many as here.
        """
        expected = (len(self.indices), self.num_points)[3 - tensor.ndim :]
        if tensor.ndim not in (2, 3) or tensor.shape[:-1] != expected:
            raise ValueError(
                f"got shape {tuple(tensor.shape)} for a sample of {self.indices.shape[0]} x "
                f"{self.indices.shape[1]} of {self.num_points} points: expected (sample, point, "
                "channel) or (point, channel). A batch needs its size as batch_size."
            )
        if tensor.ndim == 2:
            return tensor[self.indices]
        return tensor.gather(1, self.indices[..., None].expand(-1, -1, tensor.shape[-1]))

    def mean(self, values: Float[Tensor, "sample query *rest"]) -> Float[Tensor, "sample *rest"]:
        """Σ v / (N·π) over the points drawn: in expectation the mean over all N points.

        Args:
            values: One value for each point drawn, further axes may follow.

        Returns:
            One value for each sample, in the unit and type of `values`.

        Raises:
            ValueError: If the values are not as many as the points drawn.
        """
        if values.shape[:2] != self.indices.shape:
            raise ValueError(
                f"values of shape {tuple(values.shape)} do not fit {self.indices.shape[0]} x "
                f"{self.indices.shape[1]} points drawn."
            )
        factor = (1.0 / (self.num_points * self.inclusion)).to(values.dtype)
        return (values * factor[(..., *(None,) * (values.ndim - 2))]).sum(1)


def sample_queries(
    num_points: int,
    num_queries: int,
    *,
    batch_size: int = 1,
    strategy: Strategy = "uniform",
    grid_shape: Sequence[int] | None = None,
    positions: Float[Tensor, "... point dim"] | None = None,
    importance: Float[Tensor, "... point"] | None = None,
    importance_floor: float = 0.1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> QuerySample:
    """Draw Q of N points for each sample of a batch, by one of three rules.

    - "uniform": any Q points, each set as likely as any other.
    - "stratified": the points are put on a curve (one axis: as they come; a grid: the Hilbert curve of
      the enclosing power-of-two grid; scattered points: that of their coordinates in 16 bits). The curve
      starts at a random place, is cut into Q pieces whose lengths differ by one at most, and each gives
      one point. Evenly spread, and the inclusion is Q/N for each point exactly.
    - "importance": with p = (1 − f)·w/Σw + f/N the inclusion is min(1, c·p), c such that they sum to Q;
      drawn systematically along a random permutation.

    The draws of one sample depend on each other; those of different samples do not.

    Args:
        num_points: N.
        num_queries: Q; from N on all points are returned, in order.
        batch_size: Samples, each with points of its own.
        strategy: "uniform", "stratified" or "importance".
        grid_shape: Points along each axis, row-major, the last axis fastest; for "stratified".
        positions: Coordinates for "stratified" without a grid, axes (point, dim) or (sample, point,
            dim), one to three of them in one unit of length.
        importance: w for "importance", axes (point) or (sample, point), any unit, 0 or more.
        importance_floor: f, share of the draws that ignores w, within [0, 1]. At 0 a point of weight 0
            is never drawn, and means leave it out.
        generator: Source of the draws, on any device; None takes torch's own.
        device: Where the sample shall be; None: where importance, positions or generator are.

    Returns:
        Indices in rising order and their inclusion. The host waits for the device only to check the
        values of `importance`.

    Raises:
        ValueError: If a count is below 1, shapes contradict each other, the strategy lacks what it needs,
            or importance is negative, not finite, or positive for fewer than Q points at floor 0.

    Source:
        Systematic sampling with unequal chances: Madow, Ann. Math. Stat. 20 (1949). Unbiased means:
        Horvitz and Thompson, J. Am. Stat. Assoc. 47 (1952).
    """
    check_choice("strategy", strategy, ("uniform", "stratified", "importance"))
    check_counts(num_points=num_points, num_queries=num_queries, batch_size=batch_size)
    check_places(grid_shape, positions, points=num_points, batch=batch_size, strategy=strategy)
    check_importance(importance, importance_floor, num_points, batch_size, strategy)
    place = _device(device, importance, positions, generator)
    if num_queries >= num_points:
        return _all_points(num_points, batch_size, place)
    rand = _source(generator, place)
    if importance is not None:
        weights = importance.detach().to(place, torch.float64).expand(batch_size, num_points)
        return _by_importance(rand, weights, importance_floor, num_queries)
    if strategy == "stratified":
        order = _order(grid_shape, positions, place)
        drawn = draw_stratified(rand, order, batch=batch_size, queries=num_queries)
    else:
        drawn = draw_uniform(rand, batch=batch_size, points=num_points, queries=num_queries)
    inclusion = torch.full_like(drawn, num_queries / num_points, dtype=torch.float64)
    return QuerySample(indices=drawn.sort(-1).values, inclusion=inclusion, num_points=num_points)


def _device(
    device: torch.device | str | None,
    importance: Tensor | None,
    positions: Tensor | None,
    generator: torch.Generator | None,
) -> torch.device:
    """The device asked for, else that of what was given, with its number."""
    for given in (importance, positions, generator):
        if device is None and given is not None:
            device = given.device
    return torch.empty(0, device=device or "cpu").device


def _source(generator: torch.Generator | None, device: torch.device) -> Rand:
    """Uniform float64 numbers, drawn where the generator lives."""
    origin = device if generator is None else generator.device

    def rand(*shape: int) -> Tensor:
        drawn = torch.rand(*shape, dtype=torch.float64, device=origin, generator=generator)
        return drawn.to(device, non_blocking=True)

    return rand


def _all_points(points: int, batch: int, device: torch.device) -> QuerySample:
    indices = torch.arange(points, device=device).expand(batch, points)
    inclusion = torch.ones_like(indices, dtype=torch.float64)
    return QuerySample(indices=indices, inclusion=inclusion, num_points=points)


def _order(
    grid_shape: Sequence[int] | None, positions: Tensor | None, device: torch.device
) -> Tensor:
    if grid_shape is not None:
        return grid_order(grid_shape, device)
    assert positions is not None
    return scattered_order(positions.to(device))


def _by_importance(rand: Rand, weights: Tensor, floor: float, queries: int) -> QuerySample:
    check_weights(weights, floor=floor, queries=queries)
    points = weights.shape[-1]
    total = weights.sum(-1, keepdim=True)
    shares = (1 - floor) * weights / total.where(total > 0, 1.0) + floor / points
    chances = inclusion_of(shares, queries=queries)
    indices = draw_by_inclusion(rand, chances, queries=queries).sort(-1).values
    return QuerySample(indices=indices, inclusion=chances.gather(-1, indices), num_points=points)
