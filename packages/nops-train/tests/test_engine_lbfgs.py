"""A run that L-BFGS ends: its steps are torch's, are kept whole or undone, and go on exactly."""

import math

import pytest
import torch
from nops_train import InputError, ListSource, TrainConfig, load_checkpoint, read_events

EPOCHS = 6
STILL = {"norm": False, "dropout": 0.0}


def one_batch(toy):
    return ListSource(toy.batches(1))


def run(toy, root, *, epochs=EPOCHS, first=3, train=None, name="run", weights=None, **options):
    """A run of one batch per epoch, whose last steps are of L-BFGS."""
    settings = {"epochs": epochs, "lbfgs_from": first, "log_every": 1, "ema_decay": 0.9}
    weighting = weights or toy.Weights()
    settings = toy.config(**{**settings, **options.pop("settings", {})})
    made = toy.engine(
        root, name=name, settings=settings, weighting=weighting, whole={"same": 1}, **options
    )
    made.fit(train or one_batch(toy), toy.valid)
    return made


def test_its_steps_are_those_of_torch(toy, tmp_path):
    def sgd(net):
        return torch.optim.SGD(net.parameters(), lr=0.1)

    constant = toy.Weights(observes=None)
    settings = {"grad_clip": None, "learning_rate": 0.1}
    made = run(toy, tmp_path, model=STILL, optimizer=sgd, weights=constant, settings=settings)
    torch.manual_seed(0)
    net = toy.Model(**STILL)
    (batch,) = toy.batches(1)
    first = sgd(net)
    options = {"max_iter": 20, "history_size": 10, "tolerance_grad": 0, "tolerance_change": 0}
    second = torch.optim.LBFGS(net.parameters(), line_search_fn="strong_wolfe", **options)

    def closure():
        net.zero_grad()
        pred = net(batch["x"])
        loss = (pred - batch["y"]).square().mean() + 0.1 * pred.square().mean()
        loss.backward()
        return loss

    losses = []
    for step in range(EPOCHS):
        losses.append(closure().item())
        first.step() if step < 3 else second.step(closure)
    for found, expected in zip(made.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    lines = [e for e in read_events(made.run.path) if e["event"] == "train"]
    assert [e["loss"] for e in lines] == pytest.approx(losses, rel=1e-3)
    assert [e["learning_rate"] for e in lines] == [0.1] * 3 + [1.0] * 3


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_run_goes_on_exactly_across_the_switch(toy, tmp_path, cut):
    whole = run(toy, tmp_path, name="whole")
    run(toy, tmp_path, epochs=cut, name="cut")
    again = run(toy, tmp_path, name="cut")
    states = [load_checkpoint(made.run.path / "checkpoints") for made in (whole, again)]
    states = [toy.timeless({k: s[k] for k in ("model", "ema", "lbfgs", "train")}) for s in states]
    assert toy.same(*states)
    assert states[0]["lbfgs"]["state"][0]["n_iter"] > 20


def test_a_run_that_began_without_it_may_end_with_it(toy, tmp_path):
    run(toy, tmp_path, epochs=3, first=None)
    assert run(toy, tmp_path).state.step == EPOCHS


class Drawing:
    """Notes a draw, and whether gradients of single terms are measured, at each evaluation."""

    def __init__(self, toy, net):
        self.task, self.draws = toy.Task(net), {}

    def losses(self, batch, *, epoch, step, active):
        self.draws.setdefault(step, []).append(torch.rand(()).item())
        return self.task.losses(batch, epoch=epoch, step=step, active=active)

    def metrics(self, batch):
        return self.task.metrics(batch)


def test_what_is_random_is_drawn_alike_within_a_step(toy, tmp_path):
    made = run(toy, tmp_path, task=lambda net: Drawing(toy, net))
    draws = made._task.draws
    assert len(draws[2]) == 1
    assert all(len(draws[step]) > 3 and len(set(draws[step])) == 1 for step in (3, 4, 5))
    assert len({draws[step][0] for step in (2, 3, 4, 5)}) == 4


def test_deferred_updates_and_buffers_are_those_of_the_parameters_kept(toy, tmp_path):
    made = run(toy, tmp_path, model={"codebook": True}, settings={"gradient_norm_per_term": True})
    book = made.net.codebook
    assert book.calls.count("apply") == book.count == EPOCHS
    assert book.calls.count("discard") > 9
    assert made.net.norm.num_batches_tracked == EPOCHS
    lines = [e for e in read_events(made.run.path) if e["event"] == "train"]
    assert all(e["gradient_norm_by_term"].keys() == {"fit", "size"} for e in lines)


def test_a_step_that_is_not_finite_changes_nothing(toy, tmp_path):
    def spoil(epoch, index, batch):
        return {**batch, "x": batch["x"] * math.nan} if epoch == 4 else batch

    good = one_batch(toy)
    skipped = run(toy, tmp_path, name="bad", train=toy.Spoiled(good, spoil), model=STILL)
    never = run(toy, tmp_path, name="good", epochs=EPOCHS - 1, model=STILL)
    assert skipped.state.skipped == 1
    states = [load_checkpoint(made.run.path / "checkpoints") for made in (skipped, never)]
    for key in ("model", "lbfgs", "ema"):
        assert toy.same(states[0][key], states[1][key]), key
    assert [e["terms"] for e in read_events(skipped.run.path) if e["event"] == "skipped"] == [
        ["fit", "size"]
    ]


class Walled:
    """Four parabolas, 0.05 from where they start, whose loss is no number beyond 0.1."""

    def __init__(self, net):
        self.net, self.start, self.walls = net, net.last.weight.detach().clone(), 0

    def losses(self, batch, *, epoch, step, active):
        weight = self.net.last.weight
        outside = bool(((weight - self.start).abs() > 0.1).any())
        self.walls += outside
        fit = 20 * (weight - self.start - 0.05).square().mean()
        return {"fit": fit * (math.nan if outside else 1.0), "size": 0.0 * weight.sum()}

    def metrics(self, batch):
        return {"error": (self.net.last.weight - self.start - 0.05).square().mean()}


def test_a_search_turns_back_from_where_the_loss_is_no_number(toy, tmp_path):
    weights = toy.Weights(observes=None, size=0.0)
    options = {"task": Walled, "weights": weights, "settings": {"ema_decay": None}}
    made = run(toy, tmp_path, first=0, epochs=2, **options)
    assert made._task.walls > 0  # the first trial is half the gradient of 0.5
    assert made.state.skipped == 0
    assert made.state.metrics["error"] < 1e-8


class Joining:
    """What the engine sees of an aggregator."""

    observes = None
    terms = {"fit": 1.0, "size": 1.0}  # noqa: RUF012

    def accumulate(self, losses, params):
        raise AssertionError("refused before")

    def active(self, *, epoch, step):
        return frozenset(self.terms)


class Measuring(Joining):
    """What it sees of a weighting from gradients."""

    accumulate = property()

    def balance(self, losses, params, *, epoch, step):
        raise AssertionError("refused before")


@pytest.mark.parametrize(("owner", "word"), [(Joining(), "joins"), (Measuring(), "measures")])
def test_a_weighting_from_gradients_is_refused_by_name(toy, tmp_path, owner, word):
    name = type(owner).__name__
    with pytest.raises(InputError, match=rf"train.lbfgs_from: {name} {word} the gradients"):
        run(toy, tmp_path, weights=owner)


def test_one_that_takes_over_unforeseen_is_refused_when_it_does(toy, tmp_path):
    class Composite(toy.Weights):
        active_weighting = None

        def active(self, *, epoch, step):
            self.active_weighting = Joining() if step == 4 else None
            return super().active(epoch=epoch, step=step)

        def scheme_at(self, step):
            return None

    with pytest.raises(InputError, match="Joining joins the gradients"):
        run(toy, tmp_path, weights=Composite())


def test_what_does_not_go_with_it(toy, tmp_path):
    with pytest.raises(InputError, match=r"train\.lbfgs_from for the end of the run"):
        toy.engine(tmp_path, optimizer=lambda net: torch.optim.LBFGS(net.parameters()))
    for other in ({"shard": True}, {"precision": "fp16"}):
        with pytest.raises(ValueError, match="lbfgs_from does not go with"):
            TrainConfig(lbfgs_from=3, **other)
