"""How much of a table of codes is used."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CodebookUsage:
    """Use of K codes, from how often each was chosen.

    Attributes:
        utilisation: Share of codes that were chosen at all.
        entropy: H of the shares, in nats; ln K where all are chosen equally often.
        perplexity: e to the entropy: as many codes, used equally, would say as much.
        dead: Codes that were never chosen.
        counts: How often each was, (code,), int64.
    """

    utilisation: float
    entropy: float
    perplexity: float
    dead: int
    counts: Int[Tensor, "code"]

    @property
    def bits(self) -> float:
        """The entropy in bits."""
        return self.entropy / math.log(2)


def codebook_usage(indices: Int[Tensor, "..."], *, num_codes: int) -> CodebookUsage:
    """Use of a table by the indices of samples that it was not trained on.

    Measure it on held-out samples: on those that a run was stopped by, it flatters.

    Args:
        indices: Of codes, any shape, from 0 to `num_codes` − 1; −1 is none, and is not counted.
        num_codes: K.

    Returns:
        The figures; entropy and perplexity are NaN where nothing was counted.

    Raises:
        ValueError: If an index is outside of the table, or there is no code.
        TypeError: If the indices are not integers.
    """
    return _usage(_count(indices, num_codes))


class CodebookMeter:
    """Counts codes batch by batch, and over all ranks of a `torch.distributed` group at the end.

    Args:
        num_codes: K.

    Attributes:
        counts: How often each code was chosen on this rank, (code,), int64.

    Raises:
        ValueError: If there is no code.
    """

    def __init__(self, num_codes: int) -> None:
        if num_codes < 1:
            raise ValueError(f"num_codes must be at least 1, got {num_codes}.")
        self.counts = torch.zeros(num_codes, dtype=torch.int64)

    def update(self, indices: Int[Tensor, "..."]) -> None:
        """Count a batch, as `codebook_usage` does; the counts move to its device.

        Raises:
            ValueError: If an index is outside of the table.
            TypeError: If the indices are not integers.
        """
        self.counts = self.counts.to(indices.device) + _count(indices, len(self.counts))

    def compute(self) -> CodebookUsage:
        """Use of the table by all that was counted; all ranks of a group have to ask together."""
        counts = self.counts.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        return _usage(counts)

    def reset(self) -> None:
        """Forget all that was counted."""
        self.counts.zero_()


def _count(indices: Tensor, num_codes: int) -> Tensor:
    if num_codes < 1:
        raise ValueError(f"num_codes must be at least 1, got {num_codes}.")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TypeError(f"indices must be integers, got {indices.dtype}.")
    given = indices.reshape(-1).long()
    if len(given) and not -1 <= given.min() <= given.max() < num_codes:
        raise ValueError(
            f"indices lie within {given.min()} and {given.max()}, expected 0 to {num_codes - 1} or -1."
        )
    return torch.bincount(given + 1, minlength=num_codes + 1)[1:]


def _usage(counts: Tensor) -> CodebookUsage:
    shares = counts.double() / counts.sum()
    entropy = torch.special.entr(shares).sum().item()
    return CodebookUsage(
        utilisation=(counts > 0).double().mean().item(),
        entropy=entropy,
        perplexity=math.exp(entropy),
        dead=int((counts == 0).sum()),
        counts=counts,
    )
