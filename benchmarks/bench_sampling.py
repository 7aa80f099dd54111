"""Stratified sampling of query points, beside a double loop over the blocks of a grid.

2048 points of a 64 x 64 grid, one set. The loop draws one point from each of 45 x 45 blocks and fills up with
points drawn from the rest, as such samplers are often written.
"""

import itertools
import math
from collections.abc import Callable

import torch
from _harness import Claim, compare, paired_ratio, record
from nops_losses import sample_queries
from torch import Tensor

SIDE = 64
QUERIES = 2048
CALLS = 20  # of the faster one, so that its time is well above that of the clock
BAR = 20


def double_loop() -> Tensor:
    """One point per block, then others until there are enough."""
    blocks = math.isqrt(QUERIES)
    edges = [block * SIDE // blocks for block in range(blocks + 1)]
    taken = torch.zeros(SIDE * SIDE, dtype=torch.bool)
    for top, bottom in itertools.pairwise(edges):
        for left, right in itertools.pairwise(edges):
            row = torch.randint(top, bottom, ())
            taken[row * SIDE + torch.randint(left, right, ())] = True
    rest = (~taken).nonzero()[:, 0]
    missing = QUERIES - int(taken.sum())
    taken[rest[torch.randperm(len(rest))[:missing]]] = True
    return taken.nonzero()[:, 0]


def ours(times: int) -> Callable[[], None]:
    """`times` sets of points."""

    def run() -> None:
        for _ in range(times):
            sample_queries(SIDE**2, QUERIES, strategy="stratified", grid_shape=(SIDE, SIDE))

    return run


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    assert len(double_loop()) == QUERIES
    claims: list[Claim] = [
        {
            "claim": "double loop over blocks / stratified sample_queries",
            "value": paired_ratio(double_loop, ours(CALLS), repeat=7) * CALLS,
            "bar": BAR,
            "kind": "at_least",
        }
    ]
    seconds = compare({"double loop": double_loop, "sample_queries": ours(CALLS)})
    seconds["sample_queries"] /= CALLS
    record("sampling", claims, {"grid": [SIDE, SIDE], "queries": QUERIES, "seconds": seconds})


if __name__ == "__main__":
    main()
