"""The numbers in an event, by name: what is drawn as curves and written as columns."""

from collections.abc import Mapping
from typing import Any

PREFIXES = ("raw", "weight", "weighted")
PER_TERM = "gradient_norm_by_term"


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a "train", "epoch" or "validation" event; empty for any other.

    Names are `loss`, `gradient_norm`, `learning_rate`, `raw/<term>`, `weight/<term>`,
    `weighted/<term>`, `gradient_norm/<term>`; those of an epoch's means begin with `epoch/`, and a
    validation's metrics with `valid/`.
    """
    event = record["event"]
    if event == "validation":
        return {f"valid/{name}": value for name, value in record["metrics"].items()}
    if event not in ("train", "epoch"):
        return {}
    found = {
        name: record[name] for name in ("loss", "gradient_norm", "learning_rate") if name in record
    }
    for prefix in PREFIXES:
        found |= {f"{prefix}/{name}": value for name, value in record.get(prefix, {}).items()}
    found |= {f"gradient_norm/{name}": v for name, v in record.get(PER_TERM, {}).items()}
    return found if event == "train" else {f"epoch/{name}": v for name, v in found.items()}


def step_of(record: Mapping[str, Any]) -> int:
    """The 0-based optimizer step that an event belongs to.

    A step's own event carries its index; what comes at the end of an epoch carries the number of
    steps applied, and belongs to the last of them.
    """
    step = int(record.get("step", 0))
    return step if record["event"] in ("train", "skipped") else max(step - 1, 0)
