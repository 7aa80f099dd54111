"""A non-finite step changes nothing but a counter; too many of them stop the run."""

import math

import pytest
import torch
from nops_train import Diverged, RunFolder, read_events


def skips(made):
    return [event for event in read_events(made.run.path) if event["event"] == "skipped"]


def spoiled(toy, bad, source=None):
    """The source with NaN inputs at the batches that `bad(epoch, index)` selects."""

    def act(epoch, index, batch):
        return {**batch, "x": batch["x"] * math.nan} if bad(epoch, index) else batch

    return toy.Spoiled(source or toy.train, act)


def snapshot(made):
    """Everything but the counters."""
    parts = made._parts()
    state = {name: part.state_dict() for name, part in parts.items() if part is not None}
    copy = {k: v.clone() for k, v in state["model"].items()}
    return {**state, "model": copy, "step": made.state.step, "seen": len(made._weighting.seen)}


def test_a_skipped_step_changes_nothing(toy, tmp_path):
    made = toy.engine(
        tmp_path,
        settings=toy.config(ema_decay=0.9, log_every=1, epochs=1),
        model={"codebook": True},
        learning_rate=lambda epoch, step: 0.1 / (1 + step),
    )
    made.fit(toy.train)
    before = snapshot(made)
    assert before["step"] == 5
    (good,) = toy.batches(1)
    bad = {**good, "x": good["x"] * math.nan}
    made._progress.step = lambda **position: None
    made._train_step(bad, len(bad["x"]))
    made.run.events.close()
    after = snapshot(made)
    assert toy.same(before, after)
    assert (made.state.skipped, made.state.bad_in_row, made.state.batch) == (1, 1, 1)
    assert made.net.norm.num_batches_tracked == 5
    assert all(p.grad is None for p in made.net.parameters())
    assert made.net.codebook.calls[-1] == "discard"
    (event,) = skips(made)
    assert event["terms"] == ["fit", "size"]
    assert event["raw"]["fit"] != event["raw"]["fit"]  # NaN, and valid JSON in the file
    assert "fit, size is not finite" in event["reason"]


def test_the_steps_after_a_skipped_one_are_those_without_it(toy, tmp_path):
    """With draws that depend on the position alone, a skipped batch is as if it had been left out."""

    class Without:
        num_batches = 4

        def batches(self, *, epoch, skip):
            kept = [b for i, b in enumerate(toy.train.batches(epoch=epoch)) if i != 4]
            return iter(kept[skip:])

    made = toy.engine_run(
        tmp_path / "a", toy.config(epochs=1), train=spoiled(toy, lambda e, i: i == 4)
    )
    other = toy.engine_run(tmp_path / "b", toy.config(epochs=1), train=Without())
    assert made.state.step == other.state.step == 4
    assert toy.same(made.net.state_dict(), other.net.state_dict())


def test_a_single_bad_term_is_named(toy, tmp_path):
    class Bad(toy.Task):
        def losses(self, batch, **position):
            terms = super().losses(batch, **position)
            if position["step"] == 2 and not made.state.skipped:
                terms["size"] = terms["size"] / 0.0
            return terms

    made = toy.engine(tmp_path, task=Bad, settings=toy.config(epochs=1))
    made.fit(toy.train)
    (event,) = skips(made)
    assert event["terms"] == ["size"]
    assert event["parameter"] is None
    assert (event["epoch"], event["step"], event["batch"]) == (0, 2, 2)
    assert event["raw"]["size"] == math.inf


def test_a_gradient_alone_names_its_first_parameter(toy, tmp_path):
    class Bad(toy.Task):
        def losses(self, batch, **position):
            terms = super().losses(batch, **position)
            if position["step"] == 1 and not made.state.skipped:
                # sqrt at 0: the value is finite, its gradient is not
                root = (self.model.norm.weight * 0.0).sum().sqrt()
                terms["fit"] = terms["fit"] + root
            return terms

    made = toy.engine(tmp_path, task=Bad, settings=toy.config(epochs=1))
    made.fit(toy.train)
    (event,) = skips(made)
    assert event["terms"] == []
    assert event["parameter"] == "norm.weight"
    assert event["reason"] == "the gradient of norm.weight is not finite"
    assert event["gradient_norm"] != event["gradient_norm"]


def test_a_norm_that_overflows_is_told_apart(toy, tmp_path):
    class Huge(toy.Task):
        def losses(self, batch, **position):
            terms = super().losses(batch, **position)
            if position["step"] == 1 and not made.state.skipped:
                terms["fit"] = terms["fit"] + self.model.last.weight.sum() * 1e30
            return terms

    made = toy.engine(tmp_path, task=Huge, settings=toy.config(epochs=1))
    made.fit(toy.train)
    (event,) = skips(made)
    assert event["reason"] == "the gradient's norm overflows"
    assert event["gradient_norm"] == math.inf


