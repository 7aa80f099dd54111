"""What several ranks do together; started as ranks with a folder and the names of cases.

Each case writes `<case>_<rank>.pt`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimizers ask for it: imported once for all ranks
from nops_train import Diverged, Engine, Interrupted, ListSource, RunFolder, TrainConfig, join_world
from torch import Tensor, nn

SAMPLES, BATCH, WIDTH = 22, 6, 3  # the last batch of an epoch has 4 samples
Change = Callable[[int, dict[str, Tensor]], dict[str, Tensor]]


class Model(nn.Module):
    """A linear map and its use; `spare` is reached by negative inputs alone, `idle` never."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 4)
        self.norm = nn.BatchNorm1d(4) if norm else nn.Identity()
        self.last = nn.Linear(4, 1)
        self.idle = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


class Task:
    """A fit, in two windows, and a penalty."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def losses(self, batch: Mapping[str, Tensor], **_: Any) -> Iterator[dict[str, Tensor]]:
        error = (self.model(batch["x"]) - batch["y"]).square().mean()
        yield {"fit": 0.5 * error}
        yield {
            "fit": 0.5 * (self.model(batch["x"]) - batch["y"]).square().mean(),
            "size": self.model.last.weight.square().sum(),
        }

    def metrics(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"nmse": (self.model(batch["x"]) - batch["y"]).square().flatten(1).mean(1)}


class Observing:
    """Weights that follow the raw terms of the steps."""

    def __init__(self, observes: str | None = "step") -> None:
        self.terms = {"fit": 1.0, "size": 0.1}
        self.observes = observes
        self.mean = {"fit": 1.0, "size": 1.0}

    def active(self, **_: Any) -> frozenset[str]:
        return frozenset(self.terms)

    def weights(self, **_: Any) -> dict[str, float]:
        return {name: weight / (0.1 + self.mean[name]) for name, weight in self.terms.items()}

    def observe(self, values: Mapping[str, float], **_: Any) -> None:
        self.mean = {name: 0.8 * self.mean[name] + 0.2 * values[name] for name in self.terms}

    def state_dict(self) -> dict[str, Any]:
        return {"mean": dict(self.mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean = dict(state["mean"])


class Spoiled:
    """A source whose batches pass through `change(place, batch)`, with a counter of epoch and batch."""

    def __init__(self, source: ListSource, change: Change) -> None:
        self._source, self._change = source, change
        self.num_batches = source.num_batches

    def batches(self, *, epoch: int, skip: int) -> Iterator[dict[str, Tensor]]:
        first = epoch * self.num_batches + skip
        for place, batch in enumerate(self._source.batches(epoch=epoch, skip=skip), start=first):
            yield self._change(place, batch)


def source(*, batch_size: int = BATCH, **options: Any) -> ListSource:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(SAMPLES, WIDTH, generator=generator)
    y = x.sum(1, keepdim=True).sin()
    items = [{"x": x[i], "y": y[i], "index": torch.tensor(i)} for i in range(SAMPLES)]
    return ListSource(items, batch_size=batch_size, **options)  # pyright: ignore[reportArgumentType]


def engine(
    folder: Path, name: str, *, norm: bool = False, waits: bool = False, **settings: Any
) -> Engine:
    torch.manual_seed(join_world().rank)  # rank 0's weights become everybody's
    base = {
        "epochs": 5,
        "learning_rate": 0.02,
        "batch_size": BATCH,
        "accumulate": 2,
        "ema_decay": 0.9,
        "device": "cpu",
    }
    config = TrainConfig(**{**base, "lr_schedule": "constant", "log_every": 1, **settings})
    run = RunFolder.open(folder, app="toy", name=name, config=config.model_dump(mode="json"))
    model = Model(norm=norm)
    made = Engine(
        task=Task(model),
        weighting=Observing(None if waits else "step"),
        model=model,
        config=config,
        run=run,
        progress="none",
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.02, fused=True) if waits else None,
    )
    made._stepper._waits = waits
    return made


def outcome(made: Engine, **more: Any) -> dict[str, Any]:
    average = made._stepper.average
    return {
        "model": made._model.state_dict(),
        "average": average and average.state_dict(),
        "weighting": made._weighting.state_dict(),
        "metrics": made.state.metrics,
        "step": made.state.step,
        "skipped": made.state.skipped,
        **more,
    }


def fit(folder: Path) -> dict[str, Any]:
    """Five epochs of four steps."""
    made = engine(folder, "fit")
    made.fit(source(), source(shuffle=False))
    return outcome(made)


def order(folder: Path) -> dict[str, Any]:
    """The samples of two epochs, in order, this rank's share of each batch."""
    read = source()
    return {"batches": [b["index"].tolist() for e in (0, 1) for b in read.batches(epoch=e, skip=1)]}


