"""What comes in: loss values by name, judged, counted and averaged before a scheme sees them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, SupportsFloat

from nops_schedules._normalise import WeightingError, check_known


class Intake:
    """Lets valid values through; the rest leaves no trace but a count.

    NaN, infinite and missing values are left out and counted, and are an error after `max_invalid` in a
    row. Values of `floor` or less are left out and counted for this time, but are valid. A term that is
    off is not looked at.

    Attributes:
        skipped: Name to the number of times that it was left out.
        in_row: Name to the number of the last times that it was NaN, infinite or missing.
        epoch: Epoch of the partial means; None without any.
    """

    def __init__(
        self,
        terms: Mapping[str, float],
        *,
        floor: float = 0.0,
        signed: bool = False,
        max_invalid: int | None = 10,
    ) -> None:
        """Take what is expected.

        Args:
            terms: Every term with its initial weight; those of 0 are off.
            floor: Largest value at which a term counts as satisfied.
            signed: Whether any finite value is valid; `floor` is then not looked at.
            max_invalid: Times in a row that are an error; None: never.
        """
        self._terms = terms
        self._on = tuple(name for name, weight in terms.items() if weight > 0)
        self._floor = -math.inf if signed else floor
        self._signed = signed
        self._max_invalid = math.inf if max_invalid is None else max_invalid
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.skipped: dict[str, int] = {}
        self.in_row: dict[str, int] = {}
        self.epoch: int | None = None
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def read(self, values: Mapping[str, SupportsFloat]) -> dict[str, float]:
        """The valid values of one time.

        Raises:
            KeyError: If a name is unknown.
            ValueError: If a value is negative.
            TypeError: If a value is no number.
            WeightingError: If one was invalid `max_invalid` times in a row.
        """
        if not values.keys() <= self._terms.keys():
            check_known(values, self._terms)
        floor, found, left_out = self._floor, {}, []
        for name in self._on:
            value = as_float(name, values[name]) if name in values else math.nan
            if floor < value < math.inf:
                found[name] = value
            else:
                left_out.append((name, value))
        if left_out:
            self._leave_out(left_out)
        if self.in_row:
            self.in_row = {n: count for n, count in self.in_row.items() if n not in found}
        return found

    def _leave_out(self, left_out: Iterable[tuple[str, float]]) -> None:
        for name, value in left_out:
            if -math.inf < value < 0 and not self._signed:
                raise ValueError(
                    f"the loss of '{name}' is {value:g}: a scheme that goes by the size of the losses "
                    'needs 0 or more; take strategy="fixed" or a gradient aggregator.'
                )
        for name, value in left_out:
            self.skipped[name] = self.skipped.get(name, 0) + 1
            if math.isfinite(value):
                self.in_row.pop(name, None)
            else:
                self.in_row[name] = self.in_row.get(name, 0) + 1
        self._stop_if_too_many(dict(left_out))

    def _stop_if_too_many(self, left_out: Mapping[str, float]) -> None:
        for name, value in left_out.items():
            if self.in_row.get(name, 0) >= self._max_invalid:
                raise WeightingError(
                    f"the loss of '{name}' was NaN, infinite or missing {self.in_row[name]} times in a "
                    f"row, last {value}: its weight cannot follow it. Look for what makes it so, or "
                    "raise max_invalid."
                )

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add valid values to the partial means of an epoch."""
        self.epoch = epoch
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The partial means, which are empty afterwards."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self.epoch, self._sums, self._counts = None, {}, {}
        return means

    def plain(self) -> dict[str, Any]:
        """Counters and partial sums, free of this object."""
        return {
            "skipped": dict(self.skipped),
            "in_row": dict(self.in_row),
            "pending_epoch": self.epoch,
            "sums": dict(self._sums),
            "counts": dict(self._counts),
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Go on from what `plain` gave."""
        self.skipped, self.in_row = dict(plain["skipped"]), dict(plain["in_row"])
        self.epoch = plain["pending_epoch"]
        self._sums, self._counts = dict(plain["sums"]), dict(plain["counts"])


def as_float(name: str, value: SupportsFloat) -> float:
    """The value as a plain number; infinite where it is too large for one.

    Raises:
        TypeError: If `float()` does not take it.
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"the loss of '{name}' must be one number, got {type(value).__name__}: {value!r}."
        ) from None
