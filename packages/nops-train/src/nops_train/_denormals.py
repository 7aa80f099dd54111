"""Numbers below the smallest normal one, which some processors take many times as long for."""

import numpy as np
import torch

__all__ = ["flush_denormals"]


def flush_denormals() -> None:
    """Count such numbers as 0 in this thread, and in all that start after it.

    Threads of torch that there are already keep what they do, so this comes before the first computation.
    """
    for real in (np.float32, np.float64):
        np.finfo(
            real
        )  # older NumPy warns of a least number 0 where it first asks for it after this
    torch.set_flush_denormal(True)
