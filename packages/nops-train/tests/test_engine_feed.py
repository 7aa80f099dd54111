"""Batches are sent to the device as they are read: in order, none before its turn, few at a time."""

import signal
from collections import namedtuple

import pytest
import torch
from nops_train import Interrupted
from nops_train._engine_feed import AHEAD, Feeder

CPU = torch.device("cpu")
Pair = namedtuple("Pair", "x extra")


class FakeLane:
    """A queue that notes what it is asked."""

    def __init__(self):
        self.log = []

    def copy(self, tensor):
        self.log.append("copy")
        return tensor.clone()

    def join(self):
        self.log.append("join")

    def mark(self):
        self.log.append("mark")
        return FakeMark(self.log, self.log.count("mark") - 1)


class FakeMark:
    """Notes which mark is waited for."""

    def __init__(self, log, number):
        self.log, self.number = log, number

    def synchronize(self):
        self.log.append(f"wait {self.number}")


def test_each_batch_is_sent_while_the_step_before_may_still_be_made():
    lane = FakeLane()
    feeder = Feeder(CPU, lane=lane)
    for number in range(4):
        feeder.send(torch.zeros(1))
        lane.log.append(f"step {number}")
    # mark n lies between steps n - 1 and n
    first = ["mark", "copy", "join", "step 0", "mark", "wait 0", "copy", "join", "step 1"]
    rest = ["mark", "wait 1", "copy", "join", "step 2", "mark", "wait 2", "copy", "join", "step 3"]
    assert lane.log == first + rest
    assert AHEAD == 1


def test_batches_keep_their_type_and_an_object_moves_itself():
    class Graph:
        def to(self, device):
            return f"on {device}"

    lane = FakeLane()
    feeder = Feeder(CPU, lane=lane)
    batch = {"pair": Pair(torch.arange(3), [torch.zeros(2), "name"]), "graph": 1}
    sent = feeder.send(batch)
    assert isinstance(sent["pair"], Pair)
    assert sent["pair"].x is not batch["pair"].x
    assert sent["pair"].x.tolist() == [0, 1, 2]
    assert (sent["pair"].extra[1], sent["graph"]) == ("name", 1)
    assert lane.log == ["mark", "copy", "copy", "join"]
    assert feeder.send(Graph()) == "on cpu"
    assert lane.log[4:] == ["mark", "wait 0"]


def test_on_a_cpu_a_batch_stays_where_it_is():
    batch = {"x": torch.zeros(2)}
    assert Feeder(CPU).send(batch)["x"] is batch["x"]


@pytest.mark.parametrize("waits", [False, True])
def test_nothing_is_read_before_its_turn_and_a_stop_loses_nothing(toy, tmp_path, waits):
    def run(name, cut=None):
        log = []

        def act(epoch, index, batch):
            log.append(("read", epoch, index))
            if (epoch, index) == cut:
                signal.raise_signal(signal.SIGTERM)
            return batch

        made = toy.engine(
            tmp_path / name,
            settings=toy.config(log_every=3),
            weighting=toy.Weights(observes="epoch"),
            optimizer=lambda net: torch.optim.AdamW(net.parameters(), lr=0.05, fused=True),
        )
        made._stepper._waits = waits
        made._reader._feeder = Feeder(CPU, lane=FakeLane())
        made._check_start = lambda train, valid: None  # it reads the first batch, too
        step = made._train_step

        def noted(batch, samples):
            log.append(("step", made.state.epoch, made._ledger.batch))
            step(batch, samples)

        made._train_step = noted
        try:
            made.fit(toy.Spoiled(toy.train, act), toy.valid)
        finally:
            made.run.events.close()
        return made, log

    places = [(epoch, index) for epoch in range(2) for index in range(5)]
    whole, log = run("whole")
    assert log == [(what, *place) for place in places for what in ("read", "step")]
    with pytest.raises(Interrupted):
        run("cut", cut=(1, 1))
    again, log = run("cut")
    assert log == [(what, *place) for place in places[7:] for what in ("read", "step")]
    assert toy.same(toy.outcome(whole), toy.outcome(again))
