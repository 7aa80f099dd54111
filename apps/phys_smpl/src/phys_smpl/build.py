"""From the configuration to model, weights, rates and batches: construction, and nothing else."""

import math
from collections.abc import Callable
from typing import Any

import torch
from nops_data import Batches, Rows, ordered_batches, training_batches
from nops_models import PhysicsVAE, PhysicsVAEConfig
from nops_schedules import LinearAnnealing, Phases
from nops_train import InputError, join_world

from phys_smpl.config import PhysConfig, PhysTrainConfig, base_weights
from phys_smpl.config_loss import RampConfig
from phys_smpl.data import Bundle, Split, sequence_index
from phys_smpl.task import PhysTask


def build_model(config: PhysConfig, bundle: Bundle) -> PhysicsVAE:
    """The VAE around the physics.

    Raises:
        InputError: If sizes contradict each other or the physics.
    """
    settings = config.model.model_dump()
    try:
        return PhysicsVAE(
            PhysicsVAEConfig(**settings), bundle.physics, x_mean=bundle.mean, x_scale=bundle.scale
        )
    except ValueError as error:
        raise InputError(f"model: {error}") from error


def build_weighting(config: PhysConfig) -> Any:
    """The bootstrap alone for some epochs, then the other terms by the rule of the section.

    Under constant weights divergences rise from 0; another rule decides by itself.
    """
    if config.weighting.kind != "constant":
        return config.rule()
    warmup, weights = config.phases.kl_warmup_epochs, base_weights(config)
    first = {name: weights.pop(name) for name in ("bootstrap",) if name in weights}
    then: dict[str, Any] = {
        name: LinearAnnealing(end=weight, epochs=warmup) if name.startswith("kl_") else weight
        for name, weight in weights.items()
    }
    return Phases(pretrain=config.pretrain, pretrain_weights=first, train_weights=then)


def ramp(section: RampConfig) -> LinearAnnealing:
    """A value over the epochs of training."""
    return LinearAnnealing(start=section.init, end=section.final, epochs=section.warmup_epochs)


def settled_epoch(config: PhysConfig) -> int:
    """The epoch at which all that moves by the calendar has arrived: patience counts from there."""
    phases, weights = config.phases, base_weights(config)
    lengths = [0]
    annealed = {"kl_physics", "kl_aux"} if config.weighting.kind == "constant" else set()
    if weights.keys() & (annealed | {"capacity"}):
        lengths.append(phases.kl_warmup_epochs)
    if config.model.kind == "C":
        lengths += [phases.tau.warmup_epochs, phases.r.warmup_epochs]
    return config.pretrain + max(lengths)


def learning_rate(config: PhysConfig) -> Callable[[int, int], float]:
    """The initial rate in pretraining, then a cosine of the epochs of training alone."""
    train = config.train
    total = train.cosine_epochs or train.epochs - config.pretrain

    def rate(epoch: int, step: int) -> float:
        at = epoch - config.pretrain
        if at < 0 or train.lr_schedule == "constant":
            return train.learning_rate
        return train.learning_rate * 0.5 * (1 + math.cos(math.pi * at / total))

    return rate


def build_optimizer(train: PhysTrainConfig, model: PhysicsVAE) -> torch.optim.Optimizer:
    """Adam over all parameters."""
    return torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=train.learning_rate,
        weight_decay=train.weight_decay,
        amsgrad=train.amsgrad,
        eps=train.adam_eps,
    )


def build_task(
    config: PhysConfig, model: PhysicsVAE, *, note: Callable[..., None] | None = None
) -> PhysTask:
    """Terms and metrics.

    Args:
        config: Of the run.
        model: That is trained.
        note: Called as `note("warning", message=…)` where the physics gives what is not finite.
    """
    loss, warmup = config.loss, config.phases.kl_warmup_epochs
    target = loss.capacity.c_max if loss.capacity.c_max is not None else float(model.latent_dim)
    return PhysTask(
        model=model,
        loss=loss,
        pretrain=config.pretrain,
        r=ramp(config.phases.r),
        tau=ramp(config.phases.tau),
        capacity=LinearAnnealing(end=target, epochs=warmup),
        note=note,
    )


def rows_of(config: PhysConfig, split: Split) -> Rows:
    """The rows of a split as items, or stretches of them."""
    values = {"x": split.x, **{f"input_{name}": held for name, held in split.inputs.items()}}
    if split.time is not None:
        values["time"] = split.time
    length = config.data.sequence_length
    return Rows(values, index=None if length is None else sequence_index(split, length))


def sources(config: PhysConfig, bundle: Bundle) -> tuple[Batches, Batches]:
    """Batches to train and to validate on.

    Raises:
        InputError: If there are fewer rows than ranks, or no stretch is long enough.
    """
    world, train = join_world(), config.train
    shared: dict[str, Any] = {
        "rank": world.rank,
        "world_size": world.size,
        "device": train.device,
    }
    drawn, valid = (rows_of(config, bundle.splits[name]) for name in ("train", "valid"))
    try:
        return (
            training_batches(
                drawn,
                batch_size=train.batch_size,
                seed=train.seed,
                num_workers=train.num_workers,
                **shared,
            ),
            ordered_batches(valid, batch_size=train.valid_batch_size, **shared),
        )
    except ValueError as error:
        raise InputError(f"train.batch_size: {error}") from error
