"""What the engine tells: the result of a run, and its messages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nops_train._config import TrainConfig
from nops_train._engine_state import Fault, TrainState


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run reached.

    Attributes:
        status: "completed", or "stopped_early" where patience ran out.
        epochs: Epochs done.
        steps: Optimizer steps applied.
        skipped: Steps skipped as non-finite.
        best: Best monitored value: "metric", "mode", "value", "epoch", "step" (0-based); None without validation.
        metrics: Metrics of the last validation.
        history: One dict per epoch.
        seconds: Time in training, all sessions together.
        folder: The run folder.
    """

    status: str
    epochs: int
    steps: int
    skipped: int
    best: dict[str, Any] | None
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    seconds: float
    folder: Path

    @classmethod
    def of(cls, state: TrainState, *, status: str, folder: Path) -> "RunResult":
        """The result of a run that stands at `state`."""
        return cls(
            status=status,
            epochs=state.epoch,
            steps=state.step,
            skipped=state.skipped,
            best=state.best,
            metrics=dict(state.metrics),
            history=list(state.history),
            seconds=state.seconds,
            folder=folder,
        )


class StopRequested(Exception):  # noqa: N818  (an order, not an error)
    """A signal came: stop here, between two steps. Never leaves the engine."""


def describe_fault(fault: Fault) -> str:
    """The reason of a skipped step, in words."""
    if fault.terms:
        return f"{', '.join(fault.terms)} is not finite"
    if fault.parameter is not None:
        return f"the gradient of {fault.parameter} is not finite"
    if not fault.searched:
        return "a gradient is not finite, or the gradient's norm overflows"
    return "the gradient's norm overflows"


def advice(fault: Fault, state: TrainState, *, where: str) -> str:
    """The message of a run that stops because of non-finite steps."""
    return (
        f"stopped: {state.bad_in_row} non-finite steps in a row, {state.bad_in_epoch} in epoch "
        f"{state.epoch}; last, {describe_fault(fault)}. Look at {where} for when it began. Try a lower "
        "learning rate or a longer warm-up, a smaller grad_clip, a shorter rollout window, or precision "
        "fp32; and check the data for NaN. The last checkpoint is from before the streak or within it, and "
        "the same command goes on from there"
    )


def resumed_lines(state: TrainState, *, name: str, config: TrainConfig) -> list[str]:
    """What a run that goes on says; epochs are counted from 1 here, as in the files' names."""
    lines = [
        f"Resuming from checkpoint: {name}",
        "  ✓ Loaded model weights",
        "  ✓ Loaded optimizer, weighting and random states",
    ]
    if state.epoch >= config.epochs:
        lines.append(f"  ✓ All {config.epochs} epochs are done")
    else:
        lines.append(f"  ✓ Resuming from epoch {state.epoch + 1}, step {state.step}")
    if state.batch:
        lines.append(f"    (Will skip first {state.batch} batches of epoch {state.epoch + 1})")
    if state.best is not None:
        lines.append(f"  ✓ Best {state.best['metric']} so far: {state.best['value']:.6f}")
    return lines