def norm(folder: Path) -> dict[str, Any]:
    """Running statistics of batch norm."""
    made = engine(folder, "norm", norm=True, epochs=1, accumulate=1)
    made.fit(source())
    return outcome(made)


def poisoned(folder: Path, name: str = "poisoned", **options: Any) -> dict[str, Any]:
    """Bad values on the last rank alone: an input, then a loss beyond float32, then a gradient."""
    last = join_world().rank == join_world().size - 1

    def change(place: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if not last or place not in (2, 5, 7):
            return batch
        if place == 7:
            made._model.first.weight.register_hook(lambda g: g * float("inf"))  # pyright: ignore
            return batch
        bad = float("nan") if place == 2 else 1e30
        return {**batch, "x" if place == 2 else "y": batch["y" if place == 5 else "x"] * bad}

    made = engine(folder, name, epochs=2, max_skipped_in_row=9, accumulate=1, **options)
    ended = "done"
    try:
        made.fit(Spoiled(source(), change))
    except Diverged as error:
        ended = str(error)
    return outcome(made, ended=ended)


def poisoned_later(folder: Path) -> dict[str, Any]:
    """The same, where the verdict on a step is read with the third line of the log."""
    return poisoned(folder, "poisoned_later", waits=True, norm=True, log_every=3)


def diverged(folder: Path) -> dict[str, Any]:
    """Bad values on one rank, step after step."""
    last = join_world().rank == join_world().size - 1
    made = engine(folder, "diverged", max_skipped_in_row=3)
    spoil = Spoiled(source(), lambda place, b: {**b, "x": b["x"] * float("nan")} if last else b)
    try:
        made.fit(spoil)
    except Diverged as error:
        return outcome(made, ended=str(error))
    return outcome(made, ended="done")


def stopped(folder: Path) -> dict[str, Any]:
    """A signal to one rank alone, in the middle of the second epoch; then the same again."""
    last = join_world().rank == join_world().size - 1

    def change(place: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if place == 6 and last:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    first = engine(folder, "stopped", norm=True, accumulate=1)
    number = 0
    try:
        first.fit(Spoiled(source(), change), source(shuffle=False))
    except Interrupted as error:
        number = error.signal
    again = engine(folder, "stopped", norm=True, accumulate=1)
    again.fit(source(), source(shuffle=False))
    whole = engine(folder, "whole", norm=True, accumulate=1)
    whole.fit(source(), source(shuffle=False))
    return outcome(again, signal=number, stopped_at=first.state.step, whole=outcome(whole))


def unread(folder: Path) -> dict[str, Any]:
    """The last rank cannot read its share of the sixth batch."""
    last = join_world().rank == join_world().size - 1

    def change(place: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if place == 5 and last:
            raise OSError("the disk is gone")
        return batch

    made = engine(folder, "unread")
    try:
        made.fit(Spoiled(source(), change))
    except Exception as error:
        return outcome(made, ended=f"{type(error).__name__}: {error}")
    return outcome(made, ended="done")


def refused(folder: Path) -> dict[str, Any]:
    """A run folder that rank 0 cannot make."""
    (folder / "file").write_text("")
    try:
        engine(folder / "file", "refused")
    except Exception as error:
        return {"ended": f"{type(error).__name__}: {error}"}
    return {"ended": "done"}


def gradients(folder: Path) -> dict[str, Any]:
    """Sums of gradients: on all ranks, on one rank alone, on none; of two types."""
    world = join_world()
    shared, lonely, idle = (torch.zeros(3, requires_grad=True) for _ in range(3))
    double = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    shared.grad = torch.full((3,), 1.0 + world.rank)
    double.grad = torch.full((2,), 10.0 + world.rank, dtype=torch.float64)
    if world.is_main:
        lonely.grad = torch.ones(3)
    world.sum_gradients([shared, double, lonely, idle])
    found = {"shared": shared.grad, "double": double.grad, "lonely": lonely.grad}
    return {**found, "idle": idle.grad, "main": world.from_main(lambda: world.rank)}


CASES = {
    case.__name__: case
    for case in (
        fit,
        order,
        norm,
        poisoned,
        poisoned_later,
        diverged,
        stopped,
        unread,
        refused,
        gradients,
    )
}


def main(cases: Mapping[str, Callable[[Path], dict[str, Any]]]) -> None:
    """Do what the command line names."""
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    for case in sys.argv[2:]:
        result = cases[case](target)
        torch.save(result, target / f"{case}_{join_world().rank}.pt")
        join_world().barrier()


if __name__ == "__main__":
    main(CASES)
