"""`spectra` and `schedule`: files written, numbers in them, what is refused."""

import csv
import math
from pathlib import Path

import pytest
import torch
from nops_data import WellReader
from nops_losses import energy_spectrum
from nops_schedules import SchedulerParams, suggest_params
from nops_train import RunFolder
from turbulence.cli import main
from turbulence.comparison import load_scored
from turbulence.replay import replayed_schedule
from turbulence.terms import Domain


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_spectra_of_data_sum_to_the_energy(data_folder: Path, tmp_path: Path) -> None:
    assert main(["spectra", str(data_folder)]) == 0
    files = {path.name for path in (tmp_path / "spectra").iterdir()}
    assert files == {
        *("spectra.csv", "marginals.csv"),
        *("spectra.png", "spectra_compensated.png", "anisotropy.png"),
    }
    reader = WellReader(data_folder, split="test")
    frames = torch.cat([reader.read(i) for i in range(len(reader))]).double()
    energy = 0.5 * float(frames.square().sum(1).mean())
    shells = rows_of(tmp_path / "spectra" / "spectra.csv")
    assert sum(float(row["energy"]) for row in shells) == pytest.approx(energy)
    marginals = rows_of(tmp_path / "spectra" / "marginals.csv")
    for axis in ("1", "2"):
        total = sum(float(row["energy"]) for row in marginals if row["axis"] == axis)
        assert total == pytest.approx(energy)
    expected = energy_spectrum(frames).energy.mean(0)
    assert float(shells[4]["energy"]) == pytest.approx(float(expected[4]))


def test_spectra_of_one_file_are_those_of_its_trajectories(
    data_folder: Path, tmp_path: Path
) -> None:
    (file,) = (data_folder / "data" / "valid").glob("*.hdf5")
    assert main(["spectra", str(file), "--out=one"]) == 0
    reader = WellReader(data_folder, split="valid")
    frames = torch.cat([reader.read(i) for i in range(len(reader))]).double()
    total = sum(float(row["energy"]) for row in rows_of(tmp_path / "one" / "spectra.csv"))
    assert total == pytest.approx(0.5 * float(frames.square().sum(1).mean()))


def test_spectra_of_runs_stand_beside_one_truth(trained: Path, tmp_path: Path) -> None:
    runs = [str(trained / name) for name in ("field_s0", "schedule_s0")]
    assert main(["spectra", *runs, "--out=runs_out"]) == 0
    names = [row["field"] for row in rows_of(tmp_path / "runs_out" / "spectra.csv")]
    assert list(dict.fromkeys(names)) == ["truth", "field_s0 rollout", "schedule_s0 rollout"]


def test_spectra_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spectra", str(tmp_path)]) == 2
    assert "expected a run, a folder with data/test" in capsys.readouterr().err


def test_spectra_with_a_window_are_of_the_tapered_fields(data_folder: Path, tmp_path: Path) -> None:
    assert main(["spectra", str(data_folder), "--window=hann", "--out=tapered"]) == 0
    reader = WellReader(data_folder, split="test")
    frames = torch.cat([reader.read(i) for i in range(len(reader))]).double()
    expected = energy_spectrum(frames, window="hann", detrend="mean").energy.mean(0)
    found = [float(row["energy"]) for row in rows_of(tmp_path / "tapered" / "spectra.csv")]
    assert found == pytest.approx(expected.tolist(), abs=1e-12)


