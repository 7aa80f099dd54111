"""Every object with a state, or with a position to go on from: cut anywhere, restore, equal."""

import nops_data
import pytest
import torch
from nops_data import Normaliser, ResumableSampler
from nops_testing.contract import CUTS, check_round_trip, stateful_classes


class OfNormaliser:
    """Statistics that another data set replaces; what it gives is compared."""

    covers = "Normaliser"

    def __init__(self):
        self.state = normaliser(0.0)

    def advance(self, step):
        moved = normaliser(step + float(self.state.mean[0]))
        self.state.load_state_dict(moved.state_dict())

    def observe(self):
        field = torch.linspace(-2.0, 3.0, 8).reshape(2, 2, 2)
        normalised = self.state.normalise(field)
        return [normalised, self.state.denormalise(field), self.state.state_dict()]


def normaliser(shift):
    return Normaliser(
        mean=torch.tensor([shift, 1.0]),
        std=torch.tensor([1.0 + shift, 2.0]),
        increment_mean=torch.zeros(2),
        increment_std=torch.tensor([0.5 + shift, 1.0]),
        channels=("u", "v"),
    )


class OfSampler:
    """The order of batches over three epochs of two; its position is all there is to keep."""

    covers = None

    def __init__(self):
        self.sampler = ResumableSampler(5, batch_size=3, seed=7)
        self.seen = []

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"seen": [list(batch) for batch in self.seen]}

    def load_state_dict(self, state):
        self.seen = [list(batch) for batch in state["seen"]]

    def advance(self, step):
        epoch, skip = divmod(len(self.seen), len(self.sampler))
        batch = next(iter(self.sampler.batches(epoch, skip=skip)))
        self.seen.append([draw.index for draw in batch])

    def observe(self):
        return self.seen


CASES = [OfNormaliser, OfSampler]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", CASES)
def test_round_trip(make, cut):
    check_round_trip(make, cut=cut)


def test_every_stateful_class_is_covered():
    assert stateful_classes(nops_data) == {case.covers for case in CASES} - {None}
