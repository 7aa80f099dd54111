"""Checkpoints written beside training: the same files, the same failures."""

import threading
from typing import Any

import pytest
import torch
from nops_train import CheckpointError, CheckpointFolder, load_checkpoint
from nops_train._engine_saver import Saver


def test_the_run_is_the_same(toy, tmp_path):
    runs = {}
    for beside in (False, True):
        made = toy.engine(
            tmp_path / str(beside), settings=toy.config(async_save=beside, epochs=3, save_every=2)
        )
        made.fit(toy.train, toy.valid)
        runs[beside] = made.run
    at_once, beside = (runs[key].checkpoints.path for key in (False, True))
    assert runs[True].checkpoints.entries.keys() == runs[False].checkpoints.entries.keys()
    assert "best_model.pt" in runs[True].checkpoints.entries
    for name in runs[False].checkpoints.entries:
        one, two = load_checkpoint(at_once / name), load_checkpoint(beside / name)
        assert toy.same(one["model"], two["model"])
        assert toy.same(one["optimizer"], two["optimizer"])
        assert one["position"] == two["position"]


def test_what_is_written_is_the_state_of_the_call(tmp_path, monkeypatch):
    go = threading.Event()
    save = CheckpointFolder.save

    def slow(self: CheckpointFolder, *args: Any, **options: Any) -> Any:
        assert go.wait(20)
        return save(self, *args, **options)

    monkeypatch.setattr(CheckpointFolder, "save", slow)
    saver = Saver(CheckpointFolder(tmp_path), beside=True)
    weight = torch.zeros(3)
    saver.save("step_1.pt", {"weight": weight}, keep_last=None)
    weight += 1  # the next step
    assert not (tmp_path / "step_1.pt").exists()
    go.set()
    saver.wait()
    assert load_checkpoint(tmp_path / "step_1.pt")["weight"].tolist() == [0.0, 0.0, 0.0]


def test_what_fails_is_raised_by_the_next_call(tmp_path):
    (tmp_path / "file").write_text("")
    saver = Saver(CheckpointFolder(tmp_path / "file"), beside=True)
    saver.save("step_1.pt", {"a": 1}, keep_last=None)
    with pytest.raises(CheckpointError, match="file"):
        saver.save("step_2.pt", {"a": 2}, keep_last=None)
    saver.wait()  # told once


def test_a_failed_write_ends_the_run(toy, tmp_path, monkeypatch):
    made = toy.engine(tmp_path, settings=toy.config(async_save=True, epochs=1))

    def full(*args: Any, **options: Any) -> None:
        raise CheckpointError("step_1.pt: cannot be written: No space left on device")

    monkeypatch.setattr(CheckpointFolder, "save", full)
    with pytest.raises(CheckpointError, match="No space left"):
        made.fit(toy.train)
    assert made.run.summary()["status"] != "completed"


def test_a_run_goes_on_from_what_was_written_beside(toy, tmp_path):
    whole = toy.engine(tmp_path / "whole", settings=toy.config(epochs=3))
    whole.fit(toy.train, toy.valid)
    settings = toy.config(async_save=True, epochs=3, save_every=1)
    first = toy.engine(tmp_path / "cut", settings=settings)

    def strike(epoch: int, index: int, batch: Any) -> Any:
        if (epoch, index) == (1, 1):
            raise RuntimeError("struck")
        return batch

    with pytest.raises(RuntimeError, match="struck"):
        first.fit(toy.Spoiled(toy.train, strike), toy.valid)
    again = toy.engine(tmp_path / "cut", settings=settings)
    again.fit(toy.train, toy.valid)
    assert toy.same(again._model.state_dict(), whole._model.state_dict())
