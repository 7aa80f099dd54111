"""Scores per lead time: hand values, oracles, baselines, merging of batches."""

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import (
    RolloutErrors,
    correlation_time,
    lead_mean,
    nmse,
    paired_noise_floor,
    relative_l2,
    rollout_errors,
    rollout_scores,
    score_errors,
    spectrum_error,
    vrmse,
)
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)


def exact(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def line(*cells: float) -> torch.Tensor:
    """One sample, one channel, one axis of space."""
    return torch.tensor(cells)[None, None]


# Two leads of one trajectory on two cells; initial state (1, 1).
INITIAL = line(1.0, 1.0)
TARGET = torch.stack([line(2.0, 4.0), line(3.0, 1.0)], dim=1)
PRED = torch.stack([line(2.0, 3.0), line(0.0, 1.0)], dim=1)
MEAN = torch.tensor([[3.0], [1.0]])


def test_hand_values():
    got = rollout_scores(PRED, TARGET, initial=INITIAL, mean=MEAN, spatial_dims=1)
    assert got.lead_times == (1, 2)
    values = {name: estimate.value for name, estimate in got.metrics.items()}
    assert_close(values["mse"], exact(0.5, 4.5))  # (0 + 1) / 2, (9 + 0) / 2
    assert_close(values["nmse"], exact(0.5 / 10, 4.5 / 5))  # <t^2> = (4 + 16) / 2, (9 + 1) / 2
    assert_close(values["vrmse"], exact(math.sqrt(0.5), math.sqrt(4.5)))  # both variances 1
    assert_close(values["relative_l2"], exact(math.sqrt(1 / 20), math.sqrt(9 / 10)))
    skill = {name: estimate.value for name, estimate in got.skill.items()}
    assert_close(skill["zero"], exact(1 - 0.5 / 10, 1 - 4.5 / 5))
    assert_close(skill["persistence"], exact(1 - 0.5 / 5, 1 - 4.5 / 2))  # (1 + 9) / 2, (4 + 0) / 2
    assert_close(skill["mean"], exact(1 - 0.5 / 1, 1 - 4.5 / 2))  # (1 + 1) / 2, (4 + 0) / 2
    assert_close(got.baselines["persistence"]["mse"].value, exact(5.0, 2.0))
    assert_close(got.baselines["persistence"]["nmse"].value, exact(0.5, 0.4))
    assert_close(got.baselines["mean"]["vrmse"].value, exact(1.0, math.sqrt(2.0)))


def test_the_truth_as_model_is_perfect(fields):
    path = fields(0, 4, 6, 2, 8, 8)
    initial, target = path[:, 0], path[:, 1:]
    got = rollout_scores(target, target, initial=initial, mean=lead_mean(target))
    for estimate in got.metrics.values():
        assert torch.equal(estimate.value, torch.zeros(5).double())
    for estimate in got.skill.values():
        assert torch.equal(estimate.value, torch.ones(5).double())
        assert torch.equal(estimate.low, estimate.high)
    assert correlation_time(target, target, frame_interval=1.0).censored


def test_each_baseline_as_model_has_no_skill_over_itself(fields):
    path = fields(1, 4, 6, 2, 8, 8) + 1.0
    initial, target = path[:, 0], path[:, 1:]
    mean = lead_mean(target)
    zero = torch.zeros(5).double()
    models = {
        "persistence": initial[:, None].expand_as(target),
        "mean": mean[None, :, :, None, None].expand_as(target),
        "zero": torch.zeros_like(target),
    }
    for name, model in models.items():
        got = rollout_scores(model, target, initial=initial, mean=mean)
        assert torch.equal(got.skill[name].value, zero)
        assert torch.equal(got.skill[name].low, zero)
        assert torch.equal(got.skill[name].high, zero)
        assert_close(got.baselines[name]["mse"].value, got.metrics["mse"].value)
        assert_close(got.baselines[name]["vrmse"].high, got.metrics["vrmse"].high)
    assert_close(got.metrics["nmse"].value, torch.ones(5).double())


def test_the_mean_is_the_best_constant(fields):
    target = fields(2, 8, 3, 2, 4, 4) + torch.arange(3.0).view(3, 1, 1, 1)
    mean = lead_mean(target)
    assert_close(mean, target.movedim((1, 2), (0, 1)).flatten(2).mean(-1))
    initial = torch.zeros_like(target[:, 0])
    score = rollout_scores(target, target, initial=initial, mean=mean).baselines["mean"]["mse"]
    worse = rollout_scores(target, target, initial=initial, mean=mean + 0.1)
    assert_close(worse.baselines["mean"]["mse"].value, score.value + 0.01)


def test_batches_merge_into_the_whole(fields):
    path, pred = fields(3, 7, 5, 2, 8, 8), fields(4, 7, 4, 2, 8, 8)
    whole = rollout_errors(pred, path[:, 1:], initial=path[:, 0])
    parts = [
        rollout_errors(pred[s], path[s, 1:], initial=path[s, 0])
        for s in (slice(0, 3), slice(3, 4), slice(4, 7))
    ]
    merged = RolloutErrors.concatenate(parts)
    for field in dataclasses.fields(RolloutErrors):
        assert_close(getattr(merged, field.name), getattr(whole, field.name), rtol=0, atol=0)
    assert score_errors(merged).as_dict() == score_errors(whole).as_dict()


def test_single_metrics_agree_with_the_functions(fields):
    path, pred = fields(5, 3, 4, 2, 16, 8), fields(6, 3, 3, 2, 16, 8)
    target = path[:, 1:]
    box = (2.0, 1.0)
    got = rollout_scores(pred, target, initial=path[:, 0], ddof=1, lengths=box, ratios="per_sample")
    for lead in range(3):
        p, t = pred[:, lead], target[:, lead]
        assert_close(got.metrics["nmse"].value[lead], nmse(p, t))
        assert_close(got.metrics["vrmse"].value[lead], vrmse(p, t, ddof=1))
        assert_close(got.metrics["relative_l2"].value[lead], relative_l2(p, t))
        assert_close(got.metrics["spectrum_error"].value[lead], spectrum_error(p, t, lengths=box))
        assert spectrum_error(p, t, lengths=box) != spectrum_error(p, t)


def test_pooled_ratios_are_not_ruled_by_a_dead_sample():
    target = torch.tensor([2.0, 1e-6]).view(2, 1, 1, 1).expand(2, 1, 1, 4)
    pred = target + 0.1
    initial = torch.zeros(2, 1, 4)
    pooled = rollout_scores(pred, target, initial=initial, spatial_dims=1)
    each = rollout_scores(pred, target, initial=initial, spatial_dims=1, ratios="per_sample")
    assert_close(pooled.metrics["nmse"].value, exact(0.01 / 2.0), rtol=1e-5, atol=0)
    assert each.metrics["nmse"].value > 1e9


def test_scale_puts_channels_on_one_footing(fields):
    path, pred = fields(7, 3, 4, 2, 8, 8), fields(8, 3, 3, 2, 8, 8)
    unit = torch.tensor([100.0, 1e-3]).double()
    factor = unit.view(2, 1, 1)
    floor = fields(9, 3, 2).square()
    options = {"initial": path[:, 0], "mean": lead_mean(path[:, 1:]), "noise_floor": floor}
    plain = rollout_scores(pred, path[:, 1:], **options)
    units = rollout_scores(
        pred * factor,
        path[:, 1:] * factor,
        initial=path[:, 0] * factor,
        mean=options["mean"] * unit,
        noise_floor=floor * unit.square(),
        scale=unit,
    )
    for name in plain.metrics:
        assert_close(units.metrics[name].value, plain.metrics[name].value)
    for name in plain.skill:
        assert_close(units.skill[name].low, plain.skill[name].low)


def test_the_noise_floor_is_the_best_anyone_can_do(fields):
    signal = fields(10, 400, 2, 1, 4, 4)
    noise = torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)  # standard deviation per lead
    first, second = (signal + noise * fields(s, 400, 2, 1, 4, 4) for s in (11, 12))
    floor = paired_noise_floor(first, second)
    assert_close(floor, exact(0.25, 4.0)[:, None], rtol=0.04, atol=0)  # 6400 pairs: sd 2 %
    got = rollout_scores(signal, first, initial=signal[:, 0], noise_floor=floor)
    assert (got.skill["noise_floor"].value.abs() < 0.06).all()
    assert torch.equal(paired_noise_floor(first, first), torch.zeros(2, 1).double())


