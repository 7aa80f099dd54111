"""From the configuration to data, model, terms, weighting: construction, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from nops_data import (
    Batches,
    NormalisedBatches,
    Normaliser,
    Picked,
    WellReader,
    Windows,
    open_splits,
    ordered_batches,
    training_batches,
)
from nops_models import FNO, UAFNO, FNOConfig, StepModel, UAFNOConfig, UNet, UNetConfig
from nops_schedules import FlexibleLossScheduler, warmup_cosine
from nops_train import (
    InputError,
    MemoryForecast,
    forecast_memory,
    join_world,
    make_learning_rate,
)

from turbulence.arms import final_weights
from turbulence.config import TurbulenceConfig
from turbulence.config_loss import OWN_GRADIENT, REST_GRADIENT
from turbulence.config_weighting import SchedulerConfig
from turbulence.data_fields import (
    domain_of,
    fields_named,
    parameter_columns,
    published_moments,
)
from turbulence.gradients import GradientNorms
from turbulence.task import FlowTask
from turbulence.terms import Domain, check_domain, check_terms, make_metrics, make_terms


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Everything that a run takes from its data."""

    name: str
    channels: tuple[str, ...]
    parameter_names: tuple[str, ...]
    shape: tuple[int, ...]
    domain: Domain
    frame_interval: float
    normaliser: Normaliser
    fingerprints: dict[str, str]  # of each file
    train: NormalisedBatches
    num_windows: int  # that training draws from
    valid: NormalisedBatches
    test: WellReader
    parameters: tuple[int, ...]  # columns of the files' scalars that condition the model


def open_bundle(config: TurbulenceConfig) -> Bundle:
    """Readers, windows and samplers over the folder `data.path`.

    Raises:
        InputError: If the fields are not two-dimensional, or a name is none of the files'.
        LayoutError: If files are missing, damaged or do not fit each other.
    """
    folder = config.data.path
    assert folder is not None
    fields = fields_named(WellReader(folder, split="train"), config.data.fields)
    splits = open_splits(folder, fields=fields)
    train = splits.train
    if len(train.shape) != 2:
        raise InputError(f"{folder}: fields on a {len(train.shape)}-dimensional grid; expected 2")
    columns = parameter_columns(train, config.data.parameters)
    normaliser = published_moments(splits.normaliser, config.data.normalise)
    limit = config.train.steps_per_epoch
    drawn, whole = _drawn(config, train, columns), _whole(config, splits.valid, columns)
    return Bundle(
        name=train.dataset_name,
        channels=train.channels,
        parameter_names=config.data.parameters,
        shape=train.shape,
        domain=domain_of(folder, train, normaliser),
        frame_interval=round(splits.frame_interval, 6),
        normaliser=normaliser,
        fingerprints=splits.fingerprints,
        train=NormalisedBatches(drawn, normaliser.normalise, limit=limit),
        num_windows=len(drawn.dataset),
        valid=NormalisedBatches(whole, normaliser.normalise),
        test=splits.test,
        parameters=columns,
    )


def _drawn(config: TurbulenceConfig, reader: WellReader, columns: tuple[int, ...]) -> Batches:
    """Every window, in a new order each epoch."""
    world = join_world()
    return training_batches(
        _windows(config, reader, columns, stride=1),
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        rank=world.rank,
        world_size=world.size,
        num_workers=config.train.num_workers,
        device=config.train.device,
    )


def _whole(config: TurbulenceConfig, reader: WellReader, columns: tuple[int, ...]) -> Batches:
    """Windows without overlap, in order; with several ranks, this one's stretch of them."""
    world, windows = join_world(), _windows(config, reader, columns, stride=config.train.unroll)
    if len(windows) < world.size:
        count = config.data.num_valid
        raise InputError(f"data.num_valid: {count} trajectories are too few for the ranks")
    return ordered_batches(
        windows,
        batch_size=config.train.batch_size,
        rank=world.rank,
        world_size=world.size,
        device=config.train.device,
    )


def _windows(
    config: TurbulenceConfig, reader: WellReader, columns: tuple[int, ...], *, stride: int
) -> Picked:
    """Every `stride`-th window within `data.num_steps`, of the trajectories that are used."""
    length = config.model.previous_frames + config.train.unroll
    count = getattr(config.data, f"num_{reader.split}")
    steps = min(reader.num_frames - 1, config.data.num_steps)
    items = _starts(reader, count=count, length=length, steps=steps, stride=stride)
    return Picked(Windows(reader, length=length, start="all"), items, parameters=columns)


def _starts(reader: WellReader, *, count: int, length: int, steps: int, stride: int) -> list[int]:
    """Items of `Windows(start="all")`: every `stride`-th start within `steps`, of `count` samples."""
    items, first = [], 0
    for sample in range(count):
        items += [first + start for start in range(0, steps - length + 2, stride)]
        first += reader.frames_of(sample) - length + 1
    return items


