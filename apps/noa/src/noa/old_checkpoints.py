"""Checkpoints of the published script: what they hold in this app's words, and what has to be inferred."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nops_train import Imported, InputError, Invocation, load_checkpoint, resumed_config
from torch import Tensor

from noa.config import NoaConfig
from noa.token_terms import PROJECTOR as TRAINED_BESIDE

STEP_FILE, EPOCH_FILE = re.compile(r"step_(\d+)\.pt"), re.compile(r"epoch_(\d+)\.pt")
SHOWN = 20  # rows of the table of what does not fit
SETTINGS = {
    "base_channels": "model.base_channels",
    "encoder_levels": "model.encoder_levels",
    "afno_blocks": "model.afno_blocks",
    "modes": "model.modes",
    "bptt_window": "rollout.window",
    "timesteps": "data.num_steps",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "lr": "train.learning_rate",
    "lr_schedule": "train.lr_schedule",
    "warmup_steps": "train.warmup_steps",
    "early_stop_patience": "train.early_stop_patience",
}
PROJECTOR = (
    "WARNING: old checkpoint has no projector weights: the projector starts anew, and the latent loss "
    "with it. Choose: (1) train from scratch, for one projector throughout; (2) go on without the latent "
    "loss; (3) go on as it is, and expect a jump in its curve"
)


class PublishedCheckpoint:
    """Reads dicts of `model_state_dict`, `optimizer_state_dict`, `epoch`, `global_step` and others.

    Args:
        config: Of the run that goes on from one.
        weights: The state dict of its model, to compare names and shapes with; those of a latent projector
            stay as they are.
        batches: Batches per epoch.
        learning_rate: Of an (epoch, step), to say the rate that training goes on with.
    """

    def __init__(
        self,
        config: NoaConfig,
        *,
        weights: Mapping[str, Tensor],
        batches: int,
        learning_rate: Callable[[int, int], float],
    ) -> None:
        self._config = config
        self._projector = {n: v for n, v in weights.items() if n.startswith(f"{TRAINED_BESIDE}.")}
        self._weights = {n: v for n, v in weights.items() if n not in self._projector}
        self._batches = batches
        self._learning_rate = learning_rate

    def matches(self, state: Mapping[str, Any]) -> bool:
        """Whether a file of plain values is one of the script's."""
        return _is_published(state)

    def convert(self, state: dict[str, Any], *, file: Path) -> Imported:
        """The content in the engine's words.

        Args:
            state: What the file holds.
            file: Its path: `step_N.pt` and `epoch_N.pt` tell the step where the content does not.

        Raises:
            InputError: If the weights are not of this U-AFNO, or neither content nor name has a step.
        """
        weights = state["model_state_dict"]
        check_weights(weights, self._weights, file=file)
        step, notes = self._step(state, file)
        epoch, batch = divmod(step, self._batches)
        if (named := EPOCH_FILE.fullmatch(file.name)) and epoch != int(named[1]):
            epoch, batch = int(named[1]), 0
            notes.append(f"inferred: epoch index {epoch}, from the file's name")
        rate = self._learning_rate(epoch, step)
        notes.append(f"the learning-rate schedule is set to step {step}: {rate:.3g}")
        parts = {"model": {**weights, **self._projector}}
        if "optimizer_state_dict" in state and not self._projector:
            parts["optimizer"] = state["optimizer_state_dict"]
        return Imported(
            parts=parts,
            epoch=epoch,
            batch=batch,
            step=step,
            history=_history(state),
            config=with_settings(self._config.model_dump(mode="json"), state),
            notes=(*notes, *self._remarks(state)),
        )

    def _step(self, state: Mapping[str, Any], file: Path) -> tuple[int, list[str]]:
        if "global_step" in state:
            return int(state["global_step"]), []
        if found := STEP_FILE.fullmatch(file.name):
            return int(found[1]), [f"inferred: global_step {found[1]}, from the file's name"]
        if found := EPOCH_FILE.fullmatch(file.name):
            epochs, whence = int(found[1]), "the file's name"
        elif "epoch" in state:
            epochs, whence = int(state["epoch"]) + 1, f"epoch {state['epoch']}, taken as done"
        else:
            raise InputError(
                f"{file}: found neither global_step nor epoch in it, and its name is not step_N.pt "
                "or epoch_N.pt: expected one of them to tell where training stood"
            )
        step = epochs * self._batches
        text = f"inferred: global_step {step}, {epochs} epochs of {self._batches} batches, from {whence}"
        return step, [text]

    def _remarks(self, state: Mapping[str, Any]) -> list[str]:
        remarks = [
            "the published script trained on fields in their own units; here they are normalised"
        ]
        if not _history(state):
            remarks.append("no validation history in it: it starts empty")
        if "best_val_loss" in state:
            remarks.append(
                f"best_val_loss {state['best_val_loss']:.6g} is not the NMSE that is watched here: "
                "the best value starts anew"
            )
        if self._projector:
            remarks.append("the optimizer's state is not taken: the projector is not in it")
        if self._projector and not state.get("alignment_state"):
            remarks.append(PROJECTOR)
        elif state.get("alignment_state"):
            remarks.append("alignment_state: its projector is not that of this run and starts anew")
        return remarks


