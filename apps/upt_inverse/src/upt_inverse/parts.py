"""What a run is made of: one task, or several around one approximator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nops_models import UPT, UPTMixture
from nops_physics import derive_seed
from nops_train import BatchSource, InputError
from torch import nn

from upt_inverse.build import (
    Bundle,
    build_model,
    build_task,
    learning_rate,
    model_config,
    open_bundle,
)
from upt_inverse.config import UptConfig
from upt_inverse.generation import of_task
from upt_inverse.mixture import MixedBatches, MixedTask, MixedValidation
from upt_inverse.task import UptTask


@dataclass(frozen=True, kw_only=True)
class Part:
    """One task: all that a run of it alone is made of.

    Attributes:
        config: Of such a run.
        bundle: Of its data.
        model: E, A and G; among several tasks A is shared.
        task: Terms and metrics.
    """

    config: UptConfig
    bundle: Bundle
    model: UPT
    task: UptTask


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of.

    Attributes:
        config: Of the run.
        tasks: By name; that of a run without tasks is empty.
        model: All that is trained.
        task: What the engine asks for terms and metrics.
        train: Batches to train on.
        valid: Batches to validate on.
        learning_rate: Of each step.
    """

    config: UptConfig
    tasks: Mapping[str, Part]
    model: nn.Module
    task: UptTask | MixedTask
    train: BatchSource
    valid: BatchSource
    learning_rate: Callable[[int, int], float]

    @classmethod
    def of(cls, config: UptConfig) -> "Parts":
        """Built from a config that is settled.

        Raises:
            InputError: If settings fit neither each other nor the data.
            LayoutError: If files are missing, damaged or do not fit each other.
        """
        return _of_tasks(config) if config.tasks else _of_one(config)

    @property
    def stateful(self) -> dict[str, Any]:
        """What a checkpoint holds beside the model."""
        return {normaliser_of(name): part.bundle.normaliser for name, part in self.tasks.items()}

    @property
    def fingerprints(self) -> dict[str, str]:
        """Sums of all files."""
        return {
            f"{name}/{file}" if name else file: held
            for name, part in self.tasks.items()
            for file, held in part.bundle.fingerprints.items()
        }

    def one(self, name: str | None, *, flag: str) -> Part:
        """The task of a name; that of a run without tasks needs none.

        Args:
            name: As given, or None.
            flag: Where it is given.

        Raises:
            InputError: If there is no such task, naming those there are.
        """
        wanted = name or ""
        if wanted not in self.tasks:
            known = ", ".join(filter(None, self.tasks)) or "none, as the run has no tasks"
            raise InputError(f"{flag}: expected one of {known}; found {name or 'nothing'}")
        return self.tasks[wanted]


def normaliser_of(name: str) -> str:
    """Under which name a checkpoint holds a task's statistics."""
    return f"normaliser.{name}" if name else "normaliser"


def _of_one(config: UptConfig) -> Parts:
    bundle = open_bundle(config)
    torch.manual_seed(config.train.seed)
    model = build_model(config, bundle)
    task = build_task(config, bundle, model)
    return Parts(
        config=config,
        tasks={"": Part(config=config, bundle=bundle, model=model, task=task)},
        model=model,
        task=task,
        train=bundle.train,
        valid=bundle.valid,
        learning_rate=learning_rate(config, steps_per_epoch=bundle.train.num_batches),
    )


def _of_tasks(config: UptConfig) -> Parts:
    configs, bundles, sizes = config.parts(), {}, {}
    for name, own in configs.items():
        with of_task(name):
            bundles[name] = open_bundle(own, is_task=True)
            sizes[name] = model_config(own, bundles[name])
    torch.manual_seed(config.train.seed)
    try:
        model = UPTMixture(sizes)
    except ValueError as error:
        raise InputError(f"model: {error}") from error
    train, tasks = MixedBatches(config, bundles), {}
    for number, (name, own) in enumerate(configs.items()):
        seed = derive_seed("task", config.train.seed, number)
        with of_task(name):
            task = build_task(own, bundles[name], model[name], seed=seed)
        tasks[name] = Part(config=own, bundle=bundles[name], model=model[name], task=task)
    return Parts(
        config=config,
        tasks=tasks,
        model=model,
        task=MixedTask(
            tasks={name: part.task for name, part in tasks.items()},
            samples={name: part.config.data.num_valid for name, part in tasks.items()},
        ),
        train=train,
        valid=MixedValidation(bundles),
        learning_rate=learning_rate(config, steps_per_epoch=train.num_batches),
    )
