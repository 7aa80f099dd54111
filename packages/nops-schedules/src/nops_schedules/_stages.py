"""One weighting after another."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from nops_schedules._check import choice, flag
from nops_schedules._composite import Composite
from nops_schedules._names import qualified_name
from nops_schedules._restore import check_same

VERSION = 1

Until = int | Callable[[int, int, Mapping[str, float]], bool] | None


class Stages(Composite):
    """Weightings that take turns: each until a step, or until what it observes says so.

    A bound is exclusive and 0-based: `(2000, a), (None, b)` has `a` for the steps 0 to 1999, or, with
    `unit="epoch"`, for so many epochs. A predicate is
    asked as `predicate(epoch, step, values)` whenever the scheme in charge observes something, and at each
    step while that scheme observes nothing; the first true answer ends the stage after that step. A
    stage that is over never comes back, so ask for weights in the order of the steps. What was observed before a stage began is not shown to it.

    Attributes:
        terms: Each term with its largest base weight in any stage, so that 0 means off in all.
        stage: Number of the stage in charge, 0-based.
    """

    def __init__(
        self,
        stages: Sequence[tuple[Until, Any]],
        *,
        carry: bool = True,
        unit: Literal["step", "epoch"] = "step",
    ) -> None:
        """Take the stages.

        Args:
            stages: Pairs of an end and a weighting; the end is a step or epoch, a predicate, or in the last
                pair None.
                All weightings have the same terms.
            carry: Hand the last weights to the next weighting as its initial weights, where it has
                `begin_at`; a term that is off in one of the two keeps the initial weight it has.
            unit: What ends count.

        Raises:
            ValueError: If there is no stage, an end makes no sense, or the terms differ.
        """
        if not stages:
            raise ValueError("stages needs one pair of an end and a weighting at least, got none.")
        self._ends: list[Until] = [end for end, _ in stages]
        self._schemes = [scheme for _, scheme in stages]
        self._carry = flag("carry", carry)
        self._unit: str = choice("step", "epoch")("unit", unit)
        _check_ends(self._ends, self._unit)
        self.terms: dict[str, float] = _common_terms(self._schemes)
        self.stage = 0
        self._since = 0

    def __repr__(self) -> str:
        return f"Stages({self.stage + 1} of {len(self._schemes)}: {self._scheme})"

    @property
    def observes(self) -> str | None:
        """What the scheme in charge observes; "step" where it observes nothing and a predicate does."""
        own = self._scheme.observes
        return "step" if own is None and callable(self._ends[self.stage]) else own

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute now."""
        self._go_on(epoch, step)
        return self._scheme.active(epoch=epoch, step=step)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term now."""
        self._go_on(epoch, step)
        return dict(self._scheme.weights(epoch=epoch, step=step))

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Show values to the scheme in charge, and to its predicate."""
        if step < self._since:
            return
        end, unit = self._ends[self.stage], self.observes
        self._scheme.observe(values, epoch=epoch, step=step, split=split)
        if callable(end) and unit is not None and end(epoch, step, dict(values)):
            self._next(epoch, step)

    def scheme_at(self, step: int) -> Any:
        """The weighting that will be in charge of a step; None where a predicate or an epoch decides that."""
        for end, scheme in zip(self._ends[self.stage :], self._schemes[self.stage :], strict=True):
            if callable(end) or (end is not None and self._unit == "epoch"):
                break
            if end is None or step < end:
                return scheme
        return None

    def share(self, reduce: Callable[[Any], Any]) -> None:
        """Tell the members that sum over ranks how: `reduce` sums a tensor over those that make a step."""
        for scheme in self._schemes:
            if hasattr(scheme, "share"):
                scheme.share(reduce)

    def state_dict(self) -> dict[str, Any]:
        """The stage in charge, and the states of all."""
        return {
            "version": VERSION,
            "scheme": type(self).__name__,
            "settings": self._settings(),
            "stage": self.stage,
            "since": self._since,
            "schemes": [scheme.state_dict() for scheme in self._schemes],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, as if it had never stopped.

        Raises:
            ValueError: If it is of other stages: each difference is listed with both values.
        """
        check_same(state, self.state_dict(), kind="sequence of weightings")
        for scheme, one in zip(self._schemes, state["schemes"], strict=True):
            scheme.load_state_dict(one)
        self.stage, self._since = state["stage"], state["since"]

    @property
    def _scheme(self) -> Any:
        return self._schemes[self.stage]

    def _go_on(self, epoch: int, step: int) -> None:
        """Go to the stage of a step."""
        at = epoch if self._unit == "epoch" else step
        while isinstance(end := self._ends[self.stage], int) and at >= end:
            self._next(epoch, step)

    def _next(self, epoch: int, step: int) -> None:
        last = self._scheme
        self.stage += 1
        self._since = step
        if self._carry and hasattr(self._scheme, "begin_at"):
            self._scheme.begin_at(last.weights(epoch=epoch, step=step))

    def _settings(self) -> dict[str, Any]:
        return {
            "ends": [qualified_name(end) if callable(end) else end for end in self._ends],
            "kinds": [type(scheme).__name__ for scheme in self._schemes],
            "carry": self._carry,
            "unit": self._unit,
        }


def _check_ends(ends: Sequence[Until], unit: str) -> None:
    if ends[-1] is not None:
        raise ValueError(f"the last stage has no end: it must be None, got {ends[-1]!r}.")
    bound = 0
    for number, end in enumerate(ends[:-1]):
        if callable(end):
            continue
        if isinstance(end, bool) or not isinstance(end, int) or end <= bound:
            raise ValueError(
                f"stage {number} must end above {unit} {bound}, or by a predicate, got {end!r}."
            )
        bound = end


def _common_terms(schemes: Sequence[Any]) -> dict[str, float]:
    first = schemes[0].terms
    for number, scheme in enumerate(schemes):
        if set(scheme.terms) != set(first):
            raise ValueError(
                f"all stages need the same terms, got {list(first)} in stage 0 and "
                f"{list(scheme.terms)} in stage {number}; give a term weight 0 where it is off."
            )
    return {name: max(scheme.terms[name] for scheme in schemes) for name in first}
