"""From the configuration to data, model, weighting: construction, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from nops_data import (
    Batches,
    Draw,
    Normaliser,
    ResumableSampler,
    WellReader,
    Windows,
    file_fingerprints,
)
from nops_models import UAFNO, UAFNOConfig
from nops_schedules import ConstantWeights, warmup_cosine
from nops_train import (
    InputError,
    MemoryForecast,
    World,
    check_memory,
    join_world,
    predict_memory,
)
from torch import Tensor

from noa.config import NoaConfig
from noa.task import NormalisedBatches, residual_scale


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


def open_bundle(config: NoaConfig) -> Bundle:
    """Readers, windows and samplers over the folder `data.path`.

    Raises:
        InputError: If the fields are not two-dimensional.
        LayoutError: If files are missing, damaged or do not fit each other.
    """
    folder = config.data.path
    assert folder is not None
    train = WellReader(folder, split="train")
    if len(train.shape) != 2:
        raise InputError(f"{folder}: fields on a {len(train.shape)}-dimensional grid; expected 2")
    normaliser = Normaliser.fit(train)
    times = train[0]["times"]
    whole = {split: _batches(config, split, length=None) for split in ("train", "test")}
    return Bundle(
        name=train.dataset_name,
        channels=train.channels,
        parameter_names=train.parameter_names,
        shape=train.shape,
        frame_interval=float(times[1] - times[0]),
        normaliser=normaliser,
        fingerprints=file_fingerprints(folder),
        train=NormalisedBatches(
            _batches(config, "train", length=window_length(config), world=join_world()), normaliser
        ),
        valid=NormalisedBatches(
            _batches(config, "valid", length=None, world=join_world()), normaliser
        ),
        test=NormalisedBatches(whole["test"], normaliser),
        whole_train=NormalisedBatches(whole["train"], normaliser),
    )


def window_length(config: NoaConfig) -> int:
    """Frames that a training batch holds: what the mode supervises, its start included."""
    rollout = config.rollout
    if rollout.mode == "random_start":
        return rollout.window + 1
    if rollout.mode == "pushforward":
        return rollout.window + rollout.num_pushforward + 1
    return config.data.num_steps + 1


def _batches(
    config: NoaConfig, split: str, *, length: int | None, world: World | None = None
) -> Batches:
    """Windows of a split with random starts, or whole trajectories in their order.

    With a world, this rank's share of each batch, or of the trajectories; else all of it.
    """
    world = world or World()
    reader = WellReader(config.data.path or "", split=split)
    drawn = length is not None
    windows = Windows(
        reader,
        length=length or config.data.num_steps + 1,
        start="random" if drawn else "first",
        seed=config.train.seed,
        with_initial=2 if drawn and config.loss.ic > 0 else 0,
    )
    count = getattr(config.data, f"num_{split}")
    if drawn:
        stretch = Stretch(windows, 0, count)
    else:  # nobody waits for anybody after a batch, so whole stretches will do
        if count < world.size:
            raise InputError(
                f"data.num_{split} = {count} for {world.size} ranks, expected one each"
            )
        stretch, world = Stretch.share(windows, count, world), World()
    sampler = ResumableSampler(
        len(stretch),
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        shuffle=drawn,
        rank=world.rank,
        world_size=world.size,
    )
    workers = config.train.num_workers if drawn else 0
    pinned = config.train.device != "cpu" and torch.cuda.is_available()
    return Batches(stretch, sampler, num_workers=workers, pin_memory=pinned)


class Stretch:
    """The items `first` to `stop` of a data set of windows."""

    def __init__(self, windows: Windows, first: int, stop: int) -> None:
        assert 0 <= first <= stop <= len(windows)
        self._windows, self._first, self._stop = windows, first, stop

    @classmethod
    def share(cls, windows: Windows, count: int, world: World) -> "Stretch":
        """This rank's part of the first `count` items: each is some rank's, parts differ by one."""
        first, stop = (count * rank // world.size for rank in (world.rank, world.rank + 1))
        return cls(windows, first, stop)

    def __len__(self) -> int:
        return self._stop - self._first

    def batch(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        """The windows of these draws in one buffer."""
        return self._windows.batch([Draw(d.epoch, d.index + self._first) for d in draws])

    def close(self) -> None:
        """Close the files; the next read opens them again."""
        self._windows.close()


def build_model(config: NoaConfig, bundle: Bundle) -> UAFNO:
    """The U-AFNO that fits the data."""
    settings = config.model.model_dump()
    return UAFNO(
        UAFNOConfig(
            in_channels=len(bundle.channels),
            num_parameters=len(bundle.parameter_names),
            residual_scale=residual_scale(bundle.normaliser),
            **settings,
        )
    )


def build_weighting(config: NoaConfig) -> ConstantWeights:
    """The rule that weighs the terms over time; a term of weight 0 is switched off."""
    weights = config.loss.model_dump()
    return ConstantWeights({name: weight for name, weight in weights.items() if weight > 0})


def learning_rate(config: NoaConfig, *, steps_per_epoch: int) -> Callable[[int, int], float]:
    """The rate of each optimizer step.

    Raises:
        InputError: If the warm-up is as long as the run.
    """
    train = config.train
    if train.lr_schedule == "constant":
        return lambda epoch, step: train.learning_rate
    total = train.epochs * steps_per_epoch
    if train.warmup_steps >= total:
        raise InputError(
            f"train.warmup_steps = {train.warmup_steps} leaves nothing of the run's {total} steps "
            f"(train.epochs = {train.epochs} of {steps_per_epoch} batches)"
        )
    cosine = partial(
        warmup_cosine,
        peak=train.learning_rate,
        warmup_steps=train.warmup_steps,
        total_steps=total,
    )
    return lambda epoch, step: cosine(step)


def forecast_memory(
    model: UAFNO, config: NoaConfig, bundle: Bundle, *, parts: int = 1
) -> MemoryForecast:
    """How much memory a step will take, measured on the model's device.

    Args:
        model: Whole; one in parts cannot be measured.
        config: Batch and window.
        bundle: Shapes.
        parts: Ranks that share gradients and optimizer state.
    """
    device = next(model.parameters()).device
    state = torch.zeros(1, len(bundle.channels), *bundle.shape, device=device)
    theta = torch.zeros(1, len(bundle.parameter_names), device=device)
    batch = min(config.train.batch_size, config.data.num_train)
    forecast = predict_memory(
        model,
        (state, theta),
        batch_size=-(-batch // config.train.accumulate),
        window=config.rollout.window,
        checkpoint_every=config.rollout.checkpoint_every,
    )
    return replace(forecast, optimizer=-(-forecast.optimizer // parts))


def report_forecast(forecast: MemoryForecast, *, device: torch.device) -> None:
    """Say it; refuse what does not fit.

    Raises:
        InputError: If the forecast is above what is free, with settings that fit.
    """
    check_memory(forecast, device=device)
    text = str(forecast)
    print(text[0].upper() + text[1:])
