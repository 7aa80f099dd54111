"""All that a loss scheduler remembers, in plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from nops_schedules._path import Position


@dataclass(kw_only=True)
class Memory:
    """What a loss scheduler knows of the past; `now` counts in the schedule's unit.

    Attributes:
        call: Calls of `step` so far.
        epoch: Epoch of the last call; None before the first.
        position: Place on the path.
        undo: Places before the last adaptations, oldest first; no more than can be rolled back.
        warm: Whether the warm-up is over.
        held: Whether the weights are held for good.
        paused_at: When the pause began; None outside of one.
        monitored: The last finite monitored value.
        smoothed: Its moving average, as of `smoothed_at`.
        previous: The moving average before that.
        threshold: What the average was last compared with.
        best: The value to beat.
        clock: When patience began to run.
        reached_at: When the trigger's value was last reached and acted upon; None while it is not.
        milestone: Number of milestones passed.
        recent: Raw values of the last `patience` units, as pairs of now and value; for a trend alone.
        adaptations: Adaptations so far, undone ones included.
        adapted_at: When the last one was.
        streak: Number of the last ones that were at most one unit apart.
        rollbacks: Rollbacks so far.
        guard_smoothed: Moving average of the guard metric, as of `smoothed_at`.
        guard_best: Its best so far.
        guard_after: When the guard is asked again; None: always.
        nonfinite: Calls in a row whose metric was not finite.
    """

    call: int = 0
    epoch: int | None = None
    position: Position = field(default_factory=Position)
    undo: list[Position] = field(default_factory=list)
    warm: bool = False
    held: bool = False
    paused_at: int | None = None
    monitored: float | None = None
    smoothed: float | None = None
    smoothed_at: int = 0
    previous: float | None = None
    threshold: float | None = None
    best: float | None = None
    clock: int = 0
    reached_at: int | None = None
    milestone: int = 0
    recent: list[tuple[int, float]] = field(default_factory=list)
    adaptations: int = 0
    adapted_at: int | None = None
    streak: int = 0
    rollbacks: int = 0
    guard_smoothed: float | None = None
    guard_best: float | None = None
    guard_after: int | None = None
    nonfinite: int = 0

    def forget_monitor(self) -> None:
        """Start the average and the best anew, for another metric."""
        self.monitored = self.smoothed = self.previous = self.threshold = self.best = None
        self.reached_at = None
        self.recent = []

    def plain(self) -> dict[str, Any]:
        """Numbers, lists and None by field, free of this object."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        lists = {name: [list(pair) for pair in found[name]] for name in ("undo", "recent")}
        return {**found, **lists, "position": list(self.position)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Memory":
        """The memory of what `plain` gave.

        Raises:
            ValueError: If a field is missing, or one is unknown.
        """
        names = {one.name for one in fields(cls)}
        if names != set(plain):
            raise ValueError(
                f"the state of a loss scheduler lacks {sorted(names - set(plain))} and holds "
                f"{sorted(set(plain) - names)}, which it does not know."
            )
        lists: dict[str, Any] = {
            "undo": [Position(*pair) for pair in plain["undo"]],
            "recent": [(at, value) for at, value in plain["recent"]],
            "position": Position(*plain["position"]),
        }
        return cls(**{**plain, **lists})
