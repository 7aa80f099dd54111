"""The loop: what is asked when, what is logged, when it stops."""

import math

import pytest
import torch
from nops_train import (
    ListSource,
    RunFolder,
    load_checkpoint,
    make_learning_rate,
    read_events,
)
from torch import nn


def events(made, kind):
    return [event for event in read_events(made.run.path) if event["event"] == kind]


def test_it_equals_a_hand_written_loop(toy, tmp_path):
    made = toy.engine(
        tmp_path,
        settings=toy.config(grad_clip=0.2, weight_decay=0.1, validate_every=5),
        model={"dropout": 0.0},
        weighting=toy.Weights(observes=None),
        learning_rate=lambda epoch, step: 0.05 / (1 + epoch + step),
    )
    made.fit(toy.train)
    torch.manual_seed(0)
    model = toy.Model(dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    step = 0
    for epoch in range(2):
        for batch in toy.train.batches(epoch=epoch):
            pred = model(batch["x"])
            fit, size = (pred - batch["y"]).square().mean(), pred.square().mean()
            optimizer.zero_grad()
            (1.0 * fit + 0.1 * size).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.2)
            for group in optimizer.param_groups:
                group["lr"] = 0.05 / (1 + epoch + step)
            optimizer.step()
            step += 1
    assert toy.same(model.state_dict(), made.net.state_dict())


def test_result_and_summary(toy, tmp_path):
    made = toy.engine(tmp_path)
    result = made.fit(toy.train, toy.valid)
    assert (result.status, result.epochs, result.steps, result.skipped) == ("completed", 2, 10, 0)
    assert result.folder == tmp_path / "toy/run"
    assert result.metrics.keys() == {"error", "bias"}
    summary = RunFolder.at(result.folder).summary()
    assert summary["status"] == "completed"
    assert summary["metrics"] == result.metrics
    assert summary["best"] == result.best
    assert summary["peak_memory_bytes"] > 0
    assert summary["versions"]["torch"] == torch.__version__
    assert {"epochs", "steps", "baselines", "seconds"} <= summary.keys()


def test_the_order_of_events(toy, tmp_path):
    made = toy.engine(tmp_path)
    made.fit(toy.train, toy.valid)
    found = [(e["event"], e["epoch"], e["step"]) for e in read_events(made.run.path)]
    assert found == [
        ("train", 0, 0),
        ("train", 0, 2),
        ("train", 0, 4),
        ("epoch", 0, 5),
        ("validation", 0, 5),
        ("train", 1, 6),
        ("train", 1, 8),
        ("epoch", 1, 10),
        ("validation", 1, 10),
        ("end", 2, 10),
    ]


class Fixed:
    """A parameter w, terms w * batch mean: values that can be worked by hand."""

    def __init__(self, model):
        self.model = model
        self.w = model.last.bias

    def losses(self, batch, *, epoch, step, active):
        mean = batch["x"].mean()
        return {"fit": self.w.sum() * mean, "size": self.w.sum() * 0.5}

    def metrics(self, batch):
        return {"error": batch["x"].mean(dim=1), "flat": batch["x"].mean()}


def test_values_worked_by_hand(toy, tmp_path):
    # w starts at 1, SGD with rate 0.1 and no clipping; weights fit 1, size 0.1.
    # batch 0: 1 sample, mean 2: fit 2, size 0.5, gradient 2.05, w = 1 - 0.205 = 0.795
    # batch 1: 3 samples, mean 4: fit 3.18, size 0.3975, gradient 4.05
    batches = [{"x": torch.full((1, 3), 2.0)}, {"x": torch.full((3, 3), 4.0)}]
    made = toy.engine(
        tmp_path,
        settings=toy.config(epochs=1, log_every=1, grad_clip=None),
        weighting=toy.Weights(observes=None),
        task=Fixed,
        optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=1.0),
        learning_rate=lambda epoch, step: 0.1,
    )
    nn.init.ones_(made.net.last.bias)
    source = ListSource(batches, shuffle=False)
    result = made.fit(source, source)
    first, second = events(made, "train")
    assert first["raw"] == pytest.approx({"fit": 2.0, "size": 0.5})
    assert first["weight"] == {"fit": 1.0, "size": 0.1}
    assert first["weighted"] == pytest.approx({"fit": 2.0, "size": 0.05})
    assert first["loss"] == pytest.approx(2.05)
    assert first["gradient_norm"] == pytest.approx(2.05)
    assert first["learning_rate"] == 0.1
    assert second["raw"] == pytest.approx({"fit": 3.18, "size": 0.3975})
    (epoch,) = events(made, "epoch")
    # sample-weighted: (1 * 2 + 3 * 3.18) / 4 and (0.5 + 3 * 0.3975) / 4
    assert epoch["raw"] == pytest.approx({"fit": 2.885, "size": 0.423125})
    assert epoch["weighted"] == pytest.approx({"fit": 2.885, "size": 0.0423125})
    assert epoch["loss"] == pytest.approx(2.9273125)
    assert epoch["gradient_norm"] == pytest.approx((2.05 + 3 * 4.05) / 4)
    assert (epoch["samples"], epoch["applied"], epoch["skipped"]) == (4, 2, 0)
    # metrics: per sample and scalar alike are means over the 4 samples: (2 + 3 * 4) / 4
    assert result.metrics == pytest.approx({"error": 3.5, "flat": 3.5})


