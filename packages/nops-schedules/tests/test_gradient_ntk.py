"""Traces of the neural tangent kernel: against an explicit Jacobian, without bias, and by note_residuals."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_schedules.gradient import NTKWeights
from nops_schedules.gradient._ntk import exact_trace, hutchinson_trace

AT = {"epoch": 0, "step": 0}


def line():
    """u = a x + b at x = -1, 0, 1: gradients (x, 1), so the trace is 2 + 3."""
    a, b = (torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    return a * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) + b, [a, b]


def network(seed=0, points=7):
    """Residuals u'' - u of a small network, and its parameters."""
    draws = torch.Generator().manual_seed(seed)
    shapes = [(1, 5), (5,), (5, 1)]
    w, b, v = (
        torch.randn(s, generator=draws, dtype=torch.float64).requires_grad_() for s in shapes
    )
    x = torch.linspace(-1, 1, points, dtype=torch.float64)[:, None].requires_grad_()
    u = torch.tanh(x @ w + b) @ v
    first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x, create_graph=True)[0]
    return (second - u)[:, 0], [w, b, v]


def explicit(residual, params):
    """The Jacobian, row by row."""
    rows = [torch.autograd.grad(r, params, retain_graph=True, allow_unused=True) for r in residual]
    return torch.stack([torch.cat([g.reshape(-1) for g in row if g is not None]) for row in rows])


@pytest.mark.parametrize("chunk", [1, 2, 3, 256])
def test_trace_of_a_line_is_5(chunk):
    residual, params = line()
    assert exact_trace(residual, params, chunk=chunk).item() == 5.0


@given(seed=st.integers(0, 99), chunk=st.integers(1, 9))
def test_exact_is_the_trace_of_an_explicit_kernel(seed, chunk):
    residual, params = network(seed)
    J = explicit(residual, params)
    expected = (J @ J.T).trace().item()
    assert exact_trace(residual, params, chunk=chunk).item() == pytest.approx(expected, rel=1e-12)


def test_hutchinson_has_no_bias():
    residual, params = network()
    J = explicit(residual, params)
    kernel = (J @ J.T).detach()
    draws, count = torch.Generator().manual_seed(1), 4000
    found = hutchinson_trace(residual, params, probes=count, generator=draws).item()
    # variance of one probe over random signs: 2 times the squares off the diagonal
    deviation = (2 * (kernel.square().sum() - kernel.diagonal().square().sum())).sqrt().item()
    assert abs(found - kernel.trace().item()) < 3 * deviation / math.sqrt(count)
    one = hutchinson_trace(residual, params, probes=1, generator=draws).item()
    assert one != pytest.approx(kernel.trace().item(), rel=1e-6)


def noted(weighting, vectors, params, *, step=0, **more):
    losses = {name: vector.square().mean() for name, vector in vectors.items()}
    weighting.note_residuals(vectors)
    weighting.balance(losses, params, epoch=0, step=step, **more)
    return list(weighting.weights(**AT).values())


def test_weights_by_means_and_by_sums():
    residual, params = line()
    vectors = {"pde": residual, "bc": 2 * residual[2:]}  # traces 5 of 3 points, 4 (1 + 1) of 1
    means = noted(NTKWeights(["pde", "bc"]), vectors, params)
    average = (5 / 3 + 8) / 2
    assert means == pytest.approx([average / (5 / 3), average / 8], rel=1e-12)
    sums = noted(NTKWeights(["pde", "bc"], reduction="sum"), vectors, params)
    assert sums == pytest.approx([13 / 5, 13 / 8], rel=1e-12)


def test_more_points_of_the_same_do_not_change_the_weights_by_means():
    residual, params = line()
    once = noted(NTKWeights(["a", "b"]), {"a": residual, "b": residual**2}, params)
    twice = {"a": residual.repeat(2), "b": residual**2}
    assert noted(NTKWeights(["a", "b"]), twice, params) == pytest.approx(once, rel=1e-12)


def test_probes_are_drawn_from_seed_and_step():
    residual, params = network()
    vectors = {"a": residual, "b": residual**2}

    def ask(seed, step):
        weighting = NTKWeights(["a", "b"], method="hutchinson", seed=seed)
        torch.rand(3)  # moves the global generator
        return noted(weighting, vectors, params, step=step)

    assert ask(0, 0) == ask(0, 0)
    assert ask(0, 0) != ask(1, 0)
    assert ask(0, 0) != ask(0, 100)


@pytest.mark.parametrize(("method", "passes"), [("exact", 3), ("hutchinson", 2)])
def test_backward_passes(method, passes):
    residual, params = line()
    calls = []
    residual.register_hook(lambda grad: calls.append(1))
    weighting = NTKWeights(["a"], method=method, probes=2, chunk=1, every=2)
    for step in range(3):
        noted(weighting, {"a": residual}, params, step=step)
        assert len(calls) == (passes if step != 1 else 0)
        calls.clear()
    whole = NTKWeights(["a"], chunk=256)
    noted(whole, {"a": residual}, params)
    assert len(calls) == 1  # of all points in one traversal


def test_without_residuals_the_hook_is_named():
    residual, params = line()
    weighting = NTKWeights(["a", "b"])
    weighting.note_residuals({"a": residual})
    losses = {"a": residual.sum(), "b": residual.sum()}
    with pytest.raises(ValueError, match=r"no residuals of \['b'\]: hand them to note_residuals"):
        weighting.balance(losses, params, **AT)
    with pytest.raises(KeyError, match=r"\['c'\] are no terms"):
        weighting.note_residuals({"c": residual})


def test_residuals_count_for_one_step():
    residual, params = line()
    weighting = NTKWeights(["a"], every=1)
    noted(weighting, {"a": residual}, params)
    with pytest.raises(ValueError, match="no residuals"):
        weighting.balance({"a": residual.sum()}, params, epoch=0, step=1)


def test_what_says_nothing_and_what_is_not_finite():
    residual, params = line()
    nothing = torch.zeros(3, dtype=torch.float64)
    weighting = NTKWeights(["a", "b", "c"], every=1)
    vectors = {"a": residual, "b": 2 * residual, "c": nothing}
    found = noted(weighting, vectors, params)
    assert found == pytest.approx([2.5, 2.5 / 4, 1.0])  # t = 5/3, 20/3: mean 25/6
    assert noted(weighting, {**vectors, "a": math.nan * residual}, params, step=1) == found


def test_frozen_and_unused_parameters():
    residual, params = line()
    vectors = {"a": residual, "b": residual**2}
    expected = noted(NTKWeights(["a", "b"]), vectors, params)
    more = [torch.ones(2), *params, torch.ones(2, requires_grad=True)]
    assert noted(NTKWeights(["a", "b"]), vectors, more) == expected


def test_reduce_sums_traces_and_points():
    residual, params = line()
    vectors = {"a": residual, "b": residual[:1]}
    alone = noted(NTKWeights(["a", "b"]), vectors, params)
    assert noted(NTKWeights(["a", "b"]), vectors, params, reduce=lambda t: 2 * t) == alone
