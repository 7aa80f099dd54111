"""The weights in a run folder, a checkpoint or an export, by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from nops_train._checkpoint import CheckpointError
from nops_train._checkpoint_folder import BEST, load_checkpoint
from nops_train._checkpoint_schema import migrate
from nops_train._run_folder import RunFolder

WEIGHTS = "model.safetensors"
FOREIGN = ("model", "model_state_dict", "state_dict")
"""Where other loops keep their weights."""


class Weights(NamedTuple):
    """Tensors by name, and the file that they are from."""

    tensors: dict[str, Tensor]
    file: Path


def read_weights(source: Path) -> Weights:
    """The weights to go on from, averaged where an average was kept.

    Args:
        source: A run folder (its best checkpoint, else its newest), a folder with `model.safetensors`,
            such a file, a checkpoint of the engine, or one of another loop: a state dict, alone or
            under "model", "model_state_dict" or "state_dict".

    Raises:
        CheckpointError: If there is none, it is damaged, or no weights are found in it.
    """
    if source.is_dir() and (source / WEIGHTS).is_file():
        source = source / WEIGHTS
    if source.suffix == ".safetensors":
        return Weights(_read_safetensors(source), source)
    if source.is_dir():
        state, file = best_state(source)
        return Weights(weights_of(state), file)
    state = load_checkpoint(source)
    if "schema" in state:
        return Weights(weights_of(migrate(state, where=str(source))), source)
    found = next((state[name] for name in FOREIGN if isinstance(state.get(name), dict)), state)
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{source}: no weights in it: expected tensors by name, alone or under one of "
            f"{', '.join(FOREIGN)}; found the keys {sorted(map(str, state))}"
        )
    return Weights(tensors, source)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: damaged, or no safetensors file: {error}") from error


def best_state(source: Path) -> tuple[dict[str, Any], Path]:
    """The best checkpoint of a run folder, else its newest, or the checkpoint file itself.

    Raises:
        CheckpointError: If there is no good one.
    """
    if source.is_file():
        return migrate(load_checkpoint(source), where=str(source)), source
    folder = RunFolder.at(source).checkpoints
    if BEST in folder.entries:
        state, name = folder.load(BEST), BEST
    else:
        found = folder.newest()
        if found is None:
            raise CheckpointError(f"{folder.path}: holds no checkpoint yet")
        state, name = found.state, found.name
    file = folder.path / name
    return migrate(state, where=str(file)), file


def weights_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The model's tensors in an engine's checkpoint: the averaged ones where there is an average."""
    weights = {k: v for k, v in state["model"].items() if isinstance(v, Tensor)}
    average = (state.get("ema") or {}).get("average", {})
    # A tied weight has one average but several names, which share their memory.
    named = {weights[name].data_ptr(): name for name in average if weights[name].numel()}
    return {
        name: average[named[value.data_ptr()]] if value.data_ptr() in named else value
        for name, value in weights.items()
    }
