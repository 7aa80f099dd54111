"""What the engine asks of the objects it is given: a task, a weighting, a source of batches.

Any class with these methods will do; nothing has to be inherited. `epoch` and `step` are 0-based, and
`step` is the number of optimizer steps applied so far, hence the index of the step being made.

A weighting may also offer, by name, what gradient-based balancing needs. The engine looks for these
on `weighting.active_weighting` where there is one (a composite names the member in charge there, since
`active` is the set of terms), else on the weighting itself:

| method | when |
|---|---|
| `note_residuals(vectors)` | handed to the task, as its attribute `note_residuals`, where the task has one |
| `balance(losses, params, *, epoch, step)` | once per step, first micro-batch or window, graph kept, before `weights`; where several ranks make the step, also `reduce`, which sums a tensor over them, and `losses` are then this rank's parts of the sums |
| `accumulate(losses, params)` | per micro-batch or window, in place of the backward pass of the weighted total |
| `apply(params, *, reduce)` | once per step after the last `accumulate`: it leaves the gradients in `.grad` |

One whose `homogeneous` is False does not scale with the loss; it is refused under fp16. The weighting given to
the engine may offer `share(reduce)`: it is called before each forward pass where several ranks make the step, and
what weighs points may then sum over the ranks inside the task's losses, which all ranks call equally often.

A task may also offer `images(batch)`: pictures by name, `[3, H, W]` or `[1, H, W]` with values in [0, 1].
It is called in eval mode without gradients on the first batch of a validation, where the run is watched
by a sink that shows pictures; the first eight are shown.

Modules, weightings and stateful objects that defer a change of their own (codebooks, averaged priors, a
staged `balance`) offer `apply_update()` and `discard_update()`: one of the two is called per optimizer
step, the second when the step is skipped. `defer_updates()`, where there is one, is called before the
first step.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["BatchSource", "Stateful", "Task", "Weighting"]

Batch = Any
"""A tensor, or a dict, list, tuple or named tuple of batches; samples lie along dimension 0."""

Losses = Mapping[str, Tensor]
"""Raw loss terms by name: unweighted scalars, each the mean over the samples of the batch."""


@runtime_checkable
class Task(Protocol):
    """What an app gives the engine: the terms of the loss, and the metrics of a validation."""

    def losses(
        self, batch: Batch, *, epoch: int, step: int, active: frozenset[str]
    ) -> Losses | Iterator[Losses]:
        """Raw terms of one micro-batch: those in `active` at least, scalars, means over its samples.

        An iterator of such dicts (windows of a rollout) is weighed and back-propagated dict by dict,
        each before the next is asked for; the step's value of a term is the sum over the dicts.
        """
        ...

    def metrics(self, batch: Batch) -> Mapping[str, Tensor | float]:
        """Unweighted validation metrics: a scalar, or one value per sample `[B]`, by name.

        Called in eval mode without gradients. Means are taken over all samples in float64.
        """
        ...


@runtime_checkable
class Weighting(Protocol):
    """Weights of the terms over time, with explicit state.

    Attributes:
        terms: Every term with its base weight; a base weight of 0 switches a term off.
        observes: When `observe` is called: after each applied "step" or "epoch" with raw training terms,
            after each "validation" with the metrics and the raw terms of the epoch, or never (None).
    """

    @property
    def terms(self) -> Mapping[str, float]:
        """Every term with its base weight."""
        ...

    @property
    def observes(self) -> str | None:
        """One of "step", "epoch", "validation", None."""
        ...

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """The terms to compute, asked before the forward pass."""
        ...

    def weights(self, *, epoch: int, step: int) -> Mapping[str, float]:
        """The weight of each active term at least."""
        ...

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Take note of values; `split` is "train" or "valid"."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, in plain numbers, strings, tensors, lists and dicts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        ...


@runtime_checkable
class BatchSource(Protocol):
    """Batches in an order that depends on the epoch alone, so that a run can go on inside an epoch."""

    @property
    def num_batches(self) -> int:
        """Batches per epoch, one optimizer step each; at least 1."""
        ...

    def batches(self, *, epoch: int, skip: int) -> Iterable[Batch]:
        """The batches of an epoch after the first `skip`, which are not read."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """Anything saved in a checkpoint beside the model: a normaliser, a generator, a meter."""

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, in plain numbers, strings, tensors, lists and dicts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        ...
