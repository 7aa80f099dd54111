"""Start weights from another run: what fits is taken, and what does not is said."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nops_train._checkpoint_weights import read_weights
from nops_train._errors import InputError
from nops_train._shards import module_rows

Shape = tuple[int, ...]
SHOWN = 30  # names of a kind that are listed; the rest is counted


@dataclass(frozen=True, kw_only=True)
class InitReport:
    """What of a source went into a model.

    Attributes:
        source: The file that the weights are from.
        sha256: Sum over the names, types, shapes and bytes of the tensors taken, in order of their names.
        matched: Names of the tensors taken, with their shapes.
        missing: Tensors of the model that the source lacks, with their shapes; they stay as they were.
        unexpected: Tensors of the source that the model lacks, with their shapes; they are not used.
        mismatched: Tensors of both with different shapes, the source's and the model's; they stay as
            they were in the model.
    """

    source: str
    sha256: str
    matched: Mapping[str, Shape]
    missing: Mapping[str, Shape]
    unexpected: Mapping[str, Shape]
    mismatched: Mapping[str, tuple[Shape, Shape]]

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the model was taken and every tensor of the source used."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        """A table: one line for what matched, one per tensor that did not."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        lines = [f"Start weights from {self.source}: {len(self.matched)} of {total} tensors"]
        rows = [
            *(
                ("missing", name, f"{shape}, as initialised")
                for name, shape in self.missing.items()
            ),
            *(
                ("other shape", name, f"found {found}, expected {expected}, as initialised")
                for name, (found, expected) in self.mismatched.items()
            ),
            *(("not used", name, f"{shape}") for name, shape in self.unexpected.items()),
        ]
        width = max((len(name) for _, name, _ in rows[:SHOWN]), default=0)
        lines += [f"  {kind:<11}  {name:<{width}}  {text}" for kind, name, text in rows[:SHOWN]]
        if len(rows) > SHOWN:
            lines.append(f"  … and {len(rows) - SHOWN} more")
        return "\n".join(lines)

    def as_event(self) -> dict[str, Any]:
        """Plain values for the event log."""
        return {
            "source": self.source,
            "sha256": self.sha256,
            "matched": len(self.matched),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": {k: [list(a), list(b)] for k, (a, b) in self.mismatched.items()},
        }


def initialise_from(
    model: nn.Module, source: str | os.PathLike[str], *, strict: bool = False
) -> InitReport:
    """Take weights from a run, a checkpoint or an export into a model: weights only, by name and shape.

    What the source lacks, or holds in another shape, stays as it was initialised. To go on with a run is
    another matter: that restores optimizer, schedules, generators and position too.

    Args:
        model: Parameters and buffers are replaced where the source has them in the same shape; a tensor
            of another type is converted.
        source: A run folder (its best checkpoint, else its newest), a checkpoint file, or an exported
            `model.safetensors` or its folder.
        strict: Whether every tensor must match; then nothing is changed unless all do.

    Returns:
        What matched, what is missing, what was not used, what has another shape.

    Raises:
        InputError: If nothing matched, or with `strict` not all, with the table; the model is unchanged.
        CheckpointError: If the source is missing, damaged or refused.
    """
    weights = read_weights(Path(source))
    own = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    found = weights.tensors
    shared = {k: tuple(v.shape) for k, v in own.items() if k in found}
    taken = {k: found[k] for k, shape in shared.items() if tuple(found[k].shape) == shape}
    report = InitReport(
        source=str(weights.file),
        sha256=_sum_of(taken),
        matched={k: shared[k] for k in taken},
        missing={k: tuple(v.shape) for k, v in own.items() if k not in found},
        unexpected={k: tuple(v.shape) for k, v in found.items() if k not in own},
        mismatched={
            k: (tuple(found[k].shape), shape) for k, shape in shared.items() if k not in taken
        },
    )
    if not taken or (strict and not report.is_complete):
        needed = "every tensor has to match" if strict else "no tensor fits this model"
        raise InputError(f"{needed}. {report}")
    model.load_state_dict(module_rows(model, taken), strict=False)
    return report


def _sum_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}/{value.dtype}/{tuple(value.shape)}/".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
