"""A run end to end: folders, scores, reports, going on, rollouts, ablations."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from nops_train import RunFolder, load_checkpoint, read_events
from upt_inverse.ablation import BASELINES, children, effect, table_rows
from upt_inverse.cli import main
from upt_inverse.memory import forecast_of_all_points, forecast_step
from upt_inverse.report import load_evaluation
from upt_inverse.task import UptTask

RESUMED = ["--weighting.kind=curriculum", "--weighting.delay=0", "--weighting.ramp=2"]


def test_a_run_ends_with_scores_baselines_and_a_report(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["status"] == "completed"
    metrics = {"latent_nrmse", "image_nrmse", "one_step_nrmse", "reconstruction_nrmse"}
    assert metrics <= set(summary["metrics"])
    assert summary["baselines"]["zero_nrmse"] == pytest.approx(1.0, abs=1e-9)
    assert summary["baselines"]["previous_truth_nrmse"] < summary["baselines"]["persistence_nrmse"]
    held = RunFolder.at(trained).record("metrics.json")
    assert held["predictions"] == ["latent", "image", "one_step"]
    assert held["horizon"]["latent"]["value"] == summary["metrics"]["latent_nrmse"]
    page = (trained / "report.html").read_text()
    for words in ("initial state held", "true state before", "reaches", "one-step", "E A G"):
        assert words in page.replace("One-step", "one-step"), words
    plots = {path.stem for path in (trained / "plots").iterdir()}
    assert plots == {"errors", "correlation", "profiles", "training"}


def test_scores_are_those_of_the_decoded_fields_in_the_datas_units(trained: Path) -> None:
    evaluation, facts = load_evaluation(RunFolder.at(trained))
    pred, truth = evaluation.rollouts["latent"].double(), evaluation.truth.double()
    ratio = ((pred - truth).square().mean(-1) / truth.square().mean(-1)).sqrt()
    found = evaluation.errors.per_lead["latent"].value
    torch.testing.assert_close(found, ratio.mean((0, 2)), rtol=1e-5, atol=0.0)
    assert evaluation.horizon("latent") == pytest.approx(float(ratio.mean()), rel=1e-5)
    assert facts["reach"]["L_inv_enc"] == ["E", "G"]


def test_the_first_step_is_the_same_in_every_mode(trained: Path) -> None:
    errors = load_evaluation(RunFolder.at(trained))[0].errors.per_lead
    first = {name: float(errors[name].value[0]) for name in ("latent", "image", "one_step")}
    assert first["latent"] == pytest.approx(first["image"], rel=1e-5)
    assert first["latent"] == pytest.approx(first["one_step"], rel=1e-5)
    assert float(errors["latent"].value[-1]) != pytest.approx(float(errors["image"].value[-1]))


def test_evaluate_scores_again_and_report_writes_again(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    before = (copy / "metrics.json").read_text()
    for name in ("metrics.json", "report.html", "evaluation.pt"):
        (copy / name).unlink()
    assert main(["report", str(copy)]) == 2
    assert main(["evaluate", str(copy)]) == 0
    assert (copy / "metrics.json").read_text() == before
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    assert (copy / "report.html").is_file()


class Stop(BaseException):
    """Ends a run as a killed process would."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = UptTask.losses

    def losses(self: UptTask, batch: Any, **place: Any) -> Any:
        if place["step"] == step:
            raise Stop
        return whole(self, batch, **place)

    monkeypatch.setattr(UptTask, "losses", losses)


def test_stopped_anywhere_the_same_command_ends_equal(
    run_app: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*RESUMED, "--train.epochs=3", "--train.batch_size=2", "--model.drop_path=0.1"]
    words += ["--loss.query_sampling.enabled=true", "--loss.query_sampling.num_queries=32"]
    assert run_app("train", *words, "--name=whole") == 0
    total = len(read_events(tmp_path / "runs/upt-inverse/whole"))
    for cut, workers in ((1, 0), (5, 2)):  # before the ramp's start, and on it
        with monkeypatch.context() as patch:
            stop_at(patch, cut)
            with pytest.raises(Stop):
                run_app("train", *words, f"--name=cut{cut}", "--train.num_workers=0")
        assert run_app("train", *words, f"--name=cut{cut}", f"--train.num_workers={workers}") == 0
        runs = [tmp_path / "runs/upt-inverse" / name for name in ("whole", f"cut{cut}")]
        states = [load_checkpoint(run / "checkpoints")["model"] for run in runs]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert len(read_events(runs[1])) == total


