"""One run from data to report, read from top to bottom."""

from typing import Any

import torch
from nops_models import UAFNO
from nops_train import (
    Engine,
    Invocation,
    RunFolder,
    continued_config,
    join_world,
    load_weights,
    neutral_keys,
    report_forecast,
)
from nops_train import export as export_weights

from noa.build import (
    Bundle,
    build_model,
    forecast,
    learning_rate,
    open_bundle,
)
from noa.config import NoaConfig
from noa.evaluation import Evaluation, collect, evaluate_model, probe_set, train_mean
from noa.generation import domain_of, ensure_data, settle_data
from noa.report import print_skill, store_evaluation, write_report
from noa.task import RolloutTask
from noa.vocabulary import check_kind


def train_run(config: NoaConfig, call: Invocation) -> Evaluation | None:
    """Train, or go on; then, on one rank, evaluate the best model and write the report."""
    config = settle_data(continued_config(config, call), explicit=call.explicit)
    if call.resume != "never":
        check_kind(call.runs / call.app / call.name, tokens=False)
    run = RunFolder.open(
        call.runs,
        app="noa",
        name=call.name,
        config=config,
        resume=call.resume,
        neutral=neutral_keys("evaluate"),
    )
    call.folder = run.path
    ensure_data(config)
    world = join_world()
    world.barrier()  # the ranks share the shards: each waits for those of the others
    bundle = open_bundle(config)
    torch.manual_seed(config.train.seed)
    model = build_model(config, bundle)
    in_parts = config.train.shard and world.active
    foreseen = forecast(model, config, bundle, parts=world.size) if in_parts else None
    engine = Engine(
        task=RolloutTask(model, rollout=config.rollout),
        weighting=config.rule(),
        model=model,
        config=config.train,
        run=run,
        learning_rate=learning_rate(config, steps_per_epoch=bundle.train.num_batches),
        stateful={"normaliser": bundle.normaliser},
        fingerprint=bundle.fingerprints,
    )
    report_forecast(
        foreseen or forecast(model, config, bundle),
        device=engine.device,
        window_key="rollout.window",
        checkpoint_key="rollout.checkpoint_every",
    )
    engine.fit(bundle.train, bundle.valid)
    if not world.is_main:
        return None
    if in_parts:  # this rank has a part of it, and the checkpoint all
        model = build_model(config, bundle).to(engine.device)
    return _evaluate(run, config, bundle, model)


def evaluate_run(config: NoaConfig, call: Invocation) -> Evaluation:
    """Evaluate the best model of a run folder again."""
    assert call.folder is not None
    run = RunFolder.at(call.folder)
    check_kind(run.path, tokens=False)
    bundle = open_bundle(config)
    model = build_model(config, bundle)
    return _evaluate(run, config, bundle, model)


def _evaluate(run: RunFolder, config: NoaConfig, bundle: Bundle, model: UAFNO) -> Evaluation:
    print("Evaluating on held-out trajectories…", flush=True)
    load_weights(model, run.path)
    model.eval()
    frames, parameters = collect(bundle.test.batches(epoch=0, skip=0))
    evaluation = evaluate_model(
        model,
        frames=frames,
        parameters=parameters,
        mean=train_mean(bundle.whole_train.batches(epoch=0, skip=0), spatial_dims=2),
        lead_times=config.evaluate.leads(frames.shape[1] - 1),
        frame_interval=bundle.frame_interval,
        bootstrap=config.evaluate.bootstrap,
        batch_size=config.train.batch_size,
        probe=_probe(config, bundle),
    )
    store_evaluation(run, evaluation, _facts(config, bundle, model))
    run.update_summary(metrics=evaluation.summary(), baselines=_baselines(evaluation))
    export_weights(run.path, run.path / "export")
    path = write_report(run)
    print_skill(evaluation)
    print(f"Report: {path}")
    return evaluation


def _probe(config: NoaConfig, bundle: Bundle) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Trajectories of few initial fields under many parameters, where a solver is at hand."""
    domain = domain_of(config)
    if domain is None or not bundle.parameter_names:
        return None
    data = config.data
    used = data.num_train + data.num_valid + data.num_test
    frames, theta = probe_set(domain, num_steps=data.num_steps, seed=data.seed, skip=used)
    return bundle.normaliser.normalise(frames), theta


def _facts(config: NoaConfig, bundle: Bundle, model: torch.nn.Module) -> dict[str, Any]:
    """What the report says beyond the scores, in plain values."""
    data = config.data
    name = data.domain or bundle.name
    shape = " × ".join(map(str, data.shape))
    return {
        "dynamics": f"{name.replace('_', ' ')}, {shape}, {data.num_steps} steps",
        "data": f"`{data.path}`: {data.num_train} trajectories to train on, {data.num_valid} to "
        f"validate on, {data.num_test} held out; channels {', '.join(bundle.channels)}; "
        f"parameters {', '.join(bundle.parameter_names) or 'none'}.",
        "channels": list(bundle.channels),
        "mean": bundle.normaliser.mean.tolist(),
        "std": bundle.normaliser.scale.tolist(),
        "model_parameters": sum(p.numel() for p in model.parameters()),
    }


def _baselines(evaluation: Evaluation) -> dict[str, Any]:
    """NMSE of each baseline at the reported lead times."""
    scores = evaluation.scores
    rows = [scores.lead_times.index(lead) for lead in evaluation.lead_times]
    return {
        name: {str(scores.lead_times[i]): float(kinds["nmse"].value[i]) for i in rows}
        for name, kinds in scores.baselines.items()
    }
