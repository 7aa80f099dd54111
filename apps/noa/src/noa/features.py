"""Features of a data set's clips: computed once for a run, kept beside it, and checked when they meet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from nops_data import Draw, Normaliser, Splits, Windows
from nops_diagnostics import FeatureExtractor
from nops_train import InputError, join_world
from torch import Tensor

from noa.config import NoaConfig

FEATURES = "features.pt"
SPLITS = ("train", "valid", "test")
BATCH = 64  # clips whose features are computed at once

Clip = tuple[Tensor, Tensor]  # [sample, time, channel, height, width], and the initial states


@final
@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features of the clips of each split, and the extractor's state that they were made with.

    Attributes:
        state: Of the extractor, fitted to the train split.
        source: What they were computed from: files of the data, settings.
        values: By split, `[trajectory, clip, feature]`, standardised.
        parameters: By split, `[trajectory, parameter]`, in the unit cube.
    """

    state: dict[str, Any]
    source: dict[str, Any]
    values: dict[str, Tensor]
    parameters: dict[str, Tensor]

    @property
    def extractor(self) -> FeatureExtractor:
        """One that gives these features.

        Raises:
            InputError: If the features are defined otherwise now; the message lists both.
        """
        return restored_extractor(self.state, where=FEATURES)

    def rows(self, split: str) -> Tensor:
        """All clips of a split `[clip, feature]`."""
        return self.values[split].flatten(0, 1)

    def check(self, state: Mapping[str, Any], *, where: str) -> None:
        """Refuse an extractor that gives other features.

        Args:
            state: Of that extractor.
            where: Whose it is, for the message.

        Raises:
            InputError: With what differs.
        """
        check_same_features(self.state, state, where=where)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        part = path.with_name(f"{path.name}.part")
        torch.save(vars(self), part)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "FeatureSet":
        """What `save` wrote.

        Raises:
            InputError: If it is not there, or damaged.
        """
        if not path.is_file():
            raise InputError(f"{path}: not there; `noa train-vqvae` writes it into its run folder")
        try:
            return cls(**torch.load(path, weights_only=True))
        except Exception as error:
            raise InputError(
                f"{path}: cannot be read ({error}); remove it, and `noa train-vqvae` writes it anew"
            ) from error


def restored_extractor(state: Mapping[str, Any], *, where: str) -> FeatureExtractor:
    """An extractor of a stored state.

    Raises:
        InputError: If this version defines the features otherwise; the message lists both.
    """
    options = {name: state[name] for name in ("channels", "domain_length")}
    try:
        extractor = FeatureExtractor(families=tuple(state["families"]), **options)
        extractor.load_state_dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    return extractor


def check_same_features(
    mine: Mapping[str, Any], other: Mapping[str, Any], *, where: str
) -> FeatureExtractor:
    """The extractor of two states that give the same features.

    Raises:
        InputError: With a table of what differs.
    """
    extractor = restored_extractor(mine, where=where)
    try:
        extractor.check_same(other)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return extractor


def compute_features(config: NoaConfig, splits: Splits) -> FeatureSet:
    """Fit an extractor to the train split, and compute the features of all three.

    Args:
        config: Settled; `features`, the counts of `data` and `train.seed` decide.
        splits: The data.

    Raises:
        InputError: If a clip is longer than the trajectories, or their grid is too small.
        LayoutError: If frames cannot be read or are not finite.
    """
    check_clip(config)
    device = torch.device(
        "cuda" if config.train.device != "cpu" and torch.cuda.is_available() else "cpu"
    )
    extractor = FeatureExtractor(channels=config.features.channels)
    try:
        extractor.fit(_clips(config, splits, "train", device=device))
        found = {
            split: torch.cat(
                [extractor(*clip).cpu() for clip in _clips(config, splits, split, device=device)]
            ).unflatten(0, (config.features.per_trajectory, -1))
            for split in SPLITS
        }
    except ValueError as error:
        raise InputError(f"{config.data.path}: {error}") from error
    return FeatureSet(
        state=extractor.state_dict(),
        source=source_of(config, splits),
        values={split: values.transpose(0, 1).contiguous() for split, values in found.items()},
        parameters={
            split: splits[split].parameters[: len(values[0])].clone()
            for split, values in found.items()
        },
    )


def source_of(config: NoaConfig, splits: Splits) -> dict[str, Any]:
    """What features depend on, in plain values."""
    counts = {split: getattr(config.data, f"num_{split}") for split in SPLITS}
    return {
        "files": dict(splits.fingerprints),
        "features": config.features.model_dump(mode="json"),
        "seed": config.train.seed,
        "trajectories": counts,
    }


def stored_features(folder: Path, config: NoaConfig, splits: Splits) -> FeatureSet:
    """The features that a run folder holds; computed by the first of several ranks where it has none.

    Those of other data or settings are left as they are, for the run to say what has changed.
    """
    path = folder / FEATURES

    def make() -> None:
        if not path.is_file():
            compute_features(config, splits).save(path)

    join_world().from_main(make)
    found = FeatureSet.load(path)
    if found.source == source_of(config, splits):
        return found
    return compute_features(config, splits)


def check_clip(config: NoaConfig) -> None:
    """Refuse clips that no trajectory holds.

    Raises:
        InputError: Naming both keys.
    """
    frames = config.data.num_steps + 1
    if config.features.clip > frames:
        raise InputError(
            f"features.clip = {config.features.clip} frames, but data.num_steps = "
            f"{config.data.num_steps} gives {frames}"
        )


def normalised_clip(normaliser: Normaliser, clip: Tensor, initial: Tensor) -> Clip:
    """A clip and its initial state in units of training."""
    return normaliser.normalise(clip), normaliser.normalise(initial)


def _clips(
    config: NoaConfig, splits: Splits, split: str, *, device: torch.device
) -> Iterator[Clip]:
    """Clips at random offsets, a round of all trajectories after the other, normalised."""
    windows = Windows(
        splits[split],
        length=config.features.clip,
        seed=config.train.seed,
        with_initial=1,
    )
    count = getattr(config.data, f"num_{split}")
    for number in range(config.features.per_trajectory):
        for first in range(0, count, BATCH):
            stop = min(first + BATCH, count)
            batch = windows.batch([Draw(number, sample) for sample in range(first, stop)])
            yield normalised_clip(
                splits.normaliser, batch["frames"].to(device), batch["initial"][:, 0].to(device)
            )
