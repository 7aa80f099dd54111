"""One run from data to report, read from top to bottom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nops_models import UPT
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
)
from nops_train import export as export_weights

from upt_inverse.build import (
    Bundle,
    build_model,
    build_optimizer,
    build_task,
    describe_weighting,
    learning_rate,
    open_bundle,
)
from upt_inverse.config import UptConfig
from upt_inverse.evaluation import Evaluation, evaluate_model
from upt_inverse.generation import ensure_data, settle_data
from upt_inverse.memory import (
    first_batch,
    forecast_of_all_points,
    memory_advice,
    report_memory,
)
from upt_inverse.reach import gradient_reach
from upt_inverse.report import print_errors, store_evaluation, write_report
from upt_inverse.task import UptTask

NEUTRAL = neutral_keys("evaluate", "arms", "seeds", "horizons")


def train_run(config: UptConfig, call: Invocation) -> None:
    """Train, or go on; then, on one rank, evaluate and write the report."""
    config = settle_data(continued_config(config, call), explicit=call.explicit)
    ensure_data(config)
    join_world().barrier()  # the ranks share the shards: each waits for those of the others
    parts = Parts.of(config)  # what is refused leaves no run behind
    run = RunFolder.open(
        call.runs,
        app=call.app,
        name=call.name,
        config=config,
        resume=call.resume,
        neutral=NEUTRAL,
    )
    call.folder = run.path
    if line := describe_batch(config, call):
        print(line)
    train_in(run, parts)
    if join_world().is_main:
        print(f"Report: {write_report(run)}")


def describe_batch(config: UptConfig, call: Invocation) -> str | None:
    """What a batch size is of, where it came by its old name; None elsewhere."""
    if "training.batch_size" not in call.explicit.get("train.batch_size", ""):
        return None
    return (
        f"training.batch_size = {config.train.batch_size} counts windows of an optimizer step; where the key "
        "comes from it counted trajectories"
    )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of."""

    config: UptConfig
    bundle: Bundle
    model: UPT
    task: UptTask
    learning_rate: Callable[[int, int], float]

    @classmethod
    def of(cls, config: UptConfig) -> "Parts":
        """Built from a config that is settled.

        Raises:
            InputError: If settings fit neither each other nor the data.
            LayoutError: If files are missing, damaged or do not fit each other.
        """
        bundle = open_bundle(config)
        torch.manual_seed(config.train.seed)
        model = build_model(config, bundle)
        return cls(
            config=config,
            bundle=bundle,
            model=model,
            task=build_task(config, bundle, model),
            learning_rate=learning_rate(config, steps_per_epoch=bundle.train.num_batches),
        )


def train_in(run: RunFolder, parts: Parts) -> None:
    """Train the run of a folder to its end; on one rank, evaluate it."""
    config, bundle, model, task = parts.config, parts.bundle, parts.model, parts.task
    if line := describe_weighting(config):
        print(line)
    engine = Engine(
        task=task,
        weighting=config.rule(),
        model=model,
        config=config.train,
        run=run,
        optimizer=build_optimizer(config.train, model),
        learning_rate=parts.learning_rate,
        stateful={"normaliser": bundle.normaliser},
        fingerprint=bundle.fingerprints,
    )
    forecast = {"predicted_memory": report_memory(config, bundle, model)}
    if whole := forecast_of_all_points(config, bundle, model):
        forecast["predicted_memory_of_all_points"] = whole
    with memory_advice(config, bundle, model):
        engine.fit(bundle.train, bundle.valid)
    if engine.world.is_main:
        evaluate_in(run, config, bundle, model, forecast=forecast)


def evaluate_in(
    run: RunFolder,
    config: UptConfig,
    bundle: Bundle,
    model: UPT,
    *,
    forecast: Mapping[str, int] | None = None,
) -> Evaluation:
    """Score the run's weights on the test trajectories, and keep what the report needs."""
    print("Evaluating on held-out trajectories…", flush=True)
    source = weights_source(run, config.evaluate.checkpoint)
    check_statistics(run, bundle)
    load_weights(model, source)
    evaluation = evaluate_model(config, bundle, model)
    task, terms = build_task(config, bundle, model), config.loss.weights()
    model.train()
    reach = gradient_reach(task, first_batch(bundle, next(model.parameters()).device), terms)
    facts = {
        "reach": {term: list(groups) for term, groups in reach.items()},
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "points": bundle.geometry.num_points,
        **(forecast or {}),
    }
    store_evaluation(run, evaluation, facts)
    run.update_summary(metrics=evaluation.summary(), baselines=evaluation.baselines())
    export_weights(run.path, run.path / "export")
    print_errors(evaluation)
    return evaluation


def evaluate_run(config: UptConfig, call: Invocation) -> None:
    """Evaluate a run folder again, and write its report."""
    assert call.folder is not None
    run = RunFolder.at(call.folder)
    bundle = open_bundle(config)
    evaluate_in(run, config, bundle, build_model(config, bundle))
    print(f"Report: {write_report(run)}")


def weights_source(run: RunFolder, checkpoint: str) -> Path:
    """The run itself for its best weights, or the file of its last.

    Raises:
        InputError: If it has no checkpoint yet.
    """
    found = run.checkpoints.newest()
    if found is None:
        raise InputError(f"{run.path}: holds no checkpoint yet")
    return run.path if checkpoint == "best" else run.checkpoints.path / found.name


def check_statistics(run: RunFolder, bundle: Bundle) -> None:
    """Refuse data that are normalised otherwise than those the run was trained on.

    Raises:
        InputError: With both statistics of the first channel that differs.
    """
    stored: Any = load_checkpoint(run.checkpoints.path)["stateful"]["normaliser"]
    for name in ("mean", "std"):
        held, found = stored[name], getattr(bundle.normaliser, name)
        if held.shape != found.shape or not torch.allclose(held, found, rtol=1e-6, atol=1e-12):
            raise InputError(
                f"{run.path}: the run normalised with {name} {held.tolist()}, its data have "
                f"{found.tolist()} now; expected the train split that it was trained on"
            )