def test_spectra_across_a_wall_need_a_window(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    walls = Domain(shape=(16, 16), lengths=(6.28, 6.28), periodic=(True, False))
    monkeypatch.setattr("turbulence.spectra.domain_of", lambda folder, reader: walls)
    assert main(["spectra", str(data_folder)]) == 2
    assert "not periodic along axis 1" in (error := capsys.readouterr().err)
    assert "--window hann" in error
    assert main(["spectra", str(data_folder), "--window=box"]) == 2
    assert "expected one of none, hann, tukey" in capsys.readouterr().err
    assert main(["spectra", str(data_folder), "--window=tukey"]) == 0
    assert (tmp_path / "spectra" / "spectra.csv").is_file()


SEED = [
    *("--weighting.warmup_epochs=5", "--weighting.min_epochs_before_adapt=10"),
    *("--weighting.patience=5", "--weighting.min_delta=0.001", "--weighting.min_delta_mode=abs"),
    *("--weighting.transition_step=0.1", "--weighting.adaptive_step=true"),
    *("--weighting.ema_beta=0.9", "--weighting.guard_metric=null"),
]


def test_the_published_trace_on_a_constant_metric(tmp_path: Path) -> None:
    assert main(["schedule", *SEED, "--metrics=constant:0.5", "--epochs=80"]) == 0
    rows = rows_of(tmp_path / "schedule" / "schedule.csv")
    weights = [float(row["spectrumError"]) for row in rows]
    moves = {i: weights[i] for i in range(1, 80) if weights[i] != weights[i - 1]}
    assert [*moves] == [20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75]
    expected = (0.1, 0.1857, 0.2592, 0.3222, 0.3761, 0.4261, 0.4761, 0.5261, 0.5761, 0.6261)
    assert [*moves.values()] == pytest.approx([*expected, 0.6761, 0.7], abs=5e-5)
    assert rows[-1]["state"] == "COMPLETE"
    assert (tmp_path / "schedule" / "schedule.png").stat().st_size > 0


def test_a_csv_column_with_gaps_is_a_trace(tmp_path: Path) -> None:
    lines = ["epoch,spectrum_error", *(f"{e},{'' if e % 2 else 0.5}" for e in range(40))]
    Path("log.csv").write_text("\n".join(lines))
    assert main(["schedule", *SEED, "--metrics=log.csv:spectrum_error"]) == 0
    rows = rows_of(tmp_path / "schedule" / "schedule.csv")
    assert [row["monitored"] for row in rows[:4]] == ["0.5", "", "0.5", ""]
    assert len(rows) == 40


def test_the_trace_of_a_run_gives_its_own_weights(trained: Path, tmp_path: Path) -> None:
    run = trained / "schedule_s0"
    words = ["--weighting.min_epochs_before_adapt=1", f"--metrics={run}"]
    assert main(["schedule", *words]) == 0
    rows = rows_of(tmp_path / "schedule" / "schedule.csv")
    one = load_scored(RunFolder.at(run))
    replay = replayed_schedule(one.run, one.config)
    assert replay is not None
    found = [float(row["spectrumError"]) for row in rows]
    assert found == pytest.approx([held["spectrumError"] for held in replay.weights])
    assert not math.isclose(found[-1], found[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("constant:x", ("expected a number", "'x'")),
        ("nothing.csv", ("constant:VALUE", "nothing.csv")),
        ("log.csv:speed", ("no column speed", "epoch, loss")),
        ("log.csv", ("spectrum_error", "loss")),
        ("bad.csv:loss", ("bad.csv, line 3", "'much'")),
    ],
)
def test_a_trace_that_is_none(
    text: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("log.csv").write_text("epoch,loss\n0,1.0\n")
    Path("bad.csv").write_text("loss\n0.5\nmuch\n")
    assert main(["schedule", f"--metrics={text}"]) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error, error


def test_patience_and_warm_up_from_a_recorded_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = [(-1) ** e * 0.004 for e in range(40)]
    values = [0.5 + 0.5 * 0.7**e + noise[e] for e in range(40)]
    lines = ["spectrum_error,field_error", *(f"{value},1.0" for value in values)]
    Path("log.csv").write_text("\n".join(lines))
    assert main(["schedule", "--metrics=log.csv", "--suggest"]) == 0
    default = SchedulerParams(enabled=True, min_delta=0.02, min_delta_mode="rel")
    found = suggest_params(values, params=default)
    assert found.patience > 1
    text = " ".join(capsys.readouterr().out.split())
    assert f"--weighting.patience {found.patience} " in text
    assert f"--weighting.warmup_epochs {found.warmup_epochs} " in text
    first = next(row for row in rows_of(tmp_path / "schedule" / "schedule.csv") if row["smoothed"])
    assert int(first["epoch"]) == found.warmup_epochs


def test_a_record_too_short_to_suggest_anything(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log.csv").write_text("spectrum_error\n0.5\n0.4\n")
    assert main(["schedule", "--metrics=log.csv:spectrum_error", "--suggest"]) == 2
    assert "8 finite values" in capsys.readouterr().err
