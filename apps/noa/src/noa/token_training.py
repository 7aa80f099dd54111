"""One run of the VQ-VAE from data to report, read from top to bottom."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from nops_data import Batches, Rows, Splits, ordered_batches, training_batches
from nops_diagnostics import cluster_features
from nops_models import EMA, VQVAE, QuantizerConfig, VQVAEConfig
from nops_train import (
    Engine,
    InputError,
    Invocation,
    RunFolder,
    TrainConfig,
    continued_config,
    join_world,
    load_weights,
    neutral_keys,
)
from nops_train import export as export_weights

from noa.build import open_fields
from noa.config import NoaConfig
from noa.features import FeatureSet, check_clip, stored_features
from noa.generation import ensure_data, settle_data
from noa.idle import APART, OWN, SHARED, read_by_tokens, refuse_idle_flags
from noa.token_evaluation import evaluate_tokens
from noa.token_report import print_tokens, store_tokens, write_token_report
from noa.token_task import TokenTask
from noa.vocabulary import Definition, check_kind

NEUTRAL = neutral_keys("rollout", "model", "loss", "weighting", "evaluate", "alignment", *APART)


def train_vqvae_run(config: NoaConfig, call: Invocation) -> None:
    """Train, or go on; then, on one rank, evaluate on held-out clips and write the report."""
    refuse_idle_flags(call, reads=read_by_tokens)
    named = own_name(call)
    config = settle_data(continued_config(config, named), explicit=call.explicit)
    check_clip(config)
    folder = named.runs / named.app / named.name
    if call.resume != "never":
        check_kind(folder, tokens=True)
    ensure_data(config)
    world = join_world()
    world.barrier()  # the ranks share the shards: each waits for those of the others
    splits = open_fields(config)
    run = RunFolder.open(
        named.runs,
        app=named.app,
        name=named.name,
        config=config,
        resume=call.resume,
        neutral=NEUTRAL,
    )
    call.folder = run.path
    parts = Parts.of(config, splits, stored_features(run.path, config, splits))
    train_in(run, parts)
    if world.is_main:
        evaluate_in(run, parts)
        print(f"Report: {write_token_report(run)}")


def own_name(call: Invocation) -> Invocation:
    """The call with a name of its own where none was given: the preset's is that of the other training."""
    return replace(call, name=f"vqvae-{call.name}") if call.name == call.preset else call


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of."""

    config: NoaConfig
    splits: Splits
    features: FeatureSet
    model: VQVAE
    definition: Definition

    @classmethod
    def of(cls, config: NoaConfig, splits: Splits, features: FeatureSet) -> "Parts":
        """Built from a settled config.

        Raises:
            InputError: If settings fit neither each other nor the data.
        """
        sizes = vqvae_config(config, features)
        torch.manual_seed(config.train.seed)
        return cls(
            config=config,
            splits=splits,
            features=features,
            model=VQVAE(sizes),
            definition=Definition(features.extractor, sizes, channels=splits.train.channels),
        )


def vqvae_config(config: NoaConfig, features: FeatureSet) -> VQVAEConfig:
    """Sizes of the VQ-VAE for the columns and clips that there are.

    Raises:
        InputError: If a setting does not fit them.
    """
    vqvae, rows = config.vqvae, features.rows("train")
    categories = features.extractor.families
    if vqvae.categories == "cluster":
        categories = cluster_features(rows, families=categories)
    if vqvae.loss.orthogonality > 0 and len(categories) < 2:
        raise InputError(
            f"vqvae.loss.orthogonality = {vqvae.loss.orthogonality} needs two categories, found "
            f"{list(categories)}"
        )
    update = EMA(decay=vqvae.decay, revive_below=vqvae.revive_below)
    return VQVAEConfig(
        categories=categories,
        levels=vqvae.levels,
        ratios=tuple((level + 1) / 2 for level in range(vqvae.levels)),
        latent_dims=vqvae.latent_dims,
        codebook_sizes=vqvae.codebook_sizes,
        num_train=len(rows),
        hidden=vqvae.hidden,
        head_dropout=vqvae.head_dropout,
        structure=vqvae.structure,
        quantizer=QuantizerConfig(update=update, commitment_weight=1.0),
    )


def train_config(config: NoaConfig) -> TrainConfig:
    """The engine's settings: those of `vqvae`, and of `train` where both trainings share them."""
    shared = {key: getattr(config.train, key) for key in SHARED}
    own = {key: getattr(config.vqvae, key) for key in OWN}
    return TrainConfig(
        **shared, **own, weight_decay=0.0, lr_schedule="constant", monitor="reconstruction"
    )


def train_in(run: RunFolder, parts: Parts) -> None:
    """Train the run of a folder to its end."""
    config = parts.config
    engine = Engine(
        task=TokenTask(parts.model),
        weighting=config.vqvae.rule(),
        model=parts.model,
        config=train_config(config),
        run=run,
        stateful={"normaliser": parts.splits.normaliser, "tokens": parts.definition},
        fingerprint=parts.splits.fingerprints,
    )
    engine.fit(_drawn(parts), _whole(parts))


def evaluate_in(run: RunFolder, parts: Parts) -> None:
    """Score the best weights on held-out clips, and keep what the report needs."""
    print("Evaluating on held-out clips…", flush=True)
    load_weights(parts.model, run.path)
    evaluation = evaluate_tokens(
        parts.model.cpu().eval(), parts.features, seed=parts.config.train.seed
    )
    store_tokens(run, evaluation, _facts(parts))
    run.update_summary(metrics=evaluation.summary(), baselines=evaluation.baselines())
    export_weights(run.path, run.path / "export")
    print_tokens(evaluation)


def _facts(parts: Parts) -> dict[str, Any]:
    data, splits, extractor = parts.config.data, parts.splits, parts.features.extractor
    name = (data.domain or splits.train.dataset_name).replace("_", " ")
    return {
        "dynamics": f"{name}, {' × '.join(map(str, data.shape))}, clips of "
        f"{parts.config.features.clip} frames",
        "data": f"`{data.path}`: {parts.config.features.per_trajectory} clips of each of "
        f"{data.num_train} trajectories to train on, {data.num_valid} to validate on, {data.num_test} "
        f"held out; channels {', '.join(splits.train.channels)}.",
        "columns": list(extractor.names),
        "dropped": extractor.dropped,
        "version": extractor.version,
        "features": parts.features.state,
        "parameter_names": list(splits.train.parameter_names),
        "model_parameters": sum(p.numel() for p in parts.model.parameters()),
    }


def _drawn(parts: Parts) -> Batches:
    config, world = parts.config, join_world()
    return training_batches(
        Rows({"features": parts.features.rows("train")}),
        batch_size=config.vqvae.batch_size,
        seed=config.train.seed,
        rank=world.rank,
        world_size=world.size,
        device=config.train.device,
    )


def _whole(parts: Parts) -> Batches:
    """All validation clips as one batch of a rank: the use of codes is of all of them."""
    world, rows = join_world(), parts.features.rows("valid")
    if len(rows) < world.size:
        raise InputError(
            f"data.num_valid = {parts.config.data.num_valid} gives {len(rows)} clips for {world.size} ranks"
        )
    return ordered_batches(
        Rows({"features": rows}),
        batch_size=len(rows),
        rank=world.rank,
        world_size=world.size,
        device=parts.config.train.device,
    )