def test_no_weight_of_an_inverse_loss_moves_the_metrics_of_a_model(
    build: Callable[..., Any],
) -> None:
    found = []
    for weight in (0.0, 100.0):
        built = build(loss={"L_inv_enc": weight, "L_inv_dec": weight})
        batch = next(iter(built.bundle.valid.batches(epoch=0)))
        found.append(built.task.metrics(batch))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_bf16_is_near_fp32(build: Callable[..., Any]) -> None:
    built = build()
    plain = built.losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = built.losses()
    for name, value in plain.items():
        assert half[name].dtype == torch.float32
        assert half[name].item() == pytest.approx(value.item(), rel=0.05)  # 8 bits of mantissa


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_other_optimizers_train(run_app: Callable[..., int], optimizer: str) -> None:
    words = [f"--train.optimizer={optimizer}", "--train.weight_decay=0"]
    assert run_app("train", *words) == 0
    state = load_checkpoint(Path("runs/upt-inverse/tiny/checkpoints"))
    moments = next(iter(state["optimizer"]["state"].values()))
    assert ("exp_avg" in moments) == (optimizer == "adam")


def test_running_out_of_memory_names_points_that_are_estimated_to_fit(
    run_app: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = UptTask.losses

    def losses(self: UptTask, batch: Any, **place: Any) -> Any:
        if len(batch["frames"]) > 2:  # more than a forecast asks for
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, batch, **place)

    monkeypatch.setattr(UptTask, "losses", losses)
    assert run_app("train", "--loss.L_inv_dec=0", "--loss.rollout_horizon=1") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "not enough memory: CUDA out of memory. Tried" in told
    # of 64 points, half of them or fewer
    points = re.findall(r"(loss\S+) = (\d+)", told)
    assert [key for key, _ in points] == ["loss.query_sampling.num_queries", "loss.chunk_size"]
    assert all(1 <= int(count) <= 32 for _, count in points), told


def test_points_that_are_drawn_are_forecast_beside_all_points(build: Callable[..., Any]) -> None:
    sampled = {"enabled": True, "num_queries": 16}
    loss = {"rollout_horizon": 1, "L_inv_dec": 0.0}
    drawn, whole = build(loss={**loss, "query_sampling": sampled}), build(loss=loss)
    parts = (drawn.config, drawn.bundle, drawn.model)
    expected = forecast_step(whole.config, whole.bundle, whole.model).total
    assert forecast_of_all_points(*parts) == expected
    assert forecast_step(*parts).total < expected
    assert forecast_of_all_points(whole.config, whole.bundle, whole.model) is None


