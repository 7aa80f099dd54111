"""Pretraining and annealing: the table, what is computed when, the clocks, nonsense."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import LinearAnnealing, Phases, ramp, warmup_cosine

EPOCHS = (0, 19, 20, 21, 45, 70, 149)


def phases(pretrain=20, warmup=50, **more):
    train = {"reconstruction": 1.0, "kl": LinearAnnealing(end=1.0, epochs=warmup), "gate": 0.0}
    weights = {"pretrain_weights": {"bootstrap": 1.0}, "train_weights": train}
    return Phases(pretrain=pretrain, **{**weights, **more})


def at(epoch):
    return {"epoch": epoch, "step": 7 * epoch}


class TestAnnealing:
    def test_by_hand(self):
        tau = LinearAnnealing(start=3.0, end=1.0, epochs=20)
        assert [tau(e) for e in (0, 5, 10, 20, 99)] == [3.0, 2.5, 2.0, 1.0, 1.0]
        assert LinearAnnealing(epochs=4)(1) == 0.25

    def test_without_epochs_it_is_the_end(self):
        assert LinearAnnealing(start=3.0, end=1.0, epochs=0)(0) == 1.0

    @given(
        start=st.floats(-10, 10),
        end=st.floats(-10, 10),
        epochs=st.integers(0, 50),
        e=st.integers(0, 99),
    )
    def test_it_is_the_ramp_of_the_house(self, start, end, epochs, e):
        got = LinearAnnealing(start=start, end=end, epochs=epochs)(e)
        assert got == ramp(e, start=0, stop=epochs, begin=start, end=end)
        line = start + (end - start) * min(1, e / epochs) if epochs else end
        assert got == pytest.approx(line, abs=1e-12)
        assert min(start, end) <= got <= max(start, end)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": -1}, "epochs must be a whole number of at least 0, got -1"),
            ({"epochs": 1.5}, "epochs must be a whole number"),
            ({"start": math.nan}, "start must be a finite number"),
            ({"end": "1"}, "end must be a finite number"),
        ],
    )
    def test_refuses_nonsense(self, change, message):
        with pytest.raises(ValueError, match=message):
            LinearAnnealing(**{"epochs": 5, **change})

    def test_refuses_an_epoch_before_the_first(self):
        with pytest.raises(ValueError, match="counted from 0, got -1"):
            LinearAnnealing(epochs=5)(-1)


class TestTheTable:
    def test_beta(self):
        got = [phases().weights(**at(e))["kl"] for e in EPOCHS]
        assert got == [0.0, 0.0, 0.0, 0.02, 0.5, 1.0, 1.0]
        assert all(isinstance(value, float) for value in got)

    def test_learning_rate(self):
        def rate(epoch):
            clock = phases().lr_epoch(epoch)
            if clock is None:
                return 3e-4
            return warmup_cosine(clock, peak=3e-4, warmup_steps=0, total_steps=150)

        table = [3e-4, 3e-4, 3e-4, 2.99967e-4, 2.79904e-4, 2.25e-4]
        assert [rate(e) for e in EPOCHS[:-1]] == pytest.approx(table, rel=2e-6)
        assert {rate(e) for e in range(20)} == {3e-4}
        assert rate(20) == 3e-4
        assert rate(21) < 3e-4

    def test_exactly_twenty_epochs_are_pretraining(self):
        found = [phases().phase(e) for e in range(40)]
        assert found == ["pretrain"] * 20 + ["train"] * 20
        assert [phases().lr_epoch(e) for e in (0, 19, 20, 25)] == [None, None, 0, 5]

    def test_nothing_but_the_bootstrap_is_computed_in_pretraining(self):
        for epoch in range(20):
            assert phases().active(**at(epoch)) == {"bootstrap"}
            weights = phases().weights(**at(epoch))
            assert weights == {"bootstrap": 1.0, "reconstruction": 0.0, "kl": 0.0, "gate": 0.0}
        assert phases().active(**at(20)) == {"reconstruction"}  # the weight of kl is still 0
        assert phases().active(**at(21)) == {"reconstruction", "kl"}


class TestTheWeighting:
    def test_terms_have_their_largest_weight(self):
        weighting = phases()
        assert weighting.terms == {"bootstrap": 1.0, "reconstruction": 1.0, "kl": 1.0, "gate": 0.0}
        assert weighting.observes is None
        down = {"a": LinearAnnealing(start=2.0, end=0.5, epochs=3), "bootstrap": 0.25}
        assert phases(train_weights=down).terms == {"a": 2.0, "bootstrap": 1.0}

    def test_without_pretraining_its_terms_are_off(self):
        weighting = phases(pretrain=0)
        assert weighting.phase(0) == "train"
        assert weighting.lr_epoch(0) == 0
        assert weighting.terms["bootstrap"] == 0.0
        assert weighting.weights(**at(0))["bootstrap"] == 0.0
        assert phases(pretrain=0, pretrain_weights={}).weights(**at(25))["kl"] == 0.5

    def test_without_a_warm_up_the_weight_is_full_at_once(self):
        got = [phases(warmup=0).weights(**at(e))["kl"] for e in (19, 20, 21)]
        assert got == [0.0, 1.0, 1.0]

    def test_a_term_may_go_on(self):
        both = phases(train_weights={"reconstruction": 1.0, "bootstrap": 0.1})
        assert [both.weights(**at(e))["bootstrap"] for e in (19, 20)] == [1.0, 0.1]

    @given(pretrain=st.integers(0, 9), warmup=st.integers(0, 9), epoch=st.integers(0, 30))
    def test_training_does_not_know_how_long_the_pretraining_was(self, pretrain, warmup, epoch):
        late, now = phases(pretrain, warmup), phases(0, warmup)
        found = late.weights(**at(pretrain + epoch))
        assert found == now.weights(**at(epoch))
        names = {name for name, weight in found.items() if weight > 0}
        assert late.active(**at(pretrain + epoch)) == names

    def test_it_observes_nothing_and_callers_cannot_change_it(self):
        weighting, mine = phases(), {"bootstrap": 1.0}
        weighting.observe({"kl": math.nan}, epoch=3, step=9, split="train")
        weighting.weights(**at(0))["bootstrap"] = 6.0
        other = phases(pretrain_weights=mine)
        mine["bootstrap"] = 5.0
        assert weighting.weights(**at(0)) == other.weights(**at(0))

    def test_a_state_of_other_arguments_is_refused_with_each_of_them(self):
        state = json.loads(json.dumps(phases().state_dict()))
        phases().load_state_dict(state)
        with pytest.raises(ValueError, match=r"pretrain: saved 20, now 19"):
            phases(pretrain=19).load_state_dict(state)
        with pytest.raises(ValueError, match="train_weights: saved"):
            phases(warmup=30).load_state_dict(state)
        with pytest.raises(ValueError, match="version: saved 'nothing'"):
            phases().load_state_dict({})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pretrain": -1}, "pretrain must be a whole number of at least 0"),
            ({"pretrain_weights": {}}, "pretrain_weights, for pretrain=20 epochs, needs at least"),
            ({"pretrain_weights": {"a": 0.0}}, "there would be nothing to train"),
            ({"pretrain_weights": {"a": LinearAnnealing(epochs=3)}}, "must be a finite number"),
            ({"train_weights": {}}, "train_weights, at its first epoch, needs"),
            ({"train_weights": {"a": LinearAnnealing(epochs=3)}}, "at its first epoch, needs"),
            (
                {"train_weights": {"a": LinearAnnealing(start=1.0, end=0.0, epochs=3)}},
                "at its end, needs",
            ),
            ({"train_weights": {"a": -1.0}}, "train_weights.a must be 0 or more"),
            (
                {"train_weights": {"a": 1.0, "b": LinearAnnealing(start=-1.0, epochs=3)}},
                "train_weights.b must be 0 or more from its start to its end",
            ),
            ({"train_weights": {"": 1.0}}, "must be a name"),
            ({"train_weights": [1.0]}, "train_weights must be a mapping"),
        ],
    )
    def test_refuses_nonsense(self, change, message):
        with pytest.raises(ValueError, match=message):
            phases(**change)

    def test_refuses_an_epoch_before_the_first(self):
        with pytest.raises(ValueError, match="counted from 0, got -1"):
            phases().weights(**at(-1))

    def test_says_what_it_is(self):
        assert repr(phases()).startswith("Phases(pretrain=20, pretrain_weights={'bootstrap': 1.0}")
