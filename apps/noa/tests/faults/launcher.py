"""The real command line with faults planted in it: `python launcher.py train …`.

The environment variable NOA_FAULTS lists them as JSON: `[{"at": "validation", "do": "kill",
"calls": [2]}]` kills the process at the second call (counted from 1) of what "at" names. "epoch"
counts the calls of that epoch only, "rank" those of that rank, "attempt" those after so many restarts by
torchrun, and "in_worker" those of a process that
reads data for another. Each strike adds a line to the file NOA_FAULT_LOG.
"""

import importlib
import io
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

# What a fault may strike: the module, and the function in it.
PLACES = {
    "step": ("noa.task", "RolloutTask.losses"),
    "backward": ("nops_train._engine_step", "Stepper._backward"),
    "validation": ("noa.task", "RolloutTask.metrics"),
    "epoch": ("nops_train._engine_state", "TrainState.next_epoch"),
    "save": ("nops_train._engine_session", "Session.save"),
    "writing": ("nops_train._checkpoint", "torch.save"),
    "replacing": ("nops_train._checkpoint", "os.replace"),
    "renamed": ("nops_train._checkpoint_folder", "CheckpointFolder._write_manifest"),
    "best": ("nops_train._checkpoint_folder", "CheckpointFolder.mark_best"),
    "event": ("nops_train._events", "write_all"),
    "evaluation": ("noa.training", "evaluate_model"),
    "reading": ("nops_data._windows", "Windows.batch"),
}
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}


class Fault:
    """One fault in the place of the function that it strikes."""

    def __init__(
        self, plain: Callable[..., Any], *, at: str, do: str, calls: list[int], **where: Any
    ) -> None:
        self._plain, self._at, self._do, self._calls = plain, at, do, calls
        self._epoch, self._in_worker = where.get("epoch"), where.get("in_worker", False)
        self._rank, self._attempt = where.get("rank"), where.get("attempt")
        self._numbers = itertools.count(1)

    def call(self, *args: Any, **options: Any) -> Any:
        """The call, struck or not."""
        if not self._counts(args, options) or next(self._numbers) not in self._calls:
            return self._plain(*args, **options)
        with open(os.environ["NOA_FAULT_LOG"], "a") as log:
            log.write(f"{self._at} {self._do}\n")
        if self._do in SIGNALS:
            return self._signal(*args, **options)
        return getattr(self, f"_{self._do}")(*args, **options)

    def _counts(self, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
        if self._in_worker and multiprocessing.parent_process() is None:
            return False
        if self._rank is not None and os.environ.get("RANK") != str(self._rank):
            return False
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        if self._attempt is not None and attempt != str(self._attempt):
            return False
        epoch = args[1][0].epoch if self._at == "reading" else options.get("epoch")
        return self._epoch is None or epoch == self._epoch

    def _signal(self, *args: Any, **options: Any) -> Any:
        """The signal comes in the middle: half of what is to be written is in the file."""
        if self._at == "writing":
            content, file = args
            self._plain(content, buffer := io.BytesIO())
            file.write(buffer.getvalue()[: buffer.tell() // 2])
            file.flush()
        elif self._at == "event":
            file, data = args
            self._plain(file, data[: len(data) // 2])
        os.kill(os.getpid(), SIGNALS[self._do])
        return self._plain(*args, **options)

    def _raise(self, *args: Any, **options: Any) -> Any:
        raise RuntimeError("the planted fault")

    def _nan_input(self, task: Any, batch: Any, **where: Any) -> Any:
        frames = batch["frames"].clone()
        frames[0, 0, 0, 0, 0] = float("nan")
        return self._plain(task, {**batch, "frames": frames}, **where)

    def _nan_loss(self, *args: Any, **where: Any) -> Any:
        nan = float("nan")
        return ({**terms, "traj": terms["traj"] * nan} for terms in self._plain(*args, **where))

    def _inf_gradient(self, stepper: Any, *args: Any) -> None:
        self._plain(stepper, *args)
        gradients = (p.grad for p in stepper.parameters.values())
        next(g for g in gradients if g is not None).view(-1)[0] = float("inf")


def plant(fault: dict[str, Any]) -> None:
    """Put a fault in its place."""
    module, name = PLACES[fault["at"]]
    owner: Any = importlib.import_module(module)
    *outer, last = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    planted = Fault(getattr(owner, last), **fault)
    # a function, so that it is bound to the object as a method is
    setattr(owner, last, lambda *args, **options: planted.call(*args, **options))


# also where a worker that reads data imports this file
for one in json.loads(os.environ["NOA_FAULTS"]):
    plant(one)

if __name__ == "__main__":
    from noa.cli import main

    sys.exit(main())
