"""What several ranks do with a model in parts; started as `world_cases.py`.

In a process alone `train.shard` has nothing to split: it is what the others are compared with.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from nops_train import Diverged, Engine, Interrupted, RunFolder, TrainConfig, join_world
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from world_cases import BATCH, WIDTH, Observing, Spoiled, main, source

Batch = Mapping[str, Tensor]


class Deep(nn.Module):
    """Blocks in a list, a weight that two of them share, and methods beside `forward`."""

    forward_methods = ("rollout", "size", "features")

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 5)  # 5 rows on 2 ranks: 3 and 2
        self.blocks = nn.ModuleList([nn.Linear(5, 5) for _ in range(4)])
        self.blocks[3].weight = self.blocks[2].weight  # pyright: ignore[reportArgumentType]
        self.norm = nn.LayerNorm(5)
        self.last = nn.Linear(5, 1)
        self.idle = nn.Linear(1, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.last(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        for block in self.blocks:
            h = h + torch.tanh(block(h))
        return h

    def rollout(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.blocks[0], self.features(x), use_reentrant=False))

    def size(self) -> Tensor:
        return self.last.weight.square().sum() + self.first.bias.square().sum()


class Task:
    """A fit in two windows, the second by another method and with a penalty; a metric by a third."""

    def __init__(self, model: Deep) -> None:
        self.model = model

    def losses(self, batch: Batch, **_: Any) -> Iterator[dict[str, Tensor]]:
        pred = self.model(batch["x"])
        if "bend" in batch:  # 0, with a gradient that is not finite
            pred = pred + (0.0 * pred).abs().sum().sqrt()
        yield {"fit": 0.5 * (pred - batch["y"]).square().mean()}
        error = (self.model.rollout(batch["x"]) - batch["y"]).square().mean()
        yield {"fit": 0.5 * error, "size": self.model.size()}
        self.model.size()  # no backward pass follows, which would free what was gathered
        yield {}

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        error = (self.model.rollout(batch["x"]) - batch["y"]).square().flatten(1).mean(1)
        return {"nmse": error, "size": self.model.size()}


class Interrupting(Task):
    """A signal comes in the checks before the first step."""

    def metrics(self, batch: Batch) -> dict[str, Tensor]:
        os.kill(os.getpid(), signal.SIGTERM)
        return super().metrics(batch)


class Pictured(Task):
    """With a picture of what the model gives."""

    def images(self, batch: Batch) -> dict[str, Tensor]:
        return {"pred": torch.sigmoid(self.model(batch["x"]))[None].clamp(0, 1)}


class Detached(Task):
    """The penalty has no graph."""

    def losses(self, batch: Batch, **_: Any) -> Iterator[dict[str, Tensor]]:
        for losses in super().losses(batch):
            yield {k: v.detach() if k == "size" else v for k, v in losses.items()}


class Flat(Task):
    """The penalty's gradient is zero."""

    def losses(self, batch: Batch, **_: Any) -> Iterator[dict[str, Tensor]]:
        for losses in super().losses(batch):
            yield {k: 0.0 * v + 1.0 if k == "size" else v for k, v in losses.items()}


class Silent(Task):
    """There is no penalty."""

    def losses(self, batch: Batch, **_: Any) -> Iterator[dict[str, Tensor]]:
        for losses in super().losses(batch):
            yield {k: v for k, v in losses.items() if k != "size"}


class Outside(Task):
    """The penalty takes a parameter from outside."""

    def losses(self, batch: Batch, **_: Any) -> Iterator[dict[str, Tensor]]:
        yield {"fit": (self.model(batch["x"]) - batch["y"]).square().mean()}
        yield {"size": self.model.blocks[0].weight.square().sum()}  # pyright: ignore


class Mixed(Task):
    """A prediction with a parameter from outside."""

    def losses(self, batch: Batch, **_: Any) -> Iterator[dict[str, Tensor]]:
        pred = self.model(batch["x"]) + batch["x"] @ self.model.first.weight.T.mean(1, True)
        yield {"fit": (pred - batch["y"]).square().mean(), "size": self.model.size()}


class Balancing(Observing):
    """A weighting that asks for gradients."""

    def balance(self, *_: Any, **__: Any) -> None: ...


