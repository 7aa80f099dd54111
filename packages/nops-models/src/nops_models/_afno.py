"""Adaptive Fourier neural operator: mixing in space by one small network per wavenumber."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._fourier import inverse, keep_modes, say_all_kept


class AFNOMixer(nn.Module):
    """Add to a periodic field a block-diagonal network applied to each of its wavenumbers.

    With x̂ = rfft2(x, norm="forward")·√(h_ref·w_ref), channels in `groups` blocks, and complex
    weights shared by all wavenumbers:
    o₁ = ReLU(W₁x̂ + b₁), o₂ = W₂o₁ + b₂, ô = shrink(o₂, λ), output x + irfft2(ô)/√(h_ref·w_ref).
    ReLU and the soft shrink λ act on real and imaginary part apart. Columns that are their own
    conjugate (0, and the last for even widths) are made Hermitian before the inverse, so that every
    device returns the same.

    The reference grid fixes the unit of x̂: a given wave has one coefficient on every grid, the
    orthonormal one on the reference grid, so that λ and the biases mean the same at any
    resolution.

    ReLU and shrink see phases: the mixer is **neither equivariant to translations nor to scale**,
    and treats the two axes differently (half of the columns are stored, all rows are).

    The computation is float32 whatever the input's precision (float64 for float64), with autocast
    off; the result has the input's dtype.

    Args:
        channels: Channels of the field.
        groups: Blocks that the channels are split into; must divide them.
        expansion: Hidden width of a block over its own.
        sparsity: λ, dimensionless, in units of x̂.
        modes: Keep |k| < modes in rows (both signs) and columns; None keeps all. More modes than
            the grid has keep all, which is logged once.
        reference_grid: (h_ref, w_ref).

    Raises:
        ValueError: If `groups` does not divide `channels`, or a number is out of range.

    Source:
        Guibas et al., "Adaptive Fourier neural operators", arXiv 2111.13587.
    """

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 8,
        expansion: int = 1,
        sparsity: float = 0.01,
        modes: int | None = None,
        reference_grid: tuple[int, int] = (8, 8),
    ) -> None:
        super().__init__()
        _check(channels, groups, expansion, sparsity, modes, reference_grid)
        self.channels, self.groups, self.modes, self.sparsity = channels, groups, modes, sparsity
        self.unit = math.sqrt(reference_grid[0] * reference_grid[1])
        size = channels // groups
        hidden = size * expansion
        # (real, imaginary) pairs: complex parameters trip optimizers, precisions and reducers
        self.weight1 = nn.Parameter(0.02 * torch.randn(2, groups, size, hidden))
        self.bias1 = nn.Parameter(torch.zeros(2, groups, hidden))
        self.weight2 = nn.Parameter(0.02 * torch.randn(2, groups, hidden, size))
        self.bias2 = nn.Parameter(torch.zeros(2, groups, size))

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return (
            f"{self.channels}, groups={self.groups}, modes={self.modes}, sparsity={self.sparsity}"
        )

    def forward(
        self, features: Float[Tensor, "sample channel height width"]
    ) -> Float[Tensor, "sample channel height width"]:
        """Mix features `[B, C, H, W]` of any H, W; the branch is added to them.

        Raises:
            ValueError: If the number of channels is not the mixer's.
        """
        return features + self.branch(features)

    def branch(
        self, features: Float[Tensor, "sample channel height width"]
    ) -> Float[Tensor, "sample channel height width"]:
        """What `forward` adds to `features`."""
        if features.ndim != 4 or features.shape[1] != self.channels:
            raise ValueError(
                f"features need the shape (sample, {self.channels}, height, width), "
                f"got {tuple(features.shape)}."
            )
        height, width = features.shape[-2:]
        rows, columns = self._kept(height, width)
        with torch.autocast(features.device.type, enabled=False):
            values = features.to(torch.promote_types(features.dtype, torch.float32))
            coefficients = keep_modes(torch.fft.rfft2(values, norm="forward"), rows, columns)
            mixed = self._mix(torch.view_as_real(coefficients))
            return inverse(mixed, height=height, width=width).to(features.dtype)

    def _kept(self, height: int, width: int) -> tuple[int, int]:
        """Rows kept for each sign, the zeroth included, and columns kept."""
        rows, columns = height // 2 + 1, width // 2 + 1
        if self.modes is None:
            return rows, columns
        if self.modes > min(rows, columns):
            say_all_kept(self.modes, height=height, width=width, rows=rows, columns=columns)
        return min(self.modes, rows), min(self.modes, columns)

    def _mix(self, coefficients: Tensor) -> Tensor:
        """The network on coefficients `[B, C, h, m, 2]`, in the unit of norm="forward"."""
        batch, _, height, columns, _ = coefficients.shape
        dtype = coefficients.dtype
        # One product of real matrices per layer and group: parts and channels side by side.
        z = rearrange(coefficients, "b (g c) h m part -> g (b h m) (part c)", g=self.groups)
        # The unit of x̂ is applied to the small weights instead of the large field.
        first = self.unit * _as_real(self.weight1.to(dtype))
        second = _as_real(self.weight2.to(dtype)) / self.unit
        z = torch.baddbmm(_as_rows(self.bias1.to(dtype)), z, first).relu()
        z = torch.baddbmm(_as_rows(self.bias2.to(dtype)) / self.unit, z, second)
        z = nn.functional.softshrink(z, self.sparsity / self.unit)
        pattern = "g (b h m) (part c) -> b (g c) h m part"
        return rearrange(z, pattern, b=batch, h=height, m=columns, part=2).contiguous()


def _check(
    channels: int,
    groups: int,
    expansion: int,
    sparsity: float,
    modes: int | None,
    reference_grid: tuple[int, int],
) -> None:
    if groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"groups must divide channels, got groups={groups}, channels={channels}.")
    if expansion < 1:
        raise ValueError(f"expansion must be at least 1, got {expansion}.")
    if not 0 <= sparsity < math.inf:
        raise ValueError(f"sparsity must be finite and not negative, got {sparsity}.")
    if modes is not None and modes < 1:
        raise ValueError(f"modes must be at least 1, or None for all, got {modes}.")
    if min(reference_grid) < 1:
        raise ValueError(f"reference_grid needs positive sizes, got {reference_grid}.")


def _as_real(weight: Tensor) -> Tensor:
    """Complex matrices [2, g, i, o] as real ones [g, 2i, 2o] acting on (real, imaginary) rows."""
    real, imaginary = weight.unbind(0)
    top = torch.cat((real, imaginary), dim=-1)
    return torch.cat((top, torch.cat((-imaginary, real), dim=-1)), dim=-2)


def _as_rows(bias: Tensor) -> Tensor:
    """Biases [2, g, o] as rows [g, 1, 2o]."""
    return bias.transpose(0, 1).flatten(1).unsqueeze(1)
