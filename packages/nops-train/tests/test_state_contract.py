"""Every object with a state: cut anywhere, restore from a checkpoint file, equal to never having stopped."""

import random

import nops_train
import numpy as np
import pytest
import torch
from nops_testing.contract import CUTS, check_round_trip, stateful_classes
from nops_train import (
    ListSource,
    TrainConfig,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from nops_train._ema import WeightAverage
from nops_train._engine_state import EpochMeans, Record, TrainState
from nops_train._learning_rate import PlateauRate
from nops_train._precision import Precision
from torch import nn


class OfAverage:
    """Averaged weights of a parameter that moves."""

    covers = "WeightAverage"

    def __init__(self):
        self.module = nn.Linear(2, 1)
        nn.init.ones_(self.module.weight)
        nn.init.zeros_(self.module.bias)
        self.state = WeightAverage(dict(self.module.named_parameters()), decay=0.9)

    def advance(self, step):
        nn.init.constant_(self.module.weight, 1.0 + step)
        self.state.update()

    def observe(self):
        return self.state.state_dict()


class OfRate:
    """A learning rate that falls twice, the second time after a better value."""

    covers = "PlateauRate"

    def __init__(self):
        self.state = PlateauRate(TrainConfig(learning_rate=1.0, lr_factor=0.5, lr_patience=2))

    def advance(self, step):
        self.state.observe((3.0, 4.0, 5.0, 2.0, 2.0, 2.5)[step])

    def observe(self):
        return [self.state(0, 0), self.state.state_dict()]


class OfMeans:
    """Means over an epoch; terms come and go."""

    covers = "EpochMeans"

    def __init__(self):
        self.state = EpochMeans()

    def advance(self, step):
        names = ("a", "b") if step % 2 else ("a",)
        weights = dict.fromkeys(names, 0.1 * (step + 1))
        values = [1.0 / (step + 3 + i) for i in range(len(names) + 1)]
        self.state.add(Record(weights=weights, samples=step + 1, values=values))

    def observe(self):
        means = self.state.means()
        return [means.raw, means.weight, means.weighted, means.loss, means.gradient_norm]


class OfTraining:
    """Position, counters, patience, best value, history."""

    covers = "TrainState"

    def __init__(self):
        self.state = TrainState()

    def advance(self, step):
        state = self.state
        state.batch += 1
        state.step += step % 2
        state.bad_in_row = 0 if step % 2 else state.bad_in_row + 1
        state.waited += 1
        if step == 3:
            state.waited = 0
            state.history.append({"epoch": 0, "metrics": {"error": 0.1}})
            state.best = {"metric": "error", "mode": "min", "value": 0.1, "epoch": 0, "step": 2}
            state.next_epoch()

    def observe(self):
        return self.state.state_dict()


class OfScale:
    """The fp16 loss scale, and what it lets through."""

    covers = None

    def __init__(self):
        self.state = Precision("fp16", device=torch.device("cpu")).scaler
        self.weight = nn.Parameter(torch.ones(1))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)

    def advance(self, step):
        loss = self.weight.sum() * (float("inf") if step in (1, 4) else 1.0)
        self.optimizer.zero_grad()
        self.state.scale(loss).backward()
        self.state.step(self.optimizer)
        self.state.update()

    def observe(self):
        return [self.state.get_scale(), self.state.state_dict()]


class OfGenerators:
    """Python's, NumPy's and torch's generators, a cached Gaussian of each included."""

    covers = None

    def __init__(self):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        self.drawn = []

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"rng": rng_state(), "drawn": list(self.drawn)}

    def load_state_dict(self, state):
        set_rng_state(state["rng"])
        self.drawn = list(state["drawn"])

    def advance(self, step):
        torch_draw = torch.randn(3).tolist()
        self.drawn.append([random.gauss(0, 1), float(np.random.randn()), *torch_draw])

    def observe(self):
        return self.drawn


class OfSource:
    """The order of a list of batches, over two epochs of three."""

    covers = None

    def __init__(self):
        self.source = ListSource([torch.tensor(float(i)) for i in range(3)], seed=4)
        self.seen = []

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])

    def advance(self, step):
        epoch, skip = divmod(len(self.seen), 3)
        self.seen.append(float(next(iter(self.source.batches(epoch=epoch, skip=skip)))))

    def observe(self):
        return self.seen


class OfTorchOptimizer:
    """A module under AdamW, as the engine's parts are saved."""

    covers = None

    def __init__(self):
        self.module = nn.Linear(2, 1)
        nn.init.ones_(self.module.weight)
        nn.init.zeros_(self.module.bias)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.1)

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"model": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def advance(self, step):
        self.optimizer.zero_grad()
        self.module(torch.tensor([[1.0, step - 2.0]])).square().sum().backward()
        self.optimizer.step()

    def observe(self):
        return [p.detach().clone() for p in self.module.parameters()]


CASES = [OfAverage, OfRate, OfMeans, OfTraining, OfScale, OfGenerators, OfSource, OfTorchOptimizer]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", CASES)
def test_round_trip(tmp_path, make, cut):
    def through(state):
        save_checkpoint(tmp_path / "a.pt", {"object": state})
        return load_checkpoint(tmp_path / "a.pt")["object"]

    check_round_trip(make, cut=cut, through=through)


def test_every_stateful_class_is_covered():
    assert stateful_classes(nops_train) == {case.covers for case in CASES} - {None}


def test_the_average_of_another_module_is_refused():
    average = WeightAverage(dict(nn.Linear(2, 1).named_parameters()), decay=0.9)
    other = WeightAverage({"w": nn.Parameter(torch.ones(1))}, decay=0.9)
    with pytest.raises(ValueError, match=r"of other parameters: \['w'\], expected \['bias', 'we"):
        average.load_state_dict(other.state_dict())


def test_means_by_hand():
    means = EpochMeans()
    means.add(Record(weights={"a": 1.0, "b": 2.0}, samples=1, values=[1.0, 3.0, 5.0]))
    means.add(Record(weights={"a": 3.0}, samples=3, values=[5.0, 1.0]))
    found = means.means()
    assert found.raw == {"a": (1 + 3 * 5) / 4, "b": 3.0}  # b over the steps that had it
    assert found.weight == {"a": (1 + 3 * 3) / 4, "b": 2.0}
    assert found.weighted == {"a": (1 + 3 * 15) / 4, "b": 6.0}
    assert found.loss == (7 + 3 * 15) / 4
    assert found.gradient_norm == (5 + 3 * 1) / 4
    assert means.samples == 4
