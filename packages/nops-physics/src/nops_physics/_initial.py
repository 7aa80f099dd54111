"""Random periodic initial fields, float64 on the CPU, drawn sample by sample.

Every function draws its samples one after the other from one generator, so the first m of n
samples are the samples of a call with n = m. Lengths are in the unit of `lengths`; by default the
domain is the unit square, so that a length is a fraction of the domain.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._seeds import one_generator
from nops_physics._spectral import (
    check_shape,
    domain_lengths,
    field_of_modes,
    mode_weights,
    random_modes,
    squared_cycles,
)


def gaussian_random_field(
    n: int,
    *,
    shape: Sequence[int],
    std: float,
    length_scale: float,
    channels: int = 1,
    lengths: Sequence[float] | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "sample channel *grid"]:
    """Periodic Gaussian fields with covariance std^2 exp(-r^2 / (2 length_scale^2)).

    The spectrum is proportional to exp(-2 pi^2 length_scale^2 |k|^2), k in cycles per unit
    length, scaled so that the *ensemble* variance at a point is std^2 on every grid. A single
    field of large length scale is nearly constant: its own variance is far below std^2.

    Args:
        n: Number of samples, at least 1.
        shape: Grid, any number of axes.
        std: Standard deviation over the ensemble, in the field's unit, non-negative.
        length_scale: Correlation length in the unit of `lengths`, positive.
        channels: Independent fields per sample.
        lengths: The domain's length per axis; None is 1 along each.
        seed: Seed of a generator of its own.
        generator: A generator to draw from instead. Exactly one of the two is given.

    Returns:
        Fields `[sample, channel, *grid]`, float64.

    Raises:
        ValueError: If a number is out of range, or not exactly one of seed and generator is given.

    Source:
        Spectral synthesis of stationary fields: Lord, Powell and Shardlow, "An Introduction to
        Computational Stochastic PDEs", chapter 7.
    """
    return multiscale_field(
        n,
        shape=shape,
        std=std,
        length_scales=(length_scale,),
        channels=channels,
        lengths=lengths,
        seed=seed,
        generator=generator,
    )


def multiscale_field(
    n: int,
    *,
    shape: Sequence[int],
    std: float,
    length_scales: Sequence[float],
    channels: int = 1,
    lengths: Sequence[float] | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "sample channel *grid"]:
    """Gaussian fields with the law of a sum of independent fields, one per length scale.

    Each scale carries an equal share of the variance. In two dimensions the energy per shell of
    one scale l peaks at 1 / (2 pi l) cycles per unit length.

    Args:
        n: Number of samples, at least 1.
        shape: Grid, any number of axes.
        std: Standard deviation of the sum over the ensemble, in the field's unit.
        length_scales: Correlation lengths in the unit of `lengths`, positive, at least one.
        channels: Independent fields per sample.
        lengths: The domain's length per axis; None is 1 along each.
        seed: Seed of a generator of its own.
        generator: A generator to draw from instead. Exactly one of the two is given.

    Returns:
        Fields `[sample, channel, *grid]`, float64.

    Raises:
        ValueError: If a number is out of range, or not exactly one of seed and generator is given.
    """
    shape, lengths = check_shape(shape), domain_lengths(shape, lengths)
    if not 0 <= std < math.inf:
        raise ValueError(f"std needs to be finite and at least 0, got {std}")
    if not length_scales or not all(0 < scale < math.inf for scale in length_scales):
        raise ValueError(f"length scales need to be positive, got {tuple(length_scales)}")
    amplitude = std * _share_per_mode(shape, lengths, length_scales).sqrt()
    source = one_generator(seed, generator)
    return _stack(
        n,
        lambda: field_of_modes(
            random_modes(channels, shape=shape, generator=source), amplitude, shape=shape
        ),
    )


def sinusoids(
    n: int,
    *,
    shape: Sequence[int],
    wavenumbers: tuple[int, int],
    amplitudes: tuple[float, float],
    channels: int = 1,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "sample channel *grid"]:
    """One plane wave per channel, a sin(2 pi k.x + phase), x in fractions of the domain.

    The length of k is a uniform integer in `wavenumbers`, both ends included, its direction is
    uniform, and each component is then rounded to an integer, so that the wave is periodic. The
    amplitude is uniform in `amplitudes`, the phase in [0, 2 pi).

    Args:
        n: Number of samples, at least 1.
        shape: Grid, one to three axes, each of more than twice the largest wavenumber.
        wavenumbers: Least and largest number of cycles per domain, the least at least 1.
        amplitudes: Least and largest amplitude, in the field's unit.
        channels: Independent waves per sample.
        seed: Seed of a generator of its own.
        generator: A generator to draw from instead. Exactly one of the two is given.

    Returns:
        Fields `[sample, channel, *grid]`, float64.

    Raises:
        ValueError: If a range is empty, or the grid cannot carry the largest wavenumber.
    """
    low, high = wavenumbers
    if not 1 <= low <= high:
        raise ValueError(f"need 1 <= least <= largest wavenumber, got {wavenumbers}")
    shape = check_shape(shape, smallest=2 * high + 1)
    _check_range("amplitudes", amplitudes)
    source = one_generator(seed, generator)

    def wave() -> Tensor:
        length = torch.randint(low, high + 1, (), generator=source)
        direction = torch.randn(len(shape), generator=source, dtype=torch.float64)
        cycles = (length * direction / direction.norm()).round()
        amplitude = _uniform(amplitudes, (), source)
        angle = _uniform((0.0, 2 * math.pi), (), source)
        for axis, (side, cycle) in enumerate(zip(shape, cycles, strict=True)):
            position = torch.arange(side, dtype=torch.float64) / side
            angle = angle + _along(2 * math.pi * cycle * position, axis, len(shape))
        return amplitude * torch.sin(angle)

    return _stack(n, lambda: torch.stack([wave() for _ in range(channels)]))


def gaussian_blobs(
    n: int,
    *,
    shape: Sequence[int],
    widths: tuple[float, float],
    amplitude_std: float,
    num_blobs: int = 5,
    channels: int = 1,
    lengths: Sequence[float] | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "sample channel *grid"]:
    """Sums of periodic Gaussian blobs a exp(-r^2 / (2 width^2)), repeated in every period.

    Centres are uniform over the domain, not over the grid, widths uniform in `widths`, amplitudes
    normal with mean 0. The same draw on another grid is the same field.

    Args:
        n: Number of samples, at least 1.
        shape: Grid, any number of axes.
        widths: Least and largest width (standard deviation) in the unit of `lengths`, positive.
        amplitude_std: Standard deviation of the amplitudes, in the field's unit.
        num_blobs: Blobs per channel, at least 1.
        channels: Independent sums per sample.
        lengths: The domain's length per axis; None is 1 along each.
        seed: Seed of a generator of its own.
        generator: A generator to draw from instead. Exactly one of the two is given.

    Returns:
        Fields `[sample, channel, *grid]`, float64.

    Raises:
        ValueError: If a number is out of range, or not exactly one of seed and generator is given.
    """
    shape, lengths = check_shape(shape), domain_lengths(shape, lengths)
    _check_range("widths", widths, above=0.0)
    if num_blobs < 1 or not 0 <= amplitude_std < math.inf:
        raise ValueError(
            f"need num_blobs >= 1 and a finite amplitude_std >= 0, got {num_blobs}, {amplitude_std}"
        )
    source = one_generator(seed, generator)

    def blobs() -> Tensor:
        profiles = gaussian_profiles(
            num_blobs, shape=shape, widths=widths, lengths=lengths, generator=source
        )
        amplitude = torch.randn(num_blobs, generator=source, dtype=torch.float64)
        total = torch.zeros(shape, dtype=torch.float64)
        for factor, profile in zip(amplitude_std * amplitude, profiles, strict=True):
            total = total + factor * profile
        return total

    return _stack(n, lambda: torch.stack([blobs() for _ in range(channels)]))


def gaussian_profiles(
    num: int,
    *,
    shape: Sequence[int],
    widths: tuple[float, float],
    lengths: Sequence[float],
    generator: torch.Generator,
) -> Tensor:
    """Periodic Gaussians of height 1 with uniform centre and width: [num, *grid]."""
    centres = torch.rand(num, len(shape), generator=generator, dtype=torch.float64)
    width = _uniform(widths, (num,), generator)
    product = torch.ones(num, *shape, dtype=torch.float64)
    for axis, (side, length) in enumerate(zip(shape, lengths, strict=True)):
        position = torch.arange(side, dtype=torch.float64) * (length / side)
        offset = position - length * centres[:, axis, None]
        along = _periodic_gaussian(offset, width[:, None], length)
        product = product * along.view(num, *_axis_shape(side, axis, len(shape)))
    return product


def _share_per_mode(
    shape: Sequence[int], lengths: Sequence[float], length_scales: Sequence[float]
) -> Tensor:
    """The variance of each mode; the sum over the full spectrum is 1."""
    squared, weights = squared_cycles(shape, lengths), mode_weights(shape)
    total = torch.zeros_like(squared)
    for scale in length_scales:
        spectrum = torch.exp(-2 * math.pi**2 * scale**2 * squared)
        total = total + spectrum / (weights * spectrum).sum()
    return total / len(length_scales)


def _periodic_gaussian(offset: Tensor, width: Tensor, length: float) -> Tensor:
    """Sum over all periods of exp(-offset^2 / (2 width^2)), for |offset| up to one period."""
    # an image m periods off is at least (m - 1) away: beyond 9 widths, exp(-40) is lost in float64
    images = 1 + math.ceil(9 * float(width.max()) / length)
    total = torch.zeros_like(offset)
    for image in range(-images, images + 1):
        total = total + torch.exp(-((offset + image * length) ** 2) / (2 * width**2))
    return total


def _stack(n: int, draw: Callable[[], Tensor]) -> Tensor:
    if n < 1:
        raise ValueError(f"need n >= 1 samples, got {n}")
    return torch.stack([draw() for _ in range(n)])


def _uniform(
    bounds: tuple[float, float], size: Sequence[int], generator: torch.Generator
) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)


def _check_range(name: str, bounds: tuple[float, float], *, above: float = -math.inf) -> None:
    if not above < bounds[0] <= bounds[1] < math.inf:
        raise ValueError(f"{name} needs a least and a largest value above {above}, got {bounds}")


def _axis_shape(side: int, axis: int, num_axes: int) -> tuple[int, ...]:
    return tuple(side if other == axis else 1 for other in range(num_axes))


def _along(values: Tensor, axis: int, num_axes: int) -> Tensor:
    return values.view(_axis_shape(len(values), axis, num_axes))
