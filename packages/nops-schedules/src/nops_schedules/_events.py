"""What a loss scheduler did, and why, in one sentence each."""

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = (
    "warmup_complete",
    "scale",
    "adaptation",
    "rollback",
    "paused",
    "resumed",
    "held",
    "complete",
    "skipped_nonfinite",
    "advice",
)


@dataclass(frozen=True, kw_only=True)
class LossSchedulerEvent:
    """Something that a loss scheduler did.

    Attributes:
        kind: One of "warmup_complete", "scale", "adaptation", "rollback", "paused", "resumed", "held", "complete",
            "skipped_nonfinite", "advice".
        epoch: Epoch of the call, 0-based.
        weights: Weight of each component after it, dimensionless.
        progress: Fraction of the path, in [0, 1], after it.
        monitored: The metric as it came, in its own unit; None where it was not finite.
        smoothed: Its moving average; None before the first.
        threshold: What the smoothed metric was compared with, in the same unit; None where the trigger
            compares with nothing.
        reason: Why, an English sentence.
    """

    kind: str
    epoch: int
    weights: Mapping[str, float]
    progress: float
    monitored: float | None
    smoothed: float | None
    threshold: float | None
    reason: str

    def __str__(self) -> str:
        return f"epoch {self.epoch}, {self.kind}: {self.reason}"


def describe_weights(weights: Mapping[str, float]) -> str:
    """`recFieldError 0.9, spectrumError 0.1`."""
    return ", ".join(f"{name} {weight:.4g}" for name, weight in weights.items())
