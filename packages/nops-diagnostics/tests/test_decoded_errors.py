"""The table of decoded predictions beside every baseline: hand values, oracles, merging."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import (
    RolloutErrors,
    decoded_errors,
    nrmse,
    rollout_errors,
    rollout_scores,
)
from torch.testing import assert_close

SEEDS = st.integers(0, 2**31 - 1)


def exact(*values):
    return torch.tensor(values, dtype=torch.float64)


def waves(k, *, shift, leads):
    """A wave of k periods that moves by `shift` per lead, [1, lead + 1, 1, 64]."""
    x = torch.arange(64, dtype=torch.float64) / 64
    moved = x - shift * torch.arange(leads + 1, dtype=torch.float64)[:, None]
    return torch.sin(2 * torch.pi * k * moved)[None, :, None]


def test_baselines_of_an_advected_wave():
    truth = waves(1, shift=0.05, leads=4)
    errors = rollout_errors(
        0.9 * truth[:, 1:],
        truth[:, 1:],
        initial=truth[:, 0],
        previous_truth=True,
        reconstruction=1.01 * truth[:, 1:],
        spatial_dims=1,
    )
    got = decoded_errors({"latent": errors})
    per_lead = {name: estimate.value for name, estimate in got.per_lead.items()}
    step = 2 * math.sin(math.pi * 0.05)
    assert step == pytest.approx(0.3128689301, abs=5e-11)
    assert_close(per_lead["latent"], exact(0.1, 0.1, 0.1, 0.1))
    assert_close(per_lead["reconstruction"], exact(0.01, 0.01, 0.01, 0.01))
    assert_close(per_lead["previous_truth"], exact(step, step, step, step))
    held = [2 * math.sin(math.pi * 0.05 * lead) for lead in (1, 2, 3, 4)]
    assert_close(per_lead["persistence"], exact(*held))
    assert_close(per_lead["zero"], exact(1.0, 1.0, 1.0, 1.0), rtol=0, atol=0)
    assert_close(got.horizon["persistence"].value, exact(*held).mean())


def test_the_frame_before_the_first_is_the_initial_state():
    truth = torch.tensor([1.0, 3.0, 7.0]).reshape(1, 3, 1, 1)
    errors = rollout_errors(
        truth[:, 1:], truth[:, 1:], initial=truth[:, 0], previous_truth=True, spatial_dims=1
    )
    # (1 - 3)^2, (3 - 7)^2; held: (1 - 3)^2, (1 - 7)^2
    assert errors.baselines["previous_truth"].flatten().tolist() == [4.0, 16.0]
    assert errors.baselines["persistence"].flatten().tolist() == [4.0, 36.0]


def test_baselines_that_are_not_asked_for_stay_out(fields):
    truth = fields(0, 2, 4, 1, 8)
    plain = rollout_errors(truth[:, 1:], truth[:, 1:], initial=truth[:, 0], spatial_dims=1)
    assert set(plain.baselines) == {"zero", "persistence"}
    scores = rollout_scores(
        truth[:, 1:],
        truth[:, 1:],
        initial=truth[:, 0],
        previous_truth=True,
        reconstruction=truth[:, 1:] + 1,
        spatial_dims=1,
    )
    assert set(scores.skill) == {"zero", "persistence", "previous_truth", "reconstruction"}


def test_a_mean_may_differ_from_cell_to_cell():
    truth = torch.tensor([[1.0, 3.0], [2.0, 8.0]]).reshape(2, 1, 1, 2)
    options = {"initial": 0 * truth[:, 0], "spatial_dims": 1}
    cells = rollout_errors(truth, truth, mean=torch.tensor([[[1.0, 4.0]]]), **options)
    # (0 + 1)/2 and (1 + 16)/2; one number for all cells: ((1-4)^2 + (3-4)^2)/2, ((2-4)^2 + (8-4)^2)/2
    assert cells.baselines["mean"].flatten().tolist() == [0.5, 8.5]
    one = rollout_errors(truth, truth, mean=torch.tensor([[4.0]]), **options)
    assert one.baselines["mean"].flatten().tolist() == [5.0, 10.0]
    with pytest.raises(ValueError, match="mean has shape"):
        rollout_errors(truth, truth, mean=torch.ones(1, 1, 3), **options)


@pytest.mark.usefixtures("unchecked")
def test_a_reconstruction_of_another_shape_is_refused(fields):
    truth = fields(0, 2, 4, 1, 8)
    with pytest.raises(ValueError, match="reconstruction has shape"):
        rollout_errors(
            truth[:, 1:], truth[:, 1:], initial=truth[:, 0], reconstruction=truth, spatial_dims=1
        )


@given(SEEDS, st.sampled_from(["pdebench", "pooled", "the_well"]))
def test_each_figure_is_nrmse_of_its_frames(fields, seed, convention):
    truth, latent, image = (fields(seed + k, 3, 3, 2, 6, 4) for k in range(3))
    target, options = truth[:, 1:], {"initial": truth[:, 0], "previous_truth": True}
    errors = {
        "latent": rollout_errors(latent[:, 1:], target, **options),
        "image": rollout_errors(image[:, 1:], target, **options),
    }
    got = decoded_errors(errors, convention=convention, bootstrap=2)
    assert got.predictions == ("latent", "image")
    fields_of = {"latent": latent[:, 1:], "image": image[:, 1:], "previous_truth": truth[:, :-1]}
    for name, pred in fields_of.items():
        for k in range(2):
            expected = nrmse(pred[:, k], target[:, k], convention=convention)
            assert_close(got.per_lead[name].value[k], expected)
        assert_close(got.horizon[name].value, nrmse(pred, target, convention=convention))


def test_batches_merge_to_the_whole(fields):
    truth, pred = fields(0, 6, 4, 2, 8), fields(1, 6, 3, 2, 8)

    def of(part):
        return rollout_errors(
            pred[part],
            truth[part, 1:],
            initial=truth[part, 0],
            previous_truth=True,
            reconstruction=0.5 * truth[part, 1:],
            spatial_dims=1,
        )

    whole = decoded_errors({"latent": of(slice(None))})
    merged = RolloutErrors.concatenate([of(slice(0, 4)), of(slice(4, 6))])
    assert decoded_errors({"latent": merged}).as_dict() == whole.as_dict()
    assert whole.num_samples == 6
    assert json.loads(json.dumps(whole.as_dict()))["lead_times"] == [1, 2, 3]


def test_when_each_baseline_overtakes():
    truth = waves(1, shift=0.05, leads=4)
    growth = exact(0.2, 0.4, 0.8, 1.6).reshape(1, 4, 1, 1)  # nRMSE of the prediction
    errors = rollout_errors(
        (1 + growth) * truth[:, 1:],
        truth[:, 1:],
        initial=truth[:, 0],
        previous_truth=True,
        spatial_dims=1,
    )
    got = decoded_errors({"latent": errors})
    # Held: 0.31, 0.62, 0.91, 1.18; the frame before: 0.31 always; zero: 1.
    expected = {"zero": 4, "persistence": 4, "previous_truth": 2}
    assert got.overtaken("latent") == expected
    assert got.as_dict()["overtaken"]["latent"] == expected
    errors.error[:, 1:] = torch.nan  # diverged
    assert set(decoded_errors({"latent": errors}).overtaken("latent").values()) == {2}
    perfect = rollout_errors(truth[:, 1:], truth[:, 1:], initial=truth[:, 0], spatial_dims=1)
    assert decoded_errors({"a": perfect}).overtaken("a") == {"zero": None, "persistence": None}
    with pytest.raises(ValueError, match="'zero' is no prediction; there is latent"):
        got.overtaken("zero")


def test_rows_are_leads_then_the_horizon(fields):
    truth, pred = fields(0, 3, 4, 1, 8), fields(1, 3, 3, 1, 8)
    errors = rollout_errors(pred, truth[:, 1:], initial=truth[:, 0], spatial_dims=1)
    got = decoded_errors({"latent": errors})
    rows = got.rows([1, 3])
    assert [row["lead"] for row in rows] == [1, 3, "horizon"]
    assert rows[1]["latent"].value == got.per_lead["latent"].value[2]
    assert rows[2]["zero"] == got.horizon["zero"]
    assert len(got.rows()) == 4
    with pytest.raises(ValueError, match=r"lead times \[4\] were not scored"):
        got.rows([4])


def test_intervals_hold_the_value_and_a_single_sample_has_none(fields):
    truth, pred = fields(0, 8, 4, 1, 8), fields(1, 8, 3, 1, 8)
    errors = rollout_errors(pred, truth[:, 1:], initial=truth[:, 0], spatial_dims=1)
    spread = decoded_errors({"latent": errors}).per_lead["latent"]
    assert (spread.low < spread.value).all()
    assert (spread.value < spread.high).all()
    one = rollout_errors(pred[:1], truth[:1, 1:], initial=truth[:1, 0], spatial_dims=1)
    alone = decoded_errors({"latent": one}).horizon["latent"]
    assert alone.low == alone.value == alone.high


def test_predictions_that_cannot_stand_side_by_side_are_refused(fields):
    truth, other = fields(0, 3, 4, 1, 8), fields(1, 3, 4, 1, 8)

    def of(field):
        return rollout_errors(field[:, 1:], field[:, 1:], initial=field[:, 0], spatial_dims=1)

    with pytest.raises(ValueError, match="errors is empty"):
        decoded_errors({})
    with pytest.raises(ValueError, match="'image' is of another truth"):
        decoded_errors({"latent": of(truth), "image": of(other)})
    with pytest.raises(ValueError, match="persistence: the name of a baseline"):
        decoded_errors({"persistence": of(truth)})


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_convention_is_refused(fields):
    truth = fields(0, 3, 4, 1, 8)
    errors = rollout_errors(truth[:, 1:], truth[:, 1:], initial=truth[:, 0], spatial_dims=1)
    with pytest.raises(ValueError, match="convention='mean' is unknown"):
        decoded_errors({"latent": errors}, convention="mean")
