"""Finding values that are not finite, at the price of one sum where all are."""

import torch


def first_nonfinite(values: torch.Tensor) -> tuple[int, ...] | None:
    """Index of the first NaN or infinity in memory order, None where all values are finite.

    A sum is taken first: it is finite unless a value is not (or the sum overflows, and then the
    values are looked at one by one).
    """
    if bool(torch.isfinite(values.sum())):
        return None
    bad = ~torch.isfinite(values)
    if not bool(bad.any()):
        return None
    return tuple(int(i) for i in torch.nonzero(bad)[0])
