"""The automatic choice: each line of its table, at its limit, with the evidence."""

import math
import sys
import types

import pytest
from nops_schedules import AdaptiveLossWeights, AutoSelect, ReLoBRaLo, SoftAdapt, WeightingError

PAIR = ["a", "b"]
CONFLICT = {"cosine": [[1.0, -0.2], [-0.2, 1.0]], "norm": [1.0, 1.0]}
UNBALANCED = {"cosine": [[1.0, 0.5], [0.5, 1.0]], "norm": [1.0, 11.0]}
CALM = {"cosine": [[1.0, 0.5], [0.5, 1.0]], "norm": [1.0, 9.0]}
OWN = {
    "ConFIG": lambda names: SoftAdapt(names, beta=3.0),
    "GradientNormWeights": lambda names: SoftAdapt(names, beta=4.0),
}


def run(made, *, count=200, a=lambda step: 1.0, stats=(), start=0):
    for one in stats:
        made.note(one)
    for step in range(start, start + count):
        made.active(epoch=0, step=step)
        assert made.observes == "step"
        made.observe({"a": a(step), "b": 1.0}, epoch=0, step=step, split="train")
    return made


def selected(**options):
    return AutoSelect(PAIR, candidates=OWN, **options)


def test_weights_are_constant_within_the_window():
    made = run(selected(initial_weights={"a": 2.0, "b": 0.5}), count=199)
    assert made.choice is None
    assert made.evidence == {}
    assert made.weights(epoch=0, step=199) == {"a": 2.0, "b": 0.5}
    run(made, count=1, start=199)
    assert made.choice == "fixed"
    assert made.weights(epoch=0, step=200) == {"a": 2.0, "b": 0.5}
    assert made.observes is None
    assert made.evidence["step"] == 199


def test_ten_bad_values_in_a_row_end_the_window_with_an_error():
    made = run(selected(), count=9, a=lambda step: math.nan)
    with pytest.raises(WeightingError, match="'a' was NaN, infinite or missing 10 times in a row"):
        run(made, count=1, start=9, a=lambda step: math.nan)


@pytest.mark.parametrize(
    ("stats", "steep", "choice"),
    [
        ([CONFLICT], False, "ConFIG"),
        ([CONFLICT, UNBALANCED], True, "GradientNormWeights"),  # mean cosine 0.15, ratio 6/1 ...
        ([UNBALANCED], False, "GradientNormWeights"),
        ([CALM], True, "ReLoBRaLo"),
        ([CALM], False, "fixed"),
        ([], True, "ReLoBRaLo"),
        ([], False, "fixed"),
    ],
)
def test_each_line_of_the_table(stats, steep, choice):
    if len(stats) == 2:
        stats = [
            CONFLICT,
            UNBALANCED,
            UNBALANCED | {"norm": [1.0, 41.0]},
        ]  # cosine .27, norms 1, 17.7
    made = run(selected(), stats=stats, a=lambda step: 0.97**step if steep else 1.0)
    assert made.choice == choice
    assert made.evidence["choice"] == choice
    assert made.evidence["skipped"] == ([] if stats else ["cosine", "norm_ratio"])
    assert made.evidence["notes"] == len(stats)
    assert ("no gradient statistics" in made.evidence["reason"]) == (
        choice == "fixed" and not stats
    )


def test_the_evidence_has_the_figures():
    made = run(selected(), stats=[CALM, UNBALANCED], a=lambda step: 10.0 if step >= 180 else 100.0)
    # 20 of 200 at each end: exactly a factor of 10, which is not above the limit.
    assert made.evidence["drift_by_term"] == pytest.approx({"a": 10.0, "b": 1.0})
    assert made.evidence["cosine"] == pytest.approx(0.5)
    assert made.evidence["norm_ratio"] == pytest.approx(10.0)
    assert made.choice == "fixed"


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_a_loss_may_drift_down_or_up(factor):
    made = run(selected(), a=lambda step: factor if step >= 180 else 1.0)
    assert made.choice == "ReLoBRaLo"
    assert made.evidence["drift"] == pytest.approx(100.0)
    assert isinstance(made.active_weighting, ReLoBRaLo)


def test_what_is_not_valid_is_no_drift():
    made = run(selected(), a=lambda step: 0.0 if step >= 100 else 1.0)
    assert made.evidence["drift_by_term"] == {"b": 1.0}
    assert made.choice == "fixed"


def test_the_scheme_chosen_takes_over_and_moves():
    made = run(selected(initial_weights={"a": 2.0, "b": 0.5}), stats=[CONFLICT])
    assert made.weights(epoch=0, step=200) == {"a": 2.0, "b": 0.5}
    run(made, count=2, start=200, a=lambda step: step / 200)
    ratio = math.exp(3.0 * 201 / 200) / math.exp(3.0)
    now = made.weights(epoch=0, step=202)
    assert now["a"] / now["b"] == pytest.approx(ratio)


def test_terms_that_are_off_are_not_shown_to_anyone():
    made = AutoSelect(
        ["a", "b", "off"], initial_weights={"a": 1.0, "b": 1.0, "off": 0.0}, candidates=OWN
    )
    for step in range(201):
        assert made.active(epoch=0, step=step) == {"a", "b"}
        values = {"a": 0.9**step, "b": 1.0, "off": -1.0}
        made.observe(values, epoch=0, step=step, split="train")
    assert made.choice == "ReLoBRaLo"
    assert made.weights(epoch=0, step=201) == {"a": 1.0, "b": 1.0, "off": 0.0}
    assert list(made.weights(epoch=0, step=201)) == ["a", "b", "off"]


