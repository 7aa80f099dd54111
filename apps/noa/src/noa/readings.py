"""What a vocabulary reads from trajectories: clips, and of each features, latents and tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from nops_train import CheckFailed, InputError
from torch import Tensor

CLIPS = 4  # of a trajectory, at evenly spaced offsets


class Tokeniser(Protocol):
    """What is asked of a vocabulary; `noa.vocabulary.Vocabulary` is one.

    `F` counts features, `Q` quantizers.
    """

    @property
    def clip_length(self) -> int:
        """Frames of a clip."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Of the fields."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features, "summary/speed" for one."""
        ...

    @property
    def categories(self) -> Mapping[str, tuple[int, ...]]:
        """Columns of each category."""
        ...

    @property
    def token_names(self) -> tuple[str, ...]:
        """Of the quantizers."""
        ...

    @property
    def num_codes(self) -> tuple[int, ...]:
        """Of each quantizer."""
        ...

    def features(self, clips: Tensor, initial: Tensor | None = None) -> Tensor:
        """Standardised features `[B, F]` of clips in the data's units."""
        ...

    def latents(self, features: Tensor) -> list[Tensor]:
        """Before quantisation, one per quantizer."""
        ...

    def tokens(self, features: Tensor) -> Tensor:
        """Codes' numbers `[B, Q]`."""
        ...

    def reconstruct(self, features: Tensor) -> Tensor:
        """What the tokens decode to `[B, F]`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Clips of some trajectories, the first of all of them, then the second of all, and so on.

    Attributes:
        features: Standardised `[clip, F]`.
        latents: Side by side `[clip, D]`.
        tokens: `[clip, Q]`.
        errors: Mean squared error of the features through the tokens, of each clip `[clip]`: "total",
            and each category.
        trajectory: Number of each clip's trajectory `[clip]`.
    """

    features: Tensor
    latents: Tensor
    tokens: Tensor
    errors: dict[str, Tensor]
    trajectory: Tensor

    def by_trajectory(self, values: Tensor) -> Tensor:
        """Mean over each trajectory's clips `[trajectory]` of `values [clip]`."""
        return values.view(-1, int(self.trajectory.max()) + 1).mean(0)


def check_clips(vocabulary: Tokeniser, *, num_steps: int, channels: tuple[str, ...]) -> None:
    """Refuse trajectories that a vocabulary cannot read.

    Args:
        vocabulary: Of any data.
        num_steps: Frames of a rollout, its start not counted.
        channels: Of the fields.

    Raises:
        InputError: If the rollouts are shorter than its clips, or have other channels.
    """
    if num_steps < vocabulary.clip_length:
        raise InputError(
            f"rollouts of {num_steps} steps, and the VQ-VAE reads clips of {vocabulary.clip_length} "
            "frames: --timesteps or data.num_steps must be at least that"
        )
    if channels != vocabulary.channels:
        raise InputError(
            f"fields have channels {', '.join(channels)}, the VQ-VAE was trained on "
            f"{', '.join(vocabulary.channels)}"
        )


def clip_starts(num_frames: int, *, length: int) -> list[int]:
    """First frames of clips spread evenly over a trajectory, its start and its end among them."""
    last = num_frames - length
    return sorted({last * i // (CLIPS - 1) for i in range(CLIPS)})


def clips_of(frames: Tensor, *, length: int) -> list[Tensor]:
    """Clips `[trajectory, length, ...]` of `frames [trajectory, time, ...]`, offset by offset."""
    starts = clip_starts(frames.shape[1], length=length)
    return [frames[:, start : start + length] for start in starts]


@torch.no_grad()
def read(vocabulary: Tokeniser, frames: Tensor, initial: Tensor) -> Readings:
    """Features, latents and tokens of trajectories' clips.

    Args:
        vocabulary: Frozen.
        frames: In the data's units `[trajectory, time, channel, height, width]`, the initial state not
            among them.
        initial: Initial states `[trajectory, channel, height, width]`.
    """
    clips = clips_of(frames, length=vocabulary.clip_length)
    features = torch.cat([vocabulary.features(clip, initial) for clip in clips])
    squares = (vocabulary.reconstruct(features) - features).square()
    by_category = {k: squares[:, list(c)].mean(1) for k, c in vocabulary.categories.items()}
    return Readings(
        features=features,
        latents=torch.cat(vocabulary.latents(features), dim=1),
        tokens=vocabulary.tokens(features),
        errors={"total": squares.mean(1), **by_category},
        trajectory=torch.arange(len(frames)).repeat(len(clips)),
    )


def families_of(names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Columns of each family of features, from their names."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(name.partition("/")[0], []).append(place)
    return {family: tuple(places) for family, places in found.items()}


def code_counts(vocabulary: Tokeniser, readings: Readings) -> dict[str, Tensor]:
    """By quantizer, how often each code occurs `[code]`."""
    columns = zip(
        vocabulary.token_names, vocabulary.num_codes, readings.tokens.unbind(1), strict=True
    )
    return {name: torch.bincount(column.cpu(), minlength=size) for name, size, column in columns}


def check_finite(pred: Tensor) -> None:
    """Refuse rollouts `[sample, time, ...]` that left the finite numbers.

    Raises:
        CheckFailed: With how many, and from which lead on.
    """
    broken = ~pred.isfinite().flatten(2).all(2)
    if broken.any():
        lead = int(broken.any(0).int().argmax()) + 1
        raise CheckFailed(
            f"{int(broken.any(1).sum())} of {len(pred)} rollouts are not finite, the first at lead "
            f"{lead}: they have no tokens"
        )
