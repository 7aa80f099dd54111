"""From the configuration to data, model, weighting: construction, and nothing else."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from nops_data import (
    Batches,
    NormalisedBatches,
    Normaliser,
    Picked,
    SpinlockReader,
    Splits,
    Trajectories,
    Windows,
    open_spinlock,
    open_splits,
    ordered_batches,
    training_batches,
)
from nops_models import UAFNO, UAFNOConfig
from nops_schedules import warmup_cosine
from nops_train import (
    InputError,
    MemoryForecast,
    World,
    forecast_memory,
    join_world,
    make_learning_rate,
)

from noa.config import NoaConfig
from noa.token_terms import attach_projector
from noa.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Everything that a run takes from its data."""

    name: str
    channels: tuple[str, ...]
    parameter_names: tuple[str, ...]
    shape: tuple[int, ...]
    frame_interval: float
    normaliser: Normaliser
    fingerprints: dict[str, str]  # of each file
    train: NormalisedBatches
    valid: NormalisedBatches
    test: NormalisedBatches
    whole_train: NormalisedBatches
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)  # of the train split, if told


def open_fields(config: NoaConfig) -> Splits:
    """The three splits of the folder or file `data.path`, on grids of two dimensions.

    Raises:
        InputError: If the fields have another number of them.
        LayoutError: If files are missing, damaged or do not fit each other.
    """
    data = config.data
    assert data.path is not None
    splits: Splits[Any] = (
        open_splits(data.path)
        if data.layout == "well"
        else open_spinlock(data.path, axis1=data.axis1, first_frame=data.first_frame)
    )
    dimensions = len(splits.train.shape)
    if dimensions != 2:
        raise InputError(f"{splits.folder}: fields on a {dimensions}-dimensional grid; expected 2")
    return splits


def open_bundle(config: NoaConfig, normaliser: Normaliser | None = None) -> Bundle:
    """Readers, windows and samplers over the folder or file `data.path`.

    Args:
        config: Settled.
        normaliser: Of other data, whose units the fields are to have; None is that of these data.

    Raises:
        InputError: If the fields are not two-dimensional, or there are more ranks than trajectories.
        LayoutError: If files are missing, damaged or do not fit each other.
    """
    splits = open_fields(config)
    train, units = splits.train, normaliser or splits.normaliser
    normalise = units.normalise
    return Bundle(
        name=train.dataset_name,
        channels=train.channels,
        parameter_names=train.parameter_names,
        shape=train.shape,
        frame_interval=splits.frame_interval,
        normaliser=units,
        fingerprints=splits.fingerprints,
        train=NormalisedBatches(_drawn(config, train, join_world()), normalise),
        valid=NormalisedBatches(_whole(config, splits.valid, join_world()), normalise),
        test=NormalisedBatches(_whole(config, splits.test, World()), normalise),
        whole_train=NormalisedBatches(_whole(config, train, World()), normalise),
        kinds=_kinds(train),
    )


def _kinds(reader: Trajectories) -> dict[str, dict[str, int]]:
    """How many trajectories are of each kind, where the file says it."""
    if not isinstance(reader, SpinlockReader):
        return {}
    return {name: dict(Counter(values)) for name, values in reader.kinds.items()}


def window_length(config: NoaConfig) -> int:
    """Frames that a training batch holds: what the mode supervises, its start included."""
    rollout = config.rollout
    if rollout.mode == "random_start":
        return rollout.window + 1
    if rollout.mode == "pushforward":
        return rollout.window + rollout.num_pushforward + 1
    return config.data.num_steps + 1


def _drawn(config: NoaConfig, reader: Trajectories, world: World) -> Batches:
    """A window of each trajectory per epoch, at a random start."""
    windows = Windows(
        reader,
        length=window_length(config),
        seed=config.train.seed,
        with_initial=2 if config.loss.ic > 0 else int(config.alignment.vqvae is not None),
    )
    return training_batches(
        Picked(windows, range(config.data.num_train)),
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        rank=world.rank,
        world_size=world.size,
        num_workers=config.train.num_workers,
        device=config.train.device,
    )


def _whole(config: NoaConfig, reader: Trajectories, world: World) -> Batches:
    """Whole trajectories in their order; with several ranks, this one's stretch of them."""
    windows = Windows(reader, length=config.data.num_steps + 1, start="first")
    count = getattr(config.data, f"num_{reader.split}")
    if count < world.size:
        raise InputError(
            f"data.num_{reader.split} = {count} for {world.size} ranks, expected one each"
        )
    return ordered_batches(
        Picked(windows, range(count)),
        batch_size=config.train.batch_size,
        rank=world.rank,
        world_size=world.size,
        device=config.train.device,
    )


def build_model(config: NoaConfig, bundle: Bundle, vocabulary: Vocabulary | None = None) -> UAFNO:
    """The U-AFNO that fits the data, with a projector where the loss compares its bottleneck with tokens."""
    settings = config.model.model_dump()
    model = UAFNO(
        UAFNOConfig(
            in_channels=len(bundle.channels),
            num_parameters=len(bundle.parameter_names),
            residual_scale=bundle.normaliser.increment_scale,
            **settings,
        )
    )
    attach_projector(model, config, vocabulary)
    return model


def learning_rate(config: NoaConfig, *, steps_per_epoch: int) -> Callable[[int, int], float]:
    """The rate of each optimizer step.

    Raises:
        InputError: If the warm-up is as long as the run.
    """
    return make_learning_rate(config.train, steps_per_epoch=steps_per_epoch, cosine=warmup_cosine)


def forecast(model: UAFNO, config: NoaConfig, bundle: Bundle, *, parts: int = 1) -> MemoryForecast:
    """How much memory a step will take; `parts` ranks share gradients and optimizer state."""
    state = torch.zeros(1, len(bundle.channels), *bundle.shape)
    return forecast_memory(
        model,
        (state, torch.zeros(1, len(bundle.parameter_names))),
        train=config.train,
        num_samples=config.data.num_train,
        window=config.rollout.window,
        checkpoint_every=config.rollout.checkpoint_every,
        parts=parts,
    )
