"""One process's share of a run: going on from a checkpoint, saving, stopping, and the summary."""

import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nops_train._checkpoint import CheckpointError
from nops_train._config import TrainConfig
from nops_train._engine_checkpoint import capture
from nops_train._engine_environment import machine, peak_memory_bytes, versions
from nops_train._engine_report import resumed_lines
from nops_train._engine_resume import find_checkpoint, go_on_from
from nops_train._engine_rng import rng_state
from nops_train._engine_saver import Saver
from nops_train._engine_state import TrainState
from nops_train._errors import Diverged, InputError, Interrupted
from nops_train._importer import Importer
from nops_train._initialise import initialise_from
from nops_train._protocols import Stateful
from nops_train._run_folder import RunFolder
from nops_train._shards import is_sharded
from nops_train._world import World


class Session:
    """Keeps a run's folder in step with its state.

    Args:
        run: The folder.
        config: The run's settings.
        device: Where the model computes.
        state: Position and counters; restored by `begin`.
        parts: Model, optimizer and the like by name; None where the run has none.
        stateful: The app's own objects.
        fingerprint: What identifies the data.
        world: The ranks of the run.
        importers: Read foreign checkpoints that the user names.
    """

    def __init__(
        self,
        *,
        run: RunFolder,
        config: TrainConfig,
        device: torch.device,
        state: TrainState,
        parts: Mapping[str, Any],
        stateful: Mapping[str, Stateful],
        fingerprint: Mapping[str, Any],
        world: World,
        importers: Sequence[Importer] = (),
    ) -> None:
        self._world = world
        self._run, self._config, self._device = run, config, device
        self._state = state
        self._parts = dict(parts)
        self._stateful = dict(stateful)
        self._fingerprint = dict(fingerprint)
        self._importers = tuple(importers)
        self._saver = Saver(run.checkpoints, beside=config.async_save)
        self._saved_at: tuple[int, int, int] | None = None
        self._clock = time.monotonic()

    def begin(self) -> list[str]:
        """Go on from the checkpoint that the folder or the user names, or start anew.

        Returns:
            Lines for the user.

        Raises:
            InputError: If the run cannot be continued as asked.
        """
        self._clock = time.monotonic()
        found = find_checkpoint(
            self._run, self._world, importers=self._importers, fresh=self._fresh
        )
        if found is None:
            self._run.events.truncate(0)
            self._run.note("started", versions=versions(), machine=machine(self._device))
            return self._initialise()
        warnings = go_on_from(
            found,
            rank=self._world.rank,
            run=self._run,
            parts=self._parts,
            train=self._state,
            stateful=self._stateful,
            fingerprint=self._fingerprint,
        )
        best, config = self._state.best, self._config
        if best and (best["metric"], best["mode"]) != (config.monitor, config.monitor_mode):
            warnings.append(
                f"the best value so far was the {best['mode']} of {best['metric']}: forgotten"
            )
            self._state.best, self._state.waited = None, 0
        self._saved_at = self._position()
        self._note("resumed", checkpoint=found.name, warnings=warnings)
        lines = resumed_lines(self._state, name=found.name, config=self._config)
        return [*(f"warning: {line}" for line in warnings), *lines]

    def tick(self) -> None:
        """Take the time since the last call into the state."""
        now = time.monotonic()
        self._state.seconds += now - self._clock
        self._state.epoch_seconds += now - self._clock
        self._clock = now

    def save(self, name: str, *, best: bool = False, alone: bool = False) -> None:
        """Write a checkpoint of the present state.

        Args:
            name: File name.
            best: Whether it is the best so far.
            alone: Whether the other ranks do not take part, because one of them failed.

        Raises:
            CheckpointError: If it, or with `train.async_save` the one before, cannot be written.
        """
        self.tick()
        rng = None if alone else self._world.gather(rng_state())
        state = self._capture(rng)
        self._saver.save(name, state, keep_last=self._config.keep_last, best=best)
        self._saved_at = self._position()

    def interrupted(self, number: int) -> Interrupted:
        """Save after a signal; the exception to raise.

        Raises:
            CheckpointError: If the checkpoint cannot be written.
        """
        self._save_here()
        self._saver.wait()
        name = signal.Signals(number).name
        self._note("interrupted", signal=name)
        self.summarise("interrupted", message=f"stopped by {name}")
        return Interrupted(number)

    def failed(self, error: Exception, *, can_save: bool, together: bool) -> None:
        """Keep what there is after an error, which is not hidden by a second one.

        Args:
            error: What happened.
            can_save: Whether the state is that between two steps.
            together: Whether all ranks are here; a single one cannot save what is sharded.
        """
        message = f"{type(error).__name__}: {error}"
        status = "diverged" if isinstance(error, Diverged) else "failed"
        with contextlib.suppress(InputError):
            can_save = can_save and (together or not is_sharded(self._parts["model"]))
            can_save = can_save and any(self._position())  # before the first step nothing is lost
            if can_save and not isinstance(error, CheckpointError):
                self._save_here(alone=not together)
            self._saver.wait()
            self._note(status, message=message)
            self.summarise(status, message=message)

    def finish(self, status: str) -> None:
        """Close a run that has come to its end.

        Raises:
            CheckpointError: If a checkpoint could not be written.
        """
        self._saver.wait()
        self._run.events.write("end", epoch=self._state.epoch, step=self._state.step, status=status)
        self.summarise(status)

    def summarise(self, status: str, *, message: str | None = None) -> None:
        """Write `summary.json`; what the app has put there stays."""
        state, summary = self._state, self._run.summary()
        self._run.update_summary(
            status=status,
            message=message,
            epochs=state.epoch,
            steps=state.step,
            skipped=state.skipped,
            best=state.best,
            metrics=state.metrics,
            baselines=summary.get("baselines", {}),
            seconds=round(state.seconds, 3),
            peak_memory_bytes=peak_memory_bytes(self._device),
            versions=versions(),
            machine=machine(self._device),
        )

    def _initialise(self) -> list[str]:
        """Take the start weights that the configuration names, before anything else of a new run."""
        source = self._config.init_from
        if source is None:
            return []
        report = initialise_from(self._parts["model"], source)
        if self._parts["ema"] is not None:
            self._parts["ema"].restart()
        self._run.events.write("initialised", epoch=0, step=0, batch=0, **report.as_event())
        self.save("step_0.pt")  # the source may change or go from here on
        return [str(report)]

    def _capture(self, rng: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """The present state, with the generators of all ranks, or of this one."""
        return capture(
            self._parts,
            train=self._state,
            stateful=self._stateful,
            run=self._run,
            seed=self._config.seed,
            fingerprint=self._fingerprint,
            rng=rng or [rng_state()],
            world=self._world,
        )

    def _fresh(self) -> dict[str, Any]:
        """What a foreign checkpoint is completed from; asked for on one rank alone."""
        if is_sharded(self._parts["model"]):
            raise InputError(
                "train.shard: a checkpoint of another program cannot be gone on from in parts; make the "
                "first steps without train.shard"
            )
        return self._capture()

    def _save_here(self, *, alone: bool = False) -> None:
        if self._saved_at != self._position():
            self.save(f"step_{self._state.step}.pt", alone=alone)

    def _position(self) -> tuple[int, int, int]:
        return self._state.epoch, self._state.batch, self._state.step

    def _note(self, event: str, **fields: Any) -> None:
        epoch, batch, step = self._position()
        self._run.note(event, epoch=epoch, batch=batch, step=step, **fields)