class Short:
    """A source of which the last rank reads `stop` batches alone."""

    def __init__(self, of: Any, *, stop: int) -> None:
        self._source = of
        self._stop = stop if join_world().rank == join_world().size - 1 else of.num_batches
        self.num_batches = of.num_batches

    def batches(self, *, epoch: int, skip: int) -> Iterator[Any]:
        for place, batch in enumerate(self._source.batches(epoch=epoch, skip=skip)):
            if place < self._stop:
                yield batch


class Album:
    """A sink that keeps the names of the pictures."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def image(self, name: str, image: Tensor, *, step: int) -> None:
        self.names.append(f"{name} {tuple(image.shape)} {step}")

    def begin(self, events: Any, *, step: int) -> None: ...
    def event(self, record: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def engine(
    folder: Path,
    name: str,
    *,
    task: type[Task] = Task,
    weighting: Any = None,
    model: nn.Module | None = None,
    optimizer: Any = None,
    sinks: Any = (),
    **settings: Any,
) -> Engine:
    torch.manual_seed(join_world().rank)  # rank 0's weights become everybody's
    base = {
        "epochs": 3,
        "learning_rate": 0.02,
        "lr_schedule": "constant",
        "batch_size": BATCH,
        "accumulate": 2,
        "ema_decay": 0.9,
        "device": "cpu",
        "log_every": 1,
        "grad_clip": 0.5,
        "shard": True,
    }
    config = TrainConfig(**{**base, **settings})
    plain = {"train": config.model_dump(mode="json")}
    run = RunFolder.open(folder, app="toy", name=name, config=plain, neutral=("train.shard",))
    made: Any = model or Deep()
    return Engine(
        task=task(made),
        weighting=weighting or Observing(),
        model=made,
        config=config,
        run=run,
        optimizer=optimizer and optimizer(made),
        sinks=sinks,
        progress="none",
    )


def outcome(made: Engine, **more: Any) -> dict[str, Any]:
    """What each rank knows; the weights are in the checkpoints."""
    state = made.state
    return {"metrics": state.metrics, "step": state.step, "skipped": state.skipped, **more}


def fit(folder: Path) -> dict[str, Any]:
    """Three epochs of four steps; the memory that a rank holds."""
    made = engine(folder, "fit")
    made.fit(source(), source(shuffle=False))
    held = [p.to_local() if hasattr(p, "to_local") else p for p in made._model.parameters()]
    units = [n for n, m in made._model.named_modules() if type(m).__name__.startswith("FSDP")]
    return outcome(made, held=sum(p.numel() for p in held), units=units)


def begun(folder: Path) -> dict[str, Any]:
    """A signal to one rank alone, in the middle of the second epoch."""
    return _begun(folder, "begun")


def _begun(folder: Path, name: str) -> dict[str, Any]:
    last = join_world().rank == join_world().size - 1

    def change(place: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if place == 6 and last:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    made = engine(folder, name)
    try:
        made.fit(Spoiled(source(), change), source(shuffle=False))
    except Interrupted as error:
        return outcome(made, signal=error.signal)
    return outcome(made, signal=0)


def ended(folder: Path) -> dict[str, Any]:
    """On to the end of what another number of ranks began."""
    made = engine(folder, "lent")
    made.fit(source(), source(shuffle=False))
    return outcome(made)


def again(folder: Path) -> dict[str, Any]:
    """Begun and ended on the same ranks."""
    _begun(folder, "again")
    made = engine(folder, "again")
    made.fit(source(), source(shuffle=False))
    return outcome(made)


def early(folder: Path) -> dict[str, Any]:
    """Stopped before the first step, when the optimizer has no state; then to the end."""
    stopped = None
    made = engine(folder, "early", task=Interrupting)
    try:
        made.fit(source(), source(shuffle=False))
    except Interrupted:
        stopped = made.state.step
    made = engine(folder, "early")
    made.fit(source(), source(shuffle=False))
    return outcome(made, stopped=stopped)


def uneven(folder: Path) -> dict[str, Any]:
    """Shares of unlike length in steps and validation, start weights, frozen ones, an optimizer of the app."""

    def optimizer(model: Deep) -> torch.optim.Optimizer:
        first = [p for n, p in model.named_parameters() if n.startswith("first")]
        rest = [p for n, p in model.named_parameters() if not n.startswith("first")]
        groups = [{"params": rest}, {"params": first, "lr": 0.01}]
        return torch.optim.SGD(groups, lr=0.05, momentum=0.9)

    start = str(folder / "toy" / "fit")
    found = {}
    for shard in (False, True):
        made = engine(
            folder,
            f"uneven_{shard}",
            task=Pictured,
            sinks=[album := Album()],
            optimizer=optimizer,
            shard=shard,
            epochs=2,
            batch_size=5,
            accumulate=3,
            init_from=start,
            freeze=("blocks.1.*",),
        )
        made.fit(source(batch_size=5), Short(source(shuffle=False), stop=2))
        found[shard] = outcome(made, names=album.names)
    return {"plain": found[False], "shard": found[True]}


def half(folder: Path) -> dict[str, Any]:
    """An epoch with autocast."""
    found = []
    for shard in (False, True):
        made = engine(folder, f"half_{shard}", shard=shard, epochs=1, precision="bf16")
        made.fit(source(), source(shuffle=False))
        found.append(made.state.history[0]["train"]["loss"])
    return {"plain": found[0], "shard": found[1]}


def poisoned(folder: Path) -> dict[str, Any]:
    """Bad values on the last rank alone: an input, then a gradient."""
    last = join_world().rank == join_world().size - 1

    def change(place: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        bad = {2: {"x": batch["x"] * float("nan")}, 5: {"bend": batch["x"]}}
        return {**batch, **bad.get(place, {})} if last else batch

    made = engine(folder, "poisoned", epochs=2, max_skipped_in_row=9)
    said = "done"
    try:
        made.fit(Spoiled(source(), change))
    except Diverged as error:
        said = str(error)
    return outcome(made, ended=said)


def unread(folder: Path) -> dict[str, Any]:
    """The last rank cannot read its share of the sixth batch."""
    last = join_world().rank == join_world().size - 1

    def change(place: int, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if place == 5 and last:
            raise OSError("the disk is gone")
        return batch

    made = engine(folder, "unread")
    return outcome(made, ended=_said(lambda: made.fit(Spoiled(source(), change))))


def _said(act: Any) -> str:
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def refused(folder: Path) -> dict[str, Any]:
    """What the start tells."""
    scalar, double, halves = Deep(), Deep(), Deep()
    scalar.register_parameter("gain", nn.Parameter(torch.tensor(1.0)))
    double.last.double()
    halves.register_parameter("phase", nn.Parameter(torch.zeros(1, dtype=torch.complex64)))
    stranger = nn.Linear(1, 1)

    def starting(name: str, valid: Any = None, **options: Any) -> str:
        return _said(
            lambda: engine(folder, f"refused_{name}", **options).fit(
                source(), valid or source(shuffle=False)
            )
        )

    def foreign(_: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(stranger.parameters(), lr=0.1)

    def used(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
        model(torch.ones(1, WIDTH)).sum().backward()
        optimizer.step()
        return optimizer

    return {
        "detached": starting("detached", task=Detached),
        "flat": starting("flat", task=Flat),
        "silent": starting("silent", task=Silent),
        "outside": starting("outside", task=Outside),
        "mixed": starting("mixed", task=Mixed),
        "balancing": starting("balancing", weighting=Balancing()),
        "scalar": starting("scalar", model=scalar),
        "double": starting("double", model=double),
        "complex": starting("complex", model=halves),
        "foreign": starting("foreign", optimizer=foreign),
        "used": starting("used", optimizer=used),
        "few": starting("few", valid=Short(source(shuffle=False), stop=0)),
    }


def imported(folder: Path) -> dict[str, Any]:
    """A checkpoint of another program."""
    file = folder / "other.pt"
    if join_world().is_main:
        torch.save({"weights": {}}, file)
    made = engine(folder, "imported")
    made.run.resume_file = file
    importer = SimpleNamespace(matches=lambda state: True, convert=lambda state, file: None)
    made._session._importers = (importer,)
    return {"ended": _said(lambda: made.fit(source()))}


CASES = (fit, begun, ended, again, early, uneven, half, poisoned, unread, refused, imported)

if __name__ == "__main__":
    main({case.__name__: case for case in CASES})
