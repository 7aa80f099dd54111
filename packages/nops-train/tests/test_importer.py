"""A checkpoint of another program, through an importer of the app."""

import pytest
import torch
from nops_train import (
    CheckpointError,
    Imported,
    Importer,
    InputError,
    load_checkpoint,
    save_checkpoint,
)


class OldLayout:
    """Dicts of `model_state_dict`, `optimizer_state_dict`, `epoch`; the step is in the file's name."""

    def __init__(self, batches, *, config=None):
        self.batches, self.config = batches, config

    def matches(self, state):
        return "model_state_dict" in state

    def convert(self, state, *, file):
        step = int(file.stem.removeprefix("step_"))
        parts = {"model": state["model_state_dict"]}
        if "optimizer_state_dict" in state:
            parts["optimizer"] = state["optimizer_state_dict"]
        return Imported(
            parts=parts,
            epoch=step // self.batches,
            batch=step % self.batches,
            step=step,
            config=self.config,
            notes=(f"inferred: step {step}, from the file's name",),
        )


def old_file(toy, tmp_path, *, step, **settings):
    """A run of ours, written down as the other program would."""
    made = toy.engine_run(tmp_path / "source", toy.config(epochs=1, save_every=step, **settings))
    state = made.run.checkpoints.load(f"step_{step}.pt")
    path = tmp_path / f"elsewhere/step_{step}.pt"
    content = {"model_state_dict": state["model"], "optimizer_state_dict": state["optimizer"]}
    save_checkpoint(path, {**content, "epoch": 0})
    return path, state


def test_it_satisfies_the_protocol():
    assert isinstance(OldLayout(5), Importer)


def test_a_run_goes_on_from_it(toy, tmp_path, capsys):
    path, _ = old_file(toy, tmp_path, step=3)
    weights = toy.Weights(observes=None)
    settings = toy.config(epochs=2)
    made = toy.engine(
        tmp_path, settings=settings, resume=str(path), importers=[OldLayout(5)], weighting=weights
    )
    made._progress_mode = "plain"
    asked = made._task.asked
    made.fit(toy.train, toy.valid)
    assert (made.state.epoch, made.state.step) == (2, 10)
    assert len(asked) == 1 + 2 + 5  # the check, the rest of epoch 0, epoch 1
    out = capsys.readouterr().out
    assert "warning: " in out
    assert "inferred: step 3, from the file's name" in out
    assert "holds nothing for weighting, which start anew" in out
    assert "Resuming from epoch 1, step 3" in out


def test_nothing_is_lost_on_the_way(toy, tmp_path):
    source = toy.engine(tmp_path / "s", settings=toy.config(save_every=3, keep_last=None))
    source.fit(toy.train, toy.valid)
    settings = toy.config()
    state = source.run.checkpoints.load("step_3.pt")

    class Whole(OldLayout):
        def convert(self, found, *, file):
            imported = super().convert(found, file=file)
            return Imported(
                parts={**imported.parts, "weighting": found["weighting"]}, epoch=0, batch=3, step=3
            )

    content = {"model_state_dict": state["model"], "optimizer_state_dict": state["optimizer"]}
    save_checkpoint(tmp_path / "e/step_3.pt", {**content, "weighting": state["weighting"]})
    made = toy.engine(
        tmp_path, settings=settings, resume=str(tmp_path / "e/step_3.pt"), importers=[Whole(5)]
    )
    made.fit(toy.train, toy.valid)
    assert toy.same(dict(source.net.state_dict()), dict(made.net.state_dict()))


def test_the_same_command_again_takes_the_runs_own_checkpoints(toy, tmp_path):
    path, _ = old_file(toy, tmp_path, step=3)
    options = {"resume": str(path), "importers": [OldLayout(5)], "settings": toy.config()}
    made = toy.engine(tmp_path, **options)
    made.fit(toy.train, toy.valid)
    path.unlink()
    path.write_bytes(b"gone")
    again = toy.engine(tmp_path, **options)
    assert again.fit(toy.train, toy.valid).steps == 10


def test_its_configuration_is_compared(toy, tmp_path):
    path, _ = old_file(toy, tmp_path, step=3)
    other = {"train": toy.config(learning_rate=0.7).model_dump(mode="json")}
    made = toy.engine(tmp_path, resume=str(path), importers=[OldLayout(5, config=other)])
    with pytest.raises(
        InputError, match=r"train\.learning_rate: the run has 0\.7, asked for 0\.05"
    ):
        made.fit(toy.train, toy.valid)


def test_an_unknown_layout_is_named(toy, tmp_path):
    save_checkpoint(tmp_path / "e/a.pt", {"net": {"w": torch.ones(1)}})
    for importers in ((), (OldLayout(5),)):
        made = toy.engine(tmp_path, resume=str(tmp_path / "e/a.pt"), importers=importers)
        with pytest.raises(CheckpointError, match=r"a\.pt: no checkpoint of the engine.*'net'"):
            made.fit(toy.train, toy.valid)
    assert load_checkpoint(tmp_path / "e/a.pt")


def test_weights_of_another_model_are_refused_with_a_table(toy, tmp_path):
    content = {"model_state_dict": {"first.weight": torch.ones(2, 2)}}
    save_checkpoint(tmp_path / "e/step_1.pt", content)
    made = toy.engine(tmp_path, resume=str(tmp_path / "e/step_1.pt"), importers=[OldLayout(5)])
    with pytest.raises(CheckpointError, match=r"first\.weight: found \(2, 2\), expected \(4, 3\)"):
        made.fit(toy.train, toy.valid)


def test_an_importer_without_a_model_is_told(toy, tmp_path):
    class Empty(OldLayout):
        def convert(self, state, *, file):
            return Imported(parts={}, epoch=0, step=0)

    save_checkpoint(tmp_path / "e/step_1.pt", {"model_state_dict": {}})
    made = toy.engine(tmp_path, resume=str(tmp_path / "e/step_1.pt"), importers=[Empty(5)])
    with pytest.raises(CheckpointError, match="the importer found no model"):
        made.fit(toy.train, toy.valid)
