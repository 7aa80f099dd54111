"""From the configuration to data, model, terms, weighting: construction, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from nops_data import (
    Batches,
    NormalisedBatches,
    Normaliser,
    PDEBench,
    Picked,
    Trajectories,
    Windows,
    open_splits,
    ordered_batches,
    training_batches,
    window_items,
)
from nops_models import UPT, UPTConfig
from nops_schedules import warmup_cosine
from nops_train import CurriculumConfig, InputError, join_world, make_learning_rate
from torch import nn

from upt_inverse.config import UptConfig, UptTrainConfig
from upt_inverse.config_data import GIVEN, UptDataConfig
from upt_inverse.config_loss import INVERSE
from upt_inverse.forecast import Forecaster
from upt_inverse.geometry import FieldMap, Geometry
from upt_inverse.states import TIME
from upt_inverse.task import UptTask
from upt_inverse.terms import Terms

SIZES = (
    *("tokens", "dim", "encoder_width", "encoder_depth", "approximator_depth"),
    *("approximator_width", "decoder_width", "decoder_self_depth", "decoder_cross_depth"),
    *("heads", "mlp_ratio", "frequencies"),
)  # what a preset of the model has sizes of its own for
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Everything that a run takes from its data."""

    geometry: Geometry
    fields: FieldMap
    channels: tuple[str, ...]
    frame_interval: float
    ranges: torch.Tensor  # of the scalars that condition the model: lowest value, width
    normaliser: Normaliser
    fingerprints: dict[str, str]  # of each file
    windows: Picked  # to train on, in the data's units
    train: NormalisedBatches
    valid: NormalisedBatches
    test: NormalisedBatches
    judged: tuple[int, ...]  # places of the channels that are predicted
    mean: torch.Tensor | None  # of a steady equation's training answers [1, channel, *grid]


def open_readers(config: UptConfig) -> dict[str, Any]:
    """The reader of each split of PDEBench's files.

    Raises:
        LayoutError: If a file is missing, damaged or in another layout, or files disagree.
        InputError: If a setting does not fit them.
    """
    data = config.data
    assert data.path is not None
    options: dict[str, Any] = {
        "task": data.pde,
        "parameters": data.parameters or None,
        "time_stride": data.time_stride,
        "from_rest": data.steady,
    }
    try:
        return {split: PDEBench(data.path, split=split, **options) for split in SPLITS}
    except ValueError as error:
        raise InputError(f"data: {error}") from error


def open_bundle(config: UptConfig, *, is_task: bool = False) -> Bundle:
    """Readers, windows and samplers over the data.

    Args:
        config: Of a run, or of one of its tasks.
        is_task: Whether it is one of several, whose batches are drawn together: `train` is then in
            order.

    Raises:
        InputError: If the grid is uneven, a condition is no scalar of the files, or a parameter varies
            that is no condition.
        LayoutError: If files are missing, damaged or do not fit each other.
    """
    if config.data.source == "pdebench":
        readers = open_readers(config)
        readers["train"].check_condition(config.model.condition)
        normaliser = Normaliser.fit(readers["train"])
        fingerprints, interval = readers["train"].fingerprints(), readers["train"].frame_interval
    else:
        assert config.data.path is not None
        if hidden := [name for name in config.data.vary if name not in config.model.condition]:
            raise InputError(
                f"data.vary: {hidden[0]} differs between trajectories, and the model is not told: add it "
                f"to model.condition, which is {list(config.model.condition)}"
            )
        splits = open_splits(config.data.path)
        readers = {split: splits[split] for split in SPLITS}
        normaliser, fingerprints = splits.normaliser, splits.fingerprints
        interval = splits.frame_interval
    sources = _Sources(config, readers, normaliser)
    return Bundle(
        geometry=Geometry.of(readers["train"]),
        fields=FieldMap.of(readers["train"]),
        channels=readers["train"].channels,
        frame_interval=round(interval, 6),
        ranges=sources.ranges(),
        normaliser=normaliser,
        fingerprints=fingerprints,
        windows=sources.windows(),
        train=sources.ordered() if is_task else sources.drawn(),
        valid=sources.whole("valid", shared=True),
        test=sources.whole("test", shared=False),
        judged=_judged(config.data, readers["train"]),
        mean=_mean_answer(config.data, readers["train"]) if config.data.steady else None,
    )


def _judged(data: UptDataConfig, reader: Trajectories) -> tuple[int, ...]:
    given = GIVEN.get(data.pde, ())
    return tuple(place for place, name in enumerate(reader.channels) if name not in given)


