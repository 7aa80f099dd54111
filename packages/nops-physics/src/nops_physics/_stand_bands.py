"""Band reflectances of a stand with their slopes, a few samples at a time.

Between 7 parameters and 11 bands lie hundreds of wavelengths with a hundred numbers each. These
live for a few samples only; what is kept is the slope of each band by each row value. A pass
backward or forward is then one small product, as often as it is asked for.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nops_physics._exponential_integral import absorbed_with_slope
from nops_physics._once import once
from nops_physics._plates import Pile, pile_with_slopes
from nops_physics._stand import WIDTHS, StandRows
from nops_physics._stand_slopes import stand, stand_slopes

CHUNK = {"cpu": 50_000}  # samples times wavelengths: half a hundred tensors fit a cache
LARGE_CHUNK = 4_000_000  # elsewhere
KEPT_BYTES = 28 * 2**20


class BandConstants(NamedTuple):
    """What depends on the wavelength alone.

    Attributes:
        absorption: Of each leaf constituent, `[constituent, wavelength]`.
        surface: Transmissivity for a cone, from within, and reflectivity from within, `[3, ...]`.
        soil: Reflectance, `[wavelength]`.
        weights: Of wavelengths in bands, `[band, wavelength]`.
        absorbing: Absorption in bands, `[wavelength, band * constituent]`.
    """

    absorption: Tensor
    surface: Tensor
    soil: Tensor
    weights: Tensor
    absorbing: Tensor


def band_reflectances(
    count: Tensor, contents: Tensor, rows: StandRows, constants: BandConstants
) -> Tensor:
    """Reflectance of stands in each band, `[*batch, band]`, differentiable once.

    Args:
        count: Plates of the leaf beneath the first, `[*batch]`.
        contents: Constituents per plate, `[*batch, constituent]`.
        rows: With the batch behind, each `[width, *batch]`; `level` takes no gradient.
        constants: In the same precision.
    """
    parts = torch.cat((count[None], contents.movedim(-1, 0), *rows)).movedim(0, -1)
    return _Bands.apply(parts, constants, torch.is_grad_enabled() and parts.requires_grad)[0]


class _Bands(torch.autograd.Function):
    @staticmethod
    def forward(parts: Tensor, constants: BandConstants, sloped: bool) -> tuple[Tensor, Tensor]:
        flat = parts.reshape(-1, parts.shape[-1])
        _let_allocator_keep(flat)
        step = max(1, CHUNK.get(parts.device.type, LARGE_CHUNK) // len(constants.soil))
        bands = flat.new_empty(len(flat), len(constants.weights))
        slopes = flat.new_zeros(len(flat), len(constants.weights), flat.shape[-1] if sloped else 0)
        for start in range(0, len(flat), step):
            piece = slice(start, start + step)
            _fill(flat[piece], constants, bands[piece], slopes[piece])
        batch = parts.shape[:-1]
        return bands.reshape(*batch, -1), slopes.reshape(*batch, *slopes.shape[1:])

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        parts, ctx.constants, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(parts, output[1])
        ctx.save_for_forward(parts, output[1])

    @staticmethod
    def vmap(info, in_dims: tuple, *args: Any):
        parts, constants, sloped = args
        return _Bands.apply(parts.movedim(in_dims[0], 0), constants, sloped), (0, 0)

    @staticmethod
    def backward(ctx, *grads: Any) -> tuple[Tensor, None, None]:
        gradient = (grads[0][..., None, :] @ _slopes(ctx))[..., 0, :]
        return once(gradient, grads[0], ctx.saved_tensors[0]), None, None

    @staticmethod
    def jvp(ctx, *tangents: Any) -> tuple[Tensor, None]:
        slopes = _slopes(ctx)
        return (slopes @ tangents[0][..., None])[..., 0], None


def _let_allocator_keep(like: Tensor) -> None:
    """Free a block that was never touched: glibc then keeps what it frees, up to twice as much.

    Otherwise it returns the memory of each chunk to the system and gets it back zeroed, page by
    page, which takes longer than the arithmetic.
    """
    if like.device.type == "cpu":
        torch.empty(KEPT_BYTES, dtype=torch.uint8)


def _slopes(ctx) -> Tensor:
    """Those made with the values, or now."""
    parts, slopes = ctx.saved_tensors
    if slopes.shape[-1]:
        return slopes
    return _Bands.apply(parts, ctx.constants, True)[1]


def _fill(parts: Tensor, constants: BandConstants, bands: Tensor, slopes: Tensor) -> None:
    """A few samples `[sample, part]` into their places."""
    leading = 1 + len(constants.absorption)
    count, contents = parts[:, :1], parts[:, 1:leading]
    rows = StandRows(*parts[:, leading:].mT[..., None].split(list(WIDTHS)))  # pyright: ignore[reportArgumentType]
    absorbed, absorbed_by = absorbed_with_slope(contents @ constants.absorption)
    pile = pile_with_slopes(count, absorbed, *constants.surface)
    rho, tau = pile.reflectance, pile.transmittance
    seen = stand(rho, tau, rows, constants.soil)
    torch.mm(seen.value, constants.weights.mT, out=bands)
    if slopes.shape[-1]:
        by = stand_slopes(seen, rho, tau, rows, constants.soil)
        _leaf_slopes(by.rho, by.tau, pile, absorbed_by, constants, slopes[..., :leading])
        _row_slopes(by.rows, constants.weights, slopes[..., leading:])


def _leaf_slopes(
    rho_by: Tensor,
    tau_by: Tensor,
    pile: Pile,
    absorbed_by: Tensor,
    constants: BandConstants,
    slopes: Tensor,
) -> None:
    by_count = (rho_by * pile.r_by_count).addcmul_(tau_by, pile.t_by_count)
    slopes[..., 0] = by_count @ constants.weights.mT
    by_depth = (rho_by * pile.r_by_absorbed).addcmul_(tau_by, pile.t_by_absorbed).mul_(absorbed_by)
    slopes[..., 1:] = (by_depth @ constants.absorbing).unflatten(-1, slopes[0, :, 1:].shape)


def _row_slopes(rows: StandRows, weights: Tensor, slopes: Tensor) -> None:
    place = 0
    for width, by in zip(WIDTHS, rows, strict=True):
        end = place + int(width)  # pyright: ignore[reportArgumentType]
        if len(by):
            slopes[..., place:end] = (by @ weights.mT).movedim(0, -1)
        place = end