def test_positions_are_zero_based_and_only_active_terms_are_asked(toy, tmp_path):
    asked = []

    class Fades(toy.Weights):
        def active(self, *, epoch, step):
            asked.append((epoch, step))
            return frozenset({"fit"} if step < 3 else {"fit", "size"})

    made = toy.engine(tmp_path, weighting=Fades())
    made.fit(toy.train)
    assert asked == [(s // 5, s) for s in range(10)]
    assert [set(a) for a in made._task.asked] == [{"fit", "size"}] + [{"fit"}] * 3 + [
        {"fit", "size"}
    ] * 7  # the first is the start-up check
    (first, *_), (epoch, *_) = events(made, "train"), events(made, "epoch")
    assert first["raw"].keys() == {"fit"}
    assert epoch["raw"].keys() == {"fit", "size"}


@pytest.mark.parametrize(
    ("observes", "expected"),
    [
        ("step", [(s // 5, s, "train", {"fit", "size"}) for s in range(10)]),
        ("epoch", [(0, 5, "train", {"fit", "size"}), (1, 10, "train", {"fit", "size"})]),
        (
            "validation",
            [(e, 5 * e + 5, "valid", {"fit", "size", "error", "bias"}) for e in range(2)],
        ),
        (None, []),
    ],
)
def test_what_a_weighting_observes(toy, tmp_path, observes, expected):
    weighting = toy.Weights(observes=observes)
    made = toy.engine(tmp_path, weighting=weighting, settings=toy.config(log_every=1))
    made.fit(toy.train, toy.valid)
    assert [(e, s, split, set(v)) for v, e, s, split in weighting.seen] == expected
    if observes == "step":
        logged = [event["raw"] for event in events(made, "train")]
        assert [values for values, *_ in weighting.seen] == logged
    if observes == "epoch":
        assert weighting.seen[0][0] == events(made, "epoch")[0]["raw"]
    if observes == "validation":
        values = events(made, "epoch")[0]["raw"] | events(made, "validation")[0]["metrics"]
        assert weighting.seen[0][0] == values


def test_validation_leaves_each_module_in_its_mode(toy, tmp_path):
    made = toy.engine(tmp_path)
    made.net.eval()
    modes = []
    made._task.model.register_forward_pre_hook(
        lambda module, _: modes.append((module.training, module.dropout.training))
    )
    made.net.train()
    made.net.dropout.eval()  # a part that the app keeps in eval mode
    made.fit(toy.train, toy.valid)
    assert set(modes) == {(True, False), (False, False)}
    assert made.net.training
    assert not made.net.dropout.training


def test_a_model_in_eval_mode_is_trained_in_train_mode(toy, tmp_path):
    made = toy.engine(tmp_path)
    made.net.eval()
    made.fit(toy.train)
    assert made.net.dropout.training
    assert made.net.norm.num_batches_tracked == 10


def test_validate_every_and_after_the_last_epoch(toy, tmp_path):
    made = toy.engine(tmp_path, settings=toy.config(epochs=5, validate_every=2))
    result = made.fit(toy.train, toy.valid)
    assert [event["epoch"] for event in events(made, "validation")] == [1, 3, 4]
    assert [h["metrics"] is not None for h in result.history] == [False, True, False, True, True]


class Scripted:
    """A task whose metric follows a list, one value per validation."""

    values: tuple[float, ...] = ()

    def __init__(self, model):
        self.inner, self.count = model, -1  # the first call is the start-up check

    def losses(self, batch, *, epoch, step, active):
        pred = self.inner(batch["x"])
        terms = {"fit": (pred - batch["y"]).square().mean(), "size": pred.square().mean()}
        return {name: terms[name] for name in active}

    def metrics(self, batch):
        value = self.values[max(self.count, 0)]
        self.count += 1
        return {"error": torch.tensor(value)}


@pytest.mark.parametrize(
    ("values", "mode", "patience", "epochs", "best_epoch"),
    [
        ((3.0, 2.0, 2.0, 2.5, 1.0), "min", 2, 4, 1),  # equal is no improvement
        ((3.0, 2.0, 2.5, 1.0, 0.5), "min", 2, 5, 4),
        ((0.1, 0.2, 0.1, 0.1, 0.9), "max", 2, 4, 1),
        ((math.nan, 2.0, math.nan, math.nan, 1.0), "min", 2, 4, 1),
        ((math.nan, math.inf, 1.0, 1.0, 1.0), "min", None, 5, 2),
    ],
)
def test_early_stopping_and_best(toy, tmp_path, values, mode, patience, epochs, best_epoch):
    task = type("Values", (Scripted,), {"values": values})
    settings = toy.config(epochs=5, monitor_mode=mode, early_stop_patience=patience, keep_last=None)
    valid = ListSource(toy.batches(1))
    made = toy.engine(tmp_path, settings=settings, task=task)
    result = made.fit(toy.train, valid)
    assert result.epochs == epochs
    assert result.status == ("stopped_early" if epochs < 5 else "completed")
    assert result.best is not None
    assert result.best["epoch"] == best_epoch
    assert result.best["value"] == pytest.approx(values[best_epoch])
    folder = made.run.checkpoints.path
    best = load_checkpoint(folder / "best_model.pt")
    assert toy.same(best, load_checkpoint(folder / f"epoch_{best_epoch + 1}.pt"))
    again = toy.engine(tmp_path, settings=settings, task=task).fit(toy.train, valid)
    assert (again.status, again.epochs, again.best) == (result.status, epochs, result.best)


@pytest.mark.parametrize("epochs", [(5,), (3, 5)], ids=["at once", "resumed"])
def test_a_rate_falls_when_validation_stands_still(toy, tmp_path, epochs):
    task = type("Values", (Scripted,), {"values": (3.0, 2.0, 2.0, 2.5, 1.0)})
    for last in epochs:
        settings = toy.config(epochs=last, lr_schedule="plateau", lr_patience=1, lr_factor=0.5)
        rate = make_learning_rate(settings, steps_per_epoch=toy.train.num_batches, cosine=None)
        made = toy.engine(
            tmp_path, settings=settings, task=task, learning_rate=rate, whole={"epochs": "any"}
        )
        made.fit(toy.train, ListSource(toy.batches(1)))
    falls = {e["epoch"]: e["learning_rate"] for e in events(made, "train")}
    assert [falls[n] / 0.05 for n in range(5)] == pytest.approx([1, 1, 1, 0.5, 0.25])


def test_epochs_of_a_pretraining_are_never_the_best_and_patience_starts_later(toy, tmp_path):
    task = type("Values", (Scripted,), {"values": (0.1, 3.0, 2.0, 2.5, 2.5, 1.0)})
    settings = toy.config(epochs=6, early_stop_patience=2, keep_last=None)
    # without a later start, epochs 3 and 4 would end the run
    options = {"settings": settings, "task": task, "best_from": 1}
    stopped = toy.engine(tmp_path, name="a", **options).fit(toy.train, ListSource(toy.batches(1)))
    assert (stopped.status, stopped.epochs) == ("stopped_early", 5)
    assert stopped.best is not None
    assert (stopped.best["epoch"], stopped.best["value"]) == (2, 2.0)  # not 0.1 of epoch 0
    later = toy.engine(tmp_path, name="b", patience_from=4, **options)
    result = later.fit(toy.train, ListSource(toy.batches(1)))
    assert result.status == "completed"
    assert result.best is not None
    assert result.best["epoch"] == 5


def test_only_nan_metrics_give_no_best(toy, tmp_path):
    task = type("Values", (Scripted,), {"values": (math.nan,) * 3})
    made = toy.engine(tmp_path, settings=toy.config(epochs=2), task=task)
    result = made.fit(toy.train, ListSource(toy.batches(1)))
    assert result.best is None
    assert not (made.run.checkpoints.path / "best_model.pt").exists()
    assert '"error": "NaN"' in (made.run.path / "events.jsonl").read_text()


def test_checkpoints_by_step_and_epoch(toy, tmp_path):
    settings = toy.config(save_every=2, keep_last=None)
    made = toy.engine_run(tmp_path, settings)
    names = {path.name for path in made.run.checkpoints.path.glob("*.pt")}
    steps = {f"step_{n}.pt" for n in (2, 4, 6, 8, 10)}
    assert names == steps | {"epoch_1.pt", "epoch_2.pt", "best_model.pt"}
    state = load_checkpoint(made.run.checkpoints.path / "epoch_1.pt")
    assert state["position"] == {"epoch": 1, "batch": 0, "step": 5, "seed": 0}


def test_keep_last_keeps_those_before_the_last_and_the_best(toy, tmp_path):
    made = toy.engine_run(tmp_path, toy.config(save_every=1, keep_last=2))
    names = {path.name for path in made.run.checkpoints.path.glob("*.pt")}
    assert names == {"step_9.pt", "step_10.pt", "epoch_2.pt", "best_model.pt"}


def test_what_the_app_put_into_the_summary_stays(toy, tmp_path):
    toy.engine_run(tmp_path, toy.config())
    run = RunFolder.at(tmp_path / "toy/run")
    run.update_summary(baselines={"zero": 1.0}, verdict="good")
    toy.engine_run(tmp_path, toy.config())
    assert run.summary()["baselines"] == {"zero": 1.0}
    assert run.summary()["verdict"] == "good"


def test_draws_differ_from_step_to_step(toy, tmp_path):
    masks = []
    made = toy.engine(tmp_path, model={"dropout": 0.5})
    made.net.dropout.register_forward_hook(
        lambda module, inputs, out: masks.append(str((out == 0).tolist()))
    )
    made.fit(toy.train)
    assert len(set(masks[1:])) == 10  # the first is the start-up check
