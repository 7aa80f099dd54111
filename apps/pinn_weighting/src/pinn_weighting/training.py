"""One run from config to report, read from top to bottom."""

from dataclasses import dataclass
from typing import Any

import torch
from nops_train import (
    Engine,
    InputError,
    Invocation,
    RunFolder,
    continued_config,
    join_world,
    load_checkpoint,
    load_weights,
    neutral_keys,
    read_events,
)
from torch import nn

from pinn_weighting.build import (
    Problem,
    build_model,
    build_optimizer,
    build_weighting,
    learning_rate,
    open_problem,
)
from pinn_weighting.chain import scheme_warning
from pinn_weighting.config import PinnConfig
from pinn_weighting.evaluation import evaluate_problem, print_scores, store_evaluation
from pinn_weighting.report import write_report
from pinn_weighting.tasks import ChainTask, PointTask
from pinn_weighting.weightings import Chosen, equalized_lines, passes_made

NEUTRAL = neutral_keys("evaluate", "compare")


def train_run(config: PinnConfig, call: Invocation) -> None:
    """Train, or go on; then evaluate and write the report."""
    config = continued_config(config, call).settled()
    parts = Parts.of(config)  # what is refused leaves no run behind
    for line in advice(config):
        print(f"warning: {line}")
    run = RunFolder.open(
        call.runs,
        app=call.app,
        name=call.name,
        config=config,
        resume=call.resume,
        neutral=NEUTRAL,
    )
    call.folder = run.path
    train_in(run, parts)
    if join_world().is_main:
        for line in equalized_lines(load_checkpoint(run.checkpoints.path)["weighting"]):
            print(line)
        print_scores(run)
        print(f"Report: {write_report(run)}")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of."""

    config: PinnConfig
    problem: Problem
    model: nn.Module
    chosen: Chosen
    task: PointTask | ChainTask

    @classmethod
    def of(cls, config: PinnConfig) -> "Parts":
        """Built from a settled config.

        Raises:
            InputError: If settings do not fit each other.
        """
        problem = open_problem(config)
        model, chosen = build_model(config, problem), build_weighting(config)
        task = problem.task(model, chosen)
        return cls(config=config, problem=problem, model=model, chosen=chosen, task=task)


def train_in(run: RunFolder, parts: Parts) -> None:
    """Train the run of a folder to its end; on one rank, evaluate it."""
    config, problem, model = parts.config, parts.problem, parts.model
    source = problem.train
    samples = source.num_batches * config.train.batch_size if config.problem.is_chain else 1
    engine = Engine(
        task=parts.task,
        weighting=parts.chosen.weighting,
        model=model,
        config=config.train,
        run=run,
        optimizer=build_optimizer(config, model),
        learning_rate=learning_rate(config, source, samples=samples),
    )
    if run.checkpoints.newest() is None:
        measure_first(parts, engine.device)
    result = engine.fit(source, problem.valid)
    if engine.world.is_main:
        error = result.metrics[config.train.monitor]
        run.update_summary(validation_error=error, step_seconds=step_seconds(run))
        evaluate_in(run, parts)


def step_seconds(run: RunFolder) -> float | None:
    """Wall time of a step: the least mean of an epoch, which other work on the machine disturbs least."""
    epochs = [event for event in read_events(run.path) if event["event"] == "epoch"]
    return min((e["seconds"] / e["applied"] for e in epochs if e["applied"]), default=None)


def measure_first(parts: Parts, device: torch.device) -> None:
    """Give an adaptive weighting the losses of a few batches before the first step, where asked for."""
    count, weighting = parts.config.train.measure_batches, parts.chosen.weighting
    if not count or parts.config.weighting.kind != "adaptive":
        return
    active = frozenset(name for name, weight in weighting.terms.items() if weight > 0)
    taken = []
    for number, batch in enumerate(parts.problem.train.batches(epoch=0, skip=0)):
        if number == count:
            break
        held = {name: values.to(device) for name, values in batch.items()}
        losses = parts.task.losses(held, epoch=0, step=0, active=active)
        taken.append({name: value.item() for name, value in losses.items()})
    weighting.measure(taken)


def evaluate_in(run: RunFolder, parts: Parts) -> None:
    """Score the run's weights, and keep what the report needs."""
    found = run.checkpoints.newest()
    if found is None:
        raise InputError(f"{run.path}: holds no checkpoint yet")
    is_best = parts.config.evaluate.checkpoint == "best"
    load_weights(parts.model, run.path if is_best else run.checkpoints.path / found.name)
    evaluation = evaluate_problem(parts.config, parts.problem, parts.model, parts.task)
    made = passes_made(parts.config, load_checkpoint(run.checkpoints.path))
    store_evaluation(run, evaluation, passes=made)


def evaluate_run(config: PinnConfig, call: Invocation) -> None:
    """Evaluate a run folder again, and write its report."""
    assert call.folder is not None
    run = RunFolder.at(call.folder)
    evaluate_in(run, Parts.of(config.settled()))
    print_scores(run)
    print(f"Report: {write_report(run)}")


def advice(config: PinnConfig) -> list[str]:
    """What is likely to go wrong with a config, though it may be meant."""
    found: list[Any] = []
    if config.problem.is_chain:
        chain = open_problem(config).chain  # pyright: ignore[reportAttributeAccessIssue]
        found.append(scheme_warning(chain, config.physics.scheme))
        if config.train.weight_decay and config.train.optimizer != "adamw":
            found.append(
                "train.weight_decay enters the gradient of losses near 1e-6 and rules it; take "
                "adamw, or 0"
            )
    if config.weighting.kind == "momentum_config" and config.train.optimizer != "sgd":
        found.append(
            f"weighting.kind = momentum_config has moments of its own, and so has "
            f"train.optimizer = {config.train.optimizer}: take sgd"
        )
    return [line for line in found if line]
