"""Steps whose verdict stays on the device: the same run, read at the log's lines alone.

The mode is CUDA's; here it is forced on the CPU, whose fused AdamW skips by itself as well.
"""

import math
import signal

import pytest
import torch
from nops_train import Diverged, Interrupted, RunFolder, load_checkpoint, read_events
from nops_train._errors import PeersLost
from torch.utils._python_dispatch import TorchDispatchMode

NOW, LATER = False, True
SATURATED = 0.05  # below the first values of the average's own warm-up, which counts updates


def fused(net):
    return torch.optim.AdamW(net.parameters(), lr=0.05, fused=True)


def make(toy, root, *, waits, name="run", **options):
    """An engine whose steps wait, or one that is equal but for that."""
    options.setdefault("weighting", toy.Weights(observes="epoch"))
    settings = toy.config(**options.pop("changes", {}))
    made = toy.engine(root, name=name, settings=settings, optimizer=fused, **options)
    made._stepper._waits = waits
    return made


def spoiled(toy, bad):
    def act(epoch, index, batch):
        return {**batch, "x": batch["x"] * math.nan} if (epoch, index) in bad else batch

    return toy.Spoiled(toy.train, act)


def of_kind(made, kind):
    return [event for event in read_events(made.run.path) if event["event"] == kind]


@pytest.mark.parametrize("observes", [None, "epoch", "validation"])
@pytest.mark.parametrize("log_every", [1, 3, 50])
def test_without_faults_both_modes_are_the_same_run(toy, tmp_path, log_every, observes):
    changes = {"log_every": log_every, "save_every": 4, "ema_decay": 0.9, "accumulate": 2}

    def run(name, waits):
        made = make(
            toy,
            tmp_path / name,
            waits=waits,
            changes={**changes, "gradient_norm_per_term": True},
            weighting=toy.Weights(observes=observes),
            learning_rate=lambda epoch, step: 0.05 / (1 + step),
        )
        made.fit(toy.train, toy.valid)
        return made

    now, later = run("now", NOW), run("later", LATER)
    assert toy.same(toy.outcome(now), toy.outcome(later))
    names = [{p.name for p in made.run.checkpoints.path.glob("*.pt")} for made in (now, later)]
    assert names[0] == names[1] >= {"step_4.pt", "step_8.pt"}


@pytest.mark.parametrize("log_every", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "bad",
    [
        {(0, 0)},  # the moments are made by a step that is skipped
        {(0, 2)},
        {(0, 4), (1, 0)},
        {(0, 1), (0, 2), (1, 3), (1, 4)},
        {(1, index) for index in range(5)},
    ],
)
def test_with_faults_too_where_nothing_follows_the_step(toy, tmp_path, bad, log_every):
    def run(name, waits):
        changes = {"log_every": log_every, "save_every": 3, "ema_decay": SATURATED}
        made = make(toy, tmp_path / name, waits=waits, changes=changes)
        made.fit(spoiled(toy, bad), toy.valid)
        return made

    now, later = run("now", NOW), run("later", LATER)
    assert later.state.skipped == len(bad)
    assert later.state.step == 10 - len(bad)
    assert toy.same(toy.outcome(now), toy.outcome(later))
    steps = [event["step"] for event in of_kind(later, "train")]
    assert steps == [step for step in range(10 - len(bad)) if step % log_every == 0]


class Faults:
    """Poisons the next step in one of several ways."""

    def __init__(self, model):
        self.model, self.kind = model, None

    def losses(self, batch, **position):
        pred = self.model(batch["x"])
        fit, size = (pred - batch["y"]).square().mean(), pred.square().mean()
        if self.kind == "value":
            size = size / 0.0
        if self.kind == "gradient":
            fit = fit + (self.model.norm.weight * 0.0).sum().sqrt()
        if self.kind == "norm":
            fit = fit + self.model.last.weight.sum() * 1e30
        return {"fit": fit, "size": size}

    def metrics(self, batch):
        return {"error": (self.model(batch["x"]) - batch["y"]).square().mean()}


def everything(made):
    """Copies of all that a step changes."""
    average = made._stepper.average
    return {
        "model": {k: v.clone() for k, v in made.net.state_dict().items()},
        "moments": [
            {k: v.clone() for k, v in state.items()} for state in made._optimizer.state.values()
        ],
        "average": {k: v.clone() for k, v in average.average.items()},
    }


