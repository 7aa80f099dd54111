"""Order statistics, several times faster on a CPU than a sort that keeps track of its indices."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class _Ordered(torch.autograd.Function):
    """Sorted values at some places; equal values share their gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: list[int]) -> Tensor:
        """Values `[..., n]` to those at `places` of their ascending order, `[..., places]`."""
        if values.device.type == "cpu":
            ordered = torch.from_numpy(np.sort(values.detach().numpy(), axis=-1))
        else:
            ordered = values.sort(-1).values
        found = ordered[..., places]
        ctx.save_for_backward(values, found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Gradients `[..., places]` to those of the values, `[..., n]`."""
        values, found = ctx.saved_tensors
        total = torch.zeros_like(values)
        for place, gradient in zip(found.unbind(-1), gradients[0].unbind(-1), strict=True):
            same = (values == place[..., None]).to(values)
            total += same * (gradient / same.sum(-1))[..., None]
        return total, None


def ordered_values(values: Tensor, places: list[int]) -> Tensor:
    """Values along the last axis at `places` of their ascending order, differentiable once.

    Args:
        values: `[..., n]`, float32 or float64. NaN counts as greatest.
        places: Numbers from 0 to n − 1.
    """
    return _Ordered.apply(values, places)  # pyright: ignore[reportReturnType]
