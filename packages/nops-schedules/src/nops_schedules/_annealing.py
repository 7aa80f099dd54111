"""A value that moves along a straight line and stays."""

from dataclasses import dataclass

from nops_schedules._check import number, whole
from nops_schedules._ramp import ramp


@dataclass(frozen=True, kw_only=True)
class LinearAnnealing:
    """start + (end − start)·min(1, e / epochs) at epoch e.

    For weights of loss terms inside `Phases`, and by itself for temperatures and strengths.

    Attributes:
        start: Value at epoch 0, any unit.
        end: Value from epoch `epochs` on, in the same unit; it may be lower.
        epochs: Length of the way, 0 or more; 0 is `end` at once.

    Raises:
        ValueError: At construction, if a number is not finite, or `epochs` is no whole number.
    """

    start: float = 0.0
    end: float = 1.0
    epochs: int

    def __post_init__(self) -> None:
        """Check each field."""
        whole(0)("epochs", self.epochs)
        for name in ("start", "end"):
            object.__setattr__(self, name, number(name, getattr(self, name)))

    def __call__(self, epoch: int) -> float:
        """Value at an epoch, 0-based.

        Raises:
            ValueError: If the epoch is negative.
        """
        if epoch < 0:
            raise ValueError(f"epoch is counted from 0, got {epoch}.")
        return ramp(epoch, start=0, stop=self.epochs, begin=self.start, end=self.end)