@pytest.mark.parametrize(
    ("kind", "terms", "reason"),
    [
        ("input", ["fit", "size"], "fit, size is not finite"),
        ("value", ["size"], "size is not finite"),
        ("gradient", [], "a gradient is not finite, or the gradient's norm overflows"),
        ("norm", [], "a gradient is not finite, or the gradient's norm overflows"),
    ],
)
def test_a_skipped_step_changes_nothing(toy, tmp_path, kind, terms, reason):
    changes = {"log_every": 4, "ema_decay": 0.9, "epochs": 1}
    made = make(toy, tmp_path, waits=LATER, changes=changes, task=Faults)
    made.fit(toy.train)
    made._progress.step = lambda **position: None
    before, updates = everything(made), made._stepper.average.num_updates
    assert (made.state.step, updates) == (5, 5)
    (batch,) = toy.batches(1)
    made._task.kind = kind
    made._train_step({**batch, "x": batch["x"] * math.nan} if kind == "input" else batch, 4)
    assert toy.same(before, everything(made))
    assert (made.state.batch, made._ledger.batch) == (0, 1)  # nobody knows yet
    made._task.kind = None
    made._train_step(batch, 4)
    assert not toy.same(before, everything(made))
    assert (made.state.skipped, made._ledger.step) == (0, 7)
    made._settle()
    made.run.events.close()
    state = made.state
    assert (state.skipped, state.bad_in_row, state.batch, state.step) == (1, 0, 2, 6)
    assert made._ledger.step == made._stepper.average.num_updates == 6
    (event,) = of_kind(made, "skipped")
    assert (event["epoch"], event["batch"], event["step"]) == (1, 0, 5)
    assert (event["terms"], event["parameter"], event["reason"]) == (terms, None, reason)
    assert (event["scale"], event["in_row"]) == (False, 1)


def test_until_it_is_read_a_skipped_step_counts(toy, tmp_path):
    asked = []

    def rate(epoch, step):
        asked.append(step)
        return 0.05

    made = make(toy, tmp_path, waits=LATER, changes={"log_every": 4}, learning_rate=rate)
    made.fit(spoiled(toy, {(0, 1)}), toy.valid)
    # The step of batch 1 counts until the verdicts are read, with what would be the line of step 4.
    assert asked == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("log_every", [1, 4, 50])
def test_many_in_a_row_stop_the_run(toy, tmp_path, log_every):
    changes = {"max_skipped_in_row": 3, "log_every": log_every}
    made = make(toy, tmp_path, waits=LATER, changes=changes)
    with pytest.raises(Diverged, match="3 non-finite steps in a row"):
        made.fit(spoiled(toy, {(1, 0), (1, 1), (1, 2)}), toy.valid)
    assert [(e["batch"], e["in_row"]) for e in of_kind(made, "skipped")] == [(0, 1), (1, 2), (2, 3)]
    summary = RunFolder.at(made.run.path).summary()
    assert (summary["status"], summary["steps"]) == ("diverged", 5)
    # Steps after the streak are in the weights, not in the state: nothing is saved of it.
    assert made.run.checkpoints.newest().name == "epoch_1.pt"
    again = make(toy, tmp_path, waits=LATER, changes=changes)
    assert again.fit(toy.train, toy.valid).steps == 10


def strike(cut, act, *, first_reads=2):
    """Calls `act` when a batch is read for training; the start-up check reads the first once more."""
    reads = {(0, 0): first_reads}

    def watch(epoch, index, batch):
        left = reads[epoch, index] = reads.get((epoch, index), 1) - 1
        if (epoch, index) == cut and left == 0:
            act()
        return batch

    return watch


def terminate():
    signal.raise_signal(signal.SIGTERM)


def break_down():
    raise OSError("the disk is gone")


@pytest.mark.parametrize(("act", "raised"), [(terminate, Interrupted), (break_down, OSError)])
def test_stopped_after_any_batch_it_goes_on_exactly(toy, tmp_path, act, raised):
    changes = {"log_every": 3, "save_every": 4, "ema_decay": SATURATED}
    bad = {(0, 3), (1, 1)}

    def run(root, watch=None):
        source = spoiled(toy, bad)
        made = make(toy, root, waits=LATER, changes=changes)
        made.fit(toy.Spoiled(source, watch) if watch else source, toy.valid)
        return toy.outcome(made)

    whole = run(tmp_path / "whole")
    for cut in [(0, 0), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 3)]:
        with pytest.raises(raised):
            run(tmp_path / f"{cut}", strike(cut, act))
        folder = tmp_path / f"{cut}/toy/run/checkpoints"
        batch = cut[1] + (act is terminate)  # a signal lets the step in hand be made
        if batch:  # else the checkpoint is that of the epoch before, or there is none
            position = load_checkpoint(folder)["position"]
            assert (position["epoch"], position["batch"]) == (cut[0], batch)
        assert toy.same(whole, run(tmp_path / f"{cut}")), cut


