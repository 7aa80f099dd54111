"""Every weighting: cut anywhere, restore, equal to never having stopped."""

import nops_schedules
import pytest
from nops_schedules import ConstantWeights
from nops_testing.contract import CUTS, check_round_trip, stateful_classes


class OfConstantWeights:
    """They remember nothing: what they say over a run is kept beside them and compared."""

    covers = "ConstantWeights"

    def __init__(self):
        self.weights = ConstantWeights({"a": 1.0, "b": 0.0, "c": 0.25})
        self.said = []

    @property
    def state(self):
        return self

    def state_dict(self):
        return {"weights": self.weights.state_dict(), "said": list(self.said)}

    def load_state_dict(self, state):
        self.weights.load_state_dict(state["weights"])
        self.said = list(state["said"])

    def advance(self, step):
        self.weights.observe({"a": 1.0 / (step + 1)}, epoch=0, step=step, split="train")
        at = {"epoch": 0, "step": step}
        self.said.append([self.weights.weights(**at), sorted(self.weights.active(**at))])

    def observe(self):
        return self.said


CASES = [OfConstantWeights]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("make", CASES)
def test_round_trip(make, cut):
    check_round_trip(make, cut=cut)


def test_every_stateful_class_is_covered():
    assert stateful_classes(nops_schedules) == {case.covers for case in CASES}
