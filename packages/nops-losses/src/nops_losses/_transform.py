"""From a field to its Fourier coefficients and the energy of each mode."""

from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nops_losses._checks import check_axes, check_choice, mask_over, to_working_dtype
from nops_losses._spectrum_plan import NUM_PLANS, may_cache

TAPERED = 0.5  # share of an axis that the Tukey window tapers, as in scipy
MIN_SIDE = 8  # below, an axis has fewer than four waves to compare

Components = Literal["sum", "each"]
Window = Literal["none", "hann", "tukey"]
Detrend = Literal["none", "mean"]


class Reading(NamedTuple):
    """How a field is made periodic before its transform, the same for prediction and truth."""

    spatial_dims: int
    mask: Tensor | None
    window: Window
    detrend: Detrend


def coefficients(field: Tensor, reading: Reading, *, name: str) -> Tensor:
    """rfftn(field, norm="forward") over the grid axes, of the filled, centred, tapered field."""
    check_axes(field, name=name, spatial_dims=reading.spatial_dims)
    check_choice("window", reading.window, ("none", "hann", "tukey"))
    check_choice("detrend", reading.detrend, ("none", "mean"))
    values = to_working_dtype(field, name=name)
    axes = tuple(range(-reading.spatial_dims, 0))
    sizes = tuple(field.shape[-reading.spatial_dims :])
    if 0 in sizes:
        raise ValueError(f"every grid axis of {name} needs a cell, got a grid of {sizes}.")
    with torch.autocast(values.device.type, enabled=False):
        if reading.mask is not None:
            values = _fill(values, mask_over(reading.mask, values), axes)
        if reading.detrend == "mean":
            values = values - values.mean(axes, keepdim=True)
        if reading.window != "none":
            values = values * _window(values, reading)
        # MKL refuses an expanded view (stride 0) in some releases of torch
        return torch.fft.rfftn(values.contiguous(), dim=axes, norm="forward")


def mode_energy(modes: Tensor, *, components: Components, spatial_dims: int) -> Tensor:
    """|F|² of each mode, summed over the channel axis for "sum"."""
    check_choice("components", components, ("sum", "each"))
    parts = torch.view_as_real(modes).square()
    if components == "sum":  # channels first: half the numbers are left for what follows
        parts = parts.sum(-spatial_dims - 2)
    real, imaginary = parts.unbind(-1)
    return real + imaginary


def check_sides(field: Tensor, *, spatial_dims: int) -> None:
    """Raise where a grid axis is too short to compare spectra."""
    check_axes(field, name="pred", spatial_dims=spatial_dims)
    sizes = tuple(field.shape[-spatial_dims:])
    if min(sizes) < MIN_SIDE:
        raise ValueError(
            f"a spectrum error needs at least {MIN_SIDE} cells along every grid axis, got a grid "
            f"of {sizes} with spatial_dims={spatial_dims}; use a pointwise error there."
        )


def _fill(values: Tensor, keep: Tensor, axes: tuple[int, ...]) -> Tensor:
    count = keep.sum(axes, keepdim=True).clamp(min=1)
    mean = values.where(keep, 0.0).sum(axes, keepdim=True) / count
    return values.where(keep, mean)


def _window(values: Tensor, reading: Reading) -> Tensor:
    build = _cached_window if may_cache(values) else _build_window
    sizes = tuple(values.shape[-reading.spatial_dims :])
    return build(sizes, reading.window, values.device, values.dtype)


@lru_cache(maxsize=NUM_PLANS)
def _cached_window(
    sizes: tuple[int, ...], window: Window, device: torch.device, dtype: torch.dtype
) -> Tensor:
    with torch.inference_mode(False):
        return _build_window(sizes, window, device, dtype)


def _build_window(
    sizes: tuple[int, ...], window: Window, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Product of the axes' windows over its root mean square, so that energies keep their size."""
    product = torch.ones((), dtype=torch.float64, device="cpu")
    for size in sizes:
        profile = _profile(size, window)
        product = product.unsqueeze(-1) * (profile / profile.square().mean().sqrt())
    return product.to(device, dtype)


def _profile(size: int, window: Window) -> Tensor:
    """The window at the centres of the cells: a mirrored field is tapered alike."""
    place = (torch.arange(size, dtype=torch.float64, device="cpu") + 0.5) / size
    from_wall = torch.minimum(place, 1 - place)
    taper = 0.5 if window == "hann" else TAPERED / 2
    return torch.sin(0.5 * torch.pi * (from_wall / taper).clamp(max=1)).square()