def test_a_forecast_beyond_what_is_free_is_refused_with_the_same_advice(
    run_app: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    free = 10_000  # bytes
    monkeypatch.setattr("nops_train._memory.free_memory", lambda device: free)
    monkeypatch.setattr("upt_inverse.memory.free_memory", lambda device: free)
    assert run_app("train", "--loss.L_inv_dec=0", "--loss.rollout_horizon=1") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "are free on cpu" in told
    assert "train.accumulate" in told


def test_rollout_writes_decoded_fields_of_the_grid(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "fields.h5"
    assert main(["rollout", str(trained), "--out", str(out)]) == 0
    evaluation, _ = load_evaluation(RunFolder.at(trained))
    with h5py.File(out) as file:
        found = file["fields/u"][:]
        assert file.attrs["mode"] == "latent"
        np.testing.assert_allclose(file["times"][:], [0.1, 0.2, 0.3, 0.4])
        np.testing.assert_allclose(file["positions"][:, 0], np.arange(64) / 64, atol=1e-7)
    expected = evaluation.rollouts["latent"].transpose(2, 3).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_rollout_decodes_at_any_points_for_any_number_of_steps(
    trained: Path, tmp_path: Path
) -> None:
    points, out = tmp_path / "points.csv", tmp_path / "points.h5"
    points.write_text("0.5\n0.515625\n0.123\n")
    words = ["--queries", str(points), "--steps", "7", "--mode", "image", "--out", str(out)]
    assert main(["rollout", str(trained), *words]) == 0
    evaluation, _ = load_evaluation(RunFolder.at(trained))
    with h5py.File(out) as file:
        found = file["fields/u"][:]
    assert found.shape == (3, 7, 3, 1)
    on_grid = evaluation.rollouts["image"][:, :, 0, 32:34].numpy()
    np.testing.assert_allclose(found[:, :4, :2, 0], on_grid, rtol=1e-5, atol=1e-6)


def test_an_ablation_compares_arms_over_seeds(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seeds=0,1", "--arms=none,both", "--horizons=2", "--train.epochs=1"]
    assert run_app("ablate", *words) == 0
    study = tmp_path / "runs/upt-inverse/tiny"
    names = sorted(path.name for path in study.iterdir() if path.is_dir())
    expected = [f"{arm}_h{h}_s{s}" for arm in ("both", "none") for h in (2,) for s in (0, 1)]
    assert names == expected
    weights = RunFolder.at(study / "none_h2_s1").config["loss"]
    assert (weights["L_inv_enc"], weights["L_inv_dec"], weights["L_rollout"]) == (0, 0, 1)
    rows = table_rows(study)
    assert [(row.get("horizon"), row["arm"]) for row in rows[:2]] == [(2, "none"), (2, "both")]
    page = (study / "report.html").read_text()
    assert "Trained at horizon 2" in page
    assert "true state before" in page
    capsys.readouterr()
    assert run_app("ablate", *words) == 0  # complete: nothing is trained again
    assert "epoch 1/1" not in capsys.readouterr().out
    assert main(["report", str(study)]) == 0
    assert run_app("ablate", "--seeds=2", "--horizons=2", "--train.grad_clip=0.5") == 2
    refused = capsys.readouterr().err
    assert "study.json: this run was started with other settings" in refused
    assert "train.grad_clip: the run has 1.0, asked for 0.5" in refused
    assert sorted(path.name for path in study.iterdir() if path.is_dir()) == names
    assert run_app("ablate", "--arms=both", words[0], *words[2:]) == 0  # fewer of the same
    assert [row["arm"] for row in table_rows(study)] == ["both", *list(BASELINES.values())]


def test_a_study_has_a_run_for_each_arm_horizon_and_seed(build: Callable[..., Any]) -> None:
    config = build(weighting={"kind": "curriculum"}, horizons=[1, 3], seeds=[4, 7]).config
    found = children(config)
    assert len(found) == 4 * 2 * 2
    assert found["enc_h1_s7"].loss.weights() == {"L_forward": 1.0, "L_inv_enc": 1.0}
    assert found["dec_h3_s4"].loss.weights() == {"L_forward": 1, "L_inv_dec": 1, "L_rollout": 1}
    assert found["none_h3_s4"].weighting.kind == "constant"  # nothing would ramp
    assert found["both_h3_s4"].weighting.kind == "curriculum"
    assert found["both_h3_s4"].train.seed == 4


def test_an_effect_is_a_gain_beyond_the_joint_spread() -> None:
    # gain 0.3; spreads 0.1 and 0.1
    assert effect({"both": [0.4, 0.5, 0.6], "none": [0.7, 0.8, 0.9]})[0]
    # gain 0.15, below 0.2
    helps, text = effect({"both": [0.4, 0.5, 0.6], "none": [0.55, 0.65, 0.75]})
    assert not helps
    assert text.endswith("no measurable effect")
    assert not effect({"both": [0.1], "none": [0.9]})[0]  # one seed has no spread
