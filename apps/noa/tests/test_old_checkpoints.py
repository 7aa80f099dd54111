"""Checkpoints of the published script: what is taken, what is inferred, what is refused."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from noa.config import NoaConfig
from noa.old_checkpoints import PROJECTOR, PublishedCheckpoint, settings_of_resumed
from nops_train import InputError, Invocation, load_checkpoint, parse_config

BATCHES = 3  # of the tiny run: 6 trajectories, 2 at a time


@pytest.fixture
def old(whole, tmp_path):
    """Writes a file as the script would, from a run of ours of the same model."""
    own = load_checkpoint(whole / "checkpoints" / "epoch_2.pt")

    def write(name: str, **content: object) -> Path:
        path = tmp_path / "old" / name
        path.parent.mkdir(exist_ok=True)
        state = {"model_state_dict": own["model"], "optimizer_state_dict": own["optimizer"]}
        torch.save({**state, **content}, path)
        return path

    return write


def importer(**options):
    weights = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    settings = {
        "weights": weights,
        "batches": 225,
        "learning_rate": lambda epoch, step: 1e-3 / step,
    }
    return PublishedCheckpoint(NoaConfig(), **(settings | options)), {"model_state_dict": weights}


# ---- a run that goes on ----


def test_epoch_5_goes_on_with_epoch_index_5(run_noa, old, capsys):
    path = old("epoch_5.pt")
    assert run_noa("train", f"--resume={path}", "--train.epochs=6") == 0
    out = capsys.readouterr().out
    assert "inferred: global_step 15, 5 epochs of 3 batches, from the file's name" in out
    assert "the learning-rate schedule is set to step 15: " in out
    assert "no validation history in it: it starts empty" in out
    assert "Resuming from epoch 6, step 15" in out
    summary = json.loads(Path("runs/noa/default/summary.json").read_text())
    assert (summary["epochs"], summary["steps"]) == (6, 18)
    epochs = [
        record["epoch"]
        for line in Path("runs/noa/default/events.jsonl").read_text().splitlines()
        if (record := json.loads(line))["event"] == "epoch"
    ]
    assert epochs == [5]


def test_a_whole_file_goes_on_in_the_middle_of_its_epoch(run_noa, old, capsys):
    path = old(
        "step_4.pt",
        epoch=1,
        global_step=4,
        scheduler_state_dict={"last_epoch": 4},
        history={"train_loss": [0.5], "val_loss": [0.7]},
        best_val_loss=15.234567,
        config={"base_channels": 4, "encoder_levels": 2},
        args={"lr": 3e-3, "epochs": 2, "dataset": "elsewhere.h5"},
    )
    assert run_noa("train", f"--resume={path}") == 0
    out = capsys.readouterr().out
    assert "inferred" not in out
    assert "no validation history" not in out
    assert "best_val_loss 15.2346 is not the NMSE that is watched here" in out
    assert "(Will skip first 1 batches of epoch 2)" in out
    assert json.loads(Path("runs/noa/default/summary.json").read_text())["steps"] == 6


def test_a_given_flag_that_differs_is_a_difference(run_noa, old, capsys):
    path = old("step_4.pt", config={"base_channels": 8})
    assert run_noa("train", f"--resume={path}") == 2
    assert "model.base_channels: the run has 8, asked for 4" in capsys.readouterr().err


def test_absent_flags_come_from_the_checkpoint(old):
    path = old("step_4.pt", config={"base_channels": 16, "modes": 3}, args={"bptt_window": 2})
    config = parse_config(NoaConfig, {"model": {"modes": 5}}, source="test")

    def settled(**options: object) -> NoaConfig:
        call = Invocation(
            command="train",
            app="noa",
            name="a",
            runs=Path("runs"),
            preset="default",
            preset_given=False,
            folder=None,
            resume=str(path),
        )
        return settings_of_resumed(config, replace(call, **options))

    taken = settled()
    assert (taken.model.base_channels, taken.model.modes, taken.rollout.window) == (16, 3, 2)
    assert settled(explicit={"model.modes": "--modes"}).model.modes == 5
    assert settled(resume="auto") == config


# ---- where training stood ----


@pytest.mark.parametrize(
    ("name", "content", "expected", "note"),
    [
        ("step_200.pt", {}, (0, 200, 200), "inferred: global_step 200, from the file's name"),
        ("step_675.pt", {}, (3, 0, 675), "inferred: global_step 675"),
        ("epoch_5.pt", {"epoch": 4}, (5, 0, 1125), "inferred: global_step 1125, 5 epochs of 225"),
        ("best_model.pt", {"epoch": 1}, (2, 0, 450), "inferred: global_step 450, 2 epochs"),
        ("epoch_5.pt", {"global_step": 1000}, (5, 0, 1000), "inferred: epoch index 5"),
        ("best_model.pt", {"global_step": 230, "epoch": 9}, (1, 5, 230), "is set to step 230"),
    ],
)
def test_position(name, content, expected, note):
    reader, state = importer()
    found = reader.convert({**state, **content}, file=Path(name))
    assert (found.epoch, found.batch, found.step) == expected
    assert any(note in line for line in found.notes)
    assert f"the learning-rate schedule is set to step {found.step}: {1e-3 / found.step:.3g}" in (
        found.notes
    )
    given = "global_step" in content and name != "epoch_5.pt"
    assert any("inferred" in line for line in found.notes) is not given


def test_history_by_epoch():
    reader, state = importer()
    history = {"train_loss": [3.0, 2.0], "val_loss": [5.0]}
    found = reader.convert({**state, "global_step": 450, "history": history}, file=Path("a.pt"))
    assert list(found.history) == [
        {"epoch": 0, "train_loss": 3.0, "val_loss": 5.0},
        {"epoch": 1, "train_loss": 2.0},
    ]


def test_a_file_that_tells_no_position_is_refused():
    reader, state = importer()
    with pytest.raises(InputError, match=r"best_model\.pt: found neither global_step nor epoch"):
        reader.convert(state, file=Path("best_model.pt"))


def test_the_projector_that_is_missing_has_three_choices():
    for wanted, held in ((True, None), (True, {"w": torch.zeros(1)}), (False, None)):
        reader, state = importer()
        own = {"projector.w": torch.ones(1)} if wanted else {}
        reader, _ = importer(weights=state["model_state_dict"] | own)
        old = {**state, "alignment_state": held, "optimizer_state_dict": {}}
        found = reader.convert(old, file=Path("step_1.pt"))
        assert found.parts["model"].keys() == state["model_state_dict"].keys() | own.keys()
        assert ("optimizer" in found.parts) is not wanted  # it knows nothing of the projector
        assert (PROJECTOR in found.notes) is (wanted and held is None)
    assert [f"({number})" in PROJECTOR for number in (1, 2, 3)] == [True] * 3


# ---- what is refused ----


def test_dense_spectral_weights_are_refused_with_a_table(run_noa, old, capsys):
    dense = {
        "operator.encoder.0.weight": torch.zeros(4, 2, 3, 3),
        "operator.afno.0.weights": torch.zeros(2, 2, 4, 3, dtype=torch.complex64),
    }
    assert run_noa("train", f"--resume={old('step_4.pt', model_state_dict=dense)}") == 2
    error = capsys.readouterr().err
    assert "step_4.pt: the weights are not of this U-AFNO" in error
    assert "found (2, 2, 4, 3), expected nothing (dense spectral weights)" in error
    assert "found nothing, expected (" in error
    assert "train anew" in error


def test_another_shape_is_in_the_table():
    reader, state = importer()
    other = {**state["model_state_dict"], "a.bias": torch.zeros(7)}
    with pytest.raises(
        InputError, match=r"1 of 2 names or shapes differ\n  a\.bias  found \(7,\), "
    ) as e:
        reader.convert({"model_state_dict": other, "global_step": 1}, file=Path("a.pt"))
    assert "dense" not in str(e.value).lower()


def test_a_pickled_object_is_refused_by_its_type(run_noa, old, capsys):
    path = old("step_4.pt", args=argparse.Namespace(lr=1.0))
    assert run_noa("train", f"--resume={path}") == 2
    error = capsys.readouterr().err
    assert "argparse.Namespace" in error
    assert "not executed" in error
