"""The engine: epochs of batches, one optimizer step each, and a run folder that outlives any of them."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from nops_train._config import TrainConfig
from nops_train._ema import WeightAverage
from nops_train._engine_compile import compile_model, with_fallback
from nops_train._engine_environment import choose_device, peak_memory
from nops_train._engine_inert import check_start
from nops_train._engine_lbfgs import Finisher, check_finish
from nops_train._engine_reader import Reader
from nops_train._engine_report import RunResult, StopRequested
from nops_train._engine_rng import preserved_rng, seed_generators
from nops_train._engine_session import Session
from nops_train._engine_settle import Ledger
from nops_train._engine_setup import (
    LearningRate,
    check_learning_rate,
    check_optimizer,
    check_sources,
    defer,
    make_optimizer,
    place,
    trained_parameters,
)
from nops_train._engine_state import Terms, TrainState
from nops_train._engine_step import Stepper
from nops_train._engine_validate import Validator
from nops_train._engine_verdict import can_wait
from nops_train._engine_watch import Watch
from nops_train._errors import Interrupted, PeersLost
from nops_train._importer import Importer
from nops_train._precision import Precision
from nops_train._progress import Progress, ProgressMode
from nops_train._protocols import BatchSource, Stateful, Task, Weighting
from nops_train._run_folder import RunFolder
from nops_train._signals import SignalGuard
from nops_train._sinks import Sink
from nops_train._world import join_world


class Engine:
    """Trains a model and never loses the run.

    The same call on the same run folder continues where it stopped, in the middle of an epoch too; on a
    CPU the outcome is then equal, bit for bit, to that of a run that never stopped.

    Args:
        task: Loss terms and metrics; see `Task`.
        weighting: Weights of the terms; see `Weighting`.
        model: Everything that is trained or has state in training; moved to the device. With
            `config.shard` the methods in its `forward_methods` may use parameters as `forward` does.
        config: Epochs, clipping, precision and so on.
        run: The run's folder.
        optimizer: Holds the parameters to train; AdamW over all of the model's by default. A group's
            `lr_scale` multiplies the learning rate.
        learning_rate: `learning_rate(epoch, step)` of each step. None leaves the optimizer's own rates,
            and needs `lr_schedule="constant"` without warm-up. One with `observe(value)` is shown the
            monitored metric of each validation; one with a state is saved. On CUDA a skipped step counts in `step` until
            the next line of the log, checkpoint or end of an epoch.
        stateful: Further objects to be saved and restored, by name.
        fingerprint: What identifies the data; a run goes on with equal values only.
        importers: Read checkpoints of other programs that `--resume FILE` names.
        sinks: Further places to watch the run, beside those that `config.log_to` names.
        progress: "bar", "plain", "none" or "auto", in place of `config.progress`.
        best_from: First epoch, 0-based, whose weights may be the best: those of a pretraining are not.
        patience_from: First epoch whose validations count for `early_stop_patience`: until then the
            loss itself still changes.

    Attributes:
        device: Where the model computes.
        world: The ranks that train together; a single one outside `torchrun`.
        state: Position, counters, best value and history.

    Raises:
        InputError: If settings do not fit each other or the model.
    """

    def __init__(
        self,
        *,
        task: Task,
        weighting: Weighting,
        model: nn.Module,
        config: TrainConfig,
        run: RunFolder,
        optimizer: torch.optim.Optimizer | None = None,
        learning_rate: LearningRate | None = None,
        stateful: Mapping[str, Stateful] | None = None,
        fingerprint: Mapping[str, Any] | None = None,
        importers: Sequence[Importer] = (),
        sinks: Sequence[Sink] = (),
        progress: ProgressMode | None = None,
        best_from: int = 0,
        patience_from: int = 0,
    ) -> None:
        check_learning_rate(learning_rate, config)
        self.config = config
        self.run = run
        self.world = join_world()
        self.device = choose_device(config.device, local_rank=self.world.local_rank)
        self.state = TrainState()
        self._best_from, self._patience_from = best_from, patience_from
        self._task, self._weighting = task, weighting
        self._learning_rate = learning_rate
        self._model = place(model, optimizer, config=config, world=self.world, device=self.device)
        if config.compile:
            compile_model(self._model)
        self._optimizer = optimizer or make_optimizer(model, config)
        check_optimizer(self._optimizer)
        check_finish(weighting, config)
        self._stepper = self._make_stepper(stateful or {})
        self._validator = Validator(
            task=task,
            model=self._model,
            precision=self._stepper.precision,
            device=self.device,
            world=self.world,
        )
        self._progress_mode: ProgressMode = (
            (progress or config.progress) if self.world.is_main else "none"
        )
        self._watch = Watch(config=config, run=run, task=task, stepper=self._stepper, sinks=sinks)
        self._ledger = Ledger(
            state=self.state,
            config=config,
            run=run,
            weighting=weighting,
            stepper=self._stepper,
            watch=self._watch,
        )
        self._signals = SignalGuard()
        self._reader = Reader(
            world=self.world, signals=self._signals, device=self.device, seed=config.seed
        )
        self._between_steps = True  # whether a checkpoint written now would be exact
        self._session = Session(
            run=run,
            config=config,
            device=self.device,
            state=self.state,
            parts=self._parts(),
            stateful=stateful or {},
            fingerprint=fingerprint or {},
            world=self.world,
            importers=importers,
        )

    def fit(self, train: BatchSource, valid: BatchSource | None = None) -> RunResult:
        """Train to the last epoch, or on from where the run folder stands.

        Args:
            train: One optimizer step per batch.
            valid: Validated on every `validate_every` epochs, and after the last.

        Returns:
            What was reached. The model holds the last weights, with `config.shard` a part on each rank;
            `load_weights` gives a whole one the best.

        Raises:
            InputError: If the run cannot be continued as asked, or a setting does not fit.
            InertTermError: If an enabled term trains nothing.
            Diverged: If too many steps were not finite.
            Interrupted: After SIGTERM or SIGINT, when everything is saved.
        """
        self._batches = self._ledger.batches = check_sources(train, valid, self.config)
        self._progress = Progress(
            self._progress_mode, epochs=self.config.epochs, batches=self._batches
        )
        with self.run.locked(), self._signals, self._progress, self._watch:
            self._begin(train, valid)
            try:
                while not self._finished():
                    self._train_epoch(train)
                    self._end_epoch(valid)
            except StopRequested:
                raise self._session.interrupted(self._signals.received or 0) from None
            except Exception as error:
                exact = self._between_steps and not self._stepper.applying
                self._session.failed(error, can_save=exact, together=self._reader.failed)
                raise
            result = self._finish()
        if self._signals.received is None:
            return result
        # The signal came too late to stop this, and in time to stop what follows.
        raise Interrupted(self._signals.received)

    def _begin(self, train: BatchSource, valid: BatchSource | None) -> None:
        if not self._model.training:  # a part that the app keeps in eval mode stays in it
            self._model.train()
        for line in self._session.begin():
            self._progress.say(line)
        self._watch.begin(step=self.state.step)
        if not self._finished():
            self._check_start(train, valid)
        self._session.summarise("running")

    def _finished(self) -> bool:
        return self.state.epoch >= self.config.epochs or self._patience_is_out()

    def _patience_is_out(self) -> bool:
        patience = self.config.early_stop_patience
        return patience is not None and self.state.waited >= patience

    def _train_epoch(self, train: BatchSource) -> None:
        state = self.state
        shares = self._reader.batches(
            train, epoch=state.epoch, first=state.batch, stop=self._batches
        )
        try:
            for batch, samples in shares:
                self._train_step(batch, samples)
            self._reader.stop_if_asked()
        except StopRequested:
            self._settle()
            raise
        except Exception as error:
            self._settle_after(error)
            raise
        self._settle()

    def _train_step(self, batch: Any, samples: int) -> None:
        state, index, step = self.state, self._ledger.batch, self._ledger.step
        place = {"epoch": state.epoch, "index": index}
        seed_generators("step", self.config.seed, **place, rank=self.world.rank)
        rate = self._learning_rate and self._learning_rate(state.epoch, step)
        self._watch.measure(step=step)
        made = self._stepper.make(batch, samples=samples, epoch=state.epoch, step=step, rate=rate)
        self._between_steps = False
        applied = self._ledger.add(*made)
        self._between_steps = True
        self._progress.step(epoch=state.epoch, batch=index + 1)
        if applied and state.step % self.config.save_every == 0:
            self._session.save(f"step_{state.step}.pt")

    def _settle(self) -> None:
        """Bring the state to where the weights are, unless that has failed already."""
        if self._between_steps:
            self._between_steps = False
            self._ledger.settle()
            self._between_steps = True

    def _settle_after(self, error: Exception) -> None:
        """The same, as far as that can be done; the user is told what went wrong first."""
        if isinstance(error, PeersLost) and self._ledger.waits:
            self._between_steps = (
                False  # a sum that the others had no part in is waited for without end
            )
            return
        with contextlib.suppress(Exception):
            self._settle()

    def _end_epoch(self, valid: BatchSource | None) -> None:
        # Validation first: until it is done nothing has changed, so it can be stopped and repeated.
        metrics = self._validate(valid)
        self._session.tick()
        state = self.state
        means = state.means.means()
        self._between_steps = False
        self._ledger.log_epoch(means)
        if self._weighting.observes == "epoch" and means.raw:
            self._ledger.observe(means.raw, split="train")
        is_best = metrics is not None and self._note_metrics(metrics, means)
        state.history.append(
            {"epoch": state.epoch, "step": state.step, "train": asdict(means), "metrics": metrics}
        )
        self._progress.epoch(
            epoch=state.epoch, loss=means.loss, metrics=metrics or {}, seconds=state.epoch_seconds
        )
        if self._patience_is_out():
            self._ledger.log("early_stop", metric=self.config.monitor, waited=state.waited)
        state.next_epoch()
        self._between_steps = True
        self._session.save(f"epoch_{state.epoch}.pt", best=is_best)

    def _validate(self, valid: BatchSource | None) -> dict[str, float] | None:
        done = self.state.epoch + 1
        if valid is None or (done % self.config.validate_every and done < self.config.epochs):
            return None
        place = {"epoch": self.state.epoch, "rank": self.world.rank}
        seed_generators("valid", self.config.seed, **place)
        average = self._stepper.average
        with contextlib.nullcontext() if average is None else average.applied():
            # Ranks have shares of unlike length, so they cannot stop together in between.
            between = None if self.world.active else self._reader.stop_if_asked
            look = self._watch.looker(step=max(self.state.step - 1, 0))
            return self._validator.run(valid, between=between, look=look)

    def _note_metrics(self, metrics: dict[str, float], means: Terms) -> bool:
        state, config = self.state, self.config
        state.metrics = metrics
        value = metrics[config.monitor]
        sign = 1.0 if config.monitor_mode == "min" else -1.0
        best = math.inf if state.best is None else sign * state.best["value"]
        is_best = state.epoch >= self._best_from and sign * value < best  # never for NaN
        waits = not is_best and state.epoch >= self._patience_from
        state.waited = state.waited + 1 if waits else 0
        if is_best:
            state.best = {
                "metric": config.monitor,
                "mode": config.monitor_mode,
                "value": value,
                "epoch": state.epoch,
                "step": state.step,
            }
        self._ledger.log("validation", metrics=metrics, best=is_best)
        if self._learning_rate is not None and hasattr(self._learning_rate, "observe"):
            self._learning_rate.observe(value)  # pyright: ignore[reportFunctionMemberAccess]
        if self._weighting.observes == "validation":
            self._ledger.observe({**means.raw, **metrics}, split="valid")
        return is_best

    def _parts(self) -> dict[str, Any]:
        stepper, rate = self._stepper, self._learning_rate
        finisher = self._finisher
        return {
            "model": self._model,
            "optimizer": self._optimizer,
            "weighting": self._weighting,
            "ema": stepper.average,
            "scaler": stepper.precision.scaler if stepper.precision.scaler.is_enabled() else None,
            "learning_rate": rate if isinstance(rate, Stateful) else None,
            **({} if finisher is None else {"lbfgs": finisher.optimizer}),
        }

    def _check_start(self, train: BatchSource, valid: BatchSource | None) -> None:
        config, found = self.config, []

        def check() -> None:
            place = {"seed": config.seed, "accumulate": config.accumulate}
            found.append(check_start(self._stepper, train, device=self.device, **place))
            self._check_metrics(valid)

        found.append(with_fallback(self._model, check, enabled=config.compile))
        for warning in dict.fromkeys(filter(None, found)):
            self.run.note("warning", message=warning)
            self._progress.say(f"warning: {warning}")

    def _check_metrics(self, valid: BatchSource | None) -> None:
        if valid is not None:
            shown_both = self._weighting.observes == "validation"
            with preserved_rng():
                self._validator.check(
                    valid,
                    monitor=self.config.monitor,
                    terms=self._weighting.terms if shown_both else (),
                    look=self._watch.checker(),
                )

    def _make_stepper(self, stateful: Mapping[str, Stateful]) -> Stepper:
        config, model = self.config, self._model
        parameters = trained_parameters(model, self._optimizer)
        self._finisher = Finisher.of(config, list(parameters.values()))
        deferred = defer((*model.modules(), self._weighting, *stateful.values()))
        precision = Precision(config.precision, device=self.device)
        return Stepper(
            model=model,
            task=self._task,
            weighting=self._weighting,
            optimizer=self._optimizer,
            parameters=parameters,
            precision=precision,
            average=None
            if config.ema_decay is None
            else WeightAverage(parameters, decay=config.ema_decay),
            accumulate=config.accumulate,
            grad_clip=config.grad_clip,
            deferred=deferred,
            world=self.world,
            finisher=self._finisher,
            waits=can_wait(
                self._optimizer, device=self.device, precision=precision, deferred=deferred
            ),
        )

    def _finish(self) -> RunResult:
        status = "completed" if self.state.epoch >= self.config.epochs else "stopped_early"
        self._session.finish(status)
        self._progress.say(peak_memory(self.device))
        return RunResult.of(self.state, status=status, folder=self.run.path)
