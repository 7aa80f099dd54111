"""A comparison from data to report, read from top to bottom: one run per arm and seed."""

import time

import torch
from nops_models import StepModel
from nops_train import (
    Engine,
    Invocation,
    RunFolder,
    Study,
    join_world,
    load_run_config,
    load_weights,
    neutral_keys,
    open_study,
    report_forecast,
    study_config,
    weights_source,
)

from turbulence.arms import ARM_TEXTS, arm_config, follows_schedule, schedules_figures
from turbulence.build import (
    Bundle,
    build_model,
    build_task,
    build_weighting,
    forecast,
    learning_rate,
    open_bundle,
)
from turbulence.config import TurbulenceConfig
from turbulence.evaluation import evaluate_model
from turbulence.generation import ensure_data, settle_data
from turbulence.report import print_comparison, report_study, store_evaluation

FEW_CELLS = 32


def train_study(config: TurbulenceConfig, call: Invocation) -> Study:
    """Train every arm with every seed, or go on; evaluate each; write the comparison."""
    world = join_world()
    study = world.from_main(lambda: open_study(call))
    started = time.monotonic()
    config = settle_data(study_config(config, study, call), explicit=call.explicit)
    ensure_data(config)
    world.barrier()  # the ranks share the shards: each waits for those of the others
    print_notes(config)
    generated = time.monotonic()
    for seed in config.all_seeds:
        for arm in sorted(config.arms, key=lambda arm: follows_schedule(config, arm)):
            print(f"\n{arm}, seed {seed}: {ARM_TEXTS[arm]}", flush=True)
            train_arm(config, arm, seed=seed, study=study, call=call)
    if world.is_main:
        study.update()
        print_comparison(study)
        print(f"Report: {report_study(study)}")
        total = time.monotonic() - started
        print(f"{total:.0f} s, of which data {generated - started:.0f} s")
    return study


def print_notes(config: TurbulenceConfig) -> None:
    """Say once what is left out, and what a small grid makes of spectra."""
    if min(config.data.shape) < FEW_CELLS:
        print(f"Spectra of {min(config.data.shape)} cells have few shells: {FEW_CELLS} tell more")
    for name in ("recFieldError", "recLSIM"):
        if getattr(config.loss, name) > 0:
            print(f"{name} is left out: this model does not reconstruct its input")


def train_arm(
    config: TurbulenceConfig, arm: str, *, seed: int, study: Study, call: Invocation
) -> None:
    """Train one run of the comparison, or go on with it; on one rank, evaluate it."""
    figures = {}
    if follows_schedule(config, arm):
        figures = schedules_figures(RunFolder.at(study.path / f"schedule_s{seed}"), arm)
    own = arm_config(config, arm, seed=seed, **figures)
    bundle = open_bundle(own)
    torch.manual_seed(seed)
    model = build_model(own, bundle)
    task = build_task(own, bundle, model)  # what is refused leaves no run behind
    resume = "auto" if call.resume == "never" else call.resume
    run = study.run(f"{arm}_s{seed}", config=own, resume=resume, neutral=neutral_keys("evaluate"))
    call.folder = run.path
    world = join_world()
    if world.is_main:
        study.update(config=config.model_dump(mode="json"))
    in_parts = own.train.shard and world.active
    foreseen = forecast(model, own, bundle, parts=world.size) if in_parts else None
    engine = Engine(
        task=task,
        weighting=build_weighting(own, on_mismatch="warn" if resume == "force" else "error"),
        model=model,
        config=own.train,
        run=run,
        learning_rate=learning_rate(own, steps_per_epoch=bundle.train.num_batches),
        stateful={"normaliser": bundle.normaliser},
        fingerprint=bundle.fingerprints,
    )
    report_forecast(
        foreseen or forecast(model, own, bundle), device=engine.device, window_key="train.unroll"
    )
    engine.fit(bundle.train, bundle.valid)
    if not world.is_main:
        return
    if in_parts:  # this rank has a part of it, and the checkpoint all
        model = build_model(own, bundle).to(engine.device)
    evaluate_run(run, own, bundle, model)


def evaluate_run(
    run: RunFolder, config: TurbulenceConfig, bundle: Bundle, model: StepModel
) -> None:
    """Score the run's weights on the test trajectories, and keep what the report needs."""
    load_weights(model, weights_source(run, config.evaluate.checkpoint))
    evaluation = evaluate_model(config, bundle, model)
    facts = {
        "dataset": bundle.name,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "normalise": config.data.normalise,
    }
    store_evaluation(run, evaluation, facts)
    names = [name for name in evaluation.errors if name != "model"]
    run.update_summary(
        metrics=evaluation.summary(),
        baselines={name: evaluation.figures(name) for name in names},
    )


def evaluate_runs(call: Invocation) -> None:
    """Score runs again, then write the report of each comparison they belong to."""
    for folder in call.folders:
        run = RunFolder.at(folder)
        call.folder = run.path
        config = load_run_config(TurbulenceConfig, folder)
        bundle = open_bundle(config)
        evaluate_run(run, config, bundle, build_model(config, bundle))
    for parent in dict.fromkeys(folder.resolve().parent for folder in call.folders):
        study = Study(parent)
        study.update()
        print_comparison(study)
        print(f"Report: {report_study(study)}")
