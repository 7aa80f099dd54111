"""A comparison end to end: folders, weights over time, scores, reports, going on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from nops_diagnostics import Report
from nops_train import MemoryForecast, RunFolder, load_checkpoint, parse_config, read_events
from turbulence.build import build_model, forecast, open_bundle
from turbulence.cli import main
from turbulence.comparison import (
    load_scored,
    paired_rows,
    scored_runs,
    table_rows,
)
from turbulence.config import TurbulenceConfig
from turbulence.replay import replayed_schedule
from turbulence.report import write_report
from turbulence.task import FlowTask


def epochs_of(run: Path) -> list[dict]:
    return [event for event in read_events(run) if event["event"] == "epoch"]


def test_a_comparison_has_a_complete_run_per_arm_and_one_report(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir() if path.is_dir()) == [
        "field_s0",
        "plots",
        "schedule_s0",
    ]
    record = json.loads((trained / "study.json").read_text())
    assert record["config"]["arms"] == ["field", "schedule"]
    for run in ("field_s0", "schedule_s0"):
        summary = record["runs"][run]
        assert summary["status"] == "completed"
        assert summary["metrics"]["field_error"] > 0
        assert set(summary["baselines"]) == {"persistence", "independent frame"}
    page = (trained / "report.html").read_text()
    for words in ("persistence", "independent frame", "Schedule", "in units of training"):
        assert words in page
    plots = {path.stem for path in (trained / "plots").iterdir()}
    assert {"schedule_schedule_s0", "spectra", "lead_errors", "rollout_field"} <= plots
    assert {"drift", "modes", "temporal"} <= plots


def test_an_arm_looks_alike_in_every_figure(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: dict[str, set] = {}

    def collect(self: Report, figure: Figure, **rest: Any) -> None:
        for line in (line for axes in figure.axes for line in axes.lines):
            look = (line.get_color(), repr(line.get_linestyle()))
            looks.setdefault(str(line.get_label()), set()).add(look)

    monkeypatch.setattr(Report, "add_figure", collect)
    write_report(scored_runs([trained]), tmp_path / "report.html", name="study")
    names = ("truth", "field", "schedule", "persistence", "independent frame")
    assert [len(looks[name]) for name in names] == [1] * len(names)
    assert len({color for name in names for color, _ in looks[name]}) == len(names)


def test_a_run_that_does_not_fit_is_refused_before_its_first_step(
    run_app: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--arms=field", "--train.epochs=1", "--model.previous_frames=3"]
    monkeypatch.setattr("nops_train._memory.free_memory", lambda device: 6_000_000)
    assert run_app("train", *words, "--train.batch_size=100", "--train.unroll=3") == 2
    error = capsys.readouterr().err
    # 4 trajectories of 10 frames have 5 windows of 3 + 3 frames each
    assert "memory forecast" in error
    assert "(window 3, 20 samples at once)" in error
    assert "train.unroll" in error
    assert "train.batch_size" in error
    assert "rollout." not in error
    run = tmp_path / "runs" / "turbulence" / "study" / "field_s0"
    assert not (run / "events.jsonl").exists()


def test_the_forecast_is_of_a_state_of_several_frames(data_folder: Path) -> None:
    counts = {"num_train": 4, "num_valid": 2, "num_test": 2}

    def forecast_of(frames: int) -> MemoryForecast:
        plain = {
            "data": {"path": str(data_folder), "shape": [16, 16], "num_steps": 9} | counts,
            "model": {"base_channels": 4, "afno_groups": 2, "modes": 3, "previous_frames": frames},
            "train": {"batch_size": 2, "unroll": 4, "device": "cpu"},
            "evaluate": {"rollout": 4, "lead_window": [1, 2]},
        }
        config = parse_config(TurbulenceConfig, plain, source="test")
        bundle = open_bundle(config)
        return forecast(build_model(config, bundle), config, bundle)

    one, three = forecast_of(1), forecast_of(3)
    assert (one.window, one.batch_size, one.checkpoint_every) == (4, 2, 0)
    assert one.per_state == 2 * 16 * 16 * 4  # two components, float32
    assert three.per_state == 3 * one.per_state
    assert three.per_sample > one.per_sample


def test_the_schedule_moves_and_the_field_arm_stays(trained: Path) -> None:
    assert all(
        event["weight"] == {"predFieldError": 1.0} for event in epochs_of(trained / "field_s0")
    )
    moved = epochs_of(trained / "schedule_s0")
    # two epochs of warm-up, one to compare with, and the weights move after the fourth
    assert [event["weight"] for event in moved[:4]] == [{"predFieldError": 1.0}] * 4
    # a step of 0.2, times the scale of 0.05 that is outside the schedule
    assert moved[4]["weight"] == pytest.approx({"predFieldError": 0.8, "spectrumError": 0.2 * 0.05})


def test_the_replayed_schedule_is_the_one_that_was_trained_with(trained: Path) -> None:
    run = trained / "schedule_s0"
    one = load_scored(RunFolder.at(run))
    replay = replayed_schedule(one.run, one.config)
    assert replay is not None
    state = load_checkpoint(run / "checkpoints")["weighting"]
    assert replay.progress[-1] == state["progress"]
    assert [event.kind for event in replay.events] == [event["kind"] for event in state["events"]]


def test_val_loss_is_the_total_at_the_final_weights(trained: Path) -> None:
    for name, weights in (("field_s0", (1.0, 0.0)), ("schedule_s0", (0.3, 0.7 * 0.05))):
        metrics = [e["metrics"] for e in read_events(trained / name) if e["event"] == "validation"]
        for found in metrics:
            total = weights[0] * found["field_error"] + weights[1] * found["spectrum_error"]
            assert found["val_loss"] == pytest.approx(total, rel=1e-5)  # float32 metrics


@pytest.mark.parametrize("arm", ["field", "schedule"])
def test_stopped_in_the_middle_the_same_command_ends_equal(
    trained: Path,
    run_app: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arm: str,
) -> None:
    losses = FlowTask.losses

    def failing(self: FlowTask, batch: dict, *, epoch: int, **rest: Any) -> dict:
        if epoch == 4 and (self.val_weights["spectrumError"] > 0) == (arm == "schedule"):
            raise RuntimeError("struck")
        return losses(self, batch, epoch=epoch, **rest)

    with monkeypatch.context() as patched:
        patched.setattr(FlowTask, "losses", failing)
        assert run_app("train") == 1
    assert run_app("train") == 0
    for name in ("field_s0", "schedule_s0"):
        whole, cut = trained / name, tmp_path / "runs" / "turbulence" / "study" / name
        assert strip_times(read_events(cut)) == strip_times(read_events(whole))
        left, right = (load_checkpoint(run / "checkpoints") for run in (whole, cut))
        assert left["weighting"] == right["weighting"]
        for key, value in left["model"].items():
            assert torch.equal(value, right["model"][key]), key


def strip_times(events: list[dict]) -> list[dict]:
    return [{k: v for k, v in event.items() if k not in ("time", "seconds")} for event in events]


def test_another_setting_is_refused(
    trained: Path, run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "runs" / "turbulence" / "study")
    assert run_app("train", "--train.learning_rate=1e-4") == 2
    assert "train.learning_rate: the run has 0.002, asked for 0.0001" in capsys.readouterr().err


def test_evaluate_and_report_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = []
    monkeypatch.setattr(
        "turbulence.training.report_study", lambda study: reported.append(study.path)
    )
    study = Path(shutil.copytree(trained, tmp_path / "study"))
    before = load_scored(RunFolder.at(study / "field_s0")).evaluation
    (study / "field_s0" / "evaluation.pt").unlink()
    assert main(["report", str(study / "field_s0")]) == 2
    assert main(["evaluate", str(study / "field_s0")]) == 0
    assert reported == [study]
    after = load_scored(RunFolder.at(study / "field_s0")).evaluation
    assert after.summary() == before.summary()
    assert torch.equal(after.pred, before.pred)
    assert main(["report", str(study / "field_s0")]) == 0
    assert (study / "field_s0" / "report.html").is_file()


def test_constant_arms_and_the_one_matched_to_the_schedule(
    run_app: Callable[..., int], tmp_path: Path
) -> None:
    arms = "matched,schedule,static,wavelet"
    words = ["--data.num_train=2", "--loss.wavelet=haar", "--loss.spectrum_scale=0.5"]
    words += ["--train.epochs=5", "--train.steps_per_epoch=1"]
    assert run_app("train", f"--arms={arms}", *words) == 0
    study = tmp_path / "runs" / "turbulence" / "study"
    moved = epochs_of(study / "schedule_s0")
    mean = {
        name: sum(event["weight"].get(name, 0.0) for event in moved) / len(moved)
        for name in ("predFieldError", "spectrumError")
    }
    assert mean["spectrumError"] > 0
    weights = {arm: epochs_of(study / f"{arm}_s0")[-1]["weight"] for arm in arms.split(",")}
    assert weights["matched"] == pytest.approx(mean)
    assert weights["static"] == pytest.approx({"predFieldError": 0.3, "spectrumError": 0.35})
    assert weights["wavelet"] == {"predFieldError": 0.95, "waveletError": 0.05}


def test_seeds_are_compared_in_pairs(run_app: Callable[..., int], tmp_path: Path) -> None:
    words = ["--seeds=0,1", "--train.epochs=5", "--train.steps_per_epoch=1"]
    assert run_app("train", *words) == 0
    scored = scored_runs([tmp_path / "runs" / "turbulence" / "study"])
    assert [one.run.name for one in scored] == [
        "field_s0",
        "field_s1",
        "schedule_s0",
        "schedule_s1",
    ]
    (row,) = paired_rows(scored, base="field")
    figures = {one.run.name: one.evaluation.figures()["field_error"] for one in scored}
    differences = [figures[f"schedule_s{seed}"] - figures[f"field_s{seed}"] for seed in (0, 1)]
    ratio = sum(figures[f"schedule_s{seed}"] / figures[f"field_s{seed}"] for seed in (0, 1)) / 2
    assert row["field_error_ratio"] == pytest.approx(ratio)
    assert row["field_error_difference"].startswith(f"{sum(differences) / 2:.3g} ± ")
    assert table_rows(scored)[0]["seeds"] == 2


def test_a_new_comparison_beside_the_old_one(run_app: Callable[..., int], tmp_path: Path) -> None:
    words = ["--arms=field", "--train.epochs=1"]
    assert run_app("train", *words) == 0
    assert run_app("train", *words, "--resume=never") == 0
    runs = tmp_path / "runs" / "turbulence"
    assert sorted(path.name for path in runs.iterdir()) == ["study", "study-2"]
    # the comparison remembers what it was started with
    assert main(["train", "--name=study"]) == 0
    assert not (runs / "study" / "schedule_s0").exists()
