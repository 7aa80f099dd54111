"""One run from data to report, read from top to bottom."""

from dataclasses import dataclass

import torch
from nops_models import PhysicsVAE
from nops_train import (
    Engine,
    Invocation,
    RunFolder,
    continued_config,
    join_world,
    load_weights,
    neutral_keys,
    weights_source,
)
from nops_train import export as export_weights

from phys_smpl.build import (
    build_model,
    build_optimizer,
    build_task,
    build_weighting,
    learning_rate,
    settled_epoch,
    sources,
)
from phys_smpl.config import PhysConfig
from phys_smpl.data import Bundle, open_bundle
from phys_smpl.dead_keys import refuse_dead_keys
from phys_smpl.evaluation import Evaluation, evaluate_model
from phys_smpl.generation import ensure_data, settle_data
from phys_smpl.report import print_evaluation, store_evaluation, write_report

NEUTRAL = neutral_keys("evaluate", "ablation", "train.valid_batch_size")


def train_run(config: PhysConfig, call: Invocation) -> None:
    """Train, or go on; then, on one rank, evaluate and write the report."""
    refuse_dead_keys(config, call.explicit)
    config = settle_data(continued_config(config, call), explicit=call.explicit)
    prepare_data(config)
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
    train_in(run, parts)
    if join_world().is_main:
        print(f"Report: {write_report(run)}")


def prepare_data(config: PhysConfig) -> None:
    """Simulate what is absent, on one rank for all."""
    world = join_world()
    if world.is_main:
        ensure_data(config)
    world.barrier()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of."""

    config: PhysConfig
    bundle: Bundle
    model: PhysicsVAE

    @classmethod
    def of(cls, config: PhysConfig) -> "Parts":
        """Built from a config that is settled.

        Raises:
            InputError: If settings fit neither each other nor the data.
            LayoutError: If files are missing, damaged or do not fit each other.
        """
        bundle = open_bundle(config)
        torch.manual_seed(config.train.seed)
        return cls(config=config, bundle=bundle, model=build_model(config, bundle))


def train_in(run: RunFolder, parts: Parts) -> None:
    """Train the run of a folder to its end; on one rank, evaluate it."""
    config, model = parts.config, parts.model
    train, valid = sources(config, parts.bundle)
    engine = Engine(
        task=build_task(config, model, note=run.note),
        weighting=build_weighting(config),
        model=model,
        config=config.train,
        run=run,
        optimizer=build_optimizer(config.train, model),
        learning_rate=learning_rate(config),
        fingerprint=parts.bundle.fingerprint,
        best_from=config.pretrain,
        patience_from=settled_epoch(config),
    )
    engine.fit(train, valid)
    if engine.world.is_main:
        evaluate_in(run, parts)


def evaluate_in(run: RunFolder, parts: Parts) -> Evaluation:
    """Score the run's weights on the test observations, and keep what the report needs."""
    print("Evaluating on test observations…", flush=True)
    config, model = parts.config, parts.model
    load_weights(model, weights_source(run, config.evaluate.checkpoint))
    evaluation = evaluate_model(config, parts.bundle, model)
    store_evaluation(run, evaluation)
    run.update_summary(metrics=evaluation.summary(), baselines=evaluation.baselines)
    export_weights(run.path, run.path / "export")
    print_evaluation(evaluation)
    return evaluation


def evaluate_run(config: PhysConfig, call: Invocation) -> None:
    """Evaluate a run folder again, and write its report."""
    assert call.folder is not None
    run = RunFolder.at(call.folder)
    evaluate_in(run, Parts.of(config))
    print(f"Report: {write_report(run)}")