def test_epochs_count_once_they_are_over():
    made = AutoSelect(PAIR, window=100, update_unit="epoch", candidates=OWN)
    for epoch in range(100):
        made.observe({"a": 0.9**epoch, "b": 1.0}, epoch=epoch, step=7 * epoch, split="train")
    assert made.choice is None
    made.active(epoch=100, step=700)
    assert made.choice == "ReLoBRaLo"
    assert made.observes == "epoch"


def test_notes_after_the_choice_change_nothing():
    made = run(selected())
    before = made.state_dict()
    made.note(CONFLICT)
    assert made.state_dict() == before


def test_the_schemes_by_gradients_are_those_of_the_extra(monkeypatch):
    class ConFIG:
        def __init__(self, names):
            self.names = names

    module = types.ModuleType("nops_schedules.gradient")
    module.ConFIG = ConFIG
    module.GradientNormWeights = object
    monkeypatch.setitem(sys.modules, "nops_schedules.gradient", module)
    made = AutoSelect(PAIR)
    made.note(CONFLICT)
    for step in range(200):
        made.observe({"a": 1.0, "b": 1.0}, epoch=0, step=step, split="train")
    assert made.choice == "ConFIG"
    assert isinstance(made.active_weighting, ConFIG)
    assert made.active_weighting.names == PAIR


def test_without_the_extra_gradient_statistics_are_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "nops_schedules.gradient", None)
    with pytest.raises(ImportError, match=r"nops-schedules\[torch\]"):
        AutoSelect(PAIR).note(CONFLICT)
    assert run(AutoSelect(PAIR)).choice == "fixed"


def test_sizes_of_statistics_have_to_fit():
    made = selected()
    with pytest.raises(ValueError, match="2 norms and rows of"):
        made.note({"cosine": [[1.0]], "norm": [1.0, 2.0]})
    made.note(CALM)
    with pytest.raises(ValueError, match="the m of before, 2; got 1 norms"):
        made.note({"cosine": [[1.0]], "norm": [1.0]})


def test_refuses_a_state_of_another_selection():
    state = selected().state_dict()
    with pytest.raises(ValueError, match=r"drift: saved 10\.0, now 20\.0"):
        selected(drift=20.0).load_state_dict(state)
    with pytest.raises(ValueError, match=r"window: saved 200, now 300"):
        selected(window=300).load_state_dict(state)
    with pytest.raises(ValueError, match=r"scheme: saved .AdaptiveLossWeights., now .AutoSelect."):
        selected().load_state_dict(AdaptiveLossWeights(PAIR).state_dict())


BAD = [
    ({"window": 99}, "window must be a whole number of at least 100"),
    ({"norm_ratio": 0.0}, "norm_ratio must be above 0"),
    ({"drift": -1.0}, "drift must be above 0"),
    ({"cosine": math.nan}, "cosine must be a finite number"),
    ({"candidates": {"Config": SoftAdapt}}, "Did you mean 'ConFIG'"),
    ({"candidates": {"ConFIG": 3}}, "must be called with the names"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        AutoSelect(PAIR, **options)


def gradients_of(weighting, *, steps, applied=True):
    """Steps of an engine on two losses whose gradients are (3, 0) and (0, 1/10): 30 times apart."""
    torch = pytest.importorskip("torch")
    params = [torch.ones(2, requires_grad=True)]
    for step in range(steps):
        owner = weighting.active_weighting
        losses = {"a": 3 * params[0][0], "b": params[0][1] / 10}
        if hasattr(owner, "balance"):
            owner.balance(losses, params, epoch=0, step=step)
        (owner.apply_update if applied else owner.discard_update)()
        values = {name: value.item() for name, value in losses.items()}
        weighting.observe(values, epoch=0, step=step, split="train")


def test_an_engine_has_the_gradients_noted_once_in_each_tenth_of_the_window():
    selection = AutoSelect(["a", "b"], window=100)
    gradients_of(selection, steps=100)
    assert selection.choice == "GradientNormWeights"
    assert selection.evidence["notes"] == 10
    assert selection.evidence["norm_ratio"] == pytest.approx(30.0)
    assert selection.evidence["cosine"] == pytest.approx(0.0)
    assert selection.evidence["skipped"] == []


def test_gradients_of_skipped_steps_are_not_noted():
    selection = AutoSelect(["a", "b"], window=100)
    gradients_of(selection, steps=100, applied=False)
    assert selection.choice == "fixed"
    assert selection.evidence["notes"] == 0


def test_gradients_are_summed_over_ranks_before_they_are_compared():
    torch = pytest.importorskip("torch")
    selection = AutoSelect(["a", "b"], window=100)
    params = [torch.ones(2, requires_grad=True)]
    losses = {"a": 3 * params[0][0], "b": params[0][1]}
    other = torch.tensor([[0.0, 4.0], [0.0, 0.0]])  # of the other rank: |(3, 4)| = 5, cosine 4/5
    owner = selection.active_weighting
    owner.balance(losses, params, epoch=0, step=0, reduce=lambda rows: rows + other)
    owner.apply_update()
    notes = selection.state_dict()["notes"]
    assert notes["norms"] == [[5.0, 1], [1.0, 1]]
    assert notes["cosines"] == [pytest.approx(0.8), 1]
