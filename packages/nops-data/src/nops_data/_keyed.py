"""Random numbers that are functions of what they are for, not of what was drawn before.

A draw keyed on (purpose, seed, epoch, sample) is the same whatever the number of workers or
ranks and whatever was skipped, on every platform and with every version of every library.

Source:
    SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
"""

from typing import TypeVar

import numpy as np

ORDER, START, TASK = 1, 2, 3  # purposes

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15

Words = TypeVar("Words", int, np.ndarray)


def splitmix(state: Words) -> Words:
    """The SplitMix64 output for a state: 64 uniform bits. Arrays must be uint64."""
    z = (state + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def keyed(purpose: int, *key: int) -> int:
    """64 uniform bits that depend on every part of the key and on its order."""
    bits = splitmix(purpose)
    for part in key:
        bits = splitmix(bits ^ (part & _MASK))
    return bits


def keyed_each(purpose: int, *key: int, count: int) -> np.ndarray:
    """`keyed(purpose, *key, i)` for i = 0 … count - 1, as uint64."""
    return splitmix(keyed(purpose, *key) ^ np.arange(count, dtype=np.uint64))


def check_seed(seed: int) -> int:
    """A seed as it is, refused outside the signed 64-bit range.

    Raises:
        ValueError: If it is not an integer in [0, 2**63).
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed: found {seed!r}, expected an integer in [0, 2**63)")
    return seed
