"""One optimizer step: forward, weights, backward, judge, and then all of it or nothing."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_

from nops_train._ema import WeightAverage
from nops_train._engine_balance import balance, check_scale, share
from nops_train._engine_batch import num_samples, split_batch
from nops_train._engine_buffers import BufferGuard
from nops_train._engine_lbfgs import Finisher, check_one_function
from nops_train._engine_shard import check_loss, check_owner, common_parts, first_bad, total_norm
from nops_train._engine_state import Computed, Fault, Record, Waiting
from nops_train._engine_term_norms import TermNorms
from nops_train._engine_verdict import needs_host, step_unless
from nops_train._errors import InputError
from nops_train._precision import Precision
from nops_train._protocols import Losses, Task, Weighting
from nops_train._shards import is_sharded, reshard
from nops_train._world import World


class Stepper:
    """Makes optimizer steps. A step is applied as a whole, or changes nothing.

    Order: forward, `balance`, weights, backward of the weighted total (or `accumulate`, `apply` of the
    weighting), unscale, non-finite check, clip, optimizer, average, deferred updates.

    Args:
        model: The module; its buffers are guarded.
        task: Gives the loss terms.
        weighting: Gives their weights.
        optimizer: Holds the parameters that are trained.
        precision: Autocast and loss scale.
        average: Averaged weights, or None.
        accumulate: Micro-batches per step.
        grad_clip: Largest gradient norm, or None.
        deferred: Objects with `apply_update` and `discard_update`.
        world: The ranks that make the step together.
        waits: Whether the verdict on a step may stay on the device; see `can_wait`.
        finisher: Makes the last steps in place of the optimizer, or None.

    Attributes:
        term_norms: What measures the step's gradient by term, or None.
        applying: Whether a step is half applied: true for good where the optimizer itself failed.
        sharded: Whether each rank holds a part of the model.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        task: Task,
        weighting: Weighting,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, Tensor],
        precision: Precision,
        average: WeightAverage | None,
        accumulate: int,
        grad_clip: float | None,
        deferred: tuple[Any, ...],
        world: World,
        waits: bool,
        finisher: Finisher | None = None,
    ) -> None:
        self.world = world
        self.model = model
        self.task = task
        self.term_norms: TermNorms | None = None
        self.weighting = weighting
        self.optimizer = optimizer
        self.parameters = dict(parameters)
        self.precision = precision
        self.average = average
        self.buffers = BufferGuard(model)
        self.applying = False
        self._owner: Any = weighting
        self._trained = list(self.parameters.values())
        self._accumulate = accumulate
        self._grad_clip = grad_clip
        self._deferred = deferred
        self._finisher = finisher
        self._used = optimizer
        self.sharded = is_sharded(model)
        # The reduction in a sharded model's backward pass takes the mean over the ranks of what is to be summed.
        self._scale = world.size if self.sharded else 1
        self._waits = waits and not self.sharded  # no kernel skips rows of a sharded parameter

    @property
    def learning_rate(self) -> float:
        """That of the first group, as the last step left it."""
        return float(self._used.param_groups[0]["lr"])

    def make(
        self,
        batch: Any,
        *,
        samples: int | None = None,
        epoch: int,
        step: int,
        rate: float | None,
    ) -> tuple[Record | Waiting, Fault | None]:
        """Make one step on `batch`; with a `Fault` nothing has changed but the fp16 loss scale.

        The loss is the mean over the samples of all ranks. Its terms and gradients are summed over the
        ranks before they are judged, so all of them apply the step, or none.

        A step that is `Waiting` was applied, or left everything but the learning rate as it was; `judge`
        tells which.

        Args:
            batch: This rank's share, on the device.
            samples: Samples of all ranks together; those of `batch` by default.
            epoch: Epoch in hand, 0-based.
            step: Index of the step, 0-based.
            rate: Learning rate, or None to leave the optimizer's own.
        """
        self.buffers.remember()
        place: Any = {"samples": samples or num_samples(batch), "epoch": epoch, "step": step}
        if self._finisher is not None and step >= self._finisher.first:
            return self._finish(self._finisher, batch, place)
        try:
            made = self.compute(batch, **place)
        except BaseException:
            self.discard()
            raise
        weights, values, norm = made.weights, made.values, made.norm
        if self._waits and not needs_host(self.weighting, self._owner):
            self._apply_unless(~values.isfinite().all(), norm, rate)
            return Waiting(weights=weights, samples=place["samples"], values=values), None
        # The one host synchronisation of a step: whether it counts must be known before the next.
        record = Record(weights=weights, samples=place["samples"], values=values.tolist())
        if record.is_finite:
            self._apply(norm, rate)
            return record, None
        fault = self._find_fault(record)
        self.precision.scaler.update()
        self.discard()
        return record, fault

    def compute(
        self,
        batch: Any,
        *,
        samples: int,
        epoch: int,
        step: int,
        held: dict[str, float] | None = None,
    ) -> Computed:
        """Forward and backward passes, of all ranks; the gradient is left in `.grad`, without a loss scale.

        Args:
            batch: This rank's share, on the device.
            samples: Samples of all ranks together.
            epoch: Epoch in hand, 0-based.
            step: Index of the step, 0-based.
            held: Weights to take in place of asking for them.
        """
        self.optimizer.zero_grad(set_to_none=True)
        place = {"samples": samples, "epoch": epoch, "step": step}
        raw, weights = self._gather(batch, **place, held=held)
        self.precision.scaler.unscale_(self.optimizer)
        norm = total_norm(self._trained, self.world, sharded=self.sharded)
        return Computed(weights=weights, values=self._values(raw, norm), norm=norm)

    def _finish(
        self, finisher: Finisher, batch: Any, place: dict[str, Any]
    ) -> tuple[Record, Fault | None]:
        """One step by another optimizer, which evaluates the batch several times."""
        record, made = finisher.make(self, batch, **place)
        self._used = finisher.optimizer
        if made:
            self._keep()
            return record, None
        fault = self._find_fault(record)
        self.discard()
        return record, fault

    def judge(self, made: Waiting, values: list[float]) -> tuple[Record, Fault | None]:
        """The verdict on a step that waited, from its values on the host; once per step."""
        record = Record(weights=made.weights, samples=made.samples, values=values)
        if record.is_finite:
            return record, None
        if self.average is not None:
            self.average.num_updates -= 1
        return record, Fault(terms=_bad_terms(record), parameter=None, scale=False, searched=False)

    def _values(self, raw: Mapping[str, Tensor], norm: Tensor) -> Tensor:
        """The terms of all ranks and the gradient norm, in one tensor."""
        if self.world.active:
            terms = self.world.sum(torch.stack(list(raw.values())))
            return torch.cat([terms, norm.to(terms).reshape(1)])
        return torch.stack([*raw.values(), norm])

    def discard(self) -> None:
        """Leave everything as it was before the step in hand."""
        self.optimizer.zero_grad(set_to_none=True)
        self.buffers.restore()
        for item in self._transactional():
            item.discard_update()

    def _apply(self, norm: Tensor, rate: float | None) -> None:
        self.applying = True
        self._prepare(norm, rate)
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        self._keep()

    def _keep(self) -> None:
        """Take in what goes with a step that was made."""
        self.applying = True
        if self.average is not None:
            self.average.update()
        for item in self._transactional():
            item.apply_update()
        if self.world.active:
            self.world.copy_from_main(self.buffers.changing())
        self.applying = False

    def _apply_unless(self, bad: Tensor, norm: Tensor, rate: float | None) -> None:
        self.applying = True
        self._prepare(norm, rate)
        step_unless(self.optimizer, bad)
        if self.average is not None:
            self.average.update_unless(bad)
        self.buffers.restore_where(bad)
        if self.world.active:
            self.world.copy_from_main(self.buffers.changing())
        self.applying = False

    def _prepare(self, norm: Tensor, rate: float | None) -> None:
        if self._grad_clip is not None:
            clip_grads_with_norm_(self._trained, self._grad_clip, norm)
        if rate is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)

    def _transactional(self) -> tuple[Any, ...]:
        """What takes part in a step beside the optimizer; a composite weighting may change its member."""
        owner = self._owner
        if any(owner is item for item in self._deferred) or not hasattr(owner, "apply_update"):
            return self._deferred
        return *self._deferred, owner

    def _gather(
        self, batch: Any, *, samples: int, epoch: int, step: int, held: dict[str, float] | None
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Gradients of the step, and its terms: this rank's part of their means."""
        active = self.weighting.active(epoch=epoch, step=step)
        owner: Any = getattr(self.weighting, "active_weighting", None) or self.weighting
        self._owner = owner
        parts = self._accumulate
        if self._finisher is not None and step >= self._finisher.first:
            check_one_function(owner)
        check_scale(owner, self.precision)
        if self.sharded:
            check_owner(owner)
        if share(self.weighting, self.world) or self.sharded:
            parts = common_parts(parts, batch, self.world)
        raw: dict[str, Tensor] = {}
        weights = held
        for number, chunk in enumerate(split_batch(batch, parts)):
            part = num_samples(chunk) / samples
            self.offer_residuals(owner if number == 0 else None)
            for losses in self.windows(chunk, epoch=epoch, step=step, active=active):
                if weights is None:
                    place = {"epoch": epoch, "step": step}
                    how = {"precision": self.precision, "world": self.world, **place}
                    balance(owner, losses, self._trained, chunk=chunk, **how)
                    weights = self._ask_weights(active, **place)
                if self.term_norms is not None:
                    self.term_norms.add(losses, weights, part)
                self._backward(owner, losses, weights, part * self._scale)
                _add_detached(raw, losses, part)
                losses.clear()  # so that its graph is gone before the next one is built
        _check_complete(raw, active)
        if self.sharded:
            reshard(self.model)
        if hasattr(owner, "accumulate"):
            owner.apply(self._trained, reduce=self.world.sum if self.world.active else None)
        elif not self.sharded:
            self.world.sum_gradients(self._trained)
        assert weights is not None
        raw = {name: raw[name] for name in self.weighting.terms if name in raw}  # on every rank
        return raw, {name: float(weights[name]) for name in raw}

    def windows(
        self,
        chunk: Any,
        *,
        epoch: int,
        step: int,
        active: frozenset[str],
        autocast: bool = True,
    ) -> Iterator[dict[str, Tensor]]:
        """The active terms of a micro-batch: one dict, or one per window, computed when asked for."""
        with self.precision.autocast(enabled=autocast):
            result = self.task.losses(chunk, epoch=epoch, step=step, active=active)
        if isinstance(result, (dict, Mapping)):  # a dict is told at once
            yield self._select(result, active)
            return
        iterator = iter(result)
        while True:
            # Autocast is left between windows: its cache of cast weights belongs to one graph.
            with self.precision.autocast(enabled=autocast):
                losses = next(iterator, None)
            if losses is None:
                return
            chosen = self._select(losses, active)
            del losses
            yield chosen

    def _select(self, losses: Losses, active: frozenset[str]) -> dict[str, Tensor]:
        if unknown := losses.keys() - self.weighting.terms.keys():
            raise InputError(
                f"task.losses returned {sorted(unknown)}, which the weighting does not know; its terms "
                f"are {sorted(self.weighting.terms)}"
            )
        for name, value in losses.items():
            if not isinstance(value, Tensor) or value.dim() != 0:
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise InputError(
                    f"task.losses returned {name} as {found}, expected a scalar tensor: the mean over "
                    "the samples of the batch"
                )
            check_loss(name, value)
        return {name: value for name, value in losses.items() if name in active}

    def _ask_weights(self, active: frozenset[str], *, epoch: int, step: int) -> dict[str, float]:
        weights = self.weighting.weights(epoch=epoch, step=step)
        if missing := active - weights.keys():
            raise InputError(
                f"the weighting gives no weight for its active terms {sorted(missing)}"
            )
        return dict(weights)

    def _backward(
        self, owner: Any, losses: Losses, weights: Mapping[str, float], share: float
    ) -> None:
        scale = self.precision.scaler.scale
        if hasattr(owner, "accumulate"):
            owner.accumulate({k: scale(v * share) for k, v in losses.items()}, self._trained)
            return
        parts = [_times(weights[name], value) for name, value in losses.items()]
        if parts:
            total = torch.stack(parts).sum() if len(parts) > 1 else parts[0]
            scale(_times(share, total)).backward()

    def offer_residuals(self, owner: Any) -> None:
        """Hand the weighting's `note_residuals` to a task that asks for it; None where it has none."""
        if hasattr(self.task, "note_residuals"):
            sink: Callable[..., Any] | None = getattr(owner, "note_residuals", None)
            self.task.note_residuals = sink  # pyright: ignore[reportAttributeAccessIssue]

    def _find_fault(self, record: Record) -> Fault:
        bad = _bad_terms(record)
        parameter = None if bad else first_bad(self.parameters, self.world)
        return Fault(
            terms=bad, parameter=parameter, scale=not bad and self.precision.can_lower_scale
        )


def _add_detached(sums: dict[str, Tensor], losses: Losses, share: float) -> None:
    for name, value in losses.items():
        part = _times(share, value.detach())
        sums[name] = sums[name] + part if name in sums else part


def _bad_terms(record: Record) -> tuple[str, ...]:
    weighted = record.terms().weighted
    return tuple(name for name, value in weighted.items() if not math.isfinite(value))


def _times(factor: float, value: Tensor) -> Tensor:
    return value if factor == 1.0 else factor * value


def _check_complete(raw: Mapping[str, Tensor], active: frozenset[str]) -> None:
    if not active:
        raise InputError("the weighting has no active term: there is nothing to train")
    if missing := active - raw.keys():
        raise InputError(f"task.losses did not return the active terms {sorted(missing)}")
