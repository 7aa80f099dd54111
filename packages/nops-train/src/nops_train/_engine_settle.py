"""The book of a run: its steps enter state and log in the order they were made, once it is known if they count."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from nops_train._config import TrainConfig
from nops_train._engine_report import advice, describe_fault
from nops_train._engine_state import Fault, Record, Terms, TrainState, Waiting
from nops_train._engine_step import Stepper
from nops_train._engine_watch import Watch
from nops_train._errors import Diverged
from nops_train._protocols import Weighting
from nops_train._run_folder import RunFolder

SKIPPED_SHARE = 0.1  # of an epoch's batches: more non-finite steps than that stop the run


class Ledger:
    """Takes steps into the state, and writes the log.

    A step that was judged when it was made enters at once. Those that wait enter together, read from the
    device in one copy: before a line of the log, before a checkpoint, and when `settle` is called. Until
    then each counts as applied in `step`, which is what the learning rate and the weighting are asked with.

    Args:
        state: Position and counters: those of the steps taken in.
        config: When lines are due, and how many skipped steps stop the run.
        run: Its event log is written.
        weighting: Observes.
        stepper: Made the steps.
        watch: Measures what a line adds.

    Attributes:
        batches: Batches per epoch.
    """

    def __init__(
        self,
        *,
        state: TrainState,
        config: TrainConfig,
        run: RunFolder,
        weighting: Weighting,
        stepper: Stepper,
        watch: Watch,
    ) -> None:
        self.batches = 1
        self._state, self._config, self._run = state, config, run
        self._weighting, self._stepper, self._watch = weighting, stepper, watch
        self._waiting: list[Waiting] = []

    @property
    def waits(self) -> bool:
        """Whether there are steps that are not taken in yet."""
        return bool(self._waiting)

    @property
    def step(self) -> int:
        """Index of the next step, 0-based: those that wait count as applied."""
        return self._state.step + len(self._waiting)

    @property
    def batch(self) -> int:
        """Batches of the epoch that are done, those that wait included."""
        return self._state.batch + len(self._waiting)

    def add(self, made: Record | Waiting, fault: Fault | None) -> bool:
        """Take in the step just made, or let it wait.

        Returns:
            Whether nothing waits and the last step was applied.

        Raises:
            Diverged: If too many steps were not finite.
        """
        if isinstance(made, Waiting):
            step = self.step
            self._waiting.append(made)
            config = self._config
            is_due = step % config.log_every == 0 or (step + 1) % config.save_every == 0
            return is_due and self.settle()
        if self._waiting:
            self.settle()
        return self._take(made, fault)

    def settle(self) -> bool:
        """Take in the steps that wait.

        Returns:
            Whether the last of them was applied; false without any.

        Raises:
            Diverged: If too many steps were not finite.
        """
        waiting, self._waiting = self._waiting, []
        applied = False
        # The one copy to the host between two lines of the log.
        values = torch.cat([step.values for step in waiting]).tolist() if waiting else []
        for step in waiting:
            count = len(step.values)
            applied = self._take(*self._stepper.judge(step, values[:count]))
            values = values[count:]
        return applied

    def observe(self, values: Mapping[str, float], *, split: str) -> None:
        """Show values to the weighting."""
        state = self._state
        self._weighting.observe(dict(values), epoch=state.epoch, step=state.step, split=split)

    def log(self, event: str, **fields: Any) -> None:
        """Write an event at the position of the state."""
        state = self._state
        position = {"epoch": state.epoch, "step": state.step, "batch": state.batch}
        self._run.events.write(event, **position, **fields)

    def log_epoch(self, means: Terms) -> None:
        """Write the epoch's event."""
        state = self._state
        self.log(
            "epoch",
            **asdict(means),
            learning_rate=self._stepper.learning_rate,
            samples=state.means.samples,
            applied=state.batch - state.skipped_in_epoch,
            skipped=state.skipped_in_epoch,
            seconds=round(state.epoch_seconds, 3),
        )

    def _take(self, record: Record, fault: Fault | None) -> bool:
        if fault is None:
            self._applied(record)
        else:
            self._skipped(record, fault)
        self._state.batch += 1
        return fault is None

    def _applied(self, record: Record) -> None:
        state = self._state
        state.bad_in_row = 0
        state.means.add(record)
        if state.step % self._config.log_every == 0:
            by_term = self._watch.measured()
            rate = self._stepper.learning_rate
            self.log("train", **asdict(record.terms()), **by_term, learning_rate=rate)
            state.means.read_waiting()
        if self._weighting.observes == "step":
            self.observe(record.terms().raw, split="train")
        state.step += 1

    def _skipped(self, record: Record, fault: Fault) -> None:
        state = self._state
        state.skipped += 1
        state.skipped_in_epoch += 1
        if not fault.scale:  # the loss scale's own search is no sign of divergence
            state.bad_in_row += 1
            state.bad_in_epoch += 1
        self.log(
            "skipped",
            **asdict(record.terms()),
            terms=fault.terms,
            parameter=fault.parameter,
            scale=fault.scale,
            reason=describe_fault(fault),
            in_row=state.bad_in_row,
        )
        limit = self._config.max_skipped_in_row
        # Tiny epochs: the share counts only beyond what a streak may reach anyway.
        share = max(SKIPPED_SHARE * self.batches, limit)
        if state.bad_in_row >= limit or state.bad_in_epoch > share:
            raise Diverged(advice(fault, state, where=str(self._run.events.path)))
