"""A tiny training problem with everything that has state: dropout, running statistics, a codebook."""

import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nops_train import Engine, ListSource, RunFolder, TrainConfig, read_events
from torch import Tensor, nn

SAMPLES, BATCH, WIDTH = 8, 4, 3
TIMES = ("time", "seconds")


class ToyModel(nn.Module):
    """Linear, batch norm, dropout, linear; `offset` is reached by the term `size` alone."""

    def __init__(self, *, norm: bool = True, dropout: float = 0.25, codebook: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 4)
        self.norm = nn.BatchNorm1d(4) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(4, 1)
        self.codebook = ToyCodebook() if codebook else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(torch.tanh(self.codebook(self.norm(self.first(x))))))


class ToyCodebook(nn.Module):
    """Adds a running mean that is gathered in training and applied once per optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.zeros(()))
        self.gathered: list[Tensor] = []
        self.deferred = False
        self.calls: list[str] = []

    def defer_updates(self) -> None:
        self.deferred = True

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            assert self.deferred
            self.gathered.append(x.detach().float().sum(0))
        return x + 0.1 * self.mean

    def apply_update(self) -> None:
        self.calls.append("apply")
        self.mean.lerp_(torch.stack(self.gathered).sum(0) / BATCH, 0.5)
        self.count += 1
        self.gathered.clear()

    def discard_update(self) -> None:
        self.calls.append("discard")
        self.gathered.clear()


class ToyTask:
    """Terms `fit` and `size`; metrics `error` (per sample) and `bias` (scalar)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.asked: list[frozenset[str]] = []

    def losses(
        self, batch: Any, *, epoch: int, step: int, active: frozenset[str]
    ) -> dict[str, Tensor]:
        self.asked.append(active)
        pred = self.model(batch["x"])
        terms = {"fit": (pred - batch["y"]).square().mean(), "size": pred.square().mean()}
        return {name: terms[name] for name in terms if name in active}

    def metrics(self, batch: Any) -> dict[str, Tensor]:
        pred = self.model(batch["x"])
        error = (pred - batch["y"]).square().mean(dim=1)
        return {"error": error, "bias": (pred - batch["y"]).mean()}


class ToyWeights:
    """Weighs `size` by a running mean of what it observes, so that lost state shows."""

    def __init__(self, *, observes: str | None = "step", size: float = 0.1) -> None:
        self.terms = {"fit": 1.0, "size": size}
        self.observes = observes
        self.memory = 1.0
        self.seen: list[tuple[dict[str, float], int, int, str]] = []

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        return frozenset(name for name, weight in self.terms.items() if weight)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        return {"fit": 1.0, "size": self.terms["size"] * self.memory}

    def observe(self, values: dict[str, float], *, epoch: int, step: int, split: str) -> None:
        self.seen.append((dict(values), epoch, step, split))
        self.memory = 0.9 * self.memory + 0.1 * values["fit"]

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory = state["memory"]


class Counter:
    """A stateful object of the app."""

    def __init__(self) -> None:
        self.value = torch.zeros(2)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def make_batches(count: int, *, seed: int = 1, batch: int = BATCH) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, batch, WIDTH, generator=generator)
    y = torch.randn(count, batch, 1, generator=generator)
    return [{"x": x[i], "y": y[i]} for i in range(count)]


TRAIN = ListSource(make_batches(5), seed=0)
VALID = ListSource(make_batches(2, seed=2), shuffle=False)


class Spoiled:
    """A source whose batch values at some reads are replaced, or that does something first."""

    def __init__(self, source: Any, act: Callable[[int, int, Any], Any]) -> None:
        self.source, self.act = source, act

    @property
    def num_batches(self) -> int:
        return self.source.num_batches

    def batches(self, *, epoch: int, skip: int) -> Iterator[Any]:
        inner = self.source.batches(epoch=epoch, skip=skip)
        for index, batch in enumerate(inner, start=skip):
            yield self.act(epoch, index, copy.copy(batch))


def config(**changes: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "epochs": 2,
        "batch_size": BATCH,
        "learning_rate": 0.05,
        "lr_schedule": "constant",
        "monitor": "error",
        "log_every": 2,
        "save_every": 100,
        "device": "cpu",
    }
    return TrainConfig(**{**base, **changes})


def engine(
    root: Path,
    *,
    name: str = "run",
    resume: str = "auto",
    settings: TrainConfig | None = None,
    model: dict[str, Any] | None = None,
    weighting: Any = None,
    task: Callable[[nn.Module], Any] = ToyTask,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    progress: Any = "none",
    whole: Any = None,
    **options: Any,
) -> Engine:
    settings = settings or config()
    torch.manual_seed(0)
    net = ToyModel(**(model or {}))
    run = RunFolder.open(
        root,
        app="toy",
        name=name,
        config=whole or {"train": settings.model_dump(mode="json")},
        resume=resume,
    )
    made = Engine(
        task=task(net),
        weighting=weighting or ToyWeights(),
        model=net,
        config=settings,
        run=run,
        progress=progress,
        optimizer=optimizer and optimizer(net),
        **options,
    )
    made.net = net  # type: ignore[attr-defined]
    return made


def engine_run(root: Path, settings: TrainConfig, *, train: Any = None, **options: Any) -> Engine:
    """A fitted engine."""
    made = engine(root, settings=settings, **options)
    made.fit(train or TRAIN, VALID)
    return made


def timeless(value: Any) -> Any:
    """Without the keys that hold times."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in (*TIMES, "epoch_seconds")}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, containers and tensors alike; NaN equals itself."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a)).all())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


def outcome(made: Engine) -> dict[str, Any]:
    """All that two equal runs share: the last checkpoint, and the events, times aside."""
    found = made.run.checkpoints.newest()
    assert found is not None
    state = timeless({k: v for k, v in found.state.items() if k != "events"})
    return {"state": state, "events": timeless(read_events(made.run.path))}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def toy() -> SimpleNamespace:
    """The parts of the tiny problem and what compares its runs."""
    return SimpleNamespace(
        Model=ToyModel,
        Task=ToyTask,
        Weights=ToyWeights,
        Counter=Counter,
        Spoiled=Spoiled,
        batches=make_batches,
        config=config,
        engine=engine,
        engine_run=engine_run,
        outcome=outcome,
        same=same,
        timeless=timeless,
        train=TRAIN,
        valid=VALID,
    )
