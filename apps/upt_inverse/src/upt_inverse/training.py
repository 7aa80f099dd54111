"""One run from data to report, read from top to bottom."""

from collections.abc import Mapping
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
    weights_source,
)
from nops_train import export as export_weights
from torch import nn

from upt_inverse.build import build_optimizer, describe_weighting
from upt_inverse.config import UptConfig
from upt_inverse.evaluation import Evaluation, evaluate_model
from upt_inverse.generation import ensure_data, of_task, settle_data
from upt_inverse.memory import (
    first_batch,
    forecast_of_all_points,
    memory_advice,
    report_memory,
)
from upt_inverse.parts import Part, Parts, normaliser_of
from upt_inverse.reach import gradient_reach
from upt_inverse.report import print_errors, store_evaluations, summaries, write_report


def neutral_of(config: UptConfig) -> tuple[str, ...]:
    """Keys that may differ when a run goes on."""
    paths = (f"tasks.{name}.data.path" for name in config.tasks)
    return neutral_keys("evaluate", "arms", "seeds", "horizons", *paths)


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
        neutral=neutral_of(config),
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


def train_in(run: RunFolder, parts: Parts) -> None:
    """Train the run of a folder to its end; on one rank, evaluate it.

    Raises:
        InertTermError: If an enabled term of a task trains nothing.
    """
    config, model = parts.config, parts.model
    if line := describe_weighting(config):
        print(line)
    engine = Engine(
        task=parts.task,
        weighting=config.rule(),
        model=model,
        config=config.train,
        run=run,
        optimizer=build_optimizer(config.train, model),
        learning_rate=parts.learning_rate,
        stateful=parts.stateful,
        fingerprint=parts.fingerprints,
    )
    forecasts = {name: _forecast(name, part, model) for name, part in parts.tasks.items()}
    largest = max(forecasts, key=lambda name: forecasts[name]["predicted_memory"])
    part = parts.tasks[largest]
    with memory_advice(part.config, part.bundle, part.model):
        engine.fit(parts.train, parts.valid)
    if engine.world.is_main:
        evaluate_in(run, parts, forecasts=forecasts)


def _forecast(name: str, part: Part, model: nn.Module) -> dict[str, int]:
    """What a step of a task will hold, in bytes; the graph of one task at a time."""
    config, bundle = part.config, part.bundle
    with of_task(name):
        found = report_memory(config, bundle, part.model, whole=model, name=name)
    forecast = {"predicted_memory": found}
    if whole := forecast_of_all_points(config, bundle, part.model):
        forecast["predicted_memory_of_all_points"] = whole
    return forecast


def evaluate_in(
    run: RunFolder, parts: Parts, *, forecasts: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, Evaluation]:
    """Score the run's weights on the test trajectories of each task, and keep what the report needs."""
    print("Evaluating on held-out trajectories…", flush=True)
    source = weights_source(run, parts.config.evaluate.checkpoint)
    check_statistics(run, parts)
    load_weights(parts.model, source)
    facts, found = {}, {}
    for name, part in parts.tasks.items():
        found[name] = evaluate_model(part.config, part.bundle, part.model)
        facts[name] = {**_facts(part, parts.model), **(forecasts or {}).get(name, {})}
    store_evaluations(run, found, facts)
    run.update_summary(**summaries(found))
    export_weights(run.path, run.path / "export")
    for name, evaluation in found.items():
        print_errors(evaluation, name)
    return found


def _facts(part: Part, whole: nn.Module) -> dict[str, Any]:
    part.model.train()
    batch = first_batch(part.bundle, next(part.model.parameters()).device)
    reach = gradient_reach(part.task, batch, part.config.loss.weights())
    return {
        "reach": {term: list(groups) for term, groups in reach.items()},
        "num_parameters": sum(p.numel() for p in whole.parameters()),
        "points": part.bundle.geometry.num_points,
    }


def evaluate_run(config: UptConfig, call: Invocation) -> None:
    """Evaluate a run folder again, and write its report."""
    assert call.folder is not None
    run = RunFolder.at(call.folder)
    evaluate_in(run, Parts.of(config))
    print(f"Report: {write_report(run)}")


def check_statistics(run: RunFolder, parts: Parts) -> None:
    """Refuse data that are normalised otherwise than those the run was trained on.

    Raises:
        InputError: With both statistics of the first task that differs.
    """
    held: Any = load_checkpoint(run.checkpoints.path)["stateful"]
    for name, part in parts.tasks.items():
        with of_task(name):
            _check_same(run, held[normaliser_of(name)], part.bundle.normaliser)


def _check_same(run: RunFolder, stored: Mapping[str, torch.Tensor], normaliser: Any) -> None:
    for name in ("mean", "std"):
        held, found = stored[name], getattr(normaliser, name)
        if held.shape != found.shape or not torch.allclose(held, found, rtol=1e-6, atol=1e-12):
            raise InputError(
                f"{run.path}: the run normalised with {name} {held.tolist()}, its data have "
                f"{found.tolist()} now; expected the train split that it was trained on"
            )
