"""A table to start from: k-means of the first vectors."""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from nops_models._nearest import nearest, sums_by_code

JITTER = 1e-3  # of the vectors' spread, between repeats of one vector


def kmeans(
    rows: Float[Tensor, "row dim"],
    *,
    num_codes: int,
    iterations: int,
    unit: bool,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "code dim"], Float[Tensor, "code"]]:
    """Centres of the rows and how many rows each has, at least 1.

    Starts where greedy k-means++ does: each centre is the best of some rows, drawn in proportion to
    their squared distance from the centres before.

    Args:
        rows: At least one.
        num_codes: Centres; where there are fewer rows, slightly moved repeats of them, and a warning.
        iterations: Of Lloyd's algorithm.
        unit: Centres have length 1.
        generator: On the CPU.

    Returns:
        Centres `[code, dim]` and counts `[code]`, in the type of the rows.

    Source:
        Arthur and Vassilvitskii, SODA 2007.
    """
    if len(rows) < num_codes:
        warnings.warn(
            f"{len(rows)} vectors for the k-means start of {num_codes} codes: the rest are repeats, "
            "until revival replaces them. Larger batches, or fewer codes, start better.",
            stacklevel=2,
        )
        codes = _repeat(rows, num_codes, generator)
    else:
        codes = _spread(rows, num_codes, generator)
    counts = rows.new_ones(num_codes)
    for _ in range(iterations):
        counts, codes = _lloyd(rows, codes, unit=unit)
    return codes, counts.clamp(min=1)


def _lloyd(rows: Tensor, codes: Tensor, *, unit: bool) -> tuple[Tensor, Tensor]:
    codes = normalize(codes, dim=-1) if unit else codes
    sums = sums_by_code(rows, nearest(rows, codes), None, num_codes=len(codes))
    counts = sums[:, 0]
    means = sums[:, 1:] / counts.clamp(min=1)[:, None]
    codes = torch.where(counts[:, None] > 0, means, codes)  # an empty cell stays where it is
    return counts, normalize(codes, dim=-1) if unit else codes


def _repeat(rows: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    index = torch.arange(num_codes, device=rows.device) % len(rows)
    noise = torch.randn(num_codes, rows.shape[1], generator=generator).to(rows)
    noise[: len(rows)] = 0
    spread = rows.std(correction=0).clamp(min=torch.finfo(rows.dtype).tiny)
    return rows[index] + JITTER * spread * noise


def _spread(rows: Tensor, num_codes: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++ over centred rows."""
    around = rows - rows.mean(0)
    trials = 2 + int(math.log(num_codes))
    levels = torch.rand(num_codes, trials, generator=generator, dtype=torch.float64)
    levels = levels.to(rows.device)
    squares = around.square().sum(1)
    left = torch.full_like(squares, math.inf)
    chosen = []
    for level in levels:
        weights = left if chosen else torch.ones_like(left)
        tried = _draw(weights, level)
        apart = squares + squares[tried, None] - 2 * around[tried] @ around.mT
        nearer = torch.minimum(left, apart.clamp(min=0))
        best = nearer.sum(1).argmin()
        left = nearer[best]
        chosen.append(tried[best])
    return rows[torch.stack(chosen)]


def _draw(weights: Tensor, level: Tensor) -> Tensor:
    """Positions drawn in proportion to weights, by uniform levels in [0, 1)."""
    along = weights.double().cumsum(0)
    return torch.searchsorted(along, level * along[-1], right=True).clamp(max=len(weights) - 1)
