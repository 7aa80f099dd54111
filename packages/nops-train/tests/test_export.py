"""Weights out of a run."""

import json

import pytest
import torch
from nops_train import CheckpointError, InputError, export, load_weights
from safetensors.torch import load_file
from torch import nn


def test_best_weights_are_loaded_and_exported(toy, tmp_path):
    made = toy.engine_run(tmp_path, toy.config(epochs=4, keep_last=None))
    assert made.state.best is not None
    best = made.run.checkpoints.load("best_model.pt")
    model = toy.Model()
    position = load_weights(model, made.run.path)
    assert position == best["position"]
    assert position["epoch"] == made.state.best["epoch"] + 1
    assert toy.same(model.state_dict(), best["model"])
    folder = export(made.run.path, tmp_path / "deep/shared")
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json"}
    weights = load_file(folder / "model.safetensors")
    assert toy.same(weights, dict(best["model"]))
    about = json.loads((folder / "config.json").read_text())
    assert about["config"]["train"]["epochs"] == 4
    assert about["checkpoint"] == "best_model.pt"
    assert about["position"] == position


def test_averaged_weights_are_preferred(toy, tmp_path):
    made = toy.engine_run(tmp_path, toy.config(ema_decay=0.9))
    model = toy.Model()
    load_weights(model, made.run.checkpoints.path / "epoch_2.pt")
    average = made._stepper.average.average
    assert toy.same(dict(model.named_parameters()), average)
    assert not torch.equal(model.last.weight, made.net.last.weight)
    assert toy.same(dict(model.named_buffers()), dict(made.net.named_buffers()))


def test_a_tied_weight_has_one_average_under_both_names(toy, tmp_path):
    class Tied(toy.Model):
        def __init__(self):
            super().__init__(norm=False)
            self.again = nn.Linear(4, 1)
            self.again.weight = self.last.weight

    from nops_train import Engine, RunFolder

    model = Tied()
    run = RunFolder.open(tmp_path, app="toy", name="tied", config={})
    made = Engine(
        task=toy.Task(model),
        weighting=toy.Weights(),
        model=model,
        config=toy.config(ema_decay=0.9),
        run=run,
        progress="none",
    )
    made.fit(toy.train)
    weights = load_file(export(run.path, tmp_path / "shared") / "model.safetensors")
    assert torch.equal(weights["last.weight"], weights["again.weight"])
    assert torch.equal(weights["last.weight"], made._stepper.average.average["last.weight"])


def test_without_validation_the_newest_is_taken(toy, tmp_path):
    made = toy.engine(tmp_path)
    made.fit(toy.train)
    model = toy.Model()
    assert load_weights(model, made.run.path)["step"] == 10
    assert toy.same(model.state_dict(), made.net.state_dict())


def test_errors_of_loading(toy, tmp_path):
    made = toy.engine_run(tmp_path, toy.config())
    with pytest.raises(CheckpointError, match=r"last.weight: found \(1, 4\), expected nothing"):
        load_weights(nn.Linear(3, 4), made.run.path)
    with pytest.raises(InputError, match="no run folder"):
        load_weights(toy.Model(), tmp_path)
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match="cannot be made"):
        export(made.run.path, tmp_path / "taken")
    best = made.run.checkpoints.path / "best_model.pt"
    best.write_bytes(best.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"best_model.pt: damaged"):
        load_weights(toy.Model(), made.run.path)
    fresh = toy.engine(tmp_path, name="fresh")
    with pytest.raises(CheckpointError, match="holds no checkpoint yet"):
        load_weights(toy.Model(), fresh.run.path)
