"""Tables of codes, one class per way that they move."""

import abc

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from nops_models._codebook_rules import EMA, Gradient, SimVQ, Update

COUNT_DECAY = 0.99  # of the counts of a table that has no use for them itself


class Codebook(nn.Module, abc.ABC):
    """Codes, and moving counts of the latents that choose each.

    Args:
        start: The codes at the start, (code, dim).
        unit: Codes have length 1.
        decay: Of the counts, per update.
    """

    counts: Tensor

    def __init__(self, start: Tensor, *, unit: bool, decay: float) -> None:
        super().__init__()
        self.unit, self.decay = unit, decay
        self.register_buffer("counts", torch.ones(len(start)))

    @abc.abstractmethod
    def codes(self) -> Float[Tensor, "code dim"]:
        """The table, with its gradient if it has one."""

    @abc.abstractmethod
    def move(self, counts: Float[Tensor, "code"], totals: Float[Tensor, "code dim"]) -> None:
        """Take in how many latents chose each code, and their sums."""

    def move_counts(self, counts: Tensor) -> None:
        """N ← d·N + (1 − d)·n."""
        self.counts.lerp_(counts.to(self.counts), 1 - self.decay)


class MovingCodebook(Codebook):
    """Moving means: see `EMA`."""

    table: Tensor
    sums: Tensor

    def __init__(self, start: Tensor, *, unit: bool, update: EMA) -> None:
        super().__init__(start, unit=unit, decay=update.decay)
        self.eps = update.eps
        self.register_buffer("table", start)
        self.register_buffer("sums", start.clone())

    def codes(self) -> Float[Tensor, "code dim"]:
        """The table; it has no gradient."""
        return self.table

    def begin(self, codes: Tensor, counts: Tensor) -> None:
        """Start anew from codes and the counts of their cells."""
        self.replace(torch.ones_like(self.counts, dtype=torch.bool), codes, counts)

    def move(self, counts: Float[Tensor, "code"], totals: Float[Tensor, "code dim"]) -> None:
        """M ← d·m + (1 − d)·Σz; the table is m / N̂."""
        self.move_counts(counts)
        self.sums.lerp_(totals.to(self.sums), 1 - self.decay)
        size = self.counts.sum()
        smoothed = (self.counts + self.eps) / (size + len(self.counts) * self.eps) * size
        means = self.sums / smoothed[:, None]
        self.table.copy_(normalize(means, dim=-1) if self.unit else means)

    def replace(self, which: Tensor, codes: Tensor, counts: Tensor | float) -> None:
        """Give some codes, (code,) bool or positions, new values and counts."""
        self.table[which] = codes.to(self.table)
        self.counts[which] = counts
        self.sums[which] = self.table[which] * self.counts[which][:, None]


class TrainedCodebook(Codebook):
    """Parameters: see `Gradient`."""

    def __init__(self, start: Tensor, *, unit: bool) -> None:
        super().__init__(start, unit=unit, decay=COUNT_DECAY)
        self.table = nn.Parameter(start)

    def codes(self) -> Float[Tensor, "code dim"]:
        """The parameters, at length 1 where that is asked for."""
        return normalize(self.table, dim=-1) if self.unit else self.table

    def move(self, counts: Float[Tensor, "code"], totals: Float[Tensor, "code dim"]) -> None:
        """Only the counts: the optimizer moves the codes."""
        self.move_counts(counts)


class MappedCodebook(Codebook):
    """A fixed table times a learned matrix: see `SimVQ`."""

    table: Tensor

    def __init__(self, start: Tensor, *, unit: bool) -> None:
        super().__init__(start, unit=unit, decay=COUNT_DECAY)
        self.register_buffer("table", start)
        self.matrix = nn.Parameter(torch.eye(start.shape[1]))

    def codes(self) -> Float[Tensor, "code dim"]:
        """The product, at length 1 where that is asked for."""
        codes = self.table @ self.matrix
        return normalize(codes, dim=-1) if self.unit else codes

    def move(self, counts: Float[Tensor, "code"], totals: Float[Tensor, "code dim"]) -> None:
        """Only the counts: the optimizer moves the matrix."""
        self.move_counts(counts)


def make_codebook(update: Update, *, num_codes: int, dim: int, unit: bool, seed: int) -> Codebook:
    """A table of standard normal codes, of length 1 for `unit`, that moves as `update` says."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(num_codes, dim, generator=generator)
    start = normalize(start, dim=-1) if unit else start
    if isinstance(update, EMA):
        return MovingCodebook(start, unit=unit, update=update)
    kind = {Gradient: TrainedCodebook, SimVQ: MappedCodebook}[type(update)]
    return kind(start, unit=unit)
