"""The curriculum of the inverse losses: its table, its shapes, and the weighting made of it."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules import (
    CurriculumRamp,
    compute_inverse_loss_curriculum_weight,
    inverse_loss_weight,
    ramp,
)

BASE = {"L_forward": 1.0, "L_inv_enc": 0.01, "L_inv_dec": 0.5, "L_spec": 0.0}
FIVE = (0, 0, 0, 0, 0, 0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.01)  # epochs 0 to 11


def at(epoch=0, step=0):
    return {"epoch": epoch, "step": step}


class TestTheFunction:
    def test_the_table(self):
        got = [compute_inverse_loss_curriculum_weight(e, 0.01, 5, 0.05) for e in range(12)]
        assert got == pytest.approx(FIVE, abs=1e-15)
        assert got[10] == 0.01

    @pytest.mark.parametrize(
        ("epoch", "weight"), [(14, 0), (15, 0), (16, 0.01 / 15), (29, 0.14 / 15), (30, 0.01)]
    )
    def test_fifteen_epochs_by_default(self, epoch, weight):
        assert compute_inverse_loss_curriculum_weight(epoch, 0.01) == pytest.approx(weight)

    def test_a_base_far_above_the_cap_is_a_jump(self):
        # 0.5/5 = 0.1 is above the cap one epoch after the delay
        got = [compute_inverse_loss_curriculum_weight(e, 0.5, 5, 0.05) for e in range(8)]
        assert got == [0] * 6 + [0.05] * 2

    def test_without_warm_up_or_epoch_it_is_full(self):
        assert compute_inverse_loss_curriculum_weight(0, 0.01, 0) == 0.01
        assert compute_inverse_loss_curriculum_weight(None, 0.01) == 0.01
        assert compute_inverse_loss_curriculum_weight(None, 0.5, 0) == 0.05

    def test_shapes_by_hand(self):
        def half(shape, t=7):
            return inverse_loss_weight(t, 2.0, delay=5, ramp=4, shape=shape)

        assert half("linear", 6) == 0.5
        assert half("cosine", 6) == pytest.approx(1 - math.sqrt(0.5))  # 2 * (1 - cos 45°) / 2
        assert [half("step", t) for t in (5, 8.9, 9, 10)] == [0.0, 0.0, 2.0, 2.0]
        assert inverse_loss_weight(8, 2.0, delay=5, ramp=4, cap=1.25) == 1.25

    @pytest.mark.parametrize("shape", ["linear", "cosine", "step"])
    def test_without_a_ramp_all_jump_at_the_delay(self, shape):
        got = [inverse_loss_weight(t, 2.0, delay=5, ramp=0, shape=shape) for t in (4.9, 5, 6)]
        assert got == [0.0, 2.0, 2.0]

    @given(
        base=st.floats(0, 10),
        delay=st.integers(0, 20),
        length=st.integers(0, 20),
        shape=st.sampled_from(["linear", "cosine", "step"]),
        cap=st.none() | st.floats(0, 10),
    )
    def test_it_never_falls_and_ends_at_the_smaller_of_base_and_cap(
        self, base, delay, length, shape, cap
    ):
        options = {"delay": delay, "ramp": length, "shape": shape, "cap": cap}
        values = [inverse_loss_weight(t, base, **options) for t in range(45)]
        assert all(a <= b for a, b in itertools.pairwise(values))
        full = base if cap is None else min(base, cap)
        assert values[:delay] == [0.0] * delay
        assert values[delay + length :] == [full] * (45 - delay - length)

    @given(t=st.floats(0, 50), base=st.floats(0, 10), shape=st.sampled_from(["linear", "cosine"]))
    def test_it_is_the_ramp_of_the_house(self, t, base, shape):
        expected = base * ramp(t, start=5, stop=15, curve=shape)
        got = inverse_loss_weight(t, base, delay=5, ramp=10, shape=shape)
        assert got == pytest.approx(expected, rel=1e-14)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"t": -1}, "t must be 0 or more"),
            ({"base": -0.1}, "base must be 0 or more"),
            ({"base": math.nan}, "base must be a finite number"),
            ({"delay": -1}, "delay must be"),
            ({"ramp": math.inf}, "ramp must be"),
            ({"cap": -1}, "cap must be"),
            ({"shape": "cosin"}, "Did you mean 'cosine'"),
        ],
    )
    def test_refuses_nonsense(self, change, message):
        options = {"t": 3, "base": 1.0, "delay": 5, "ramp": 5, **change}
        with pytest.raises(ValueError, match=message):
            inverse_loss_weight(options.pop("t"), options.pop("base"), **options)

    def test_refuses_a_negative_warm_up(self):
        with pytest.raises(ValueError, match="warmup_epochs must be 0 or more"):
            compute_inverse_loss_curriculum_weight(None, 0.01, -5)


class TestTheWeighting:
    def test_terms_weights_and_what_is_active(self):
        weighting = CurriculumRamp(BASE, cap=0.05)
        assert weighting.terms == BASE
        assert weighting.observes is None
        assert weighting.weights(**at(5)) == {**BASE, "L_inv_enc": 0.0, "L_inv_dec": 0.0}
        assert weighting.active(**at(5)) == {"L_forward"}
        later = weighting.weights(**at(7))
        assert later == pytest.approx({**BASE, "L_inv_enc": 0.004, "L_inv_dec": 0.05})
        assert weighting.active(**at(6)) == {"L_forward", "L_inv_enc", "L_inv_dec"}
        assert weighting.weights(**at(99)) == {**BASE, "L_inv_dec": 0.05}

    def test_what_does_not_ramp_has_no_cap(self):
        weighting = CurriculumRamp({"a": 1.0, "b": 1.0}, ramped=["b"], cap=0.25, delay=0, ramp=2)
        assert weighting.weights(**at(9)) == {"a": 1.0, "b": 0.25}

    def test_steps_as_the_unit(self):
        weighting = CurriculumRamp(BASE, unit="step", delay=100, ramp=100)
        assert weighting.weights(**at(epoch=50, step=100))["L_inv_enc"] == 0
        assert weighting.weights(**at(epoch=0, step=150))["L_inv_enc"] == pytest.approx(0.005)

    def test_every_counts_steps_of_the_run_and_rescales_after_the_cap(self):
        plain = CurriculumRamp(BASE, delay=0, ramp=0, every=3, cap=0.05)
        scaled = CurriculumRamp(BASE, delay=0, ramp=0, every=3, cap=0.05, rescale=True)
        for step in range(7):
            on = step in (0, 3, 6)
            expected = {"L_forward", "L_inv_enc", "L_inv_dec"} if on else {"L_forward"}
            assert plain.active(**at(epoch=4, step=step)) == expected
            weights = plain.weights(**at(epoch=4, step=step))
            assert weights == {**BASE, "L_inv_enc": 0.01 * on, "L_inv_dec": 0.05 * on}
        assert scaled.weights(**at(step=3)) == pytest.approx(
            {**BASE, "L_inv_enc": 0.03, "L_inv_dec": 0.15}
        )

    def test_one_inverse_term_may_be_absent(self):
        weighting = CurriculumRamp({"L_forward": 1.0, "L_inv_dec": 0.1})
        assert weighting.weights(**at(0)) == {"L_forward": 1.0, "L_inv_dec": 0.0}

    def test_it_observes_nothing(self):
        weighting = CurriculumRamp(BASE)
        before = weighting.weights(**at(8))
        weighting.observe(dict.fromkeys(BASE, math.nan), epoch=3, step=9, split="train")
        assert weighting.weights(**at(8)) == before

    def test_callers_cannot_change_the_weights(self):
        mine = dict(BASE)
        weighting = CurriculumRamp(mine)
        mine["L_forward"] = 5.0
        weighting.weights(**at())["L_forward"] = 6.0
        assert weighting.weights(**at())["L_forward"] == 1.0

    def test_a_state_of_other_settings_is_refused_with_each_of_them(self):
        state = json.loads(json.dumps(CurriculumRamp(BASE, delay=15, cap=0.05).state_dict()))
        CurriculumRamp(BASE, delay=15, cap=0.05).load_state_dict(state)
        with pytest.raises(ValueError, match=r"delay: saved 15.0, now 5.0\n  cap: saved 0.05, now"):
            CurriculumRamp(BASE).load_state_dict(state)
        with pytest.raises(ValueError, match="delay: saved 'nothing', now 5"):
            CurriculumRamp(BASE).load_state_dict({})
        with pytest.raises(ValueError, match="base: saved"):
            CurriculumRamp({**BASE, "L_spec": 0.1}, delay=15, cap=0.05).load_state_dict(state)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"every": 0}, "every must be a whole number of at least 1, got 0"),
            ({"every": 1.5}, "every must be"),
            ({"rescale": 2}, "rescale must be true or false"),
            ({"unit": "epochs"}, "Did you mean 'epoch'"),
            ({"delay": -1}, "delay must be 0 or more"),
            ({"cap": 0}, "cap must be above 0"),
            ({"shape": "square"}, "shape must be one of"),
            ({"ramped": ["L_inv_en"]}, "Did you mean 'L_inv_enc'"),
            ({"ramped": "L_inv_enc"}, "ramped must be a list"),
            ({"ramped": []}, "nothing would ramp"),
            ({"base": {"L_forward": 1.0}}, "nothing would ramp"),
            ({"base": {"L_inv_enc": -1.0}}, "'L_inv_enc' must be finite and not negative"),
            ({"base": {"L_inv_enc": 0.0}}, "at least one term"),
        ],
    )
    def test_refuses_nonsense(self, change, message):
        options = {"base": BASE, **change}
        with pytest.raises(ValueError, match=message):
            CurriculumRamp(options.pop("base"), **options)

    def test_says_what_it_is(self):
        assert "delay=5.0" in repr(CurriculumRamp(BASE))
