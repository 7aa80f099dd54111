"""The engine against what it wraps: a bare loop, a plain `torch.save`, a short rollout.

`bench_engine.py --peak STEPS MODE` is the script of one measured process.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import psutil
import torch
from _harness import Claim, paired_ratio, peak_of, record
from nops_losses import trajectory_loss
from nops_models import UAFNO, UAFNOConfig
from nops_schedules import ConstantWeights
from nops_train import CheckpointFolder, Engine, RunFolder, TrainConfig, truncated_bptt
from torch import Tensor, nn

STEPS, LOG_EVERY = 500, 10
WINDOW, LONG = 32, 256
Mode = Literal["last", "sequential"]


class Repeated:
    """One batch again and again."""

    def __init__(self, batch: Tensor, count: int) -> None:
        self.batch, self.num_batches = batch, count

    def batches(self, *, epoch: int, skip: int) -> Iterator[Tensor]:
        """The batch, `num_batches` times."""
        del epoch
        for _ in range(skip, self.num_batches):
            yield self.batch


class InTurns(Repeated):
    """Lets the bare loop do as many steps after each log line of the engine, and times both.

    Neighbours in time, they meet the same spells of a shared machine; yet each finds in the caches what it
    left there, as a loop of its own would.
    """

    def __init__(self, batch: Tensor, count: int, *, bare_step: Callable[[], None]) -> None:
        super().__init__(batch, count)
        self.bare_step = bare_step
        self.engine: list[float] = []
        self.bare: list[float] = []

    def batches(self, *, epoch: int, skip: int) -> Iterator[Tensor]:
        """The batch, `num_batches` times."""
        self.engine, self.bare = [], []
        for batch in super().batches(epoch=epoch, skip=skip):
            start = time.perf_counter()
            yield batch
            self.engine.append(time.perf_counter() - start)
            if len(self.engine) % LOG_EVERY == 0:
                self.bare += [self._timed() for _ in range(LOG_EVERY)]

    def _timed(self) -> float:
        start = time.perf_counter()
        self.bare_step()
        return time.perf_counter() - start


def network(width: int = 640) -> nn.Module:
    """A step of 10 to 20 ms on one core."""
    layers = [nn.Linear(width, width), nn.GELU()] * 2
    return nn.Sequential(*layers, nn.Linear(width, width))


class Regression:
    """One term, one metric."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def losses(self, batch: Tensor, **position: Any) -> dict[str, Tensor]:
        """The mean squared error."""
        del position
        return {"fit": (self.model(batch) - batch).square().mean()}

    def metrics(self, batch: Tensor) -> dict[str, Tensor]:
        """The same."""
        return {"error": (self.model(batch) - batch).square().mean()}


def settings(**changes: Any) -> TrainConfig:
    """One epoch at a constant rate, default logging."""
    base = {"epochs": 1, "lr_schedule": "constant", "monitor": "error", "log_every": LOG_EVERY}
    return TrainConfig.model_validate({**base, "device": "cpu", **changes})


def bare_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor
) -> Callable[[], None]:
    """A step of a loop with nothing but the arithmetic."""

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = (model(batch) - batch).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def overhead(folder: Path) -> tuple[float, float]:
    """Time of the engine's step, log and checks included, over the bare one's; the latter in seconds.

    Both train one model with one optimizer: two models would lie differently in memory, which alone makes
    a per cent or two.
    """
    batch = torch.randn(96, 640)
    torch.manual_seed(0)
    model, config = network(), settings()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    run = RunFolder.open(folder, app="bench", name="overhead", config={})
    task, weighting = Regression(model), ConstantWeights({"fit": 1.0})
    source = InTurns(batch, STEPS + LOG_EVERY, bare_step=bare_step(model, optimizer, batch))
    Engine(
        task=task,
        weighting=weighting,
        model=model,
        config=config,
        run=run,
        optimizer=optimizer,
        progress="none",
    ).fit(source)
    # The first steps warm up.
    bare = typical(source.bare[LOG_EVERY:])
    return typical(source.engine[LOG_EVERY:]) / bare, bare


def typical(times: list[float]) -> float:
    """Seconds per step: the median at each place between two log lines, then their mean."""
    return statistics.fmean(statistics.median(times[p::LOG_EVERY]) for p in range(LOG_EVERY))


