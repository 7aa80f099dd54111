"""What the engine is given: parameters, optimizers, tasks, weightings and sources that do not fit are told."""

import pytest
import torch
from nops_train import InertTermError, InputError


def test_learning_rate_scale_of_a_group(toy, tmp_path):
    def optimizer(net):
        groups = [
            {"params": list(net.first.parameters())},
            {"params": list(net.last.parameters()), "lr_scale": 0.1},
        ]
        return torch.optim.SGD(groups, lr=1.0)

    made = toy.engine(tmp_path, optimizer=optimizer, learning_rate=lambda epoch, step: 0.2)
    made.fit(toy.train)
    assert [g["lr"] for g in made._optimizer.param_groups] == pytest.approx([0.2, 0.02])
    kept = toy.engine(tmp_path, name="kept", optimizer=optimizer)
    kept.fit(toy.train)
    assert [g["lr"] for g in kept._optimizer.param_groups] == [1.0, 1.0]


def test_an_optimizer_of_another_model_trains_nothing(toy, tmp_path):
    made = toy.engine(
        tmp_path, optimizer=lambda net: torch.optim.SGD(toy.Model().parameters(), lr=1.0)
    )
    with pytest.raises(InertTermError, match=r"fit reaches no .* not in the optimizer"):
        made.fit(toy.train)


def test_a_schedule_needs_someone_who_computes_it(toy, tmp_path):
    with pytest.raises(InputError, match=r"train.lr_schedule is cosine with 0 warm-up steps"):
        toy.engine(tmp_path, settings=toy.config(lr_schedule="cosine"))
    with pytest.raises(InputError, match="constant with 5 warm-up"):
        toy.engine(tmp_path, name="b", settings=toy.config(warmup_steps=5))


def test_freeze(toy, tmp_path):
    made = toy.engine(tmp_path, settings=toy.config(freeze=("first.*", "norm.bias")))
    before = {name: p.clone() for name, p in made.net.named_parameters()}
    made.fit(toy.train)
    moved = {n for n, p in made.net.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"norm.weight", "last.weight", "last.bias"}
    with pytest.raises(InputError, match=r"train.freeze: 'frist.*' matches no parameter"):
        toy.engine(tmp_path, name="b", settings=toy.config(freeze=("frist.*",)))
    with pytest.raises(InputError, match="no parameter to train"):
        toy.engine(tmp_path, name="c", settings=toy.config(freeze=("*",)))


def test_input_errors_of_a_task(toy, tmp_path):
    def task(**changes):
        return type("Changed", (toy.Task,), changes)

    def fit(name, **changes):
        toy.engine(tmp_path, name=name, task=task(**changes)).fit(toy.train, toy.valid)

    with pytest.raises(InputError, match=r"train.monitor is error; .* \['bias'\]"):
        fit("a", metrics=lambda self, batch: {"bias": 1.0})
    with pytest.raises(
        InputError, match=r"error of shape \(2, 2\), expected a scalar or one value"
    ):
        fit("b", metrics=lambda self, batch: {"error": torch.zeros(2, 2)})
    with pytest.raises(InputError, match=r"returned \['odd'\], which the weighting does not know"):
        fit("c", losses=lambda self, batch, **position: {"odd": torch.zeros(())})
    with pytest.raises(InputError, match=r"returned fit as \(3,\), expected a scalar tensor"):
        fit("d", losses=lambda self, batch, **position: {"fit": torch.zeros(3)})
    with pytest.raises(InputError, match=r"returned fit as float, expected a scalar tensor"):
        fit("e", losses=lambda self, batch, **position: {"fit": 1.0})


def test_a_term_that_stops_coming_is_named(toy, tmp_path):
    class Forgets(toy.Task):
        def losses(self, batch, **position):
            terms = super().losses(batch, **position)
            return {"fit": terms["fit"]} if position["step"] == 3 else terms

    with pytest.raises(InputError, match=r"did not return the active terms \['size'\]"):
        toy.engine(tmp_path, task=Forgets).fit(toy.train)


def test_input_errors_of_a_weighting(toy, tmp_path):
    weights = toy.Weights()
    weights.active = lambda *, epoch, step: frozenset()
    with pytest.raises(InputError, match="no active term"):
        toy.engine(tmp_path, name="a", weighting=weights).fit(toy.train)
    weights = toy.Weights()
    weights.weights = lambda *, epoch, step: {"fit": 1.0}
    with pytest.raises(InputError, match=r"no weight for its active terms \['size'\]"):
        toy.engine(tmp_path, name="b", weighting=weights).fit(toy.train)
    weights = toy.Weights(observes="validation")
    weights.terms = {"fit": 1.0, "size": 0.1, "error": 0.0}
    with pytest.raises(InputError, match=r"\['error'\] are both"):
        toy.engine(tmp_path, name="c", weighting=weights).fit(toy.train, toy.valid)


def test_input_errors_of_sources(toy, tmp_path):
    class Short:
        num_batches = 7

        def batches(self, *, epoch, skip):
            return toy.train.batches(epoch=epoch, skip=skip)

    class Empty:
        num_batches = 0

        def batches(self, *, epoch, skip):
            return iter(())

    with pytest.raises(InputError, match="ended after 5 batches of epoch 0; its num_batches is 7"):
        toy.engine(tmp_path, name="a").fit(Short())
    with pytest.raises(InputError, match="the training source has no batch"):
        toy.engine(tmp_path, name="b").fit(Empty())
    with pytest.raises(InputError, match="early_stop_patience needs a validation set"):
        toy.engine(tmp_path, name="c", settings=toy.config(early_stop_patience=1)).fit(toy.train)
    falling = toy.engine(
        tmp_path, name="e", settings=toy.config(lr_schedule="plateau"), learning_rate=float
    )
    with pytest.raises(InputError, match="plateau needs a validation set"):
        falling.fit(toy.train)
    with pytest.raises(InputError, match=r"train.monitor is error"):
        toy.engine(tmp_path, name="d").fit(toy.train, Empty())


def test_lbfgs_is_refused(toy, tmp_path):
    with pytest.raises(InputError, match="LBFGS asks for the loss several times"):
        toy.engine(tmp_path, optimizer=lambda net: torch.optim.LBFGS(net.parameters()))


def test_cuda_that_is_not_there(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"train.device is cuda, but torch finds no CUDA device"):
        toy.engine(tmp_path, settings=toy.config(device="cuda"))
