"""One run from data to report, read from top to bottom."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nops_models import UAFNO
from nops_physics import RandomConvOperator
from nops_train import (
    Engine,
    InputError,
    Invocation,
    RunFolder,
    continued_config,
    join_world,
    load_weights,
    neutral_keys,
    report_forecast,
)
from nops_train import export as export_weights
from torch import Tensor

from noa.build import (
    Bundle,
    build_model,
    forecast,
    learning_rate,
    open_bundle,
)
from noa.config import NoaConfig
from noa.evaluation import (
    Evaluation,
    batched_rollout,
    collect,
    evaluate_model,
    probe_set,
    train_mean,
)
from noa.generation import domain_of, ensure_data, settle_data
from noa.idle import read_by_rollouts, refuse_idle_flags
from noa.noise import noise_floor
from noa.old_checkpoints import PublishedCheckpoint, settings_of_resumed
from noa.readings import check_clips, check_finite
from noa.report import VALIDATION, load_evaluation, print_skill, store_evaluation, write_report
from noa.task import RolloutTask
from noa.token_scores import score_tokens
from noa.token_section import rival_of
from noa.token_terms import TokenTerms, check_projector, projector_of, settle_tokens
from noa.validation import check_count, validate_tokens
from noa.validation_report import check_grade, print_tokens_verdict
from noa.vocabulary import Vocabulary, check_kind, load_vocabulary

NEUTRAL = neutral_keys("evaluate", "vqvae", "features", "alignment.vqvae", "alignment.against")
CAUTION = (
    "The operator of each trajectory is a stack with random weights of its own, so its dynamics are a "
    "hash of θ: nothing that is learned generalises to an unseen θ, and the scores on held-out "
    "trajectories show what is common to all such operators. Smooth operators (data.operator: "
    "smooth) are a map that can be learned."
)

CAUTION_OF_FILES = (
    "The file does not hold the operators. Those of the published generator are stacks with random weights "
    "of their own for each θ, so their dynamics are a hash of θ: nothing that is learned generalises to an "
    "unseen θ, and the scores on held-out trajectories show what is common to all such operators."
)


def train_run(config: NoaConfig, call: Invocation) -> Evaluation | None:
    """Train, or go on; then, on one rank, evaluate the best model and write the report."""
    refuse_idle_flags(call, reads=read_by_rollouts)
    config = settings_of_resumed(continued_config(config, call), call)
    config = settle_data(config, explicit=call.explicit)
    if call.resume != "never":
        check_kind(call.runs / call.app / call.name, tokens=False)
    ensure_data(config)
    world = join_world()
    world.barrier()  # the ranks share the shards: each waits for those of the others
    bundle = open_bundle(config)
    config, vocabulary = settle_tokens(config, explicit=call.explicit, channels=bundle.channels)
    rival_of(config.model_dump(mode="json"), load_evaluation)  # not found out at the report
    run = RunFolder.open(
        call.runs,
        app="noa",
        name=call.name,
        config=config,
        resume=call.resume,
        neutral=NEUTRAL,
    )
    call.folder = run.path
    torch.manual_seed(config.train.seed)
    model = build_model(config, bundle, vocabulary)
    task = build_task(config, bundle, model, vocabulary)
    rate = learning_rate(config, steps_per_epoch=bundle.train.num_batches)
    published = PublishedCheckpoint(
        config, weights=model.state_dict(), batches=bundle.train.num_batches, learning_rate=rate
    )
    in_parts = config.train.shard and world.active
    foreseen = forecast(model, config, bundle, parts=world.size) if in_parts else None
    engine = Engine(
        task=task,
        weighting=config.rule(),
        model=model,
        config=config.train,
        run=run,
        learning_rate=rate,
        stateful={"normaliser": bundle.normaliser},
        fingerprint=bundle.fingerprints | ({} if vocabulary is None else vocabulary.fingerprint()),
        importers=[published],
    )
    report_forecast(
        foreseen or forecast(model, config, bundle),
        device=engine.device,
        window_key="rollout.window",
        checkpoint_key="rollout.checkpoint_every",
    )
    check_tokens(task, bundle, device=engine.device)
    engine.fit(bundle.train, bundle.valid)
    if not world.is_main:
        return None
    if in_parts:  # this rank has a part of it, and the checkpoint all
        model = build_model(config, bundle, vocabulary).to(engine.device)
    return _evaluate(run, config, bundle, model, tokens=task.tokens)


def build_task(
    config: NoaConfig, bundle: Bundle, model: UAFNO, vocabulary: Vocabulary | None
) -> RolloutTask:
    """What the engine trains, tokens included where there is a vocabulary."""
    if vocabulary is None:
        return RolloutTask(model, rollout=config.rollout)
    tokens = TokenTerms(
        vocabulary,
        normaliser=bundle.normaliser,
        projector=projector_of(model),
        count=config.alignment.sample_steps,
    )
    return RolloutTask(model, rollout=config.rollout, tokens=tokens)


def check_tokens(task: RolloutTask, bundle: Bundle, *, device: torch.device) -> None:
    """Move the vocabulary to the model, and see that the projector is trained.

    Raises:
        InertTermError: If it is not.
    """
    tokens = task.tokens
    if tokens is None:
        return
    tokens.vocabulary.to(device)
    if tokens.projector is None:
        return
    batch = next(iter(bundle.train.batches(epoch=0)))
    moved = {name: value.to(device) for name, value in batch.items()}
    terms = next(task.losses(moved, epoch=0, step=0, active=frozenset({"latent"})))
    check_projector(terms["latent"], tokens.projector)


def validate_run(config: NoaConfig, call: Invocation) -> Evaluation:
    """Evaluate the best model of a run folder again, with a vocabulary its tokens too.

    Raises:
        CheckFailed: If there is a vocabulary, and rollouts are not finite, or the reconstruction error of
            their tokens is beyond what is acceptable.
    """
    assert call.folder is not None
    run = RunFolder.at(call.folder)
    check_kind(run.path, tokens=False)
    bundle = open_bundle(config)
    _, trained_with = settle_tokens(config, channels=bundle.channels)
    model = build_model(config, bundle, trained_with)
    tokens = build_task(config, bundle, model, trained_with).tokens
    vocabulary = given_vocabulary(call)
    evaluation = _evaluate(run, config, bundle, model, vocabulary, tokens=tokens)
    if found := run.record(VALIDATION)["tokens"]:
        check_grade(found)
    return evaluation


def given_vocabulary(call: Invocation) -> Vocabulary | None:
    """The one that `--vqvae-path` or a second folder names, if any.

    Raises:
        InputError: If both do, or it is no run of `train-vqvae`.
    """
    flag = call.options["vqvae_path"]
    named = [*call.folders[1:], *([] if flag is None else [Path(flag)])]
    if len(named) > 1:
        raise InputError(f"--vqvae-path {flag}, and the folder {named[0]}: give one of them")
    return load_vocabulary(named[0]) if named else None


def _evaluate(
    run: RunFolder,
    config: NoaConfig,
    bundle: Bundle,
    model: UAFNO,
    vocabulary: Vocabulary | None = None,
    *,
    tokens: TokenTerms | None = None,
) -> Evaluation:
    if vocabulary is not None:
        check_clips(vocabulary, num_steps=config.data.num_steps, channels=bundle.channels)
        check_count(config.data.num_test)
    print("Evaluating on held-out trajectories…", flush=True)
    position = load_weights(model, run.path)
    model.eval()
    frames, parameters = collect(bundle.test.batches(epoch=0, skip=0))
    steps, size = frames.shape[1] - 1, config.train.batch_size
    pred = batched_rollout(model, num_steps=steps, batch_size=size)(frames[:, 0], parameters)
    evaluation = evaluate_model(
        model,
        frames=frames,
        parameters=parameters,
        mean=train_mean(bundle.whole_train.batches(epoch=0, skip=0), spatial_dims=2),
        lead_times=config.evaluate.leads(steps),
        frame_interval=bundle.frame_interval,
        bootstrap=config.evaluate.bootstrap,
        batch_size=size,
        probe=probe_of(config, bundle),
        pred=pred,
        noise_floor=noise_floor(config, bundle, frames, parameters),
    )
    facts, metrics = _facts(config, bundle, model), evaluation.summary()
    if tokens is not None:
        metrics["tokens"] = facts["tokens"] = score_tokens(
            model,
            tokens,
            frames=frames,
            parameters=parameters,
            window=config.rollout.window,
            batch_size=size,
        )
    store_evaluation(run, evaluation, facts)
    run.update_summary(metrics=metrics, baselines=_baselines(evaluation))
    record = {"position": position, "physics": evaluation.summary(), "tokens": None}
    run.keep(VALIDATION, record)
    if vocabulary is not None and bool(pred.isfinite().all()):
        found = _compare(vocabulary, bundle, pred, frames, bootstrap=config.evaluate.bootstrap)
        run.keep(VALIDATION, {**record, "tokens": {"vqvae": str(vocabulary.path), **found}})
    export_weights(run.path, run.path / "export")
    path = write_report(run)
    print_skill(evaluation)
    print(f"Report: {path}")
    if vocabulary is not None:
        check_finite(pred)
        print_tokens_verdict(run.record(VALIDATION)["tokens"])
    return evaluation


def _compare(
    vocabulary: Vocabulary, bundle: Bundle, pred: Tensor, frames: Tensor, *, bootstrap: int
) -> dict[str, Any]:
    """Tokens of rollouts and truth, both in the data's units."""
    to_data = bundle.normaliser.denormalise
    found = validate_tokens(
        vocabulary,
        to_data(pred),
        to_data(frames[:, 1:]),
        to_data(frames[:, 0]),
        bootstrap=bootstrap,
    )
    return found.as_dict()


