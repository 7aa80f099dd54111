"""Two phases of training: one set of weights first, another, which may anneal, after it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from nops_schedules._annealing import LinearAnnealing
from nops_schedules._check import mapping, refuse, whole
from nops_schedules._check import weight as not_negative
from nops_schedules._restore import differences

VERSION = 1


class Phases:
    """Weights of a pretraining of some epochs, then weights that may anneal, with clocks of their own.

    Annealing and learning rate start when training does: both are read at e − pretrain for epoch e.
    It has what a training engine asks of a weighting: `terms`, `observes`, `active`, `weights`,
    `observe`, `state_dict`, `load_state_dict`. A term at weight 0 is not active, so that nothing is
    computed for it; a term that a phase does not name has the weight 0.0 there.

    Attributes:
        terms: Each term with the largest weight that it ever has, dimensionless, zero included.
        observes: None: it wants to see no values.
    """

    def __init__(
        self,
        *,
        pretrain: int,
        pretrain_weights: Mapping[str, float],
        train_weights: Mapping[str, float | LinearAnnealing],
    ) -> None:
        """Take the length of the pretraining, and the weights of both phases.

        Args:
            pretrain: Epochs of pretraining E: epochs 0 … E − 1; 0 for none.
            pretrain_weights: Weight by name of the loss term, finite and not negative; one at least
                positive, unless there is no pretraining.
            train_weights: The same from epoch E on; an annealing is read at e − E. Something has to
                be trained at its first epoch and at its end.

        Raises:
            ValueError: If a number is out of range, or nothing would be trained.
        """
        self.observes: str | None = None
        self._pretrain = whole(0)("pretrain", pretrain)
        self._first = mapping(not_negative)("pretrain_weights", pretrain_weights)
        self._then = mapping(_annealed)("train_weights", train_weights)
        if pretrain and not any(self._first.values()):
            raise _nothing(f"pretrain_weights, for pretrain={pretrain} epochs,", self._first)
        for when, at in (("at its first epoch", 0), ("at its end", _last(self._then))):
            if not any(weight(at) for weight in self._then.values()):
                raise _nothing(f"train_weights, {when},", dict(train_weights))
        self.terms: dict[str, float] = self._largest()

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"Phases({settings})"

    def phase(self, epoch: int) -> Literal["pretrain", "train"]:
        """Which phase a 0-based epoch is in."""
        return "pretrain" if epoch < self._pretrain else "train"

    def lr_epoch(self, epoch: int) -> int | None:
        """The epoch that a learning-rate schedule is to see: e − pretrain, from 0 on.

        None in pretraining, where the initial rate holds.
        """
        return None if epoch < self._pretrain else epoch - self._pretrain

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """Names of the terms to compute now: those with a positive weight."""
        weights = self.weights(epoch=epoch, step=step)
        return frozenset(name for name, weight in weights.items() if weight > 0)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """Weight of every term at an epoch, those at 0 included; the same at each of its steps.

        Raises:
            ValueError: If the epoch is negative.
        """
        if epoch < 0:
            raise ValueError(f"epoch is counted from 0, got {epoch}.")
        at = self.lr_epoch(epoch)
        if at is None:
            return {name: self._first.get(name, 0.0) for name in self.terms}
        return dict.fromkeys(self.terms, 0.0) | {n: value(at) for n, value in self._then.items()}

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Look at nothing: the phases follow the calendar alone."""

    def state_dict(self) -> dict[str, Any]:
        """The arguments, so that no other phases go on from here; nothing else is remembered."""
        return {"version": VERSION, **self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Accept a state of the same arguments.

        Raises:
            ValueError: If it has others, each of which is listed, or is of another weighting.
        """
        if found := differences(state, self.state_dict()):
            text = "\n  ".join(found)
            raise ValueError(f"the state was saved with other phases of training:\n  {text}")

    def _largest(self) -> dict[str, float]:
        ever = {name: max(value.start, value.end) for name, value in self._then.items()}
        first = self._first if self._pretrain else dict.fromkeys(self._first, 0.0)
        return {name: max(first.get(name, 0.0), ever.get(name, 0.0)) for name in [*first, *ever]}

    def _settings(self) -> dict[str, Any]:
        return {
            "pretrain": self._pretrain,
            "pretrain_weights": dict(self._first),
            "train_weights": {name: asdict(value) for name, value in self._then.items()},
        }


def _annealed(name: str, value: Any) -> LinearAnnealing:
    """A weight as an annealing; a number is one that has arrived."""
    if not isinstance(value, LinearAnnealing):
        end = not_negative(name, value)
        return LinearAnnealing(start=end, end=end, epochs=0)
    if min(value.start, value.end) < 0:
        raise refuse(name, "0 or more from its start to its end", value)
    return value


def _last(weights: Mapping[str, LinearAnnealing]) -> int:
    """First epoch of training at which all have arrived."""
    return max((weight.epochs for weight in weights.values()), default=0)


def _nothing(what: str, weights: Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"{what} needs at least one positive weight, got {dict(weights)}: there would be nothing to "
        "train."
    )
