"""A run end to end: folders, scores, reports, going on in both phases, posteriors, ablations."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nops_data import read_arrays
from nops_train import RunFolder, load_checkpoint, read_events
from phys_smpl.ablation import children, table_rows
from phys_smpl.cli import main
from phys_smpl.evaluation import oracle_slice
from phys_smpl.report import closest_kinds, coverage_note, load_evaluation, thinned
from phys_smpl.task import PhysTask

WIDE = "phys-smpl/tiny"


def test_a_run_ends_with_scores_baselines_and_a_report(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert {"x_pb", "x_p", "r2_xcen", "r2_dV"} <= set(summary["metrics"])
    assert set(summary["baselines"]) == {"mean", "pca_2", "pca_4", "pca_6", "oracle"}
    held = RunFolder.at(trained).record("metrics.json")
    assert len(held["channel_rows"]) == 36
    assert set(held["identifiability"]["weakest"]) == {"xcen", "ycen", "d", "dV"}
    page = (trained / "report.html").read_text()
    for words in ("attainable", "PCA, k = 6", "oracle", "x_P is the physics alone", "pattern"):
        assert words in page, words
    plots = {path.stem for path in (trained / "plots").iterdir()}
    expected = {"errors", "recovery", "patterns", "training", "validation", "divergences"}
    assert plots == expected | {"progress", "latents_mean", "latents_sd"}


def test_the_scores_are_sums_of_squares_of_standardised_channels(
    trained: Path, data_folder: Path
) -> None:
    evaluation = load_evaluation(RunFolder.at(trained))
    train, test = (read_arrays(data_folder, split)["x"] for split in ("train", "test"))
    z = (test - train.mean(0)) / train.std(0)
    assert evaluation.baselines["mean"] == pytest.approx((z**2).sum(1).mean(), rel=1e-5)
    total = sum(
        row["RMSE x_PB"] ** 2 / scale**2
        for row, scale in zip(evaluation.channel_rows, train.std(0), strict=True)
    )
    assert evaluation.errors["x_pb"] == pytest.approx(total, rel=1e-4)


def test_the_oracle_fits_rows_evenly_over_the_split() -> None:
    assert list(range(10))[oracle_slice(10, None)] == list(range(10))
    assert list(range(10))[oracle_slice(10, 10)] == list(range(10))
    assert list(range(10))[oracle_slice(10, 4)] == [0, 3, 6, 9]
    assert list(range(10))[oracle_slice(10, 3)] == [0, 4, 8]
    assert list(range(10))[oracle_slice(10, 50)] == list(range(10))


def test_intervals_that_hold_the_truth_too_seldom_are_told(trained: Path) -> None:
    evaluation = load_evaluation(RunFolder.at(trained))
    held = dict(zip(evaluation.parameters, (0.95, 0.79, 0.81, 0.3), strict=True))
    rows = [{**row, "coverage of 90 %": held[row["parameter"]]} for row in evaluation.recovery]
    note = coverage_note(replace(evaluation, recovery=rows))
    assert note is not None
    assert "the truth of ycen in 79%, dV in 30% of the rows" in note
    rows = [{**row, "coverage of 90 %": 0.81} for row in rows]
    assert coverage_note(replace(evaluation, recovery=rows)) is None
    assert coverage_note(replace(evaluation, recovery=[])) is None


def test_of_many_channels_some_are_shown() -> None:
    rows = [{"channel": i} for i in range(1000)]
    assert [row["channel"] for row in thinned(rows)] == list(range(0, 1000, 17))
    assert thinned(rows[:60]) == rows[:60]
    assert thinned([]) == []


def test_of_many_kinds_the_closest_are_shown() -> None:
    rows = closest_kinds({("a", str(i)): abs(i - 20.0) for i in range(40)})
    assert [row["pair"] for row in rows[:3]] == ["a – 20", "a – 19", "a – 21"]
    assert len(rows) == 12


def test_what_is_logged_of_each_epoch(trained: Path) -> None:
    events = [dict(event) for event in read_events(trained)]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [set(event["raw"]) for event in epochs[:2]] == [{"bootstrap"}] * 2
    assert "bootstrap" not in epochs[2]["raw"]
    assert [event["weight"].get("kl_physics") for event in epochs] == [None, None, None, 0.005]
    valid = [event["metrics"] for event in events if event["event"] == "validation"]
    wanted = {"reconstruction", "physics_error", "residual", "kl", "r", "tau", "u_mean_d"}
    wanted |= {"u_square_d", "coefficient_norm", "scale_norm", "basis_departure", "proposed"}
    assert all(wanted <= set(metrics) for metrics in valid)
    assert [metrics["r"] for metrics in valid] == [0.0, 0.0, 0.0, 0.5]


def test_the_best_is_no_epoch_of_pretraining_and_has_its_own_strength(trained: Path) -> None:
    best = load_checkpoint(trained / "checkpoints" / "best_model.pt")
    assert best["position"]["epoch"] in (3, 4)
    events = [dict(event) for event in read_events(trained)]
    assert not any(e["best"] for e in events if e["event"] == "validation" and e["epoch"] < 2)
    assert best["model"]["head.r"].item() == 0.5 * (best["position"]["epoch"] - 3)
    first = load_checkpoint(trained / "checkpoints" / "epoch_2.pt")["model"]
    last = load_checkpoint(trained / "checkpoints" / "epoch_4.pt")["model"]
    assert torch.equal(first["prior.mean"], torch.zeros(4))  # moves from epoch 3 on
    assert not torch.equal(last["prior.mean"], torch.zeros(4))


class Stop(BaseException):
    """Ends a run as a killed process would."""


def test_stopped_in_either_phase_the_same_command_ends_equal(
    run_app: Callable[..., int],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = PhysTask.losses
    for cut in (4, 11):  # three steps an epoch: in the pretraining, and where the prior moves

        def losses(self: PhysTask, batch: Any, *, step: int, _cut: int = cut, **place: Any) -> Any:
            if step == _cut:
                raise Stop
            return whole(self, batch, step=step, **place)

        words = [f"--name=cut{cut}", "--model.prior=ema"]
        with monkeypatch.context() as patch:
            patch.setattr(PhysTask, "losses", losses)
            with pytest.raises(Stop):
                run_app("train", *words)
        assert run_app("train", *words) == 0
        run = tmp_path / "runs" / "phys-smpl" / f"cut{cut}"
        states = [load_checkpoint(folder / "checkpoints") for folder in (trained, run)]
        for part in ("model", "weighting"):
            first, second = (state[part] for state in states)
            assert first.keys() == second.keys()
            for name, value in first.items():
                same = torch.equal(value, second[name]) if torch.is_tensor(value) else None
                assert same is not False, name
                assert same is not None or value == second[name], name
        assert len(read_events(run)) == len(read_events(trained))


def test_evaluate_scores_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr("phys_smpl.training.write_report", lambda run: drawn.append(run.path))
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    before = (copy / "metrics.json").read_text()
    for name in ("metrics.json", "evaluation.pt"):
        (copy / name).unlink()
    assert main(["report", str(copy)]) == 2
    assert main(["evaluate", str(copy)]) == 0
    assert (copy / "metrics.json").read_text() == before
    assert drawn == [copy]


def test_posteriors_of_a_table(trained: Path, data_folder: Path, tmp_path: Path) -> None:
    x = read_arrays(data_folder, "test")["x"]
    x[3, 7] += 1e4  # far from anything
    names = [f"{axis}{i + 1}" for axis in "ENU" for i in range(12)]
    source, out = tmp_path / "rows.csv", tmp_path / "new" / "posterior.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "date"])
        writer.writerows([*row, f"2020-01-{i + 1:02}"] for i, row in enumerate(x.tolist()))
    words = ["posterior", str(trained), f"--input={source}", f"--output={out}"]
    assert main(words) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["date"] for row in rows[:2]] == ["2020-01-01", "2020-01-02"]
    assert [bool(row["beyond_training"]) for row in rows] == [i == 3 for i in range(10)]
    assert rows[3]["beyond_training"] == "E8"
    evaluation = load_evaluation(RunFolder.at(trained))
    depth = np.array([float(row["d_mean"]) for row in rows])
    found = evaluation.estimate[:, 2].numpy()
    spread = np.array([float(row["d_sd"]) for row in rows])
    keep = np.arange(10) != 3
    assert np.abs(depth - found)[keep].max() < 4 * spread.max() / 4  # of means of 16 draws
    for row in rows:
        assert float(row["d_p05"]) <= float(row["d_p50"]) <= float(row["d_p95"])
        assert float(row["residual_dominates"]) == (float(row["residual_ratio"]) > 0.5)
    text = source.read_text().splitlines()
    text[4] = text[4].replace(text[4].split(",")[1], "nan", 1)
    source.write_text("\n".join(text))
    assert main(words) == 2
    assert main(["posterior", str(trained), f"--input={source}"]) == 2


def test_an_ablation_compares_variants_beside_the_baselines(
    run_app: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--variants=A,B,C,G", "--seeds=3", "--train.epochs=3", "--train.save_every=99"]
    assert run_app("ablate", *tiny) == 0
    study = tmp_path / "runs" / WIDE
    names = sorted(path.name for path in study.iterdir() if path.is_dir())
    assert names[:4] == ["A_s3", "B_s3", "C_s3", "G_s3"]
    rows = table_rows(study)
    assert [row["variant"][0] for row in rows[:4]] == list("ABCG")
    assert "x_P" not in rows[0]
    assert rows[1]["x_P"] == pytest.approx(rows[1]["x_PB"])  # no correction
    assert [row["variant"] for row in rows[4:]] == [
        *("mean", "PCA, k = 2", "PCA, k = 4", "PCA, k = 6", "oracle")
    ]
    assert (study / "report.html").is_file()
    capsys.readouterr()
    assert run_app("ablate", *tiny) == 0  # complete: nothing is trained again
    assert "epoch 1/3" not in capsys.readouterr().out
    assert main(["report", str(study)]) == 0


def test_a_study_has_a_run_for_each_variant_and_seed(build: Callable[..., Any]) -> None:
    config = build(ablation={"variants": ["A", "C"], "seeds": [0, 4]}).config
    found = children(config)
    assert list(found) == ["A_s0", "A_s4", "C_s0", "C_s4"]
    assert (found["A_s0"].model.aux_dim, found["A_s0"].pretrain) == (6, 0)
    assert (found["C_s4"].model.rank, found["C_s4"].train.seed) == (None, 4)
