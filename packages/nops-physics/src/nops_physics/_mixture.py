"""The mixture of initial fields that random operators start from."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from nops_physics._initial import (
    gaussian_blobs,
    gaussian_random_field,
    multiscale_field,
    sinusoids,
)
from nops_physics._seeds import sample_generators

Sampler = Callable[[tuple[int, ...], torch.Generator], Tensor]
"""Draws one field `[*grid]` on a periodic unit domain from the generator given."""


def _choice(options: tuple, generator: torch.Generator):
    return options[int(torch.randint(len(options), (), generator=generator))]


def _default_grf(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    variance = _choice((0.25, 0.5, 1.0, 2.0, 4.0), generator)
    return gaussian_random_field(
        1, shape=shape, std=math.sqrt(variance), length_scale=0.05, generator=generator
    )[0, 0]


def _default_multiscale(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    bands = ((0.30, 0.35, 0.40), (0.08, 0.10, 0.12), (0.02, 0.025, 0.03))
    scales = _choice(bands, generator)
    return multiscale_field(1, shape=shape, std=1.0, length_scales=scales, generator=generator)[
        0, 0
    ]


def _default_sinusoid(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return sinusoids(
        1, shape=shape, wavenumbers=(1, 8), amplitudes=(0.5, 2.0), generator=generator
    )[0, 0]


def _default_blobs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return gaussian_blobs(
        1, shape=shape, widths=(0.08, 0.23), amplitude_std=2.0, generator=generator
    )[0, 0]


DEFAULT_KINDS: Mapping[str, Sampler] = MappingProxyType(
    {
        "grf": _default_grf,
        "multiscale": _default_multiscale,
        "sinusoid": _default_sinusoid,
        "blobs": _default_blobs,
    }
)
"""The four kinds of `initial_mixture`, each drawn for a quarter of the channels."""


def initial_mixture(
    n: int,
    *,
    shape: Sequence[int],
    seed: int | Sequence[int],
    channels: int = 1,
    kinds: Mapping[str, Sampler] = DEFAULT_KINDS,
) -> tuple[Float[Tensor, "sample channel *grid"], list[str]]:
    """Initial fields of several kinds on the unit domain, each kind equally likely.

    Each sample has a generator of its own, so it does not depend on n. Channels are independent
    and may differ in kind.

    Args:
        n: Number of samples, at least 1.
        shape: Grid; the default kinds need at least 17 cells per axis.
        seed: One integer, from which sample i draws with `derive_seed("initial", seed, i)`, or a
            sequence of n integers, the samples' own seeds.
        channels: Fields per sample.
        kinds: Name of each kind and the function that draws one field of it.

    Returns:
        Fields `[sample, channel, *grid]`, float64, and the kind of each sample: a name, or
        `ch0:grf|ch1:blobs` where its channels differ.

    Raises:
        ValueError: If there is no kind, or the number of seeds is not n.
    """
    if not kinds or channels < 1:
        raise ValueError(f"need a kind and a channel, got kinds {list(kinds)}, {channels} channels")
    fields, names = [], []
    for generator in sample_generators(n, seed):
        drawn = [_draw_kind(tuple(shape), kinds, generator) for _ in range(channels)]
        fields.append(torch.stack([field for _, field in drawn]))
        names.append(_kind_name([name for name, _ in drawn]))
    return torch.stack(fields), names


def _draw_kind(
    shape: tuple[int, ...], kinds: Mapping[str, Sampler], generator: torch.Generator
) -> tuple[str, Tensor]:
    name = _choice(tuple(kinds), generator)
    return name, kinds[name](shape, generator)


def _kind_name(names: Sequence[str]) -> str:
    if len(set(names)) == 1:
        return names[0]
    return "|".join(f"ch{channel}:{name}" for channel, name in enumerate(names))