def _mean_answer(data: UptDataConfig, reader: Trajectories) -> torch.Tensor:
    """Mean over the training flows of each cell, float64."""
    total = torch.zeros(1, len(reader.channels), *reader.shape, dtype=torch.float64)
    for index in range(data.num_train):
        total += reader.read(index, start=1)
    return total / data.num_train


class _Sources:
    """Windows of the splits as normalised batches."""

    def __init__(self, config: UptConfig, readers: dict[str, Any], normaliser: Normaliser) -> None:
        self._config, self._readers, self._normaliser = config, readers, normaliser
        self._columns = _columns(config, readers["train"])

    def ranges(self) -> torch.Tensor:
        """Lowest value and width of each scalar, `[2, parameter]`; the_well's reader maps its own."""
        if self._config.data.source != "pdebench":
            return torch.tensor([[0.0], [1.0]]).expand(2, len(self._columns))
        values = self._readers["train"].parameters[:, self._columns]
        width = values.amax(0) - values.amin(0)
        return torch.stack([values.amin(0), width.where(width > 0, 1.0)])

    def windows(self) -> Picked:
        """Every window of the training trajectories."""
        config = self._config
        length = config.model.history + config.loss.steps
        items = window_items(
            self._readers["train"],
            count=config.data.num_train,
            length=length,
            frames=config.frames,
        )
        windows = Windows(self._readers["train"], length=length, start="all")
        return Picked(windows, items, parameters=self._columns)

    def ordered(self) -> NormalisedBatches:
        """Every window once, in order."""
        train = self._config.train
        batches = ordered_batches(self.windows(), batch_size=train.batch_size, device=train.device)
        return self._normalised(batches)

    def drawn(self) -> NormalisedBatches:
        """Every window, in a new order each epoch."""
        config, world = self._config, join_world()
        batches = training_batches(
            self.windows(),
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            rank=world.rank,
            world_size=world.size,
            num_workers=config.train.num_workers,
            device=config.train.device,
        )
        return self._normalised(batches)

    def whole(self, split: str, *, shared: bool) -> NormalisedBatches:
        """Whole trajectories in order; `shared`, this rank's stretch of them."""
        config, world = self._config, join_world()
        reader: Trajectories = self._readers[split]
        count = getattr(config.data, f"num_{split}")
        if shared and count < world.size:
            raise InputError(
                f"data.num_{split} = {count} for {world.size} ranks, expected one each"
            )
        windows = Windows(reader, length=config.frames, start="first")
        ranks = {"rank": world.rank, "world_size": world.size} if shared else {}
        batches = ordered_batches(
            Picked(windows, range(count), parameters=self._columns),
            batch_size=config.train.batch_size,
            device=config.train.device,
            **ranks,
        )
        return self._normalised(batches)

    def _normalised(self, batches: Batches) -> NormalisedBatches:
        axis = -1 - len(self._readers["train"].shape)

        def normalise(frames: torch.Tensor) -> torch.Tensor:
            return self._normaliser.normalise(frames, channel_dim=axis)

        return NormalisedBatches(batches, normalise)


def _columns(config: UptConfig, reader: Any) -> list[int]:
    """Columns of the files' scalars that condition the model.

    Raises:
        InputError: If there is none of a name.
    """
    names = [name for name in config.model.condition if name != TIME]
    for name in names:
        if name not in reader.parameter_names:
            known = ", ".join((TIME, *reader.parameter_names))
            raise InputError(f"model.condition: {name!r} is none of {known}")
    return [reader.parameter_names.index(name) for name in names]


def build_model(config: UptConfig, bundle: Bundle) -> UPT:
    """The transformer that fits the data.

    Raises:
        InputError: If its sizes contradict each other or the data.
    """
    sizes = model_config(config, bundle)
    try:
        return UPT(sizes)
    except ValueError as error:
        raise InputError(f"model: {error}") from error