def test_a_weight_that_is_not_finite_is_named(toy, tmp_path):
    class Breaks(toy.Weights):
        def weights(self, *, epoch, step):
            bad = step == 1 and not made.state.skipped
            return {"fit": 1.0, "size": math.nan if bad else 0.1}

    made = toy.engine(tmp_path, weighting=Breaks(), settings=toy.config(epochs=1))
    made.fit(toy.train)
    assert [event["terms"] for event in skips(made)] == [["size"]]


@pytest.mark.parametrize("streak", [2, 3, 4])
def test_streaks_below_at_and_beyond_the_limit(toy, tmp_path, streak):
    settings = toy.config(max_skipped_in_row=3, epochs=2)
    made = toy.engine(tmp_path, settings=settings)
    source = spoiled(toy, lambda e, i: e == 1 and i < streak)
    if streak < 3:
        result = made.fit(source, toy.valid)
        assert (result.skipped, result.steps) == (2, 8)
        assert made.state.bad_in_row == 0
        return
    with pytest.raises(Diverged) as stop:
        made.fit(source, toy.valid)
    assert stop.value.exit_code == 3
    assert "3 non-finite steps in a row" in str(stop.value)
    assert "lower learning rate" in str(stop.value)
    assert len(skips(made)) == 3
    summary = RunFolder.at(made.run.path).summary()
    assert (summary["status"], summary["steps"]) == ("diverged", 5)


def test_a_streak_goes_on_over_an_epoch_and_over_a_resume(toy, tmp_path):
    settings = toy.config(max_skipped_in_row=4)
    source = spoiled(toy, lambda e, i: (e, i) in {(0, 3), (0, 4), (1, 0), (1, 1)})
    with pytest.raises(Diverged):
        toy.engine(tmp_path, settings=settings).fit(source, toy.valid)
    again = toy.engine(tmp_path, settings=settings)
    with pytest.raises(Diverged):  # from epoch_1.pt, whose streak is 2
        again.fit(source, toy.valid)
    assert len(skips(again)) == 4
    mended = toy.engine(tmp_path, settings=settings)
    assert mended.fit(toy.train, toy.valid).status == "completed"


def test_more_than_a_tenth_of_an_epoch_stops(toy, tmp_path):
    from nops_train import ListSource

    source = ListSource(toy.batches(40), shuffle=False)
    settings = toy.config(max_skipped_in_row=2, epochs=1)

    def fit(name, bad):
        return toy.engine(tmp_path, name=name, settings=settings).fit(
            spoiled(toy, bad, source), toy.valid
        )

    assert fit("four", lambda e, i: i in {0, 10, 20, 30}).skipped == 4
    with pytest.raises(Diverged, match="5 in epoch 0"):
        fit("five", lambda e, i: i in {0, 10, 20, 30, 35})


def test_a_tiny_epoch_is_not_stopped_by_its_share(toy, tmp_path):
    settings = toy.config(max_skipped_in_row=3, epochs=2)
    made = toy.engine(tmp_path, settings=settings)
    result = made.fit(spoiled(toy, lambda e, i: i in {0, 2, 4}), toy.valid)
    assert result.skipped == 6  # 60 % of each epoch, though never 3 in a row


def test_non_finite_first_batches_cannot_be_checked_for_inert_terms(toy, tmp_path):
    made = toy.engine(tmp_path, settings=toy.config(epochs=1))
    result = made.fit(spoiled(toy, lambda e, i: i < 3))
    assert result.skipped == 3
    epoch = next(e for e in read_events(made.run.path) if e["event"] == "epoch")
    assert (epoch["applied"], epoch["skipped"]) == (2, 3)
    notes = (made.run.path / "sessions.jsonl").read_text()
    assert "could not be checked" in notes


def test_a_nan_of_the_optimizer_is_out_of_the_rule_but_the_next_step_is_not(toy, tmp_path):
    """Parameters that became NaN otherwise give a NaN loss: skipped, and the run stops in time."""
    made = toy.engine(tmp_path, settings=toy.config(max_skipped_in_row=3))
    made._stepper._apply = lambda norm, rate: torch.nn.init.constant_(made.net.last.bias, math.nan)
    with pytest.raises(Diverged):
        made.fit(toy.train)


def test_an_epoch_without_a_step_has_no_means(toy, tmp_path):
    made = toy.engine(tmp_path, weighting=toy.Weights(observes="epoch"))
    made.fit(spoiled(toy, lambda e, i: e == 0), toy.valid)
    epoch = next(e for e in read_events(made.run.path) if e["event"] == "epoch")
    assert (epoch["raw"], epoch["applied"], epoch["skipped"]) == ({}, 0, 5)
    assert epoch["loss"] != epoch["loss"]
    assert [position for _, *position in made._weighting.seen] == [[1, 5, "train"]]
