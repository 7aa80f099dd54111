"""A run that was stopped anywhere ends like one that never stopped, bit for bit."""

import json
import signal

import pytest
import torch
from nops_train import (
    Config,
    InputError,
    Interrupted,
    ListSource,
    RunFolder,
    TrainConfig,
    load_checkpoint,
)

EPOCHS, BATCHES = 2, 5
CUTS = [(epoch, index) for epoch in range(EPOCHS) for index in range(BATCHES)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the engine handles it."""


def at(cut, act, *, first_reads=2):
    """A source's action that calls `act` when `cut` is read for training.

    The start-up check reads the first batch of epoch 0 once more.
    """
    reads = {(0, 0): first_reads}

    def watch(epoch, index, batch):
        left = reads[epoch, index] = reads.get((epoch, index), 1) - 1
        if (epoch, index) == cut and left == 0:
            act()
        return batch

    return watch


def terminate():
    signal.raise_signal(signal.SIGTERM)


def kill():
    raise Killed


def fail():
    raise RuntimeError("too large")


def spoil(batch):
    return {**batch, "x": batch["x"] * float("nan")}


EVERYTHING = {"accumulate": 2, "ema_decay": 0.9, "save_every": 3}
VARIANTS = {
    "everything": (EVERYTHING, CUTS),
    "plain": ({}, CUTS[:1] + CUTS[6:7]),
    "bf16": ({"precision": "bf16"}, CUTS[4:6]),
    "few kept": ({"save_every": 2, "keep_last": 1}, CUTS[8:]),
}


def run_once(toy, root, settings, *, train=None, valid=None, codebook=False, **options):
    made = toy.engine(
        root,
        settings=settings,
        model={"codebook": codebook},
        stateful={"counter": toy.Counter()},
        learning_rate=lambda epoch, step: 0.05 / (1 + step),
        **options,
    )
    made.fit(train or toy.train, valid or toy.valid)
    return made


@pytest.mark.parametrize("variant", VARIANTS)
def test_sigterm_after_any_batch_changes_nothing(toy, tmp_path, variant):
    changes, cuts = VARIANTS[variant]
    settings = toy.config(**changes)
    whole = toy.outcome(run_once(toy, tmp_path / "whole", settings, codebook=True))
    for cut in cuts:
        root = tmp_path / f"{cut}"
        with pytest.raises(Interrupted) as stop:
            run_once(
                toy,
                root,
                settings,
                codebook=True,
                train=toy.Spoiled(toy.train, at(cut, terminate)),
            )
        assert stop.value.signal == signal.SIGTERM
        assert RunFolder.at(root / "toy/run").summary()["status"] == "interrupted"
        again = toy.outcome(run_once(toy, root, settings, codebook=True))
        assert toy.same(whole, again), cut


def test_a_kill_at_any_batch_changes_nothing(toy, tmp_path):
    settings = toy.config(save_every=3, log_every=1)
    whole = toy.outcome(run_once(toy, tmp_path / "whole", settings))
    for cut in CUTS:
        root = tmp_path / f"{cut}"
        with pytest.raises(Killed):
            run_once(toy, root, settings, train=toy.Spoiled(toy.train, at(cut, kill)))
        again = toy.outcome(run_once(toy, root, settings))
        assert toy.same(whole, again), cut


def test_a_stop_in_validation_repeats_the_validation(toy, tmp_path):
    settings = toy.config(ema_decay=0.5)
    whole = toy.outcome(run_once(toy, tmp_path / "whole", settings))
    for number, act in enumerate([terminate, kill]):
        for cut in [1, 2, 4]:
            reads = iter(range(100))

            def watch(epoch, index, batch, cut=cut, act=act, reads=reads):
                if next(reads) == cut:
                    act()
                return batch

            root = tmp_path / f"{number}-{cut}"
            with pytest.raises((Interrupted, Killed)):
                run_once(toy, root, settings, valid=toy.Spoiled(toy.valid, watch))
            assert toy.same(whole, toy.outcome(run_once(toy, root, settings))), (number, cut)


def test_a_stop_right_after_a_skipped_batch_changes_nothing(toy, tmp_path):
    settings = toy.config(save_every=1)
    bad = {(0, 2), (1, 0)}

    def spoiled(cut=None):
        stop = at(cut, terminate)

        def act(epoch, index, batch):
            batch = stop(epoch, index, batch)
            return spoil(batch) if (epoch, index) in bad else batch

        return toy.Spoiled(toy.train, act)

    whole = run_once(toy, tmp_path / "whole", settings, train=spoiled())
    assert whole.state.skipped == 2
    assert whole.state.step == EPOCHS * BATCHES - 2
    for cut in [(0, 1), (0, 2), (0, 3), (1, 0)]:
        root = tmp_path / f"{cut}"
        with pytest.raises(Interrupted):
            run_once(toy, root, settings, train=spoiled(cut))
        again = run_once(toy, root, settings, train=spoiled())
        assert toy.same(toy.outcome(whole), toy.outcome(again)), cut


@pytest.mark.parametrize("observes", ["step", "epoch", "validation"])
def test_the_weighting_goes_on(toy, tmp_path, observes):
    def run(root, train):
        return run_once(
            toy, root, toy.config(), train=train, weighting=toy.Weights(observes=observes)
        )

    whole = toy.outcome(run(tmp_path / "whole", toy.train))
    assert whole["state"]["weighting"]["memory"] != 1.0
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", toy.Spoiled(toy.train, at((1, 1), terminate)))
    assert toy.same(whole, toy.outcome(run(tmp_path / "cut", toy.train)))


def test_only_batches_not_yet_seen_are_read(toy, tmp_path):
    with pytest.raises(Interrupted):
        run_once(toy, tmp_path, toy.config(), train=toy.Spoiled(toy.train, at((1, 2), terminate)))
    reads = []

    def note(epoch, index, batch):
        reads.append((epoch, index))
        return batch

    run_once(toy, tmp_path, toy.config(), train=toy.Spoiled(toy.train, note))
    assert reads == [(0, 0), (1, 3), (1, 4)]  # the first one is the start-up check


def test_other_draws_disturb_nothing(toy, tmp_path):
    import random

    import numpy as np

    def noisy(epoch, index, batch):
        random.random(), np.random.rand(3), torch.rand(5)
        return batch

    quiet = toy.outcome(run_once(toy, tmp_path / "quiet", toy.config()))
    loud = run_once(
        toy,
        tmp_path / "loud",
        toy.config(),
        train=toy.Spoiled(toy.train, noisy),
        valid=toy.Spoiled(toy.valid, noisy),
    )
    assert toy.same(quiet["state"]["model"], toy.outcome(loud)["state"]["model"])


def test_a_completed_run_says_so_and_returns(toy, tmp_path, capsys):
    first = run_once(toy, tmp_path, toy.config())
    before = toy.outcome(first)
    second = toy.engine(
        tmp_path, learning_rate=lambda epoch, step: 1.0, stateful={"counter": toy.Counter()}
    )
    second._progress_mode = "plain"
    result = second.fit(toy.train, toy.valid)
    assert "All 2 epochs are done" in capsys.readouterr().out
    assert result.status == "completed"
    assert result.steps == EPOCHS * BATCHES
    assert toy.same(first.net.state_dict(), second.net.state_dict())
    assert toy.same(before, toy.outcome(second))


def test_resume_messages(toy, tmp_path, capsys):
    with pytest.raises(Interrupted):
        run_once(toy, tmp_path, toy.config(), train=toy.Spoiled(toy.train, at((1, 1), terminate)))
    made = toy.engine(
        tmp_path, learning_rate=lambda epoch, step: 0.1, stateful={"counter": toy.Counter()}
    )
    made._progress_mode = "plain"
    made.fit(toy.train, toy.valid)
    text = capsys.readouterr().out
    assert "Resuming from checkpoint: step_7.pt" in text
    assert "✓ Loaded model weights" in text
    assert "✓ Resuming from epoch 2, step 7" in text
    assert "(Will skip first 2 batches of epoch 2)" in text
    assert "✓ Best error so far: " in text


def test_another_configuration_stops_with_both_values(toy, tmp_path):
    toy.engine(tmp_path).fit(toy.train, toy.valid)
    changed = toy.config(epochs=3, grad_clip=None)
    with pytest.raises(InputError) as error:
        toy.engine(tmp_path, settings=changed)
    text = str(error.value)
    assert "train.epochs: the run has 2, asked for 3" in text
    assert "train.grad_clip: the run has 1.0, asked for None" in text
    assert "--resume force" in text
    assert "learning_rate" not in text


def test_force_goes_on_with_the_new_configuration(toy, tmp_path):
    toy.engine(tmp_path).fit(toy.train, toy.valid)
    forced = toy.engine(tmp_path, settings=toy.config(epochs=3), resume="force")
    assert forced.fit(toy.train, toy.valid).steps == 15
    assert RunFolder.at(tmp_path / "toy/run").config["train"]["epochs"] == 3
    assert toy.engine(tmp_path, settings=toy.config(epochs=3)).fit(toy.train, toy.valid).epochs == 3


def test_a_run_that_failed_in_its_first_step_takes_corrected_settings(toy, tmp_path):
    spoiled = toy.Spoiled(toy.train, at((0, 0), fail))
    with pytest.raises(RuntimeError, match="too large"):
        toy.engine(tmp_path).fit(spoiled, toy.valid)
    smaller = toy.config(epochs=1)
    assert toy.engine(tmp_path, settings=smaller).fit(toy.train, toy.valid).epochs == 1
    assert RunFolder.at(tmp_path / "toy/run").config["train"]["epochs"] == 1


class Older(Config):
    """The configuration of an app, before a key was added to it."""

    train: TrainConfig


class Newer(Older):
    """… and after."""

    sharpness: float = 0.0


@pytest.mark.parametrize("resume", ["auto", "step_7.pt"])
def test_a_run_older_than_a_key_goes_on_where_the_key_has_its_default(toy, tmp_path, resume):
    settings = toy.config()
    folder = tmp_path / "cut/toy/run"
    expected = toy.outcome(
        toy.engine_run(tmp_path / "whole", settings, whole=Newer(train=settings))
    )
    stopped = toy.Spoiled(toy.train, at((1, 1), terminate))
    with pytest.raises(Interrupted):
        toy.engine_run(tmp_path / "cut", settings, train=stopped, whole=Older(train=settings))
    if resume != "auto":
        resume = str(folder / "checkpoints" / resume)
    sharper = Newer(train=settings, sharpness=0.5)
    with pytest.raises(InputError, match=r"sharpness: the run has 0.0, asked for 0.5"):
        toy.engine(tmp_path / "cut", settings=settings, whole=sharper, resume=resume)
    newer = Newer(train=settings)
    made = toy.engine_run(tmp_path / "cut", settings, whole=newer, resume=resume)
    assert toy.same(toy.outcome(made), expected)
    assert RunFolder.at(folder).config["sharpness"] == 0.0


def test_a_checkpoint_older_than_a_key_is_not_of_a_run_with_another_value(toy, tmp_path):
    settings = toy.config()
    toy.engine_run(tmp_path, settings, whole=Older(train=settings))
    file = tmp_path / "toy/run/checkpoints/epoch_2.pt"
    options = {"name": "other", "resume": str(file)}
    sharper = Newer(train=settings, sharpness=0.5)
    with pytest.raises(InputError, match=r"epoch_2.pt: .*\n  sharpness: the run has 0.0, asked"):
        toy.engine_run(tmp_path, settings, whole=sharper, **options)


def test_other_data_stop_the_run(toy, tmp_path):
    toy.engine(tmp_path, fingerprint={"data": "abc"}).fit(toy.train, toy.valid)
    with pytest.raises(InputError, match=r"data are not those(.|\n)*data.data: the run has 'abc'"):
        toy.engine(tmp_path, fingerprint={"data": "abd"}).fit(toy.train, toy.valid)
    forced = toy.engine(tmp_path, fingerprint={"data": "abd"}, resume="force")
    assert forced.fit(toy.train, toy.valid).status == "completed"


def test_another_schema_stops_the_run_even_by_force(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("nops_train._engine_checkpoint.SCHEMA", 99)
    toy.engine(tmp_path).fit(toy.train, toy.valid)
    monkeypatch.undo()
    for resume in ("auto", "force"):
        with pytest.raises(InputError, match="schema version is 99, this version reads up to 1"):
            toy.engine(tmp_path, resume=resume).fit(toy.train, toy.valid)


def test_another_model_is_told_by_name_and_shape(toy, tmp_path):
    toy.engine(tmp_path, model={"norm": False}).fit(toy.train, toy.valid)
    with pytest.raises(InputError) as error:
        toy.engine(tmp_path, model={"norm": True}).fit(toy.train, toy.valid)
    assert "norm.weight: found nothing, expected (4,)" in str(error.value)


def test_never_starts_a_new_folder(toy, tmp_path):
    toy.engine(tmp_path).fit(toy.train, toy.valid)
    second = toy.engine(tmp_path, resume="never")
    third = toy.engine(tmp_path, resume="never")
    assert (second.run.name, third.run.name) == ("run-2", "run-3")
    assert second.fit(toy.train, toy.valid).steps == 10


def test_a_named_checkpoint_is_gone_on_from(toy, tmp_path):
    settings = toy.config(save_every=2, keep_last=None)
    whole = toy.outcome(toy.engine_run(tmp_path, settings))
    folder = tmp_path / "toy/run/checkpoints"
    with pytest.raises(Killed):  # ... and stays the branch to go on from until a newer one is saved
        toy.engine(tmp_path, settings=settings, resume=str(folder / "step_4.pt")).fit(
            toy.Spoiled(toy.train, at((0, 4), kill)), toy.valid
        )
    manifest = json.loads((folder / "manifest.json").read_text())["files"]
    assert manifest["epoch_2.pt"]["superseded"]
    assert not manifest["step_4.pt"]["superseded"]
    again = toy.outcome(toy.engine_run(tmp_path, settings))
    assert toy.same(whole, again)
    assert (
        load_checkpoint(folder / "best_model.pt")["train"]["best"]
        == whole["state"]["train"]["best"]
    )


def test_a_checkpoint_of_another_folder_starts_a_new_run(toy, tmp_path):
    settings = toy.config(save_every=2, keep_last=None)
    whole = toy.outcome(toy.engine_run(tmp_path, settings))
    file = tmp_path / "toy/run/checkpoints/step_4.pt"
    other = toy.engine(tmp_path, settings=settings, name="other", resume=str(file))
    other.fit(toy.train, toy.valid)
    assert toy.same(whole["state"]["model"], toy.outcome(other)["state"]["model"])
    repeated = toy.engine(tmp_path, settings=settings, name="other", resume=str(file))
    assert repeated.fit(toy.train, toy.valid).status == "completed"  # goes on from its own
    assert [e["epoch"] for e in toy.outcome(repeated)["events"] if e["event"] == "epoch"] == [0, 1]


def test_a_resume_that_names_nothing_is_an_error(toy, tmp_path):
    with pytest.raises(InputError, match=r"--resume atuo: neither auto, never, force nor"):
        toy.engine(tmp_path, resume="atuo")


def test_best_is_mended_after_a_crash_between_two_files(toy, tmp_path, monkeypatch):
    whole = toy.outcome(toy.engine_run(tmp_path / "whole", toy.config()))

    def crash(self, name):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("nops_train._checkpoint_folder.CheckpointFolder.mark_best", crash)
        with pytest.raises(Killed):
            toy.engine_run(tmp_path / "cut", toy.config())
    folder = tmp_path / "cut/toy/run/checkpoints"
    assert not (folder / "best_model.pt").exists()
    with pytest.raises(Killed):  # mended on resuming, before any further validation
        toy.engine(tmp_path / "cut").fit(toy.Spoiled(toy.train, at((1, 0), kill)), toy.valid)
    assert load_checkpoint(folder / "best_model.pt")["position"]["epoch"] == 1
    assert toy.same(whole, toy.outcome(toy.engine_run(tmp_path / "cut", toy.config())))


def test_two_processes_cannot_train_in_one_folder(toy, tmp_path):
    def second(epoch, index, batch):
        with pytest.raises(InputError, match="is training in this folder"):
            toy.engine(tmp_path).fit(toy.train, toy.valid)
        return batch

    toy.engine(tmp_path).fit(toy.Spoiled(toy.train, second), toy.valid)


def test_a_worker_that_raises_leaves_a_checkpoint(toy, tmp_path):
    def broken():
        raise RuntimeError("worker died")

    whole = toy.outcome(toy.engine_run(tmp_path / "whole", toy.config()))
    with pytest.raises(RuntimeError, match="worker died"):
        toy.engine(tmp_path).fit(toy.Spoiled(toy.train, at((1, 3), broken)), toy.valid)
    run = RunFolder.at(tmp_path / "toy/run")
    assert run.summary()["status"] == "failed"
    assert "worker died" in run.summary()["message"]
    found = run.checkpoints.newest()
    assert found is not None
    assert found.name == "step_8.pt"
    assert toy.same(whole, toy.outcome(toy.engine_run(tmp_path, toy.config())))


def test_an_error_inside_a_step_leaves_the_state_before_it(toy, tmp_path):
    class Breaks(toy.Task):
        calls = 0

        def losses(self, batch, **position):
            terms = super().losses(batch, **position)  # moves the running statistics
            Breaks.calls += 1
            if Breaks.calls == 8:
                raise MemoryError("no room")
            return terms

    whole = toy.outcome(toy.engine_run(tmp_path / "whole", toy.config(accumulate=2)))
    with pytest.raises(MemoryError):
        toy.engine(tmp_path, settings=toy.config(accumulate=2), task=Breaks).fit(
            toy.train, toy.valid
        )
    again = toy.outcome(toy.engine_run(tmp_path, toy.config(accumulate=2)))
    assert toy.same(whole, again)


def test_foreign_loaders_go_on_too(toy, tmp_path):
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.randn(20, 3), torch.randn(20, 1))

    def source():
        loader = DataLoader(data, batch_size=4, shuffle=True, collate_fn=collate)
        return ListSource(loader, seed=3)

    def collate(items):
        x, y = zip(*items, strict=True)
        return {"x": torch.stack(x), "y": torch.stack(y)}

    whole = toy.outcome(toy.engine_run(tmp_path / "whole", toy.config(), train=source()))
    with pytest.raises(Interrupted):
        toy.engine(tmp_path).fit(toy.Spoiled(source(), at((1, 2), terminate)), toy.valid)
    assert toy.same(whole, toy.outcome(toy.engine_run(tmp_path, toy.config(), train=source())))
