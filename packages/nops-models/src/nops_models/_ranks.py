"""What several processes of one `torch.distributed` group do together; alone, nothing is sent."""

import torch
from torch import Tensor


def in_group() -> bool:
    """Whether this process is one of a group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def gather_sizes(rows: Tensor) -> list[int]:
    """Number of rows on each rank."""
    if not in_group():
        return [len(rows)]
    mine = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(sizes, mine)
    return torch.cat(sizes).tolist()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the ranks, on each of them."""
    if not in_group():
        return rows
    sizes = gather_sizes(rows)
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def draw_rows(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most `count` rows, drawn without repeats from those of all ranks; the same on each of them.

    Args:
        rows: This rank's, (row, feature).
        count: How many, if there are as many.
        generator: On the CPU, in the same state on every rank.
    """
    sizes = gather_sizes(rows)
    drawn = torch.randperm(sum(sizes), generator=generator)[:count].to(rows.device)
    if not in_group():
        return rows[drawn]
    place = drawn - sum(sizes[: torch.distributed.get_rank()])
    mine = (place >= 0) & (place < len(rows))
    found = rows.new_zeros(len(drawn), *rows.shape[1:])
    found[mine] = rows[place[mine]]
    torch.distributed.all_reduce(found)
    return found


def from_first(*tensors: Tensor) -> None:
    """Overwrite each tensor with that of rank 0."""
    if in_group():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)