def model_config(config: UptConfig, bundle: Bundle) -> UPTConfig:
    """The sizes of the transformer that fits the data.

    Raises:
        InputError: If they contradict each other or the data.
    """
    settings, geometry = config.model, bundle.geometry
    grid = settings.encoder == "grid"
    options: dict[str, Any] = {
        "fields": dict(bundle.fields.fields),
        "ndim": len(geometry.shape),
        "lengths": geometry.lengths,
        "periodic": tuple(axis for axis, closed in enumerate(geometry.periodic) if closed),
        "grid_shape": geometry.shape if grid else None,
        "patch_size": settings.patch_size if grid else None,
        "supernodes": None if grid else settings.supernodes,
        "radius": None if grid else settings.radius,
        "time_steps": config.data.num_steps if TIME in settings.condition else None,
    }
    named = ("encoder", "max_neighbors", "qk_norm", "drop_path", "history", "condition")
    options |= {name: getattr(settings, name) for name in (*named, "latent_norm")}
    try:
        if settings.preset is not None:
            return UPTConfig.preset(settings.preset, **options)
        return UPTConfig(**options, **{name: getattr(settings, name) for name in SIZES})
    except ValueError as error:
        raise InputError(f"model: {error}") from error


def build_task(
    config: UptConfig, bundle: Bundle, model: UPT, *, seed: int | None = None
) -> UptTask:
    """Terms and metrics of the model.

    Args:
        config: Of the run, or of a task.
        bundle: Of its data.
        model: That steps through them.
        seed: Of the draws; None: that of training.

    Raises:
        InputError: If a term does not fit the grid.
    """
    check_penalties(config, bundle)
    terms = Terms(
        config.loss,
        geometry=bundle.geometry,
        fields=bundle.fields,
        normaliser=bundle.normaliser,
        num_steps=config.data.num_steps,
    )
    return UptTask(
        forecaster=build_forecaster(config, bundle, model),
        terms=terms,
        loss=config.loss,
        normaliser=bundle.normaliser,
        seed=config.train.seed if seed is None else seed,
        judged=bundle.judged,
    )


def build_forecaster(config: UptConfig, bundle: Bundle, model: UPT) -> Forecaster:
    """The model on the data's grid."""
    return Forecaster(
        model=model,
        geometry=bundle.geometry,
        fields=bundle.fields,
        condition=config.model.condition,
        ranges=bundle.ranges,
    )


def check_penalties(config: UptConfig, bundle: Bundle) -> None:
    """Refuse a penalty that the grid has no place for.

    Raises:
        InputError: Naming term, field and axis.
    """
    loss, geometry = config.loss, bundle.geometry
    if loss.L_conservation and config.data.steady:
        raise InputError(
            f"loss.L_conservation: {config.data.pde} is steady, and starts from a field of zeros"
        )
    if loss.L_boundary and all(geometry.periodic):
        raise InputError("loss.L_boundary: every axis is periodic, so the grid has no border")
    for axis, side in enumerate(geometry.shape):
        if loss.L_boundary and side == 1:
            raise InputError(f"loss.L_boundary: axis {axis} has one cell, all of which is border")
        if loss.L_divergence and side < 3:
            raise InputError(f"loss.L_divergence: axis {axis} has {side} cells, expected 3")
    name = loss.divergence_field
    found = bundle.fields.fields.get(name) if name else len(geometry.shape)
    if found != len(geometry.shape):
        fields = ", ".join(f"{field} ({n})" for field, n in bundle.fields.fields.items())
        raise InputError(
            f"loss.divergence_field = {name}: expected a field with {len(geometry.shape)} "
            f"components, one per axis; the data have {fields}"
        )


def describe_weighting(config: UptConfig) -> str | None:
    """What the cap of a curriculum does, in a line; None without a cap."""
    if not isinstance(config.weighting, CurriculumConfig) or config.weighting.cap is None:
        return None
    cap, weights = config.weighting.cap, config.weights()
    inverse = [name for name in weights if name.rpartition(".")[2] in INVERSE]
    clipped = [name for name in inverse if weights[name] > cap]
    if not clipped:
        return f"weighting.cap = {cap:g} never binds: the inverse losses' weights are below it"
    return f"weighting.cap = {cap:g} clips {' and '.join(clipped)}; the ramp ends there early"


def learning_rate(config: UptConfig, *, steps_per_epoch: int) -> Callable[[int, int], float]:
    """The rate of each optimizer step.

    Raises:
        InputError: If the warm-up is as long as the run.
    """
    return make_learning_rate(config.train, steps_per_epoch=steps_per_epoch, cosine=warmup_cosine)


def build_optimizer(train: UptTrainConfig, model: nn.Module) -> torch.optim.Optimizer | None:
    """The optimizer; None for the engine's own, AdamW."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if train.optimizer == "adam":
        return torch.optim.Adam(weights, lr=train.learning_rate)
    if train.optimizer == "sgd":
        rate, decay = train.learning_rate, train.weight_decay
        return torch.optim.SGD(weights, lr=rate, momentum=0.9, weight_decay=decay)
    return None
