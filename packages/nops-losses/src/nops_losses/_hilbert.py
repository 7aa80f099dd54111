"""Points in the order of a Hilbert curve: neighbours on the curve are neighbours in space."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from nops_losses._spectrum_plan import may_cache

NUM_ORDERS = 32  # grids whose order is kept
QUANTISED_BITS = 16  # of each coordinate of scattered points
MAX_BITS = 62  # of a rank


def grid_order(shape: Sequence[int], device: torch.device) -> Tensor:
    """Flat row-major indices of a grid's points along the curve, [N] int64; the 32 last are kept.

    One axis keeps its natural order. More axes take the curve through the enclosing cube whose side
    is a power of two, and leave out what is not on the grid.
    """
    like = torch.empty((), device=device)
    return (_cached_grid_order if may_cache(like) else _grid_order)(tuple(shape), device)


def scattered_order(positions: Tensor) -> Tensor:
    """Indices of points along the curve, [..., N] int64, for coordinates [..., N, d], d = 1 ... 3.

    Coordinates are quantised to 16 bits over the largest extent, the same length on all axes.
    """
    values = positions.detach().double()
    low, high = values.amin(-2, keepdim=True), values.amax(-2, keepdim=True)
    extent = (high - low).amax(-1, keepdim=True)
    fraction = (values - low) / extent.where(extent > 0, 1.0)
    cells = (fraction * (2**QUANTISED_BITS - 1)).long()
    return hilbert_rank(cells, bits=QUANTISED_BITS).argsort(dim=-1, stable=True)


def hilbert_rank(cells: Tensor, *, bits: int) -> Tensor:
    """Place on the Hilbert curve of cells [..., d], int64 within [0, 2^bits): [...] int64.

    Source:
        Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707 (2004).
    """
    axes = list(cells.unbind(-1))
    assert bits * len(axes) <= MAX_BITS
    if len(axes) == 1:
        return axes[0]
    return _interleave(_gray_coded(_unrotated(axes, bits), bits), bits)


@lru_cache(maxsize=NUM_ORDERS)
def _cached_grid_order(shape: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # an inference tensor could not serve a later backward pass
        return _grid_order(shape, device)


def _grid_order(shape: tuple[int, ...], device: torch.device) -> Tensor:
    axes = [torch.arange(size, device="cpu") for size in shape]
    cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    bits = max((max(shape) - 1).bit_length(), 1)
    return hilbert_rank(cells, bits=bits).argsort().to(device)


def _unrotated(axes: list[Tensor], bits: int) -> list[Tensor]:
    """Undo, from the highest bit down, the turns of the curve in each sub-cube."""
    for bit in range(bits - 1, 0, -1):
        below = (1 << bit) - 1
        for i in range(len(axes)):
            upper = (axes[i] >> bit & 1).bool()
            swap = ((axes[0] ^ axes[i]) & below).masked_fill(upper, 0)
            axes[0] = axes[0] ^ swap.masked_fill(upper, below)
            axes[i] = axes[i] ^ swap
    return axes


def _gray_coded(axes: list[Tensor], bits: int) -> list[Tensor]:
    for i in range(1, len(axes)):
        axes[i] = axes[i] ^ axes[i - 1]
    flip = torch.zeros_like(axes[0])
    for bit in range(bits - 1, 0, -1):
        flip = flip ^ (axes[-1] >> bit & 1) * ((1 << bit) - 1)
    return [axis ^ flip for axis in axes]


def _interleave(axes: list[Tensor], bits: int) -> Tensor:
    rank = torch.zeros_like(axes[0])
    for bit in range(bits - 1, -1, -1):
        for axis in axes:
            rank = rank << 1 | axis >> bit & 1
    return rank
