"""The end of a run by L-BFGS: one optimizer step is several evaluations of one batch, kept whole or undone."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nops_train._config import TrainConfig
from nops_train._engine_rng import rng_state, set_rng_state
from nops_train._engine_state import Record
from nops_train._errors import InputError

if TYPE_CHECKING:
    from nops_train._engine_step import Stepper


class Finisher:
    """Makes the steps from `train.lbfgs_from` on, by L-BFGS with a line search (strong Wolfe conditions).

    Within a step nothing moves but the parameters: the weights are those of its first evaluation, random
    draws are repeated, and buffers and deferred updates are those of one last evaluation, at the parameters
    that are kept. The learning rate is 1, and gradients are not clipped: both would mislead the line search.

    Args:
        parameters: What is trained.
        first: First optimizer step that it makes, 0-based.
        max_iter: Iterations per step, of about one evaluation each.
        history: Pairs of steps and changes of the gradient that it remembers.
    """

    def __init__(
        self, parameters: Sequence[Tensor], *, first: int, max_iter: int, history: int
    ) -> None:
        self.first = first
        self._parameters = list(parameters)
        self.optimizer = torch.optim.LBFGS(
            self._parameters,
            max_iter=max_iter,
            history_size=history,
            tolerance_grad=0.0,  # losses in physical units may be tiny: the number of steps decides
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

    @classmethod
    def of(cls, config: TrainConfig, parameters: Sequence[Tensor]) -> "Finisher | None":
        """As the configuration asks for; None where it does not."""
        if config.lbfgs_from is None:
            return None
        sizes = {"max_iter": config.lbfgs_max_iter, "history": config.lbfgs_history}
        return cls(parameters, first=config.lbfgs_from, **sizes)

    def make(self, stepper: "Stepper", batch: Any, **place: Any) -> tuple[Record, bool]:
        """Make one step.

        Args:
            stepper: Evaluates terms and gradients.
            batch: This rank's share.
            place: Samples, epoch and step.

        Returns:
            The terms and the gradient norm before the step, or those that were not finite; and whether the
            step was made. If not, parameters and memory are as before.
        """
        start = [p.detach().clone() for p in self._parameters]
        memory = copy.deepcopy(self.optimizer.state_dict())
        norms, search = stepper.term_norms, _Search(stepper, batch, place)
        try:
            self.optimizer.step(search.evaluate)
            search.judge_end()
        except NotFiniteError as stopped:
            self._undo(start, memory)
            return stopped.record, False
        except BaseException:
            self._undo(start, memory)
            stepper.discard()
            raise
        finally:
            stepper.term_norms = norms
        return search.first, True

    @torch.no_grad()
    def _undo(self, start: Sequence[Tensor], memory: dict[str, Any]) -> None:
        for parameter, value in zip(self._parameters, start, strict=True):
            parameter.copy_(value)
        self.optimizer.load_state_dict(memory)


class NotFiniteError(Exception):
    """Stops a search that has nowhere to begin or to end.

    Attributes:
        record: What is not finite.
    """

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class _Search:
    """The evaluations of one step.

    Attributes:
        first: The first of them.
    """

    first: Record

    def __init__(self, stepper: "Stepper", batch: Any, place: Mapping[str, Any]) -> None:
        self._stepper, self._batch, self._place = stepper, batch, place
        self._draws = rng_state()
        self._weights: dict[str, float] | None = None

    def evaluate(self) -> float:
        """The total loss, with its gradient in `.grad`; infinite where it is not finite on the way.

        Raises:
            NotFiniteError: If the first evaluation is not.
        """
        record = self._look()
        if self._weights is None:
            self.first, self._weights = _finite(record), record.weights
        loss = record.terms().loss
        return loss if math.isfinite(loss) else math.inf

    def judge_end(self) -> None:
        """Look once more, at the parameters that the search ended with.

        Raises:
            NotFiniteError: If something is not.
        """
        _finite(self._look())

    def _look(self) -> Record:
        stepper = self._stepper
        if self._weights is not None:
            stepper.discard()
            stepper.term_norms = None  # measured where the step began
            set_rng_state(self._draws)
        computed = stepper.compute(self._batch, **self._place, held=self._weights)
        samples = self._place["samples"]
        return Record(weights=computed.weights, samples=samples, values=computed.values.tolist())


def _finite(record: Record) -> Record:
    if not record.is_finite:
        raise NotFiniteError(record)
    return record


def check_finish(weighting: Any, config: TrainConfig) -> None:
    """Refuse, before the first step, L-BFGS under a weighting that takes part in the gradient.

    Raises:
        InputError: With its class.
    """
    if config.lbfgs_from is None:
        return
    at = getattr(weighting, "scheme_at", None)
    owner = weighting if at is None else at(config.lbfgs_from)
    check_one_function(getattr(owner, "active_weighting", None) or owner)


def check_one_function(owner: Any) -> None:
    """Refuse a weighting that joins or measures gradients where L-BFGS makes the step.

    Raises:
        InputError: With its class.
    """
    if hasattr(owner, "accumulate") or hasattr(owner, "balance"):
        does = "joins" if hasattr(owner, "accumulate") else "measures"
        name = type(owner).__name__
        raise InputError(
            f"train.lbfgs_from: {name} {does} the gradients of the terms, and L-BFGS needs one function to "
            f"minimise; end with constant weights: Stages([(train.lbfgs_from, {name}(...)), (None, "
            'AdaptiveLossWeights(names, strategy="fixed"))])'
        )
