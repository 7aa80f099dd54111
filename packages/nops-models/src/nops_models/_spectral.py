"""Convolution over a periodic domain by weights on its wavenumbers."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from nops_models._fourier import inverse, keep_modes, say_all_kept


class SpectralConv(nn.Module):
    """Multiply each kept wavenumber of a field by a complex matrix of its own.

    ŷ(k) = R(k)·x̂(k) for |k₁| < modes and |k₂| < modes, 0 for the rest; x̂ is the Fourier series of
    the field. R is dimensionless and belongs to the wave, not to the grid: a band-limited field has
    the same result on every grid that resolves it. The map commutes with every translation.

    A real field has x̂(−k) = x̂(k)*, so that half of the wavenumbers are stored: columns k₂ ≥ 0, all
    rows k₁. In column 0 both k and −k are, and (R(k) + R(−k)*)/2 acts; the imaginary part of R(0)
    has no effect. On an even number of cells the wave of two cells, whose direction the grid cannot
    tell, is dropped.

    The computation is float32 whatever the input's precision (float64 for float64), with autocast
    off; the result has the input's dtype.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        modes: Keep |k| < modes along both axes. More modes than the grid has keep all it has, which
            is logged once; their weights are then idle.

    Attributes:
        weight: R as pairs of real numbers [2·modes − 1, modes, in, 2, out]: rows
            0 … modes − 1, −(modes − 1) … −1; real and imaginary part along the fourth axis.

    Raises:
        ValueError: If a number is below 1.

    Source:
        Li et al., "Fourier neural operator for parametric PDEs", arXiv 2010.08895.
    """

    def __init__(self, in_channels: int, out_channels: int, *, modes: int) -> None:
        super().__init__()
        if min(in_channels, out_channels, modes) < 1:
            raise ValueError(
                "in_channels, out_channels and modes must be at least 1, got "
                f"{in_channels}, {out_channels} and {modes}."
            )
        self.in_channels, self.out_channels, self.modes = in_channels, out_channels, modes
        # pairs: complex parameters trip optimizers, precisions and reducers. |R|² sums to 1 over
        # the inputs in the mean, so that a kept wave keeps its power.
        size = math.sqrt(0.5 / in_channels)
        shape = (2 * modes - 1, modes, in_channels, 2, out_channels)
        self.weight = nn.Parameter(size * torch.randn(shape))

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"{self.in_channels}, {self.out_channels}, modes={self.modes}"

    def forward(
        self, features: Float[Tensor, "sample channel height width"]
    ) -> Float[Tensor, "sample out_channel height width"]:
        """Map features `[B, in_channels, H, W]` of any H, W to `[B, out_channels, H, W]`.

        Raises:
            ValueError: If the shape is another.
        """
        if features.ndim != 4 or features.shape[1] != self.in_channels:
            raise ValueError(
                f"features need the shape (sample, {self.in_channels}, height, width), "
                f"got {tuple(features.shape)}."
            )
        height, width = features.shape[-2:]
        rows, columns = self._kept(height, width)
        with torch.autocast(features.device.type, enabled=False):
            values = features.to(torch.promote_types(features.dtype, torch.float32))
            coefficients = keep_modes(torch.fft.rfft2(values, norm="forward"), rows, columns)
            product = self._product(torch.view_as_real(coefficients), rows, columns)
            return inverse(product, height=height, width=width).to(features.dtype)

    def _kept(self, height: int, width: int) -> tuple[int, int]:
        """Rows kept for each sign, the zeroth included, and columns kept."""
        rows, columns = (height + 1) // 2, (width + 1) // 2
        if self.modes > min(rows, columns):
            say_all_kept(self.modes, height=height, width=width, rows=rows, columns=columns)
        return min(self.modes, rows), min(self.modes, columns)

    def _product(self, coefficients: Tensor, rows: int, columns: int) -> Tensor:
        """R·x̂ of coefficients `[B, in, h, m, 2]`, as `[B, out, h, m, 2]`."""
        batch, _, height, _, _ = coefficients.shape
        # One product of real matrices for each mode: all four products of parts at once.
        x = rearrange(coefficients, "b i h m part -> (h m) (part b) i")
        weight = self._kept_weight(rows, columns).to(x.dtype).flatten(0, 1).flatten(2)
        y = torch.bmm(x, weight)
        pattern = "(h m) (p b) (q o) -> p q b o h m"
        y = rearrange(y, pattern, h=height, p=2, b=batch, q=2)
        return torch.stack((y[0, 0] - y[1, 1], y[0, 1] + y[1, 0]), dim=-1)

    def _kept_weight(self, rows: int, columns: int) -> Tensor:
        if rows == columns == self.modes:
            return self.weight
        kept = self.weight[:, :columns]
        return torch.cat((kept[:rows], kept[2 * self.modes - rows :]), dim=0)