def save_ratio(folder: Path) -> tuple[float, float]:
    """Time of a checkpoint over that of `torch.save` and fsync, and its size in bytes."""
    model = nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(10)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 1000)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoints = CheckpointFolder(folder / "checkpoints")
    path = folder / "plain.pt"

    def plain() -> None:
        with open(path, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    steps = itertools.count(1)

    def checkpoint() -> None:
        checkpoints.save(f"step_{next(steps)}.pt", state, keep_last=1)

    return paired_ratio(checkpoint, plain, repeat=11), path.stat().st_size


class Rollout:
    """Windows of a rollout of a small U-AFNO."""

    def __init__(self, model: UAFNO, *, mode: Mode, initial: Tensor) -> None:
        self.model, self.initial = model, initial
        self.mode: Mode = mode

    def losses(self, batch: Tensor, **position: Any) -> Iterator[dict[str, Tensor]]:
        """One term per window."""
        del position
        for window in truncated_bptt(
            self.model, self.initial, batch, window=WINDOW, mode=self.mode
        ):
            traj = {"traj": window.weight * trajectory_loss(window.pred, window.target)}
            del window  # it holds the graph
            yield traj

    def metrics(self, batch: Tensor) -> dict[str, Tensor]:
        """None of interest."""
        return {"error": batch.mean()}


def rollout_engine(folder: Path, *, steps: int, mode: Mode) -> tuple[Engine, Repeated]:
    """An engine whose batch is `steps` frames, and its source of two batches."""
    torch.manual_seed(0)
    model = UAFNO(UAFNOConfig(base_channels=8, encoder_levels=2, blocks_per_level=1, afno_groups=4))
    frames = torch.randn(4, steps, 1, 32, 32)
    task = Rollout(model, mode=mode, initial=torch.randn(4, 1, 32, 32))
    run = RunFolder.open(folder, app="bench", name="run", config={}, resume="never")
    engine = Engine(
        task=task,
        weighting=ConstantWeights({"traj": 1.0}),
        model=model,
        config=settings(),
        run=run,
        progress="none",
    )
    return engine, Repeated(frames, 2)


def print_peak(steps: int, mode: Mode) -> None:
    """Bytes by which two whole steps raise this process's peak over what it held before."""
    with tempfile.TemporaryDirectory() as folder:
        warm, source = rollout_engine(Path(folder), steps=1, mode="last")
        warm._stepper.optimizer.step()  # imports what an optimizer imports
        before = psutil.Process().memory_info().rss
        engine, source = rollout_engine(Path(folder), steps=steps, mode=mode)
        engine.fit(source)
    import resource

    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def rollout_steps(folder: Path, steps: int) -> Callable[[], None]:
    """Optimizer steps over rollouts of `steps` in windows, all supervised; `LONG` steps in all."""
    engine, source = rollout_engine(folder, steps=steps, mode="sequential")
    stepper = engine._stepper

    def run() -> None:
        for _ in range(LONG // steps):
            stepper.make(source.batch, epoch=0, step=0, rate=None)

    return run


def main() -> None:
    """Measure and record."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        turns = [overhead(folder / str(turn)) for turn in range(3)]
        ratio, bare = (statistics.median(values) for values in zip(*turns, strict=True))
        save, size = save_ratio(folder)
        long, short = rollout_steps(folder, LONG), rollout_steps(folder, WINDOW)
        per_step = paired_ratio(long, short, repeat=5)
    peaks = {
        mode: {steps: peak_of(__file__, "--peak", str(steps), mode) for steps in (WINDOW, LONG)}
        for mode in ("last", "sequential")
    }
    at_most = partial(Claim, kind="at_most")
    memory = max(peak[LONG] / peak[WINDOW] for peak in peaks.values())
    record(
        "engine",
        [
            at_most(claim="engine step / bare step", value=ratio, bar=1.02),
            at_most(claim="checkpoint / torch.save and fsync", value=save, bar=1.5),
            at_most(claim="truncated BPTT, peak memory, T 256 / T 32", value=memory, bar=1.1),
            at_most(claim="truncated BPTT, time per step, T 256 / T 32", value=per_step, bar=1.05),
        ],
        {
            "bare_step_seconds": bare,
            "checkpoint_bytes": size,
            "peak_bytes": {mode: {str(k): v for k, v in p.items()} for mode, p in peaks.items()},
        },
    )


def keep_freed_memory() -> None:
    """Start again with an allocator that gives nothing back to the system, so that no step pays for pages.

    Without that the ratio of a step came out between 0.87 and 1.24, from process to process.
    """
    settings = {f"MALLOC_{name}_THRESHOLD_": str(1 << 32) for name in ("MMAP", "TRIM")}
    if not settings.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **settings})


if __name__ == "__main__":
    if "--peak" in sys.argv:
        torch.set_num_threads(1)
        print_peak(int(sys.argv[2]), cast("Mode", sys.argv[3]))
    else:
        keep_freed_memory()
        main()
