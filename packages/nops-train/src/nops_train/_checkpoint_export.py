"""Weights out of a run: into a module for evaluation, or into files to share."""

import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from nops_train._checkpoint import CheckpointError, commit, stage, write_text
from nops_train._checkpoint_weights import WEIGHTS, best_state, weights_of
from nops_train._engine_checkpoint import load_module
from nops_train._errors import InputError
from nops_train._events import jsonable
from nops_train._run_folder import RunFolder


def load_weights(model: nn.Module, source: str | os.PathLike[str]) -> dict[str, Any]:
    """Load trained weights into a module: the averaged ones where the run kept an average.

    Args:
        model: Made as it was for training; its weights are replaced.
        source: A run folder (its best checkpoint, else its newest) or a checkpoint file.

    Returns:
        Where in training they are from: "epoch", "batch", "step", all 0-based, and "seed".

    Raises:
        CheckpointError: If there is no good checkpoint, or its weights are of another model.
    """
    state, where = best_state(Path(source))
    load_module(model, weights_of(state), where=str(where))
    return dict(state["position"])


def weights_source(run: RunFolder, checkpoint: str) -> Path:
    """What `load_weights` takes for the `evaluate.checkpoint` of a run.

    Args:
        run: Its folder.
        checkpoint: "best" or "last".

    Returns:
        The run itself for its best weights, or the file of its last.

    Raises:
        InputError: If it has no checkpoint yet.
    """
    found = run.checkpoints.newest()
    if found is None:
        raise InputError(f"{run.path}: holds no checkpoint yet")
    return run.path if checkpoint == "best" else run.checkpoints.path / found.name


def export(run_folder: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Path:
    """Write `model.safetensors` and `config.json` for sharing.

    The weights are those of the best checkpoint, else the newest; averaged where the run kept an average.
    `config.json` holds the sum of that file, the run's configuration, the position in training, the last metrics, versions and
    the data's fingerprint.

    Args:
        run_folder: A run, or one of its checkpoint files.
        destination: A folder, made if need be; files of these names are replaced.

    Returns:
        The folder.

    Raises:
        CheckpointError: If there is no good checkpoint, or the folder cannot be written.
    """
    from safetensors.torch import save

    state, where = best_state(Path(run_folder))
    folder = Path(destination)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be made: {error.strerror}") from error
    # Tied weights become separate tensors: the format stores no shared memory.
    weights = {name: value.clone().contiguous() for name, value in weights_of(state).items()}
    path = folder / WEIGHTS
    temporary, digest = stage(path, lambda file: file.write(save(weights)))
    commit(temporary, path)
    about = {
        "config": state["config"],
        "checkpoint": where.name,
        "sha256": digest.sha256,
        "position": state["position"],
        "metrics": state["train"]["metrics"],
        "versions": state["versions"],
        "fingerprint": state["fingerprint"],
    }
    write_text(
        folder / "config.json", json.dumps(jsonable(about), indent=2, allow_nan=False) + "\n"
    )
    return folder
