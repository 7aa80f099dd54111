"""Random periodic fields whose energy spectrum is given, free of divergence if asked."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._seeds import one_generator
from nops_physics._spectral import (
    check_shape,
    cycles,
    domain_lengths,
    field_of_modes,
    inside_nyquist,
    mode_weights,
    random_modes,
    shell_numbers,
)

TABLE_ROUNDING = 1e-6  # a float32 wavenumber is off by 6e-8
Spectrum = Callable[[Tensor], Tensor] | tuple[Tensor, Tensor]


def random_field(
    spectrum: Spectrum,
    *,
    shape: Sequence[int],
    lengths: Sequence[float] | None = None,
    components: int = 1,
    batch: Sequence[int] = (),
    divergence_free: bool = False,
    amplitude: Literal["fixed", "gaussian"] = "fixed",
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch_component_grid"]:
    """Periodic fields of zero mean with a given energy per shell of wavenumbers.

    Shell j >= 1 holds the modes with j - 1/2 <= |k|/dk < j + 1/2, dk = 2 pi over the shortest
    length, the corners of the wavenumber box included. Its energy is half the mean square of the
    field's part in it, summed over the components; all shells together have half the mean square
    of the field. The spectrum is asked at the shells' centres j dk. Shells that have no mode on
    this grid, and the part of the spectrum beyond the grid, are lost.

    Args:
        spectrum: Energy per shell, E(k), for a tensor of wavenumbers k > 0 in radians per length,
            or a pair (k, E), interpolated in the logarithms of both. Outside the pair's range,
            and next to an entry without energy, there is none; an entry at k = 0 is passed over.
        shape: Grid, any number of axes.
        lengths: The domain's length per axis; None is 2 pi along each, which makes k whole.
        components: Fields that share the energy; component i of a vector points along axis i.
        batch: Leading axes of independent samples, drawn one after the other.
        divergence_free: Whether the divergence is zero, for as many components as there are axes,
            two or three. The modes at an even side's Nyquist wavenumber then carry no energy.
        amplitude: "fixed" gives each mode of a shell the same energy and draws its phase (and
            direction) alone, so every sample has the spectrum to rounding; "gaussian" draws
            Gaussian modes, so that the spectrum is that of the ensemble.
        seed: Seed of a generator of its own.
        generator: A generator to draw from instead. Exactly one of the two is given.

    Returns:
        Fields `[*batch, component, *grid]`, float64; the square of their unit is the unit of E.

    Raises:
        ValueError: If a number is out of range, the spectrum is negative or not finite, the
            components of a field without divergence are not two or three of as many axes, or not
            exactly one of seed and generator is given.

    Source:
        Rogallo, "Numerical experiments in homogeneous turbulence", NASA TM 81315 (1981).
    """
    shape = check_shape(shape)
    lengths = domain_lengths(shape, lengths or (2 * math.pi,) * len(shape))
    if components < 1 or any(size < 1 for size in batch):
        raise ValueError(f"need components and batch >= 1, got {components}, {tuple(batch)}")
    if divergence_free and not components == len(shape) in (2, 3):
        raise ValueError(
            f"a field without divergence needs 2 or 3 axes and as many components, got "
            f"{len(shape)} axes, {components} components"
        )
    if amplitude not in ("fixed", "gaussian"):
        raise ValueError(f"amplitude is 'fixed' or 'gaussian', got {amplitude!r}")
    scale = _mode_amplitudes(spectrum, shape, lengths, inside=divergence_free)
    source = one_generator(seed, generator)

    def draw() -> Tensor:
        modes = random_modes(components, shape=shape, generator=source)
        if divergence_free:
            modes = _without_divergence(modes, shape, lengths)
        freedom = components - divergence_free
        unit = modes / math.sqrt(freedom) if amplitude == "gaussian" else _normalised(modes)
        return field_of_modes(unit, scale, shape=shape)

    drawn = [draw() for _ in range(math.prod(batch))]
    return torch.stack(drawn).view(*batch, components, *shape)


def _mode_amplitudes(
    spectrum: Spectrum, shape: tuple[int, ...], lengths: tuple[float, ...], *, inside: bool
) -> Tensor:
    """Root of the mean of |F|^2, summed over components, of each mode."""
    shell = shell_numbers(shape, lengths)
    multiplicity = mode_weights(shape).expand(shell.shape)
    if inside:
        multiplicity = multiplicity * inside_nyquist(shape)
    counts = torch.zeros(int(shell.max()) + 1, dtype=torch.float64)
    counts = counts.index_add(0, shell.flatten(), multiplicity.flatten())
    counts[0] = 0.0  # no mean
    filled = counts.nonzero()[:, 0]
    energy = torch.zeros_like(counts)
    energy[filled] = _energies(spectrum, 2 * math.pi / min(lengths) * filled.double())
    share = torch.where(counts > 0, 2 * energy / counts.clamp(min=1), 0.0).sqrt()
    return torch.where(multiplicity > 0, share[shell], 0.0)


def _energies(spectrum: Spectrum, wavenumber: Tensor) -> Tensor:
    if callable(spectrum):
        energy = torch.as_tensor(spectrum(wavenumber), dtype=torch.float64)
        origin = "the spectrum"
    else:
        energy = _interpolated(*spectrum, wavenumber)
        origin = "the pair (k, E)"
    if energy.shape != wavenumber.shape:
        raise ValueError(
            f"{origin} gave shape {tuple(energy.shape)}; expected {tuple(wavenumber.shape)}, "
            "one energy per wavenumber"
        )
    wrong = ~((energy >= 0) & (energy < math.inf))
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise ValueError(
            f"{origin} is {float(energy[first])} at k = {float(wavenumber[first]):.6g}; "
            "expected a finite energy of at least 0"
        )
    return energy


def _interpolated(known: Tensor, energy: Tensor, wavenumber: Tensor) -> Tensor:
    """Straight between the logarithms of a table; zero outside it."""
    known = torch.as_tensor(known, dtype=torch.float64).cpu()
    energy = torch.as_tensor(energy, dtype=torch.float64).cpu()
    if known.ndim != 1 or energy.shape != known.shape:
        raise ValueError(
            f"a spectrum (k, E) needs two lists of one length, got shapes "
            f"{tuple(known.shape)}, {tuple(energy.shape)}"
        )
    energy, known = energy[known != 0], known[known != 0]
    if not len(known) or not bool((known.diff() > 0).all() and known[0] > 0):
        raise ValueError("a spectrum (k, E) needs wavenumbers that increase from above 0 on")
    if not bool(((energy >= 0) & (energy < math.inf)).all()):
        raise ValueError("a spectrum (k, E) needs finite energies of at least 0")
    # entries of this grid's shells are met exactly, whatever type they were rounded to
    entry = torch.searchsorted(known * (1 + TABLE_ROUNDING), wavenumber).clamp(max=len(known) - 1)
    met = (wavenumber - known[entry]).abs() <= TABLE_ROUNDING * wavenumber
    between = torch.zeros_like(wavenumber)
    if len(known) > 1:
        above = entry.clamp(min=1)
        low, high = known[above - 1], known[above]
        part = (torch.log(wavenumber / low) / torch.log(high / low)).clamp(0, 1)
        # powers, not logarithms: an entry without energy is allowed
        between = energy[above - 1] ** (1 - part) * energy[above] ** part
        inside = (wavenumber > known[0]) & (wavenumber < known[-1])
        between = torch.where(inside, between, 0.0)
    return torch.where(met, energy[entry], between)


def _without_divergence(
    modes: Tensor, shape: tuple[int, ...], lengths: tuple[float, ...]
) -> Tensor:
    """The part of each mode at right angles to its wave vector."""
    wave = torch.stack(torch.broadcast_tensors(*cycles(shape, lengths)))
    squared = wave.square().sum(0)
    direction = wave / torch.where(squared > 0, squared, 1.0)
    return modes - direction * (wave * modes).sum(0)


def _normalised(modes: Tensor) -> Tensor:
    size = torch.view_as_real(modes).square().sum((0, -1)).sqrt()
    return modes / torch.where(size > 0, size, 1.0)
