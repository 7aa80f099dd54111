"""The names of the published guide, as functions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nops_diagnostics import derangement
from nops_models import UAFNO
from nops_train import (
    App,
    InputError,
    Invocation,
    RunFolder,
    load_checkpoint,
    load_run_config,
    load_weights,
    resolve_call,
)
from torch import Tensor

from noa.build import Bundle, build_model, open_bundle
from noa.cli import app
from noa.config import NoaConfig
from noa.evaluation import batched_rollout, collect, evaluate_model, train_mean
from noa.generation import ensure_data, settle_data
from noa.noise import noise_floor
from noa.training import train_run
from noa.vocabulary import Vocabulary, check_kind, load_vocabulary, stored_normaliser


def extract_features(
    rollout: Tensor, *, tokens: Vocabulary | Path | str, initial: Tensor | None = None
) -> Tensor:
    """Features of the last frames of rollouts `[B, F]`, as a vocabulary reads them.

    Args:
        rollout: Frames in the data's units `[B, time, channel, height, width]`, at least as many as a
            clip of the vocabulary has.
        tokens: The vocabulary, or its run folder.
        initial: Initial states of the rollouts `[B, channel, height, width]`; None where the first frame
            is it.

    Raises:
        InputError: If the folder holds no vocabulary.
        ValueError: If there are fewer frames than a clip has, or other channels.
    """
    vocabulary = tokens if isinstance(tokens, Vocabulary) else load_vocabulary(tokens)
    start = rollout[:, 0] if initial is None else initial
    return vocabulary.features(rollout[:, -vocabulary.clip_length :], start)


def train_noa(
    *, domain: str, tokens: Path | str | None = None, options: tuple[str, ...] = ()
) -> Path:
    """Train a surrogate of a domain as `noa train` does; the folder of the run.

    Args:
        domain: Name or short name, such as "rd".
        tokens: Run of `train-vqvae` whose frozen tokens the loss reads; windows are then as long as its
            clips at least. None for trajectories alone.
        options: Further words of the command line, such as ("--train.epochs=3",).

    Raises:
        InputError: As the command.
    """
    words = [f"--data.domain={domain}", *options]
    if tokens is not None:
        words.append(f"--alignment.vqvae={tokens}")
        if not any(word.startswith(("--rollout.window", "--bptt-window")) for word in words):
            words.append(f"--rollout.window={load_vocabulary(tokens).clip_length}")
    config, call = _resolved(app(), words)
    train_run(config, call)
    assert call.folder is not None
    return call.folder


def evaluate_noa(
    noa: Path | str, *, domain: str, tokens: Path | str | None = None, options: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Score a trained surrogate on a domain, which may be another than it was trained on.

    Args:
        noa: Run of `train`.
        domain: Name or short name; its default data are made if they are not there. Fields are in units of
            their own train split, the surrogate's steps in those of its.
        tokens: Run of `train-vqvae` that rollouts and truth are compared by; None for trajectories alone.
        options: Further words of the command line, such as ("--data.num_test=8",).

    Returns:
        `lead`: the scores of `noa evaluate` by lead time; with tokens also `transfer_acc`, the share of tokens
        that the last clips of rollout and truth agree on, beside `majority_acc`, that of the commonest token
        of each quantiser, and `shuffled_acc`, that of another trajectory's.

    Raises:
        InputError: If a run is not there, or channels or parameters of the domain are others.
    """
    config, call = _resolved(app(), [f"--data.domain={domain}", *options])
    config = settle_data(config, explicit=call.explicit)
    ensure_data(config)
    bundle = open_bundle(config)
    model = _trained(Path(noa), bundle)
    frames, parameters = collect(bundle.test.batches(epoch=0, skip=0))
    evaluation = evaluate_model(
        model.eval(),
        frames=frames,
        parameters=parameters,
        mean=train_mean(bundle.whole_train.batches(epoch=0, skip=0), spatial_dims=2),
        lead_times=config.evaluate.leads(frames.shape[1] - 1),
        frame_interval=bundle.frame_interval,
        bootstrap=config.evaluate.bootstrap,
        batch_size=config.train.batch_size,
        probe=None,
        noise_floor=noise_floor(config, bundle, frames, parameters),
    )
    scores = evaluation.summary()
    if tokens is None:
        return scores
    rollout = batched_rollout(
        model, num_steps=frames.shape[1] - 1, batch_size=config.train.batch_size
    )
    back = bundle.normaliser.denormalise
    paths = (back(rollout(frames[:, 0], parameters)), back(frames[:, 1:]))
    return scores | transfer_accuracy(load_vocabulary(tokens), *paths, back(frames[:, 0]))


@torch.no_grad()
def transfer_accuracy(
    vocabulary: Vocabulary, pred: Tensor, target: Tensor, initial: Tensor
) -> dict[str, float]:
    """Agreement of the tokens of the last clips of rollouts and truth, beside trivial rivals.

    Args:
        vocabulary: What reads both.
        pred: Rollouts in the data's units `[sample, time, channel, height, width]`.
        target: The truth.
        initial: Initial states of both.

    Raises:
        InputError: If there are fewer frames than a clip has, or other channels.
    """
    length, channels = vocabulary.clip_length, len(vocabulary.channels)
    if target.shape[1] < length or target.shape[2] != channels:
        raise InputError(
            f"{vocabulary.path}: clips of {length} frames and {channels} channels, found {target.shape[1]} "
            f"frames and {target.shape[2]} channels"
        )
    own, truth = (
        vocabulary.tokens(vocabulary.features(path[:, -length:], initial))
        for path in (pred, target)
    )
    common = truth.mode(0).values
    shuffled = truth[derangement(len(truth))]
    return {
        "transfer_acc": float((own == truth).double().mean()),
        "majority_acc": float((truth == common).double().mean()),
        "shuffled_acc": float((truth == shuffled).double().mean()),
    }


def _trained(path: Path, bundle: Bundle) -> UAFNO:
    """The surrogate of a run, to step fields of other data in the units of their own train split."""
    run = RunFolder.at(path)
    check_kind(run.path, tokens=False)
    config = load_run_config(NoaConfig, run.path)
    stateful: Any = load_checkpoint(run.checkpoints.path)["stateful"]
    own = stored_normaliser(stateful["normaliser"])
    found, expected = len(bundle.channels), len(own.mean)
    if found != expected:
        raise InputError(f"{path}: a surrogate of {expected} channels, the data have {found}")
    vqvae = config.alignment.vqvae
    vocabulary = None if vqvae is None else load_vocabulary(vqvae)
    model = build_model(config, replace(bundle, normaliser=own), vocabulary)
    load_weights(model, run.path)
    return model


def _resolved(declared: App, words: list[str]) -> tuple[NoaConfig, Invocation]:
    command = declared.command("train")
    assert command is not None
    config, call = resolve_call(declared, command, words)
    assert isinstance(config, NoaConfig)
    return config, call
