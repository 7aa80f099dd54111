"""The base of the weightings that go by loss values alone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from nops_schedules._check import choice, optional, whole
from nops_schedules._intake import Intake
from nops_schedules._normalise import Clamp, check_known, checked_names, first_weights
from nops_schedules._restore import check_same

VERSION = 1


class LossWeights(ABC):
    """Weights that follow loss values: intake, clamps, units and state; a subclass adds the rule.

    It has what a training engine asks of a weighting: `terms`, `observes`, `active`, `weights`,
    `observe`, `state_dict`, `load_state_dict`. In a loop of one's own, `update` gives the weights.

    One update: judge the values, leave out what is not valid, ask the rule, clamp. A term that is left out
    keeps its weight. Nothing is renormalised after the clamp. A term of initial weight 0 is off for
    ever: it has weight 0, is in no mean, and no clamp lifts it.

    Attributes:
        terms: Each term's initial weight, dimensionless, zero included.
        epoch: Epoch of the last update; None before the first.
    """

    def __init__(
        self,
        loss_names: Sequence[str],
        initial_weights: Mapping[str, float] | None,
        *,
        min_weight: float,
        max_weight: float,
        update_unit: str,
        floor: float = 0.0,
        signed: bool = False,
        max_invalid: int | None = 10,
        within: bool = True,
    ) -> None:
        """Take what all of them have.

        Args:
            loss_names: Names of the terms.
            initial_weights: Weight of each until the first update moves it; None for 1.
            min_weight: Least weight of a term that is on.
            max_weight: Largest weight.
            update_unit: "epoch" or "step": what one update is.
            floor: Loss at which a term counts as satisfied, and is left out.
            signed: Whether any finite loss will do, those below 0 included.
            max_invalid: NaN, infinite or missing values of a term in a row that are an error; None: never.
            within: Whether the initial weights have to lie between the limits.
        """
        self.terms: dict[str, float] = first_weights(checked_names(loss_names), initial_weights)
        self._update_unit = choice("epoch", "step")("update_unit", update_unit)
        self._clamp = Clamp(min_weight, max_weight)
        self._max_invalid = optional(whole(1))("max_invalid", max_invalid)
        self._intake = Intake(self.terms, floor=floor, signed=signed, max_invalid=self._max_invalid)
        self._on = frozenset(name for name, weight in self.terms.items() if weight > 0)
        self._check_within(within)
        self._start()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._weights})"

    # What the rule of a subclass is

    @abstractmethod
    def _move(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Take one update's valid losses, one at least; the new weights of those that get one."""

    @abstractmethod
    def _forget(self) -> None:
        """Start the memory of the rule anew; `_at_rest` says whether it will ever move a weight."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The rule's own settings, in plain values."""

    @abstractmethod
    def _remembered(self) -> dict[str, Any]:
        """The rule's memory, in plain values free of this object."""

    @abstractmethod
    def _remember(self, state: Mapping[str, Any]) -> None:
        """Go on from what `_remembered` gave; `state` may hold more."""

    # What anybody's loop uses

    def update(self, epoch: int, loss_values: Mapping[str, SupportsFloat]) -> dict[str, float]:
        """Make one update.

        Args:
            epoch: Its number, which is noted and decides nothing.
            loss_values: Raw loss by name, whatever `float()` takes.

        Returns:
            The weight of every term, as a new dict.

        Raises:
            KeyError: If a name is unknown.
            ValueError: If a loss is negative, where the scheme goes by its size.
            WeightingError: If a loss was not valid `max_invalid` times in a row.
        """
        whole(0)("epoch", epoch)
        losses = self._intake.read(loss_values)
        self._catch_up()
        self._update(losses, epoch)
        return dict(self._weights)

    def get_weight(self, loss_name: str) -> float:
        """Weight of one term now.

        Raises:
            KeyError: If the name is unknown.
        """
        check_known([loss_name], self.terms)
        return self._weights[loss_name]

    def get_weights(self) -> dict[str, float]:
        """Weight of every term now, as a new dict."""
        return dict(self._weights)

    def reset(self) -> None:
        """Go back to the beginning: initial weights, no memory, counters at 0."""
        self._intake.clear()
        self._clamp.counts.clear()
        self._start()

    @property
    def clamped_terms(self) -> dict[str, int]:
        """Name to the number of updates in which its weight was clamped; others are not there."""
        return dict(self._clamp.counts)

    @property
    def skipped(self) -> dict[str, int]:
        """Name to the number of times that its loss was left out; others are not there."""
        return dict(self._intake.skipped)

    def begin_at(self, weights: Mapping[str, float]) -> None:
        """Take the weights of a scheme before this one as initial weights, clamped.

        Terms that were off there, or are off here, keep the initial weight that they have.
        """
        taken = {name: weights[name] for name in self._on if weights.get(name, 0.0) > 0}
        self._initial = self.terms | self._clamp(taken)
        self._weights = dict(self._initial)

    # What an engine asks of a weighting

    @property
    def observes(self) -> str | None:
        """What one update is, "epoch" or "step"; None where the weights will not move any more."""
        return None if self._at_rest else self._update_unit

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute: those that are on."""
        return self._on

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term, those at 0 included; what an earlier epoch left takes effect now."""
        if self._intake.epoch is not None:
            self._catch_up(epoch)
        return dict(self._weights)

    def observe(
        self, values: Mapping[str, SupportsFloat], *, epoch: int, step: int, split: str
    ) -> None:
        """Take note of raw training terms; other splits are not looked at.

        With unit "step" each call is an update. With unit "epoch" the calls of one epoch are
        averaged, and take effect when the epoch number rises.

        Raises:
            KeyError, ValueError, WeightingError: As `update` does.
        """
        if split != "train":
            return
        losses = self._intake.read(values)
        if self._update_unit == "step":
            self._update(losses, epoch)
            return
        self._catch_up(epoch)
        self._intake.add(epoch, losses)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered and the settings, in plain numbers, texts, lists and dicts."""
        return {
            "version": VERSION,
            "scheme": type(self).__name__,
            "settings": self._all_settings(),
            "weights": dict(self._weights),
            "initial_weights": dict(self._initial),
            "epoch": self.epoch,
            "updates": self._updates,
            "clamped": self.clamped_terms,
            **self._intake.plain(),
            **self._remembered(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, as if it had never stopped.

        Raises:
            ValueError: If it is of another scheme, version, strategy, or of other terms or settings: each
                is listed with both values.
        """
        check_same(state, self.state_dict(), kind="weighting")
        self._weights, self._initial = dict(state["weights"]), dict(state["initial_weights"])
        self.epoch, self._updates = state["epoch"], state["updates"]
        self._clamp.counts = dict(state["clamped"])
        self._intake.restore(state)
        self._remember(state)

    def _all_settings(self) -> dict[str, Any]:
        return {
            "terms": dict(self.terms),
            "min_weight": self._clamp.low,
            "max_weight": self._clamp.high,
            "update_unit": self._update_unit,
            "max_invalid": self._max_invalid,
            **self._settings(),
        }

    def _check_within(self, within: bool) -> None:
        low, high = self._clamp.low, self._clamp.high
        outside = {n: self.terms[n] for n in self._on if not low <= self.terms[n] <= high}
        if within and outside:
            raise ValueError(
                f"the initial weights {outside} are outside of min_weight={low:g} and "
                f"max_weight={high:g}: widen the limits, or change the weights."
            )

    def _start(self) -> None:
        self._initial = dict(self.terms)
        self._weights = dict(self.terms)
        self.epoch: int | None = None
        self._updates = 0
        self._at_rest = False
        self._forget()

    def _catch_up(self, epoch: int | None = None) -> None:
        """Make the update of an earlier epoch's means, if there are any."""
        pending = self._intake.epoch
        if pending is not None and (epoch is None or epoch > pending):
            self._update(self._intake.take(), pending)

    def _update(self, losses: Mapping[str, float], epoch: int | None) -> None:
        if not losses:
            return
        self.epoch = epoch
        target = self._move(losses)
        self._updates += 1
        if target:
            self._weights.update(self._clamp(target))