def _is_published(state: Mapping[str, Any]) -> bool:
    return isinstance(state.get("model_state_dict"), Mapping)


def _history(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One dict per epoch, of the script's lists of losses."""
    history = state.get("history") or {}
    lists = {name: values for name, values in history.items() if isinstance(values, Sequence)}
    count = max(map(len, lists.values()), default=0)
    return [
        {"epoch": epoch, **{name: v[epoch] for name, v in lists.items() if epoch < len(v)}}
        for epoch in range(count)
    ]


def check_weights(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, file: Path
) -> None:
    """Refuse weights whose names or shapes are not those of this U-AFNO.

    Raises:
        InputError: With a table; the published script's dense spectral weights are named as such.
    """
    shapes = [{name: tuple(value.shape) for name, value in w.items()} for w in (found, expected)]
    names = [*shapes[0], *(name for name in shapes[1] if name not in shapes[0])]
    wrong = [name for name in names if shapes[0].get(name) != shapes[1].get(name)]
    if not wrong:
        return
    width = max(map(len, wrong[:SHOWN]))
    rows = [
        f"  {name:<{width}}  found {shapes[0].get(name, 'nothing')}, expected "
        f"{shapes[1].get(name, 'nothing')}{' (dense spectral weights)' * _is_dense(found.get(name))}"
        for name in wrong[:SHOWN]
    ]
    if len(wrong) > SHOWN:
        rows.append(f"  … and {len(wrong) - SHOWN} more")
    advice = ""
    if any(_is_dense(value) for value in found.values()):
        advice = (
            "\nDense spectral weights are a matrix per wave; those of an AFNO are shared by all waves, and "
            "neither can be made of the other: train anew"
        )
    raise InputError(
        f"{file}: the weights are not of this U-AFNO: {len(wrong)} of {len(names)} names or shapes "
        "differ\n" + "\n".join(rows) + advice
    )


def _is_dense(value: Tensor | None) -> bool:
    """Complex, or in real pairs: input and output channels by rows and columns of waves."""
    return value is not None and (torch.is_complex(value) or value.ndim > 4)


def with_settings(config: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """A plain config with the settings that an old checkpoint names laid over it."""
    merged = copy.deepcopy(dict(config))
    named = {**(state.get("args") or {}), **(state.get("config") or {})}
    for name, key in SETTINGS.items():
        if name in named:
            section, field = key.split(".")
            merged[section][field] = named[name]
    return merged


def settings_of_resumed(config: NoaConfig, call: Invocation) -> NoaConfig:
    """The config with the settings of an old checkpoint that `--resume` names, flags given now on top.

    Raises:
        InputError: If the file cannot be read, or its settings do not fit.
    """
    file = Path(call.resume)
    if call.preset_given or call.resume in ("auto", "never", "force") or not file.is_file():
        return config
    state = load_checkpoint(file)
    if not _is_published(state):
        return config
    stored = with_settings(config.model_dump(mode="json"), state)
    return resumed_config(config, stored, explicit=call.explicit, source=str(file))