def test_intervals_are_those_of_the_skill_itself(fields):
    # Samples differ in size by decades: only a paired bootstrap sees that the skill is constant.
    size = 10 ** fields(13, 12, 1, 1, 1, 1)
    target = size * fields(14, 12, 3, 1, 8, 8)
    initial = torch.zeros_like(target[:, 0])
    got = rollout_scores(0.5 * target, target, initial=initial)
    for end in (got.skill["zero"].value, got.skill["zero"].low, got.skill["zero"].high):
        assert_close(end, torch.full((3,), 0.75).double())
    assert (got.metrics["mse"].high > 1.5 * got.metrics["mse"].low).all()


def test_chosen_leads_are_the_same_scores(fields):
    path, pred = fields(15, 3, 9, 1, 8, 8), fields(16, 3, 8, 1, 8, 8)
    every = rollout_scores(pred, path[:, 1:], initial=path[:, 0], mean=lead_mean(path[:, 1:]))
    some = rollout_scores(
        pred, path[:, 1:], initial=path[:, 0], mean=lead_mean(path[:, 1:]), lead_times=(2, 8)
    )
    assert some.lead_times == (2, 8)
    assert some.rows()[1].keys() == every.at(8).keys()
    for name in some.at(8):
        if name != "lead":
            assert_close(some.at(8)[name].high, every.at(8)[name].high)
    assert [row["lead"] for row in every.rows((1, 4))] == [1, 4]


