"""The contract suite itself: it catches what it is for."""

import random
from typing import Any

import nops_testing
import pytest
import torch
from nops_testing.contract import CUTS, check_round_trip, same, stateful_classes


class Sum:
    """A faithful object."""

    def __init__(self):
        self.total, self.count = 1.0, 0
        self.seen: list[int] = []

    @property
    def state(self):
        return self

    def advance(self, step):
        self.count += 1
        self.total = self.total * 1.5 + step * self.count
        self.seen.append(step)

    def observe(self) -> Any:
        return [self.total, self.count, list(self.seen)]

    def state_dict(self):
        return {"total": self.total, "count": self.count, "seen": list(self.seen)}

    def load_state_dict(self, state):
        self.total, self.count, self.seen = state["total"], state["count"], list(state["seen"])


class Forgetful(Sum):
    def state_dict(self):
        return {**super().state_dict(), "count": 0}


class LeavesOver(Sum):
    def load_state_dict(self, state):
        self.total, self.count = state["total"], state["count"]
        self.seen.extend(state["seen"])


class Disturbed(Sum):
    def state_dict(self):
        state = super().state_dict()
        self.total += 0.5
        return state


class Unplain(Sum):
    def state_dict(self):
        return {**super().state_dict(), "generator": random.Random(1)}


class Idle(Sum):
    def advance(self, step):
        pass


@pytest.mark.parametrize("cut", CUTS)
def test_a_faithful_object_passes(cut):
    check_round_trip(Sum, cut=cut)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Forgetful, "restored after 0 other steps"),
        (LeavesOver, "restored after 1 other steps"),
        (Disturbed, "differs when asked for twice"),
        (Idle, "the case tests nothing"),
    ],
)
def test_each_fault_is_found(kind, message):
    with pytest.raises(AssertionError, match=message):
        check_round_trip(kind, cut=3)


def test_objects_that_are_not_plain_are_refused():
    with pytest.raises(Exception, match="Weights only load failed"):
        check_round_trip(Unplain, cut=3)


def test_same_is_to_the_last_bit():
    a = {"x": [torch.tensor([1.0, float("nan")]), float("nan")], "y": (1, "b")}
    b = {"x": [torch.tensor([1.0, float("nan")]), float("nan")], "y": (1, "b")}
    assert same(a, b)
    assert not same(a, {**b, "y": (1, "c")})
    assert not same(torch.ones(1), torch.ones(1) + 1e-7)
    assert not same(torch.ones(1), torch.ones(1, dtype=torch.float64))
    assert not same(torch.ones(1), 1.0)
    assert not same([1], [1, 2])


def test_classes_are_found_by_their_methods():
    assert stateful_classes(nops_testing) == set()
