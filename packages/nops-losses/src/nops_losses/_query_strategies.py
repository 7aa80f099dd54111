"""How query points are drawn: uniformly, one from each stratum of a curve, or by importance."""

from collections.abc import Callable

import torch
from torch import Tensor

Rand = Callable[..., Tensor]  # rand(*shape): float64 in [0, 1)


def draw_uniform(rand: Rand, *, batch: int, points: int, queries: int) -> Tensor:
    """The indices of the smallest of random keys, [B, Q], no two alike."""
    return rand(batch, points).argsort(-1)[:, :queries]


def draw_stratified(rand: Rand, order: Tensor, *, batch: int, queries: int) -> Tensor:
    """One index of each stratum of a curve that starts at a random place, [B, Q].

    Args:
        rand: Source of the draws.
        order: Indices of the points along the curve, [N] or [B, N].
        batch: Samples B.
        queries: Strata Q, fewer than N.
    """
    points = order.shape[-1]
    draws = rand(batch, queries + 1)
    start = (draws[:, :1] * points).long()
    places = stratum_places(start, draws[:, 1:], points=points)
    return order[places] if order.ndim == 1 else order.gather(-1, places)


def stratum_places(start: Tensor, within: Tensor, *, points: int) -> Tensor:
    """Places on the curve, one in each stratum ⌊iN/Q⌋ ... ⌊(i+1)N/Q⌋ − 1 counted from `start`.

    Over all N starts each place lies once in each position of each stratum. A stratum of s places
    gives each of them the chance 1/s, so the chance of a place is (1/N)·Σ_i s_i·(1/s_i) = Q/N.

    Args:
        start: First place, [B, 1] int64.
        within: Uniform numbers in [0, 1), [B, Q] float64.
        points: N, not less than Q.
    """
    queries = within.shape[-1]
    edges = torch.arange(queries + 1, device=within.device) * points // queries
    sizes = edges.diff()
    return (start + edges[:-1] + (within * sizes).long()) % points


def draw_by_inclusion(rand: Rand, inclusion: Tensor, *, queries: int) -> Tensor:
    """Q indices of each sample, drawn systematically along a random permutation, [B, Q]."""
    permutation = rand(*inclusion.shape).argsort(-1)
    start = rand(inclusion.shape[0], 1)
    places = systematic_places(inclusion.gather(-1, permutation), start, queries=queries)
    return permutation.gather(-1, places)


def systematic_places(inclusion: Tensor, start: Tensor, *, queries: int) -> Tensor:
    """Where start, start + 1, … fall among intervals of length π laid end to end, [B, Q], rising.

    A place is hit with the chance of its length. As no length is above 1, none is hit twice; where
    rounding of the sums would say otherwise, the next place is taken.

    Args:
        inclusion: π of each place, [B, N] float64, each at most 1, their sum Q.
        start: Uniform numbers in [0, 1), [B, 1] float64.
        queries: Q.
    """
    steps = torch.arange(queries, device=inclusion.device)
    ends = inclusion.cumsum(-1)
    hits = torch.searchsorted(ends, start + steps, right=True)
    distinct = (hits - steps).cummax(-1).values + steps
    return distinct.minimum(inclusion.shape[-1] - queries + steps)


def inclusion_of(shares: Tensor, *, queries: int) -> Tensor:
    """π = min(1, c·p) with the one factor c that makes them sum to Q, [B, N] float64.

    Sorted from the largest down, the first k are certain and the rest share what is left:
    c = (Q − k) / Σ_{i ≥ k} p_i, for the smallest k at which no further one exceeds 1.

    Args:
        shares: p, [B, N] float64, not negative, at least Q of each sample positive.
        queries: Q, fewer than N.
    """
    rising = shares.sort(-1).values
    largest = rising.flip(-1)[:, :queries]
    remaining = rising.cumsum(-1).flip(-1)[:, :queries]
    left = queries - torch.arange(queries, device=shares.device)
    certain = (left * largest > remaining).long().cumprod(-1).sum(-1, keepdim=True)
    factor = left[certain] / remaining.gather(-1, certain)
    return (factor * shares).clamp(max=1.0)
