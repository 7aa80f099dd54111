"""From what an app gives to what the engine steps: frozen and trained parameters, optimizer, deferrals."""

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from nops_train._config import TrainConfig
from nops_train._engine_shard import shard_model
from nops_train._engine_verdict import can_fuse, keep_kernel
from nops_train._errors import InputError
from nops_train._protocols import BatchSource
from nops_train._world import World

LearningRate = Callable[[int, int], float]


def freeze(model: nn.Module, patterns: Iterable[str]) -> None:
    """Switch off the gradient of the parameters whose names match a pattern, such as `encoder.*`.

    Raises:
        InputError: If a pattern matches none.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        names = fnmatch.filter(parameters, pattern)
        if not names:
            known = ", ".join(list(parameters)[:8])
            raise InputError(
                f"train.freeze: {pattern!r} matches no parameter; there are {known}, …"
            )
        for name in names:
            parameters[name].requires_grad_(False)


def place(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    *,
    config: TrainConfig,
    world: World,
    device: torch.device,
) -> nn.Module:
    """Freeze, move to the device, and give every rank rank 0's weights, or with `train.shard` its part of them.

    Raises:
        InputError: If the configuration does not fit the model.
    """
    freeze(model, config.freeze)
    if config.shard and world.active:
        world.copy_from_main(model.state_dict().values())
        shard_model(model, optimizer, device=device, world=world)
        return model
    model = model.to(device)
    world.copy_from_main(model.state_dict().values())
    return model


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the parameters that require a gradient; on CUDA in one kernel, which can skip a step by itself.

    Raises:
        InputError: If there are none.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InputError("the model has no parameter to train; train.freeze holds all of them")
    return torch.optim.AdamW(
        trained,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=can_fuse(trained) or None,
    )


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer that evaluates the loss by itself; the others keep their kernel when restored.

    Raises:
        InputError: For L-BFGS, whose steps the engine could not judge before they are made.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError(
            "LBFGS asks for the loss several times per step; give a first-order optimizer, and "
            "train.lbfgs_from for the end of the run"
        )
    keep_kernel(optimizer)


def check_learning_rate(learning_rate: LearningRate | None, config: TrainConfig) -> None:
    """Refuse a schedule that nobody computes.

    Raises:
        InputError: If the configuration asks for a schedule and no `learning_rate` is given.
    """
    if learning_rate is None and (config.lr_schedule != "constant" or config.warmup_steps):
        raise InputError(
            f"train.lr_schedule is {config.lr_schedule} with {config.warmup_steps} warm-up steps, but the "
            "engine was given no learning_rate(epoch, step); give one (nops_schedules.warmup_cosine), or "
            "set lr_schedule to constant and warmup_steps to 0"
        )


def check_sources(train: BatchSource, valid: BatchSource | None, config: TrainConfig) -> int:
    """Batches per epoch.

    Raises:
        InputError: If there is none, or early stopping or the learning rate has nothing to watch.
    """
    if train.num_batches < 1:
        raise InputError("the training source has no batch")
    if valid is None and config.early_stop_patience is not None:
        raise InputError("train.early_stop_patience needs a validation set")
    if valid is None and config.lr_schedule == "plateau":
        raise InputError("train.lr_schedule: plateau needs a validation set")
    return train.num_batches


def trained_parameters(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, nn.Parameter]:
    """The optimizer's parameters that require a gradient, by name; `optimizer[i]` for a foreign one."""
    names = {id(p): name for name, p in model.named_parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    return {names.get(id(p), f"optimizer[{i}]"): p for i, p in enumerate(held) if p.requires_grad}


def defer(candidates: Iterable[Any]) -> tuple[Any, ...]:
    """Those with `apply_update` and `discard_update`, each told to defer where it can be told."""
    found = {
        id(c): c for c in candidates if hasattr(c, "apply_update") and hasattr(c, "discard_update")
    }
    for owner in found.values():
        if hasattr(owner, "defer_updates"):
            owner.defer_updates()
    return tuple(found.values())
