"""NaN, zero, negative, missing and unknown terms, under every rule that goes by gradients."""

import math

import pytest
import torch
from nops_schedules.gradient import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    GradientNormWeights,
    GradNorm,
    InverseDirichlet,
    LearningRateAnnealing,
    NTKWeights,
    PCGrad,
    TorchJD,
    UncertaintyWeights,
    UPGrad,
)

AT = {"epoch": 0, "step": 0}
NAMES = ["a", "b", "c"]
BALANCED = {
    "norm": GradientNormWeights,
    "max_mean": lambda n, **o: LearningRateAnnealing(n, reference="a", **o),
    "mean_mean": lambda n, **o: LearningRateAnnealing(n, reference="a", variant="mean_mean", **o),
    "over_weight": lambda n, **o: LearningRateAnnealing(
        n, reference="a", variant="max_mean_over_weight", **o
    ),
    "dirichlet": InverseDirichlet,
    "dirichlet of a": lambda n, **o: InverseDirichlet(n, reference="a", **o),
    "grad_norm": GradNorm,
    "kernel": NTKWeights,
    "probes": lambda n, **o: NTKWeights(n, method="hutchinson", **o),
}
JOINED = {made.__name__: made for made in (AlignedMTL, CAGrad, ConFIG, IMTLG, MGDA, PCGrad, UPGrad)}
JOINED["TorchJD"] = lambda n: TorchJD(n, lambda gram: torch.full((len(gram),), 1 / len(gram)))
each = pytest.mark.parametrize("make", BALANCED.values(), ids=BALANCED)
join = pytest.mark.parametrize("make", JOINED.values(), ids=JOINED)


def terms(scale=(1.0, 3.0, 0.5), *, shift=0.0):
    """Residuals, losses (lower by `shift`) and parameters; gradients differ by `scale`."""
    x = torch.tensor([0.7, -0.4, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[1, 2, 0, -1], [0, 1, 3, 1], [2, 0, 1, 1]], dtype=torch.float64)
    residuals = {n: k * (row * x) for n, k, row in zip(NAMES, scale, rows, strict=True)}
    losses = {name: r.square().mean() - shift for name, r in residuals.items()}
    return residuals, losses, [x]


def balanced(weighting, without=(), *, step=0, **more):
    residuals, losses, params = terms(**more)
    kept = [name for name in NAMES if name not in without]
    if hasattr(weighting, "note_residuals"):
        weighting.note_residuals({name: residuals[name] for name in kept})
    weighting.balance({n: losses[n] for n in kept}, params, epoch=0, step=step)
    return weighting.weights(**AT)


@each
def test_a_missing_term_keeps_its_weight_and_does_not_drive_the_others(make):
    found = balanced(make(NAMES), without=["c"])
    assert found["c"] == 1.0
    assert {found["a"], found["b"]} != {1.0}
    if make is not BALANCED["probes"]:  # which draws for one term after the other
        assert found == balanced(make(["a", "b"]), without=["c"]) | {"c": 1.0}
    weighting = make(NAMES, every=1)
    before = balanced(weighting)
    after = balanced(weighting, without=["c"], step=1, scale=(2.0, 1.0, 9.0))
    assert after["c"] == before["c"]
    assert after != before


@each
def test_an_unknown_term_is_an_error_that_changes_nothing(make):
    weighting = make(["a", "b"], every=1)
    balanced(weighting, without=["c"])
    before = weighting.state_dict()
    with pytest.raises(KeyError, match=r"\['c'\] are no terms"):
        balanced(weighting, step=1)
    assert weighting.state_dict() == before


@pytest.mark.parametrize("name", [name for name in BALANCED if name != "grad_norm"])
def test_a_negative_value_says_nothing_to_what_measures_gradients(name):
    make = BALANCED[name]
    assert balanced(make(NAMES), shift=1e4) == balanced(make(NAMES))


def test_a_negative_value_is_an_error_of_grad_norm_that_changes_nothing():
    weighting = GradNorm(NAMES)
    balanced(weighting)
    before = weighting.state_dict()
    with pytest.raises(ValueError, match=r"\['a', 'b', 'c'\] are negative"):
        balanced(weighting, step=1, shift=1e4)
    assert weighting.state_dict() == before


@each
def test_terms_of_zero_keep_all_weights(make):
    weighting = make(NAMES, every=1)
    before = balanced(weighting)
    assert balanced(weighting, step=1, scale=(0.0, 0.0, 0.0)) == before


@each
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_term_that_is_not_finite_deletes_and_resets_nothing(make, bad):
    weighting = make(NAMES, every=1)
    balanced(weighting)
    before = weighting.state_dict()
    balanced(weighting, step=1, scale=(1.0, bad, 3.0))
    assert weighting.state_dict() == before


def joint(weighting, without=(), **more):
    _, losses, params = terms(**more)
    weighting.backward({n: v for n, v in losses.items() if n not in without}, params)
    return params[0].grad


@join
def test_aggregators_leave_a_missing_term_out_and_take_negative_ones(make):
    torch.testing.assert_close(
        joint(make(NAMES), without=["b"]), joint(make(["a", "c"]), without=["b"])
    )
    assert torch.equal(joint(make(NAMES), shift=1e4), joint(make(NAMES)))
    with pytest.raises(KeyError, match=r"\['c'\] are no terms"):
        joint(make(["a", "b"]))


@pytest.mark.parametrize("form", ["kendall", "imtl_l"])
def test_uncertainty_weights(form):
    made = UncertaintyWeights(NAMES, form=form, lr=0.5)

    def show(**values):
        made.observe(values, epoch=0, step=0, split="train")
        return made.weights(**AT)

    before = show(a=1.0, b=4.0, c=0.3)
    for bad in (math.nan, math.inf):
        after = show(a=2.0, b=bad)
        assert (after["b"], after["c"]) == (before["b"], before["c"])
        assert after["a"] != before["a"]
        before = after
    state = made.state_dict()
    with pytest.raises(KeyError, match=r"\['d'\] are no terms"):
        show(a=1.0, b=1.0, c=1.0, d=1.0)
    with pytest.raises(ValueError, match="b is negative"):
        show(a=1.0, b=-1.0, c=1.0)
    assert made.state_dict()["scales"] == state["scales"]


@pytest.mark.filterwarnings("ignore:the weights of b .* were clamped:UserWarning")
def test_no_finite_weight_is_best_for_a_term_of_zero_and_the_clamp_holds():
    made = UncertaintyWeights(NAMES, lr=0.5)
    for step in range(60):
        made.observe({"a": 1.0, "b": 0.0, "c": 1.0}, epoch=0, step=step, split="train")
    assert made.weights(**AT)["b"] == 1e4
    assert made.clamped_terms["b"] > 0
