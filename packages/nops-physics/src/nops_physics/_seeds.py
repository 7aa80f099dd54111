"""Integer seeds derived from a name and integers, and the generators made of them."""

import hashlib
from collections.abc import Sequence

import torch


def derive_seed(name: str, *integers: int) -> int:
    r"""Seed of one random draw, a pure function of its name and numbers.

    The first eight bytes, read little-endian, of SHA-256 over `b"nops\0" + name + b"\0"` and
    each integer as eight signed little-endian bytes, shifted right once so that it fits a signed
    64-bit field. Unlike `hash`, it is the same in every process and on every machine.

    Args:
        name: What is drawn, as `"initial"`, `"weights"` or `"noise"`.
        *integers: Which one is drawn, as the run's number and the sample's index.

    Returns:
        An integer in [0, 2^63).

    Raises:
        ValueError: If an integer does not fit into 64 signed bits.
    """
    message = b"nops\0" + name.encode() + b"\0"
    for integer in integers:
        if not -(2**63) <= integer < 2**63:
            raise ValueError(f"derive_seed needs integers of 64 signed bits, got {integer}")
        message += integer.to_bytes(8, "little", signed=True)
    return int.from_bytes(hashlib.sha256(message).digest()[:8], "little") >> 1


def generator_of(seed: int) -> torch.Generator:
    """A CPU generator of its own; the global one is never touched."""
    return torch.Generator().manual_seed(seed)


def one_generator(seed: int | None, generator: torch.Generator | None) -> torch.Generator:
    """The generator of a call that takes `seed` or `generator`, exactly one of them."""
    if seed is not None and generator is None:
        return generator_of(seed)
    if generator is not None and seed is None:
        return generator
    found = "neither" if seed is None else "both"
    raise ValueError(f"give exactly one of seed and generator, got {found}")


def sample_generators(n: int, seed: int | Sequence[int]) -> list[torch.Generator]:
    """One generator per sample, so that no sample depends on how many are drawn with it.

    An integer gives sample i the seed `derive_seed("initial", seed, i)`; a sequence gives each
    sample its own seed as it stands.
    """
    if n < 1:
        raise ValueError(f"need n >= 1 samples, got {n}")
    if isinstance(seed, Sequence):
        if len(seed) != n:
            raise ValueError(f"need one seed per sample: {n} samples, {len(seed)} seeds")
        return [generator_of(single) for single in seed]
    return [generator_of(derive_seed("initial", seed, index)) for index in range(n)]
