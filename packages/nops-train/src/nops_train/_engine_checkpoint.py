"""The engine's checkpoint: everything that the next step depends on, and what a run must agree on."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nops_train._checkpoint import SCHEMA, CheckpointError
from nops_train._engine_environment import versions
from nops_train._engine_rng import set_rng_state
from nops_train._engine_state import TrainState
from nops_train._errors import InputError
from nops_train._protocols import Stateful
from nops_train._run_folder import RunFolder
from nops_train._run_folder_diff import check_same, differences
from nops_train._shards import module_rows, optimizer_rows, state_of
from nops_train._world import World

MAY_BEGIN = ("lbfgs",)  # parts that start anew where a checkpoint has none


def capture(
    parts: Mapping[str, Any],
    *,
    train: TrainState,
    stateful: Mapping[str, Stateful],
    run: RunFolder,
    seed: int,
    fingerprint: Mapping[str, Any],
    rng: list[dict[str, Any]],
    world: World,
) -> dict[str, Any]:
    """The state of a run between two steps; collective where the model is sharded.

    Args:
        parts: Model, optimizer, weighting and the like by name; None where a run has none.
        train: Position and counters.
        stateful: The app's own objects.
        run: Its events are brought to the disk, so that their length is true.
        seed: Start of every draw.
        fingerprint: What identifies the data.
        rng: States of the generators, by rank.
        world: The ranks; of what they hold in parts, rank 0 gets the whole.
    """
    return {
        "schema": SCHEMA,
        "versions": versions(),
        "position": {"epoch": train.epoch, "batch": train.batch, "step": train.step, "seed": seed},
        "config": run.config,
        "fingerprint": dict(fingerprint),
        "events": run.events.sync(),
        "train": train.state_dict(),
        "rng": rng,
        "stateful": {name: item.state_dict() for name, item in stateful.items()},
        **{name: None if part is None else state_of(part, world) for name, part in parts.items()},
    }


def check_agrees(
    state: Mapping[str, Any], *, run: RunFolder, fingerprint: Mapping[str, Any], where: str
) -> None:
    """Stop where a checkpoint is of another configuration or data; `--resume force` passes over both.

    Raises:
        InputError: With the keys and both values.
    """
    run.check_config(state["config"], where=where)
    if run.resume == "force":
        return
    check_same(
        differences({"data": state["fingerprint"]}, {"data": dict(fingerprint)}),
        neutral=(),
        where=f"{where}: the data are not those of this run",
    )


def restore(
    state: Mapping[str, Any],
    parts: Mapping[str, Any],
    *,
    train: TrainState,
    stateful: Mapping[str, Stateful],
    rank: int,
    where: str,
) -> None:
    """Put a checkpoint's state into the objects of a run.

    Raises:
        InputError: If the model's parameters, or the names of the parts, are not those saved.
    """
    for name, part in parts.items():
        saved = state.get(name)
        if saved is None and name in MAY_BEGIN:
            continue
        if (part is None) != (saved is None):
            has, wants = ("a state", "none") if part is None else ("none", "one")
            raise InputError(f"{where}: {name}: the checkpoint has {has}, this run needs {wants}")
        if part is not None:
            _load(part, saved, name=name, where=where)
    if state["stateful"].keys() != stateful.keys():
        raise InputError(
            f"{where}: holds the states of {sorted(state['stateful'])}, expected {sorted(stateful)}"
        )
    for name, item in stateful.items():
        _load(item, state["stateful"][name], name=name, where=where)
    train.load_state_dict(state["train"])
    if rank < len(state["rng"]):  # beyond it, every step sets its own anyway
        set_rng_state(state["rng"][rank])


def _load(part: Any, saved: Any, *, name: str, where: str) -> None:
    if isinstance(part, nn.Module):
        load_module(part, saved, where=where)
        return
    try:
        is_optimizer = isinstance(part, torch.optim.Optimizer)
        part.load_state_dict(optimizer_rows(part, saved) if is_optimizer else saved)
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{where}: the state of {name} does not fit: {error}") from error


def load_module(module: nn.Module, saved: Mapping[str, Tensor], *, where: str) -> None:
    """Load weights by name; every name and shape must agree.

    Raises:
        CheckpointError: With a line per name that is missing, unknown or of another shape.
    """
    present = {k: tuple(v.shape) for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    found = {k: tuple(v.shape) for k, v in saved.items() if isinstance(v, Tensor)}
    lines = [
        f"{name}: found {found.get(name, 'nothing')}, expected {present.get(name, 'nothing')}"
        for name in [*present, *(k for k in found if k not in present)]
        if found.get(name) != present.get(name)
    ]
    if lines:
        shown = "\n  ".join(lines[:20]) + ("\n  …" if len(lines) > 20 else "")
        raise CheckpointError(f"{where}: the weights are of another model:\n  {shown}")
    module.load_state_dict(module_rows(module, saved))