def build_model(config: TurbulenceConfig, bundle: Bundle) -> StepModel:
    """The emulator that fits the data.

    Raises:
        InputError: If its sizes contradict each other.
    """
    settings = config.model
    common = {
        "in_channels": len(bundle.channels),
        "previous_frames": settings.previous_frames,
        "num_parameters": len(bundle.parameters),
        "padding": "circular" if all(bundle.domain.periodic) else "zeros",
        "residual_scale": bundle.normaliser.increment_scale if settings.residual else None,
        "embedding": settings.embedding,
        "base_channels": settings.base_channels,
    }
    levels: dict[str, Any] = {
        "encoder_levels": settings.encoder_levels,
        "blocks_per_level": settings.blocks_per_level,
    }
    try:
        if settings.name == "unet":
            blocks = settings.bottleneck_blocks
            return UNet(UNetConfig(**common, **levels, bottleneck_blocks=blocks))
        if settings.name == "fno":
            assert settings.modes is not None
            return FNO(FNOConfig(**common, num_layers=settings.num_layers, modes=settings.modes))
        mixers = {name: getattr(settings, name) for name in ("afno_blocks", "afno_groups", "modes")}
        return UAFNO(UAFNOConfig(**common, **levels, **mixers))
    except ValueError as error:
        raise InputError(f"model: {error}") from error


def forecast(
    model: StepModel, config: TurbulenceConfig, bundle: Bundle, *, parts: int = 1
) -> MemoryForecast:
    """How much memory a step will take; `parts` ranks share gradients and optimizer state."""
    frames = torch.zeros(1, config.model.previous_frames, len(bundle.channels), *bundle.shape)
    parameters = torch.zeros(1, len(bundle.parameters))
    state = model.state_of(frames)
    return forecast_memory(
        model,
        (state, parameters) if bundle.parameters else (state,),
        train=config.train,
        num_samples=bundle.num_windows,
        window=config.train.unroll,
        parts=parts,
    )


def build_task(config: TurbulenceConfig, bundle: Bundle, model: StepModel) -> FlowTask:
    """Terms and metrics over the model's rollouts.

    Raises:
        InputError: If a term does not fit the domain.
    """
    used = frozenset(name for name, weight in build_weighting(config).terms.items() if weight > 0)
    check_domain(config.loss, bundle.domain, used)
    terms = make_terms(config.loss, bundle.domain)
    moving = {name: terms[name] for name in sorted(used)}
    check_terms(moving, bundle.domain, channels=len(bundle.channels))
    metrics = make_metrics(config.loss, bundle.domain, terms=terms)
    weights = end_weights(config)
    gradients = GradientNorms(terms=terms, weights=weights) if config.loss.is_measured else None
    more = () if gradients is None else (OWN_GRADIENT, REST_GRADIENT)
    check_monitors(config, [*metrics, "val_loss", *more, *moving])
    return FlowTask(
        model=model,
        terms=terms,
        metrics_of=metrics,
        val_weights=weights,
        fade=config.loss.fadeInPredLoss,
        gradients=gradients,
        growth=config.train.fadeInSeqLen,
        grows_linearly=config.train.fadeInSeqLenLin,
        noise=config.train.noise,
    )


def check_monitors(config: TurbulenceConfig, names: Sequence[str]) -> None:
    """Refuse a schedule that watches what no validation publishes.

    Raises:
        InputError: With the metric's name, and those there are.
    """
    if not isinstance(config.weighting, SchedulerConfig):
        return
    params = config.weighting.params()
    for monitor in params.monitors or (params.monitor_metric,):
        probe = FlexibleLossScheduler(replace(params, monitors=None, monitor_metric=monitor))
        try:
            probe.step(0, dict.fromkeys(names, 1.0))
        except ValueError as error:
            raise InputError(f"weighting: {error}") from error


def end_weights(config: TurbulenceConfig) -> dict[str, float]:
    """Weights at the end of training, scales included, but for one that is measured."""
    weights, scales = config.loss.weights(), config.loss.scales()
    if isinstance(config.weighting, SchedulerConfig):
        weights |= final_weights(config.weighting.params())
    return {name: weight * scales.get(name, 1.0) for name, weight in weights.items()}


def build_weighting(config: TurbulenceConfig, *, on_mismatch: str = "error") -> Any:
    """The rule that weighs the terms over time."""
    if not isinstance(config.weighting, SchedulerConfig):
        return config.rule(end_weights(config))
    params = config.weighting.params()
    moving = FlexibleLossScheduler(params).terms
    base = config.loss.weights()
    terms = {name: weight for name, weight in base.items() if weight or name in moving}
    scales = {name: scale for name, scale in config.loss.factors().items() if name in terms}
    return FlexibleLossScheduler(params, terms=terms, scale=scales, on_mismatch=on_mismatch)


def learning_rate(config: TurbulenceConfig, *, steps_per_epoch: int) -> Callable[[int, int], float]:
    """The rate of each optimizer step.

    Raises:
        InputError: If the warm-up is as long as the run.
    """
    return make_learning_rate(
        config.train,
        steps_per_epoch=steps_per_epoch,
        cosine=warmup_cosine,
        decay_per_epoch=config.train.lr_gamma,
    )
