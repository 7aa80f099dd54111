"""What noise leaves of the truth: the error that no deterministic prediction can go below."""

import hashlib

import torch
from nops_diagnostics import paired_noise_floor
from torch import Tensor

from noa.build import Bundle
from noa.config import NoaConfig
from noa.generation import replayed_test

PAIRS = 64  # compared at a time
STACKS = 8  # replayed at most: drawing and running one can take minutes


def noise_floor(
    config: NoaConfig, bundle: Bundle, frames: Tensor, parameters: Tensor
) -> Tensor | None:
    """Half the mean squared difference of realisations that differ in nothing but noise.

    Of held-out trajectories that share θ and initial state, or, where a solver at hand added the
    noise, of each (of stacks the first eight) and its replay with other noise.

    Args:
        config: Settled.
        bundle: The data.
        frames: Held-out trajectories, normalised `[sample, time + 1, channel, *grid]`, the first so
            many of the split.
        parameters: Theirs `[sample, P]`.

    Returns:
        Per lead and channel `[time, channel]` float64; None where there are no two realisations of
        anything, or they do not differ.
    """
    pairs, other = pairs_of(frames[:, 0], parameters), frames
    if not pairs:
        frames = frames[:STACKS] if config.data.operator == "stack" else frames
        initial = bundle.normaliser.denormalise(frames[:, 0])
        theta = parameters[: len(frames)]
        replays = replayed_test(config, initial, theta, stream="other noise")
        if replays is None:
            return None
        other = bundle.normaliser.normalise(replays)
        pairs = [(place, place) for place in range(len(frames))]
    total = torch.zeros(1, dtype=torch.float64)
    for chunk in torch.tensor(pairs).split(PAIRS):
        first, second = chunk.T
        floor = paired_noise_floor(
            frames[first, 1:], other[second, 1:], spatial_dims=frames.ndim - 3
        )
        total = total + floor * len(chunk)
    return total / len(pairs) if bool(total.any()) else None


def pairs_of(initial: Tensor, parameters: Tensor) -> list[tuple[int, int]]:
    """Places of trajectories that share θ and initial state, each with the one before of its kind.

    Args:
        initial: Initial states `[sample, channel, *grid]`.
        parameters: `[sample, P]`.
    """
    latest: dict[bytes, int] = {}
    pairs = []
    for place, values in enumerate(zip(initial, parameters, strict=True)):
        key = hashlib.sha256(b"".join(v.contiguous().numpy().tobytes() for v in values)).digest()
        if key in latest:
            pairs.append((latest[key], place))
        latest[key] = place
    return pairs
