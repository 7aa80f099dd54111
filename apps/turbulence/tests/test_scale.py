"""The scale of the spectrum's weight, measured once from gradients at the prediction."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_train import InputError, RunFolder, load_checkpoint, load_run_config, read_events
from nops_train import parse_config as parse
from turbulence.arms import arm_config
from turbulence.build import build_weighting
from turbulence.config import TurbulenceConfig
from turbulence.config_loss import LossConfig
from turbulence.gradients import GradientNorms
from turbulence.replay import measured_scale, replayed_schedule, scale_text
from turbulence.terms import Domain, make_terms

AUTO = {"spectrum_scale": "auto"}
DOMAIN = Domain(shape=(16, 16), lengths=(2 * math.pi, 2 * math.pi), periodic=(True, True))


def make(**sections: Any) -> TurbulenceConfig:
    plain = {"data": {"shape": [16, 16]}, "loss": AUTO, **sections}
    return parse(TurbulenceConfig, plain, source="test")


def waves(*amplitudes: float) -> torch.Tensor:
    """a·cos x_1 + b·cos 2x_2 per sample, `[sample, 1, 1, 16, 16]`; energies a²/4 and b²/4."""
    x = 2 * math.pi * torch.arange(16, dtype=torch.float64) / 16
    field = torch.cos(x)[:, None] + 0.5 * torch.cos(2 * x)
    return torch.stack([amplitude * field for amplitude in amplitudes])[:, None, None]


# For t = cos x_1 + cos(2x_2)/2 with mean square m = 5/8 on N cells, and p = 1.2t:
# field error: gradient 2(p − t)/(N m), norm 2·0.2·√(N m)/(N m) = 0.4/√(N m).
# log spectrum error over its two shells, energies E = 1.44/4 and 1.44/16, d = 2 ln 1.2: gradient
# Σ_j d/(E_j N)·(p in shell j), whose norm² is N·2E_j each: norm d·√(2/N·(1/E_1 + 1/E_2)).
CELLS = 256
FIELD = 0.4 / math.sqrt(0.625 * CELLS)
SPECTRUM = 2 * math.log(1.2) * math.sqrt(2 / CELLS * (4 + 16) / 1.44)


def test_norms_by_hand() -> None:
    terms = make_terms(LossConfig(), DOMAIN)
    norms = GradientNorms(terms=terms, weights={"predFieldError": 0.3, "spectrumError": 0.7})
    found = norms(waves(1.2, 1.2), waves(1.0, 1.0))
    torch.testing.assert_close(
        found["gradient_rest"], torch.full((2,), FIELD, dtype=torch.float64), rtol=1e-7, atol=0
    )  # the field error's eps_rel is 1e-8
    torch.testing.assert_close(
        found["gradient_spectrum"], torch.full((2,), SPECTRUM, dtype=torch.float64)
    )


def test_the_others_count_by_their_weights() -> None:
    def slope(factor: float) -> Callable[..., torch.Tensor]:
        return lambda pred, target: factor * pred.flatten(1).sum(1)

    names = ("predFieldError", "coherenceError", "waveletError", "spectrumError")
    terms = {name: slope(k) for name, k in zip(names, (2.0, 8.0, 100.0, 5.0), strict=True)}
    weights = {"predFieldError": 0.9, "coherenceError": 0.3, "waveletError": 0.0}
    norms = GradientNorms(terms=terms, weights={**weights, "spectrumError": 0.7})
    pred = torch.ones(1, 1, 1, 3, 3)
    with torch.no_grad():  # as in a validation
        found = norms(pred, pred)
    # 9 cells: (0.9·2 + 0.3·8)/1.2 = 3.5 per cell, and 5
    assert found["gradient_rest"].item() == pytest.approx(3.5 * 3)
    assert found["gradient_spectrum"].item() == pytest.approx(5.0 * 3)


@pytest.mark.parametrize("final", [(0.3, 0.7), (0.3, 0.5)])
def test_the_final_weight_is_the_share_of_the_gradient_norm(final: tuple[float, float]) -> None:
    field, spectrum = final
    weighting = {
        "warmup_epochs": 0,
        "min_epochs_before_adapt": 2,
        "patience": 1,
        "adaptive_step": False,
        "transition_step": 1.0,
        "final_weight_source": field,
        "final_weight_target": spectrum,
    }
    scheduler = build_weighting(make(weighting=weighting))
    for epoch in range(5):
        values = {"gradient_rest": FIELD, "gradient_spectrum": SPECTRUM, "spectrum_error": 1.0}
        if epoch < 2:  # before the end of the warm-up: not looked at
            values["gradient_spectrum"] *= 7
        scheduler.observe(values, epoch=epoch, step=epoch, split="valid")
    weights = scheduler.weights(epoch=5, step=5)
    assert weights["predFieldError"] == pytest.approx(field)
    pulls = weights["predFieldError"] * FIELD, weights["spectrumError"] * SPECTRUM
    assert pulls[1] / sum(pulls) == pytest.approx(spectrum / (field + spectrum))


def test_a_comparison_measures_its_scale_once_and_keeps_it(
    run_app: Callable[..., int], tmp_path: Path
) -> None:
    words = ["--arms=static,matched,schedule,field", "--loss.spectrum_scale=auto"]
    assert run_app("train", *words, "--data.num_train=2") == 0
    study = tmp_path / "runs" / "turbulence" / "study"
    run = RunFolder.at(study / "schedule_s0")
    events = read_events(run.path)
    metrics = {e["epoch"]: e["metrics"] for e in events if e["event"] == "validation"}
    weights = {e["epoch"]: e["weight"] for e in events if e["event"] == "epoch"}
    # one epoch of warm-up and one more: the scale is that of epoch 2, whatever comes after
    scale = metrics[2]["gradient_rest"] / metrics[2]["gradient_spectrum"]
    assert metrics[3]["gradient_rest"] / metrics[3]["gradient_spectrum"] != scale
    assert weights[4] == pytest.approx({"predFieldError": 0.8, "spectrumError": 0.2 * scale})
    assert weights[5] == pytest.approx({"predFieldError": 0.6, "spectrumError": 0.4 * scale})
    # val_loss is free of it, so that nothing that watches it jumps
    total = 0.3 * metrics[5]["field_error"] + 0.7 * metrics[5]["spectrum_error"]
    assert metrics[5]["val_loss"] == pytest.approx(total, rel=1e-5)
    shutil.rmtree(run.checkpoints.path)  # the log alone tells
    replay = replayed_schedule(run, (config := load_run_config(TurbulenceConfig, run.path)))
    assert replay is not None
    assert measured_scale(replay) == scale
    told = [event.reason for event in replay.events if event.kind == "scale"]
    assert told == [
        f"the weight of spectrumError is multiplied by {scale:.4g} from now on: "
        "gradient_rest / gradient_spectrum."
    ]
    static = load_run_config(TurbulenceConfig, study / "static_s0")
    assert static.loss.spectrum_scale == scale
    mean = sum(event.get("spectrumError", 0.0) for event in weights.values()) / len(weights)
    matched = load_run_config(TurbulenceConfig, study / "matched_s0")
    assert (matched.loss.spectrum_scale, matched.loss.spectrumError) == (1.0, pytest.approx(mean))
    assert scale_text(replay, config) == f"{scale:.4g}, measured,"
    assert scale_text(replay, static) == f"{scale:g}"


def test_cut_after_the_warm_up_it_goes_on_with_the_same_scale(
    run_app: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--arms=schedule", "--loss.spectrum_scale=auto", "--train.steps_per_epoch=1"]
    assert run_app("train", *words) == 0
    whole = load_checkpoint(tmp_path / "runs/turbulence/study/schedule_s0/checkpoints")
    assert whole["weighting"]["scale"]["spectrumError"] > 0
    with monkeypatch.context() as patched:
        patched.setattr("turbulence.task.FlowTask.losses", failing_at(4))
        assert run_app("train", *words, "--name=cut") == 1
    assert run_app("train", *words, "--name=cut") == 0
    cut = load_checkpoint(tmp_path / "runs/turbulence/cut/schedule_s0/checkpoints")
    assert json.dumps(cut["weighting"]) == json.dumps(whole["weighting"])
    assert all(torch.equal(value, cut["model"][key]) for key, value in whole["model"].items())


def failing_at(epoch: int) -> Callable[..., Any]:
    from turbulence.task import FlowTask

    losses = FlowTask.losses

    def fail(self: FlowTask, batch: Any, **place: Any) -> Any:
        if place["epoch"] == epoch:
            raise RuntimeError("struck")
        return losses(self, batch, **place)

    return fail


def test_arms_of_constant_weights_take_a_number() -> None:
    config = make(arms=["schedule", "static", "field", "low"])
    scales = {arm: arm_config(config, arm, seed=0, scale=0.25).loss for arm in config.arms}
    assert scales["schedule"].is_measured
    assert (scales["static"].spectrum_scale, scales["low"].spectrum_scale) == (0.25, 1.0)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"weighting": {"kind": "constant"}, "arms": ["constant"]},
            ("spectrum_scale is auto", "weighting.kind is constant", "give a number"),
        ),
        ({"arms": ["static"]}, ("arm static", "takes the scale from arm schedule")),
        (
            {"weighting": {"target_components": {"spectrumError": False, "waveletError": True}}},
            ("the schedule ends without spectrumError", "target_components"),
        ),
        ({"loss": {"spectrum_scale": "automatic"}}, ("spectrum_scale", "a number", "auto")),
        ({"loss": {"spectrum_scale": 0.0}}, ("spectrum_scale",)),
    ],
)
def test_where_nothing_can_be_measured(sections: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        make(**sections)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_schedule_whose_warm_up_does_not_end_leaves_nothing_for_arm_static(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--arms=schedule,static", "--loss.spectrum_scale=auto", "--train.epochs=1"]
    assert run_app("train", *words) == 2
    assert "the warm-up of its schedule did not end" in capsys.readouterr().err
