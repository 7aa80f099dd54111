"""Fourier transforms whose bits depend on nothing but the field: no neighbour in the batch, no thread.

On some processors MKL rounds a transform that is alone in its call in another way than one of several, and that of
a short row back to real numbers by the number of threads. So at least two are always made together, and short rows
come back by way of complex numbers.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SHORT = 16  # points; below, a row's way back to real numbers may depend on threads


def modes_of(field: Tensor, *, num_dims: int, norm: str = "backward") -> Tensor:
    """`torch.fft.rfftn` over the last `num_dims` axes."""
    dims = tuple(range(-num_dims, 0))
    # MKL refuses an expanded view (stride 0) in some releases of torch
    return _in_company(
        lambda x: torch.fft.rfftn(x, dim=dims, norm=norm), field.contiguous(), num_dims
    )


def grid_of(modes: Tensor, *, shape: Sequence[int], norm: str = "backward") -> Tensor:
    """`torch.fft.irfftn` over the last axes, to a grid of this shape."""
    sides = tuple(shape)
    dims = tuple(range(-len(sides), 0))

    def back(z: Tensor) -> Tensor:
        if sides[-1] >= SHORT:
            return torch.fft.irfftn(z, s=sides, dim=dims, norm=norm)
        rows = torch.fft.ifftn(z, dim=dims[:-1], norm=norm) if dims[:-1] else z
        mirrored = rows[..., 1 : (sides[-1] + 1) // 2].flip(-1).conj()
        return torch.fft.ifft(torch.cat((rows, mirrored), dim=-1), norm=norm).real.contiguous()

    return _in_company(back, modes, len(sides))


def _in_company(transform: Callable[[Tensor], Tensor], of: Tensor, num_dims: int) -> Tensor:
    batch = of.shape[:-num_dims]
    if batch.numel() != 1:
        return transform(of)
    found = transform(of.reshape(1, *of.shape[-num_dims:]).repeat(2, *[1] * num_dims))[0]
    return found.reshape(*batch, *found.shape)
