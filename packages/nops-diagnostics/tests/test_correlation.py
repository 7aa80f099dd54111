"""Correlation time: closed forms, conventions, censoring, what is undefined."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import correlation, correlation_time, correlation_times
from nops_diagnostics._correlation import _first_crossing
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)


def mixed(r: torch.Tensor, waves) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and target whose correlation is exactly `r [sample, time]`: cos and sin mixed."""
    cosine, sine = waves(torch.zeros_like(r)), waves(torch.full_like(r, -math.pi / 2))
    share = r.double()[..., None, None, None]
    return share * cosine + (1 - share.square()).sqrt() * sine, cosine


def test_a_linear_loss_crosses_where_the_line_does(waves):
    lead = torch.arange(1, 9, dtype=torch.float64)
    pred, target = mixed((1 - 0.1 * lead)[None], waves)
    got = correlation_time(pred, target, frame_interval=0.5)
    assert got.time == pytest.approx(1.0, abs=1e-12)  # 1 - 0.1 t = 0.8 at lead 2, time 2 * 0.5
    assert not got.censored
    assert_close(got.curve, 1 - 0.1 * lead)
    assert correlation_time(pred, target, frame_interval=0.5, threshold=0.55).time == pytest.approx(
        2.25
    )


def test_waves_running_apart_lose_it_as_a_cosine(waves):
    # Phases part by 0.25 per lead: r = cos(0.25 t), below 0.8 first at lead 3.
    phase = 0.25 * torch.arange(1, 13, dtype=torch.float64)[None]
    pred, target = waves(phase + 0.3), waves(torch.zeros_like(phase) + 0.3)
    r2, r3 = math.cos(0.5), math.cos(0.75)
    assert r2 > 0.8 > r3
    got = correlation_time(pred, target, frame_interval=2.0)
    assert got.time == pytest.approx(2.0 * (2 + (r2 - 0.8) / (r2 - r3)), rel=1e-12)
    step = correlation_time(pred, target, frame_interval=2.0, interpolate=False)
    assert step.time == 6.0


@pytest.mark.parametrize("num_leads", [10, 20, 40, 100, 400])
def test_the_chord_misses_the_continuous_time_by_its_bound(waves, num_leads):
    phase = torch.arange(1, num_leads + 1, dtype=torch.float64)[None] / num_leads
    pred, target = waves(phase), waves(torch.zeros_like(phase))
    got = correlation_time(pred, target, frame_interval=1 / num_leads)
    missed = math.acos(0.8) - got.time  # a chord of the concave cosine crosses early
    assert 0 <= missed <= (0.8 / 0.6) / 8 / num_leads**2 * 1.1  # h^2 |r"| / 8 |r'|


def test_a_crossing_before_the_first_frame_starts_from_one(waves):
    pred, target = mixed(torch.tensor([[0.5, 0.4]]), waves)
    # From 1 at lead 0 to 0.5 at lead 1: 0.8 at 0.4.
    assert correlation_time(pred, target, frame_interval=1.0).time == pytest.approx(0.4)


def test_it_is_the_first_crossing_that_counts(waves):
    pred, target = mixed(torch.tensor([[0.9, 0.7, 0.95, 0.3]]), waves)
    assert correlation_time(pred, target, frame_interval=1.0).time == pytest.approx(1.5)


def test_at_the_threshold_is_not_below_it():
    path = torch.tensor([[0.5, 0.25]])
    leads, censored = _first_crossing(path, threshold=0.5, interpolate=False)
    assert (leads.item(), censored.item()) == (2.0, False)
    leads, censored = _first_crossing(path[:, :1], threshold=0.5, interpolate=False)
    assert (leads.item(), censored.item()) == (1.0, True)


def test_never_below_is_censored_at_the_last_lead(waves):
    pred, target = mixed(torch.full((3, 5), 0.9), waves)
    got = correlation_time(pred, target, frame_interval=0.1)
    assert got.censored
    assert got.time == got.low == got.high == pytest.approx(0.5)


