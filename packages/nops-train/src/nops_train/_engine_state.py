"""Where training stands, apart from the weights: position, counters, sums, best value, history."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Raw value, weight and weighted value by term; `loss` is the sum of the weighted ones."""

    raw: dict[str, float]
    weight: dict[str, float]
    weighted: dict[str, float]
    loss: float
    gradient_norm: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """One step as it was judged.

    Attributes:
        weights: Weight by term, in the order of `values`.
        samples: Samples of the step's batch.
        values: Raw terms, then the gradient norm.
    """

    weights: dict[str, float]
    samples: int
    values: list[float]

    @property
    def is_finite(self) -> bool:
        """Whether all values are."""
        return all(map(math.isfinite, self.values))

    def terms(self) -> Terms:
        """The values by term."""
        raw = dict(zip(self.weights, self.values, strict=False))
        weighted = {name: self.weights[name] * value for name, value in raw.items()}
        return Terms(
            raw=raw,
            weight=dict(self.weights),
            weighted=weighted,
            loss=sum(weighted.values()),
            gradient_norm=self.values[-1],
        )


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One step that is made and not yet judged here: the device alone knows whether it counts.

    Attributes:
        weights: Weight by term, in the order of `values`.
        samples: Samples of the step's batch.
        values: Raw terms, then the gradient norm, on the device, `[K + 1]`.
    """

    weights: dict[str, float]
    samples: int
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a step was skipped.

    Attributes:
        terms: Terms whose value or weight is not finite; empty where only the gradient is bad.
        parameter: First parameter with a non-finite gradient; None where each is finite and only their
            norm overflows, or where a term is to blame already.
        scale: Whether the fp16 loss scale may be the cause, and was lowered.
        searched: Whether the parameter was looked for: when a step that waited is judged, its gradient is gone.
    """

    terms: tuple[str, ...]
    parameter: str | None
    scale: bool
    searched: bool = True


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What the forward and backward passes of a step came to.

    Attributes:
        weights: Weight by term.
        values: Raw terms in that order, then the gradient norm; of all ranks.
        norm: The norm of the gradient that lies in `.grad`.
    """

    weights: dict[str, float]
    values: Tensor
    norm: Tensor


class EpochMeans:
    """Means over an epoch's applied steps, weighted by samples, summed in float64 in order.

    Steps wait until the means or the state are asked for, or a log line is written.
    """

    def __init__(self) -> None:
        self._waiting: list[Record] = []
        self._sums: dict[str, list[float]] = {}
        self._totals = [0.0, 0.0, 0.0]

    def add(self, record: Record) -> None:
        """Take a step into the means."""
        self._waiting.append(record)

    def read_waiting(self) -> None:
        """Sum the waiting steps."""
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._sum(record.terms(), record.samples)

    def _sum(self, terms: Terms, samples: int) -> None:
        for name in terms.raw:
            values = (terms.raw[name], terms.weight[name], terms.weighted[name], 1.0)
            sums = self._sums.setdefault(name, [0.0, 0.0, 0.0, 0.0])
            self._sums[name] = [s + samples * v for s, v in zip(sums, values, strict=True)]
        values = (terms.loss, terms.gradient_norm, 1.0)
        self._totals = [s + samples * v for s, v in zip(self._totals, values, strict=True)]

    @property
    def samples(self) -> int:
        """Samples of the steps taken in."""
        self.read_waiting()
        return round(self._totals[2])

    def means(self) -> Terms:
        """The means; a term's are over the steps in which it was computed. NaN without steps."""
        self.read_waiting()
        mean = {name: [s / sums[3] for s in sums] for name, sums in self._sums.items()}
        count = self._totals[2] or math.nan
        return Terms(
            raw={name: values[0] for name, values in mean.items()},
            weight={name: values[1] for name, values in mean.items()},
            weighted={name: values[2] for name, values in mean.items()},
            loss=self._totals[0] / count,
            gradient_norm=self._totals[1] / count,
        )

    def state_dict(self) -> dict[str, Any]:
        """The sums."""
        self.read_waiting()
        return {"sums": {k: list(v) for k, v in self._sums.items()}, "totals": list(self._totals)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._waiting = []
        self._sums = {name: list(values) for name, values in state["sums"].items()}
        self._totals = list(state["totals"])


@dataclass(kw_only=True)
class TrainState:
    """Position and counters of a run.

    Attributes:
        epoch: Epoch in hand, 0-based.
        batch: Batches of it that are done, skipped steps included.
        step: Optimizer steps applied so far.
        skipped: Steps skipped as non-finite, in the whole run.
        skipped_in_epoch: The same, in this epoch.
        bad_in_epoch: The same, without those by which the fp16 loss scale finds its size.
        bad_in_row: The same, since the last applied step.
        waited: Validations since the best one.
        best: Best monitored value with its epoch and step: "value", "epoch", "step", "metric".
        metrics: Metrics of the last validation.
        history: One dict per finished epoch.
        seconds: Time spent in training, over all sessions.
        epoch_seconds: The same, in this epoch.
        means: Means over this epoch so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped: int = 0
    skipped_in_epoch: int = 0
    bad_in_epoch: int = 0
    bad_in_row: int = 0
    waited: int = 0
    best: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    means: EpochMeans = field(default_factory=EpochMeans)

    def next_epoch(self) -> None:
        """Go to the start of the next epoch."""
        self.epoch += 1
        self.batch = 0
        self.skipped_in_epoch = 0
        self.bad_in_epoch = 0
        self.epoch_seconds = 0.0
        self.means = EpochMeans()

    def state_dict(self) -> dict[str, Any]:
        """All fields in plain values."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**state, "means": self.means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.means = EpochMeans()
        self.means.load_state_dict(state["means"])
        for f in fields(self):
            if f.name != "means":
                setattr(self, f.name, state[f.name])
