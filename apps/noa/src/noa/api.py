"""The names of the published guide, as functions."""

from pathlib import Path

from torch import Tensor

from noa.vocabulary import Vocabulary, load_vocabulary


def extract_features(
    rollout: Tensor, *, tokens: Vocabulary | Path | str, initial: Tensor | None = None
) -> Tensor:
    """Features of the last frames of rollouts `[B, F]`, as a vocabulary reads them.

    Args:
        rollout: Frames in the data's units `[B, time, channel, height, width]`, at least as many as a
            clip of the vocabulary has.
        tokens: The vocabulary, or its run folder.
        initial: Initial states of the rollouts `[B, channel, height, width]`; None where the first frame
            is it.

    Raises:
        InputError: If the folder holds no vocabulary.
        ValueError: If there are fewer frames than a clip has, or other channels.
    """
    vocabulary = tokens if isinstance(tokens, Vocabulary) else load_vocabulary(tokens)
    start = rollout[:, 0] if initial is None else initial
    return vocabulary.features(rollout[:, -vocabulary.clip_length :], start)