def test_the_interval_covers_the_known_time(waves, fields):
    # Sample s: r = 1 - rate_s t, rate 0.1 on average, so the mean crosses 0.8 at t = 2.
    rate = 0.1 + 0.02 * fields(0, 60, 1)
    pred, target = mixed(1 - rate * torch.arange(1, 6), waves)
    got = correlation_time(pred, target, frame_interval=1.0)
    assert got.low < 2.0 < got.high
    assert got.low < got.time < got.high
    # Time = 0.2 / mean rate, standard error 2 * 0.02 / sqrt(60) / 0.1 = 0.052.
    assert got.high - got.low == pytest.approx(2 * 1.96 * 0.052, rel=0.3)
    again = correlation_time(pred, target, frame_interval=1.0)
    assert (got.low, got.high) == (again.low, again.high)
    assert correlation_time(pred, target, frame_interval=1.0, seed=1).low != got.low


@given(seed=SEEDS, factor=st.floats(1e-6, 1e6), offset=st.floats(-5, 5))
def test_correlation_sees_neither_unit_nor_offset(fields, seed, factor, offset):
    pred, target = fields(seed, 3, 2, 5, 4), fields(seed + 1, 3, 2, 5, 4)
    expected = correlation(pred, target)
    assert_close(correlation(factor * (pred + offset), target), expected, rtol=1e-6, atol=1e-9)
    assert_close(correlation(-pred, target), -expected)
    assert (expected.abs() <= 1).all()


@pytest.mark.parametrize("channels", ["joint", "mean"])
@pytest.mark.parametrize("cells", [2, 8])
def test_a_field_correlates_with_itself_exactly(fields, channels, cells):
    field = fields(2, 4, 3, cells, 1)
    assert_close(
        correlation(field, field, channels=channels), torch.ones(4).double(), rtol=1e-14, atol=0
    )


def test_offsets_between_channels_count_only_jointly(fields):
    offset = torch.tensor([100.0, -100.0]).view(2, 1, 1)
    pred, target = fields(3, 1, 2, 16, 16) + offset, fields(4, 1, 2, 16, 16) + offset
    assert correlation(pred, target, channels="joint") > 0.99
    assert abs(float(correlation(pred, target, channels="mean"))) < 0.2


def test_mean_over_channels_by_hand(waves):
    zero = torch.zeros(1)
    cosine, sine = waves(zero), waves(zero - math.pi / 2)
    pred = torch.cat([cosine, cosine], dim=1)
    target = torch.cat([cosine, sine], dim=1)  # correlations 1 and 0
    assert_close(
        correlation(pred, target, channels="mean"), torch.tensor([0.5], dtype=torch.float64)
    )
    constant = torch.cat([cosine, torch.full_like(sine, 7.1)], dim=1)  # the second is left out
    assert_close(
        correlation(pred, constant, channels="mean"), torch.tensor([1.0], dtype=torch.float64)
    )


def test_what_has_no_correlation(fields):
    field = fields(5, 1, 1, 8, 8)
    flat = torch.full_like(field, 0.1)
    assert correlation(field, flat).isnan().all()
    assert correlation(flat, field).item() == 0.0
    assert correlation(0 * field, field).item() == 0.0
    assert correlation(field, 0 * field).isnan().all()
    broken = field.clone()
    broken[..., 0, 0] = math.inf
    assert correlation(broken, field).item() == 0.0
    assert correlation(1e200 * field, field).item() == pytest.approx(1.0)


def test_round_off_on_a_constant_is_no_variation(fields):
    field = fields(11, 1, 1, 8, 8)
    assert correlation(field, 1 + 1e-13 * field).isnan().all()
    assert correlation(1 + 1e-13 * field, field).item() == 0.0
    assert correlation(1 + 1e-9 * field, field).item() == pytest.approx(1.0, abs=1e-6)


