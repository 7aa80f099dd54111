"""Shuffled inputs and diversity over parameters."""

import collections
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import derangement, diversity_ratio, shuffle_ratio
from torch.testing import assert_close


@given(num_samples=st.integers(2, 64), seed=st.integers(0, 2**31 - 1))
def test_a_derangement_moves_every_element(num_samples, seed):
    order = derangement(num_samples, seed=seed)
    assert sorted(order.tolist()) == list(range(num_samples))
    assert not (order == torch.arange(num_samples)).any()
    assert torch.equal(order, derangement(num_samples, seed=seed))


def test_all_derangements_of_four_are_equally_likely():
    counts = collections.Counter(tuple(derangement(4, seed=s).tolist()) for s in range(1800))
    assert len(counts) == 9
    assert all(140 < count < 260 for count in counts.values())  # 200 each, sd 13.3


def test_it_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    derangement(8)
    assert torch.equal(state, torch.random.get_rng_state())


def test_one_sample_cannot_move():
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        derangement(1)


@given(
    groups=st.lists(st.integers(-2, 4), min_size=2, max_size=30).filter(lambda g: len(set(g)) > 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_as_few_as_possible_are_given_one_of_their_group(groups, seed):
    group, num = torch.tensor(groups), len(groups)
    order = derangement(num, groups=group, seed=seed)
    assert sorted(order.tolist()) == list(range(num))
    largest = max(collections.Counter(groups).values())
    assert int((group[order] == group).sum()) == max(0, 2 * largest - num)
    assert torch.equal(order, derangement(num, groups=group, seed=seed))


def test_who_of_another_group_is_drawn():
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    counts = collections.Counter(
        tuple(derangement(6, groups=groups, seed=s).tolist()) for s in range(800)
    )
    assert len(counts) == 8  # two ways round the circle, four ways to pair along it
    assert all(60 < count < 140 for count in counts.values())  # 100 each, sd 9.4


@pytest.mark.parametrize("groups", [[1, 1, 1], [0, 1]])
def test_groups_that_allow_no_derangement(groups):
    with pytest.raises(ValueError, match="need 3 numbers, at least two of them different, got"):
        derangement(3, groups=torch.tensor(groups))


def drift(initial: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """A model: the initial state plus lead time times the parameter, two leads."""
    rate = parameters[:, 0].view(-1, 1, 1, 1)
    return torch.stack([initial + rate, initial + 2 * rate], dim=1)


def problem(fields):
    initial = fields(0, 5, 1, 3, 3)
    parameters = torch.tensor([0.0, 1.0, 3.0, 4.0, 8.0]).double()[:, None]
    return initial, parameters, drift(initial, parameters) + 0.5


def test_parameter_shuffle_by_hand(fields):
    initial, parameters, target = problem(fields)
    got = shuffle_ratio(drift, initial, parameters, target, seed=3)
    moved = parameters[got.permutation, 0] - parameters[:, 0]
    # Every cell is off by lead * moved - 0.5 when shuffled, by -0.5 when not.
    expected = [((lead * moved - 0.5) ** 2).mean() / 0.25 for lead in (1, 2)]
    assert_close(got.ratio.value, torch.stack(expected))
    assert (got.ratio.low < got.ratio.value).all()
    assert torch.equal(got.permutation, derangement(5, seed=3))
    assert not torch.equal(got.permutation, derangement(5, seed=0))
    assert got.lead_times == (1, 2)


@pytest.mark.parametrize("seed", range(5))
def test_realisations_of_one_parameter_are_not_given_each_others(fields, seed):
    initial = fields(0, 6, 1, 3, 3)
    parameters = torch.tensor([0.0, 0.0, 1.0, 1.0, 3.0, 3.0]).double()[:, None]
    target = drift(initial, parameters) + 0.5
    got = shuffle_ratio(drift, initial, parameters, target, seed=seed)
    assert (parameters[got.permutation] != parameters).all()


def test_initial_shuffle_by_hand(fields):
    initial, parameters, target = problem(fields)
    got = shuffle_ratio(
        drift, initial, parameters, target, shuffle="initial", lead_times=(2,), seed=4
    )
    moved = initial[got.permutation] - initial
    expected = ((moved - 0.5) ** 2).mean() / 0.25
    assert_close(got.ratio.value, expected[None])


def test_an_ignored_input_has_ratio_exactly_one(fields):
    initial, parameters, target = problem(fields)

    def blind(state, theta):
        return drift(state, 0 * theta)

    got = shuffle_ratio(blind, initial, parameters, target)
    for end in (got.ratio.value, got.ratio.low, got.ratio.high):
        assert torch.equal(end, torch.ones(2).double())


def test_a_plain_rollout_at_hand_is_not_made_again(fields):
    initial, parameters, target = problem(fields)
    calls = []

    def counted(state, theta):
        calls.append(torch.is_grad_enabled())
        return drift(state, theta)

    pred = drift(initial, parameters)
    got = shuffle_ratio(counted, initial, parameters, target, pred=pred)
    assert calls == [False]
    plain = shuffle_ratio(drift, initial, parameters, target)
    assert_close(got.ratio.value, plain.ratio.value)


def test_scale_weighs_channels(fields):
    initial, parameters, target = problem(fields)
    pair = torch.cat([initial, initial], dim=1)
    double = torch.cat([target, 1000 + target], dim=2)

    def both(state, theta):
        path = drift(state[:, :1], theta)
        return torch.cat([path, path], dim=2)

    scale = torch.tensor([1.0, 1e9])
    got = shuffle_ratio(both, pair, parameters, double, scale=scale)
    alone = shuffle_ratio(drift, initial, parameters, target)
    assert_close(got.ratio.value, alone.ratio.value, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("unchecked")
def test_shuffles_that_cannot_be_made(fields):
    initial, parameters, target = problem(fields)
    with pytest.raises(ValueError, match="all 5 samples share one parameters"):
        shuffle_ratio(drift, initial, 0 * parameters, target)
    with pytest.raises(ValueError, match="at least 2 samples"):
        shuffle_ratio(drift, initial[:1], parameters[:1], target[:1])
    with pytest.raises(ValueError, match="shuffle='theta'"):
        shuffle_ratio(drift, initial, parameters, target, shuffle="theta")
    long = torch.cat([target, target], dim=1)
    with pytest.raises(ValueError, match="2 steps; lead 4"):
        shuffle_ratio(drift, initial, parameters, long)


def test_diversity_by_hand(fields):
    target = fields(1, 4, 8, 3, 2, 5, 5)
    centre = target.mean(1, keepdim=True)
    pred = centre + torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1, 1) * (target - centre)
    assert_close(diversity_ratio(pred, target), torch.tensor([1.0, 0.25, 0.0]).double())


def test_diversity_is_a_ratio_of_means_at_fixed_initial_state(fields):
    # Two initial states, two parameters, one cell: variances 2 and 8 of the truth, 8 and 8.
    target = torch.tensor([[0.0, 2.0], [10.0, 14.0]]).view(2, 2, 1, 1, 1, 1)
    pred = torch.tensor([[0.0, 4.0], [-50.0, -54.0]]).view(2, 2, 1, 1, 1, 1)
    assert_close(diversity_ratio(pred, target), torch.tensor([1.6]).double())


def test_diversity_with_scale_and_without_truth(fields):
    target = fields(2, 2, 3, 1, 2, 4, 4)
    pred = target * torch.tensor([1.0, 3.0]).view(2, 1, 1)
    weighed = diversity_ratio(pred, target, scale=torch.tensor([1.0, 1e8]))
    assert_close(weighed, torch.tensor([1.0]).double(), rtol=1e-9, atol=0)
    constant = target[:, :1].expand_as(target)
    assert diversity_ratio(target, constant).item() == math.inf


@pytest.mark.usefixtures("unchecked")
def test_diversity_needs_two_parameter_sets(fields):
    field = fields(3, 2, 1, 1, 1, 4, 4)
    with pytest.raises(ValueError, match="at least 2 parameter sets, got 1"):
        diversity_ratio(field, field)
    with pytest.raises(ValueError, match="leading axes"):
        diversity_ratio(field[0], field[0])
