"""Random numbers that depend on the position in training, never on what ran before.

Before each batch is read, each step is made and each validation, every generator is set from the run's
seed and that position. So nothing can disturb a run's draws: not a validation, not a log, not a loader's
own draws, not an interruption.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

Purpose = Literal["order", "data", "step", "valid", "check"]
_WORD = 2**64 - 1


def position_seed(purpose: Purpose, seed: int, *, epoch: int, index: int = 0, rank: int = 0) -> int:
    """A 63-bit seed for a position.

    SHA-256 over purpose, run seed, epoch and rank gives 64 bits; SplitMix64 (Steele, Lea and Flood, 2014)
    started from them gives the seed as its output number `index`.
    """
    z = (_start(purpose, seed, epoch, rank) + (index + 1) * 0x9E3779B97F4A7C15) & _WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _WORD
    return (z ^ (z >> 31)) >> 1


@lru_cache(maxsize=16)  # a hash per step would cost more than all the rest of the seeding
def _start(purpose: Purpose, seed: int, epoch: int, rank: int) -> int:
    digest = hashlib.sha256(f"{purpose}/{seed}/{epoch}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def seed_generators(
    purpose: Purpose, seed: int, *, epoch: int, index: int = 0, rank: int = 0
) -> None:
    """Set Python's, NumPy's and torch's global generators (every CUDA device included) for a position.

    Ranks draw apart from each other: what belongs to a sample rather than to a rank (a window's start, its
    noise) must be drawn from a generator of its own, keyed by the sample.
    """
    value = position_seed(purpose, seed, epoch=epoch, index=index, rank=rank)
    random.seed(value)
    np.random.seed(value % 2**32)
    # torch.manual_seed visits every backend and takes 0.1 ms; these two are all that is in use here.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)


def rng_state() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's global generators, in plain numbers and tensors.

    Returns:
        For `set_rng_state`, and fit for a checkpoint.
    """
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "kind": str(kind),
            "keys": torch.tensor(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Go on from what `rng_state` returned; CUDA states are left where the device count differs.

    Args:
        state: From `rng_state`.
    """
    words = tuple(state["python"]["words"].tolist())
    random.setstate((state["python"]["version"], words, state["python"]["gauss"]))
    numpy = state["numpy"]
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state(
        (numpy["kind"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"])
    )
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Whatever is drawn inside, the global generators go on as if it had not been."""
    state = rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
