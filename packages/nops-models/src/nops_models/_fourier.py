"""Kept wavenumbers of real fields, and the way back from them."""

import logging
from functools import lru_cache

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def keep_modes(coefficients: Tensor, rows: int, columns: int) -> Tensor:
    """Coefficients `[..., H, W//2+1]` without rows |k| ≥ rows and columns k ≥ columns."""
    height = coefficients.shape[-2]
    kept = coefficients[..., :columns]
    if 2 * rows - 1 >= height:
        return kept
    return torch.cat((kept[..., :rows, :], kept[..., height - rows + 1 :, :]), dim=-2)


def inverse(coefficients: Tensor, *, height: int, width: int) -> Tensor:
    """Field `[..., H, W]` of kept coefficients `[..., h, m, 2]`; absent ones are zero.

    Coefficients are in the unit of norm="forward". Columns that are their own conjugate are made
    Hermitian, so that every device returns the same.
    """
    missing = height - coefficients.shape[-3]
    if missing:
        rows = (coefficients.shape[-3] + 1) // 2
        low, high = coefficients.split((rows, coefficients.shape[-3] - rows), dim=-3)
        low = nn.functional.pad(low, (0, 0, 0, 0, 0, missing))
        coefficients = torch.cat((low, high), dim=-3)
    lines = torch.fft.ifft(torch.view_as_complex(coefficients), dim=-2, norm="forward")
    lines = torch.view_as_real(lines)
    lines = torch.view_as_complex(lines * _self_conjugate_mask(lines, width))
    return torch.fft.irfft(lines, n=width, norm="forward")


def _self_conjugate_mask(lines: Tensor, width: int) -> Tensor:
    """Zero for the imaginary part of columns that are their own conjugate, one elsewhere [m, 2].

    After the inverse along rows, dropping it is what making the columns Hermitian before would do.
    """
    column = torch.arange(lines.shape[-2], device=lines.device)
    imaginary = (column != 0) & (2 * column != width)
    return torch.stack((torch.ones_like(imaginary), imaginary), dim=-1).to(lines.dtype)


def say_all_kept(modes: int, *, height: int, width: int, rows: int, columns: int) -> None:
    """Log once that a grid has fewer wavenumbers than `modes`, unless a compiler looks on."""
    if not torch.compiler.is_compiling():
        _say_once(modes, height, width, rows, columns)


@lru_cache(maxsize=256)
def _say_once(modes: int, height: int, width: int, rows: int, columns: int) -> None:
    logger.warning(
        "modes=%d is beyond a grid of %dx%d, which has %d wavenumbers by %d: all it has are kept.",
        *(modes, height, width, rows, columns),
    )
