"""A loss function as a task."""

import pytest
import torch
from nops_train import Engine, InputError, LossTask, RunFolder, Task


def run(toy, tmp_path, function, metrics=None, *, monitor, weights=None):
    torch.manual_seed(0)
    net = toy.Model()
    made = Engine(
        task=LossTask(lambda batch: function(net, batch), metrics),
        weighting=weights or toy.Weights(observes=None),
        model=net,
        config=toy.config(monitor=monitor),
        run=RunFolder.open(tmp_path, app="toy", name="a", config={}),
        progress="none",
    )
    made.fit(toy.train, toy.valid)
    return made, net


class One:
    terms = {"loss": 1.0}  # noqa: RUF012
    observes = None

    def active(self, **_):
        return frozenset(self.terms)

    def weights(self, **_):
        return self.terms

    def observe(self, values, **_):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_terms_by_name_train_as_a_task_of_ones_own(toy, tmp_path):
    def terms(net, batch):
        pred = net(batch["x"])
        return {"fit": (pred - batch["y"]).square().mean(), "size": pred.square().mean()}

    _, net = run(toy, tmp_path / "a", terms, monitor="fit")
    by_hand = toy.engine_run(tmp_path / "b", toy.config(), weighting=toy.Weights(observes=None))
    assert toy.same(dict(net.state_dict()), dict(by_hand.net.state_dict()))


def test_a_tensor_is_the_term_loss_and_the_metric(toy, tmp_path):
    made, net = run(
        toy,
        tmp_path,
        lambda net, batch: (net(batch["x"]) - batch["y"]).square().mean(),
        monitor="loss",
        weights=One(),
    )
    net.eval()
    with torch.no_grad():
        errors = [
            (net(b["x"]) - b["y"]).square().mean() for b in toy.valid.batches(epoch=0, skip=0)
        ]
    assert made.state.metrics == {"loss": pytest.approx(float(torch.stack(errors).mean()))}


def test_metrics_of_ones_own_and_only_active_terms():
    task = LossTask(
        lambda batch: {"a": batch.sum(), "b": batch.mean()}, lambda batch: {"most": batch.max()}
    )
    assert isinstance(task, Task)
    batch = torch.tensor([1.0, 3.0])
    assert task.losses(batch, epoch=0, step=0, active=frozenset({"b"})) == {"b": torch.tensor(2.0)}
    assert task.metrics(batch) == {"most": torch.tensor(3.0)}


def test_anything_else_is_refused(toy, tmp_path):
    with pytest.raises(InputError, match="the loss function returned float, expected a scalar"):
        run(toy, tmp_path, lambda net, batch: 1.0, monitor="loss", weights=One())
