"""Point schemes beside a weighting of terms: one object to observe, to save and to go on from."""

from collections.abc import Mapping
from typing import Any, final

from nops_schedules._composite import Composite
from nops_schedules.gradient._backward import Reduce
from nops_schedules.gradient._points import PointScheme
from nops_schedules.gradient._terms import check_head, check_known, head


@final
class WithPointwise(Composite):
    """A weighting of terms, joined by schemes that weigh the points of some of them.

    The task makes those terms by `scheme.loss(...)`; this object moves the schemes with each step that it
    observes, drops what they saw of a step that was skipped, and saves all in one state.

    Args:
        weighting: Weighs the terms; it does not observe validations.
        points: Scheme by the name of its term.

    Attributes:
        weighting: As given.
        points: As given, a new dict.
        terms: Those of the weighting.
        observes: "step".

    Raises:
        KeyError: If a name is no term.
        ValueError: If no scheme is given, one is given twice, or the weighting observes validations.
    """

    def __init__(self, weighting: Any, points: Mapping[str, PointScheme]) -> None:
        check_known(points, weighting.terms)
        if not points or len(set(map(id, points.values()))) < len(points):
            raise ValueError(
                f"points needs a scheme of its own for each term, got {dict(points)!r}."
            )
        if weighting.observes == "validation":
            raise ValueError(
                f"{type(weighting).__name__} observes validations, and point schemes observe steps: an "
                "engine shows one of both. Choose a weighting that observes steps or epochs."
            )
        self.weighting = weighting
        self.points = dict(points)
        self.terms: dict[str, float] = dict(weighting.terms)
        self.observes: str | None = "step"

    def __repr__(self) -> str:
        return f"WithPointwise({self.weighting!r}, {self.points!r})"

    @property
    def _scheme(self) -> Any:
        return self.weighting

    def share(self, reduce: Reduce) -> None:
        """Let the schemes sum what they see over the ranks that make a step together."""
        for scheme in self.points.values():
            scheme.reduce = reduce

    def begin_at(self, weights: Mapping[str, float]) -> None:
        """Take the weights of a scheme before this one, where the weighting of terms does."""
        if hasattr(self.weighting, "begin_at"):
            self.weighting.begin_at(weights)

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute."""
        return self.weighting.active(epoch=epoch, step=step)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term."""
        return self.weighting.weights(epoch=epoch, step=step)

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Show values to the weighting, and after a training step move the schemes."""
        self.weighting.observe(values, epoch=epoch, step=step, split=split)
        if split == "train":
            for scheme in self.points.values():
                scheme.step()

    def discard_update(self) -> None:
        """Forget what the weighting has staged and the schemes have seen: the step was skipped."""
        self._settle("discard_update")
        for scheme in self.points.values():
            scheme.forget()

    def state_dict(self) -> dict[str, Any]:
        """The states of the weighting and of all schemes."""
        return {
            **head(self, self.terms),
            "weighting": self.weighting.state_dict(),
            "points": {name: scheme.state_dict() for name, scheme in self.points.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another weighting, other schemes, terms or another version.
        """
        check_head(state, self, self.terms)
        if state["points"].keys() != self.points.keys():
            raise ValueError(
                f"the state has point schemes for {sorted(state['points'])}, this is for "
                f"{sorted(self.points)}."
            )
        self.weighting.load_state_dict(state["weighting"])
        for name, scheme in self.points.items():
            scheme.load_state_dict(state["points"][name])