def test_diverged_samples_are_counted_and_show(fields):
    path = fields(17, 4, 4, 1, 8, 8)
    pred = path[:, 1:].clone()
    pred[1, 1:, 0, 3, 3] = math.nan
    pred[2, 2] = math.inf
    got = rollout_scores(pred, path[:, 1:], initial=path[:, 0])
    assert got.num_diverged == (0, 1, 2)
    assert got.num_samples == 4
    assert got.metrics["mse"].value[0] == 0
    assert not got.metrics["mse"].value[1:].isfinite().any()


@pytest.mark.parametrize("shape", [(12,), (6, 5), (4, 5, 6)])
def test_any_number_of_space_axes(fields, shape):
    path = fields(18, 2, 3, 2, *shape)
    got = rollout_scores(
        path[:, 1:] * 0.9, path[:, 1:], initial=path[:, 0], spatial_dims=len(shape)
    )
    assert_close(got.metrics["nmse"].value, exact(0.01, 0.01))
    assert_close(got.metrics["relative_l2"].value, exact(0.1, 0.1))
    assert_close(got.metrics["spectrum_error"].value, exact(1, 1) * (2 * math.log(0.9)) ** 2)


@given(seed=SEEDS, dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_sums_are_float64_on_the_cpu(fields, seed, dtype):
    path, pred = fields(seed, 2, 3, 1, 8, 8).to(dtype), fields(seed + 1, 2, 2, 1, 8, 8).to(dtype)
    got = rollout_errors(pred, path[:, 1:], initial=path[:, 0])
    wide = rollout_errors(pred.double(), path[:, 1:].double(), initial=path[:, 0].double())
    for name in ("error", "power", "variance", "relative_l2"):
        assert getattr(got, name).dtype == torch.float64
        assert_close(getattr(got, name), getattr(wide, name), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [None, torch.tensor([3.0])])
def test_round_off_of_float32_data_is_no_spectrum(scale):
    x = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    target = torch.cos(3 * x).expand(1, 1, 1, 16, 16).float()  # one shell, the rest is round-off
    pred = 2 * target + torch.cos(5 * x)[:, None].float()
    got = rollout_scores(pred, target, initial=target[:, 0], scale=scale)
    value = got.metrics["spectrum_error"].value
    assert_close(value, exact(math.log(4) ** 2), rtol=1e-5, atol=0)


def test_scores_go_into_json(fields):
    path = fields(19, 2, 3, 1, 8, 8)
    got = rollout_scores(path[:, 1:] + 0.1, path[:, 1:], initial=path[:, 0])
    back = json.loads(json.dumps(got.as_dict()))
    assert back["metrics"]["mse"]["value"] == pytest.approx([0.01, 0.01])
    assert back["skill"].keys() == back["baselines"].keys() == {"zero", "persistence"}


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    path = fields(20, 2, 4, 3, 8, 8)
    initial, target = path[:, 0], path[:, 1:]
    with pytest.raises(ValueError, match=r"\(2, 3, 3, 8, 8\) and \(2, 4, 3, 8, 8\)"):
        rollout_errors(target, path, initial=initial)
    with pytest.raises(ValueError, match=r"initial has shape \(1, 3, 8, 8\).*\(2, 3, 8, 8\)"):
        rollout_errors(target, target, initial=path[:1, 0])
    with pytest.raises(ValueError, match=r"mean has shape \(4, 3\).*\(3, 3\)"):
        rollout_errors(target, target, initial=initial, mean=lead_mean(path))
    with pytest.raises(ValueError, match=r"scale has shape \(2,\).*\(3,\)"):
        rollout_errors(target, target, initial=initial, scale=torch.ones(2))
    for leads in [(0, 1), (1, 4), (2, 1), (1, 1), ()]:
        with pytest.raises(ValueError, match=r"lead_times=\("):
            rollout_errors(target, target, initial=initial, lead_times=leads)
    errors = rollout_errors(target, target, initial=initial)
    with pytest.raises(ValueError, match="ratios='mean'"):
        score_errors(errors, ratios="mean")
    with pytest.raises(ValueError, match="lead time 9"):
        score_errors(errors).at(9)
    other = rollout_errors(target, target, initial=initial, lead_times=(1,))
    with pytest.raises(ValueError, match="one set of lead times"):
        RolloutErrors.concatenate([errors, other])
    with pytest.raises(ValueError, match="0 batches"):
        RolloutErrors.concatenate([])
