"""The nearest code of each vector."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SCORES = 2**20  # at a time on a CPU: what stays in its cache
MANY_SCORES = 2**26  # on a device


@torch.no_grad()
def nearest(rows: Float[Tensor, "row dim"], codes: Float[Tensor, "code dim"]) -> Int[Tensor, "row"]:
    """Index of the code at the least Euclidean distance; the lowest of several.

    Both are moved by a common offset of the codes first, so that it costs no digits.
    """
    centre = _offset(codes)
    around = codes - centre
    half_squares = around.square().sum(1) / 2  # ‖z − e‖²/2 = ‖z‖²/2 + (‖e‖²/2 − z·e)
    size = max((SCORES if rows.device.type == "cpu" else MANY_SCORES) // len(codes), 1)
    found = [
        torch.addmm(half_squares, part - centre, around.mT, alpha=-1).argmin(1)
        for part in rows.split(size)
    ]
    return torch.cat(found)


def _offset(codes: Tensor) -> Tensor:
    """The codes' mean on a lattice as coarse as their spread: moving by it adds no rounding, so that equal
    distances stay equal.
    """
    mean = codes.mean(0)
    spread = (codes - mean).abs().amax()
    cell = torch.where(spread > 0, torch.exp2(spread.log2().ceil()), 1.0)
    return torch.where(spread > 0, (mean / cell).round() * cell, mean)


def sums_by_code(
    rows: Float[Tensor, "row dim"],
    index: Int[Tensor, "row"],
    keep: Bool[Tensor, "row"] | None,
    *,
    num_codes: int,
) -> Float[Tensor, "code count_and_sums"]:
    """How many rows each code has, and their sum, side by side; rows that are not kept count for none."""
    sums = rows.new_zeros(num_codes, 1 + rows.shape[1])
    ones = rows.new_ones(len(rows)) if keep is None else keep.to(rows.dtype)
    sums[:, 0].index_add_(0, index, ones)
    sums[:, 1:].index_add_(0, index, rows if keep is None else rows * ones[:, None])
    return sums