def test_a_run_that_diverged_is_not_taken_for_one_that_was_stopped(toy, tmp_path):
    source = toy.Spoiled(spoiled(toy, {(0, 1), (0, 2)}), strike((0, 2), terminate))
    made = make(toy, tmp_path, waits=LATER, changes={"max_skipped_in_row": 2, "log_every": 50})
    with pytest.raises(Diverged):
        made.fit(source, toy.valid)
    assert made.run.checkpoints.newest() is None


def test_what_failed_first_is_told(toy, tmp_path):
    source = toy.Spoiled(spoiled(toy, {(0, 1), (0, 2)}), strike((0, 3), break_down))
    made = make(toy, tmp_path, waits=LATER, changes={"max_skipped_in_row": 2, "log_every": 50})
    with pytest.raises(OSError, match="the disk is gone"):
        made.fit(source, toy.valid)
    assert len(of_kind(made, "skipped")) == 2
    assert made.run.checkpoints.newest() is None  # the state lacks what the weights have


@pytest.mark.parametrize(("log_every", "saved"), [(1, "step_3.pt"), (50, None)])
def test_what_other_ranks_took_with_them_is_not_waited_for(
    toy, tmp_path, monkeypatch, log_every, saved
):
    def lose():
        raise PeersLost("lost the other ranks")

    made = make(toy, tmp_path, waits=LATER, changes={"log_every": log_every})
    judged = []
    judge = made._stepper.judge
    monkeypatch.setattr(made._stepper, "judge", lambda *step: judged.append(1) or judge(*step))
    with pytest.raises(PeersLost):
        made.fit(toy.Spoiled(toy.train, strike((0, 3), lose)), toy.valid)
    found = made.run.checkpoints.newest()
    assert (found and found.name) == saved
    assert len(judged) == (3 if saved else 1)  # the line of step 0


class Reads(TorchDispatchMode):
    """Counts values that are read to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.equal,
            torch.ops.aten.is_nonzero,
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("waits", [NOW, LATER])
def test_between_the_lines_of_the_log_nothing_is_read(toy, tmp_path, monkeypatch, waits):
    reads, lists, seen = Reads(), [], []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: lists.append(t.shape) or tolist(t))
    changes = {"log_every": 5, "ema_decay": 0.9, "accumulate": 2}
    made = make(toy, tmp_path, waits=waits, changes=changes, model={"dropout": 0.0})
    step = made._train_step

    def watched(batch, samples):
        before = reads.count, len(lists)
        with reads:
            step(batch, samples)
        seen.append((reads.count - before[0], len(lists) - before[1]))

    made._train_step = watched
    made.fit(spoiled(toy, {(0, 2)}), toy.valid)
    if waits:
        # The lines of steps 0 and 5, which are batches 0 and 6: batch 2 is skipped.
        assert seen == [(0, 1)] + [(0, 0)] * 4 + [(0, 0), (0, 1)] + [(0, 0)] * 3
    else:
        assert [lists for _, lists in seen] == [1] * 10


class Stages:
    """A member of a composite that takes part in each step it is in charge of."""

    def __init__(self):
        self.calls = []

    def apply_update(self):
        self.calls.append("apply")

    def discard_update(self):
        self.calls.append("discard")


def test_a_step_in_which_the_weighting_takes_part_does_not_wait(toy, tmp_path):
    member = Stages()

    class Composite(toy.Weights):
        step = 0

        def active(self, *, epoch, step):
            self.step = step
            return super().active(epoch=epoch, step=step)

        @property
        def active_weighting(self):
            return member if self.step % 3 == 2 else None

    def run(name, waits):
        member.calls.clear()
        made = make(
            toy,
            tmp_path / name,
            waits=waits,
            changes={"log_every": 50},
            weighting=Composite(observes="epoch"),
        )
        made.fit(spoiled(toy, {(0, 2), (1, 3)}), toy.valid)
        return toy.outcome(made), list(member.calls)

    now, later = run("now", NOW), run("later", LATER)
    assert toy.same(now[0]["state"], later[0]["state"])
    assert "discard" in later[1]
    assert "apply" in later[1]


def test_a_weighting_that_observes_steps_is_shown_each_at_once(toy, tmp_path):
    def run(name, waits):
        made = make(toy, tmp_path / name, waits=waits, weighting=toy.Weights(observes="step"))
        made.fit(spoiled(toy, {(0, 2)}), toy.valid)
        assert made._ledger.batch == 0
        return toy.outcome(made)

    assert toy.same(run("now", NOW), run("later", LATER))


def test_an_older_run_goes_on_with_steps_that_wait(toy, tmp_path):
    stop = toy.Spoiled(toy.train, strike((1, 1), terminate))
    first = toy.engine(tmp_path, weighting=toy.Weights(observes="epoch"))  # AdamW, not fused
    with pytest.raises(Interrupted):
        first.fit(stop, toy.valid)
    again = make(toy, tmp_path, waits=LATER)
    assert again.fit(toy.train, toy.valid).steps == 10