def test_undefined_samples_are_left_out_and_undefined_leads_passed_over(waves):
    pred, target = mixed(torch.tensor([[0.9, 0.7, 0.5], [0.9, 0.7, 0.5]]), waves)
    target = target.clone()
    target[0, 0] = 1.0  # sample 0 undefined at lead 1
    target[:, 1] = 1.0  # all undefined at lead 2
    got = correlation_time(pred, target, frame_interval=1.0)
    assert got.curve[0].item() == pytest.approx(0.9)
    assert got.curve[1].isnan()
    assert got.time == pytest.approx(2 + 0.1 / 0.4)  # lead 2 counts as lead 1
    assert math.isfinite(got.low)
    assert math.isfinite(got.high)


def test_one_and_three_axes_of_space(fields):
    target = fields(6, 2, 3, 1, 8)
    assert correlation_time(target, target, frame_interval=1.0, spatial_dims=1).censored
    target = fields(7, 2, 3, 1, 4, 4, 4)
    assert correlation_time(target, target, frame_interval=1.0, spatial_dims=3).censored


def test_gradient_and_short_types(fields):
    target = fields(8, 2, 1, 3, 3)
    pred = fields(9, 2, 1, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: correlation(p, target), (pred,))
    short = target.to(torch.bfloat16)
    assert_close(correlation(short, target), correlation(short.double(), target), rtol=0, atol=0)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_names_what_was_found(fields):
    field = fields(10, 2, 3, 1, 4, 4)
    with pytest.raises(ValueError, match="leading axes"):
        correlation_time(field[0], field[0], frame_interval=1.0)
    with pytest.raises(ValueError, match=r"threshold=1.0"):
        correlation_time(field, field, frame_interval=1.0, threshold=1.0)
    with pytest.raises(ValueError, match=r"frame_interval=0.0"):
        correlation_time(field, field, frame_interval=0.0)
    with pytest.raises(ValueError, match="channels='all'"):
        correlation(field, field, channels="all")


def test_several_thresholds_are_the_single_ones_from_one_pass(fields):
    truth = fields(0, 5, 6, 2, 16)
    decay = torch.linspace(1, 0, 6, dtype=torch.float64)[:, None, None]
    pred = decay * truth + (1 - decay) * fields(1, 5, 6, 2, 16)
    options = {"frame_interval": 0.5, "spatial_dims": 1, "channels": "mean", "interpolate": False}
    got = correlation_times(pred, truth, **options)
    assert list(got) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    for threshold, found in got.items():
        alone = correlation_time(pred, truth, threshold=threshold, **options)
        assert (found.time, found.low, found.high) == (alone.time, alone.low, alone.high)
    times = [found.time for found in got.values()]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]
    for thresholds in ((), (0.5, 1.0)):
        with pytest.raises(ValueError, match="need 0 < threshold < 1"):
            correlation_times(pred, truth, thresholds=thresholds, **options)


def test_the_first_step_below_counts_channel_by_channel():
    # Two channels of two leads on four cells; the third channel is constant and left out.
    cells = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    truth = torch.stack([cells, cells, torch.ones(4, dtype=torch.float64)])
    truth = truth.expand(1, 2, 3, 4)
    pred = truth.clone()
    pred[0, 1, 0] = -cells  # correlations of lead 2: -1 and 1, mean 0
    options = {"frame_interval": 1.0, "spatial_dims": 1, "channels": "mean"}
    got = correlation_time(pred, truth, interpolate=False, **options)
    assert got.curve.tolist() == pytest.approx([1.0, 0.0])
    assert (got.time, got.censored) == (2.0, False)
    # Between leads 1 and 2 the mean falls from 1 to 0: at 0.8 after a fifth of the step.
    assert correlation_time(pred, truth, **options).time == pytest.approx(1.2)
    full = correlation_time(truth, truth, interpolate=False, **options)
    assert (full.time, full.censored) == (2.0, True)