def probe_of(config: NoaConfig, bundle: Bundle) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Trajectories of few initial fields under many parameters, where a solver is at hand."""
    domain = domain_of(config)
    if domain is None or not bundle.parameter_names:
        return None
    if isinstance(domain, RandomConvOperator):
        domain = replace(domain, noise_scale=0.0)  # the spread over parameters, not over noise
    data = config.data
    used = data.num_train + data.num_valid + data.num_test
    sizes, steps = config.evaluate.probe, data.num_steps
    frames, theta = probe_set(domain, sizes=sizes, num_steps=steps, seed=data.seed, skip=used)
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
        f"parameters {', '.join(bundle.parameter_names) or 'none'}{_told(bundle.kinds)}.",
        "caution": CAUTION_OF_FILES
        if data.layout == "spinlock"
        else CAUTION
        if data.operator == "stack"
        else None,
        "channels": list(bundle.channels),
        "mean": bundle.normaliser.mean.tolist(),
        "std": bundle.normaliser.scale.tolist(),
        "model_parameters": sum(p.numel() for p in model.parameters()),
    }


def _told(kinds: dict[str, dict[str, int]]) -> str:
    """What a file says of the trajectories to train on, as the end of a sentence."""
    parts = [
        f"; {name.replace('_', ' ')} {', '.join(f'{kind} {count}' for kind, count in counts.items())}"
        for name, counts in kinds.items()
    ]
    return "".join(parts)


def _baselines(evaluation: Evaluation) -> dict[str, Any]:
    """NMSE of each baseline at the reported lead times."""
    scores = evaluation.scores
    rows = [scores.lead_times.index(lead) for lead in evaluation.lead_times]
    return {
        name: {str(scores.lead_times[i]): float(kinds["nmse"].value[i]) for i in rows}
        for name, kinds in scores.baselines.items()
    }
