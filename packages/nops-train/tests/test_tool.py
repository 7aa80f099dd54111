"""The console command: inspect, runs, export, csv."""

import csv
import io
import json
import os
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from nops_train import InputError, Interrupted, RunFolder, read_events, save_checkpoint
from nops_train._run_folder_lock import folder_lock, lock_owner
from nops_train._tool import main
from safetensors.torch import load_file

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def out(capsys):
    """Run the command; what it printed."""

    def call(*words, code=0):
        assert main([str(word) for word in words]) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return call


def row(text, name):
    return next(line.split() for line in text.splitlines() if f" {name} " in f" {line} ")


def test_every_state_is_told_truthfully(toy, tmp_path, out):
    toy.engine_run(tmp_path / "runs", toy.config(), name="done")
    made = toy.engine(tmp_path / "runs", name="stopped")

    def stop(epoch, index, batch):
        if (epoch, index) == (1, 3):
            made._signals.received = 15
        return batch

    with pytest.raises(Interrupted):
        made.fit(toy.Spoiled(toy.train, stop), toy.valid)
    RunFolder.open(tmp_path / "runs", app="other", name="waiting", config={"a": 1})
    study = tmp_path / "runs/toy/study"
    dead = toy.engine_run(study.parent, toy.config(), name="s").run.path
    study.mkdir()
    dead.rename(study / "seed_0")
    summary = json.loads((study / "seed_0/summary.json").read_text())
    text = json.dumps({**summary, "status": "running", "best": None})
    (study / "seed_0/summary.json").write_text(text)

    text = out("runs", tmp_path / "runs")
    best = f"{summary['best']['value']:.4g}"
    assert row(text, "done")[:7] == ["toy", "done", "completed", "2/2", "10", "error", best]
    assert row(text, "stopped")[2:5] == ["interrupted", "1/2", "9"]
    assert row(text, "waiting")[:5] == ["other", "waiting", "new", "0", "0"]
    assert row(text, "study/seed_0")[1:7] == [
        "study/seed_0",
        "killed",
        "2/2",
        "10",
        "error",
        best,
    ]
    with folder_lock(study / "seed_0"):
        running = row(out("runs", tmp_path / "runs"), "study/seed_0")
    assert running[2:4] == ["running", f"({os.getpid()})"]
    assert row(out("runs", study / "seed_0"), "seed_0")[:2] == ["study", "seed_0"]


def test_a_folder_without_runs_is_an_error(tmp_path, out):
    assert "no run in it" in out("runs", tmp_path, code=2)
    assert "nothing: no such folder" in out("runs", tmp_path / "nothing", code=2)


def test_the_age_is_that_of_the_last_event(toy, tmp_path, out):
    made = toy.engine_run(tmp_path, toy.config())
    old = made.run.events.path.stat().st_mtime - 3 * 86400 - 60
    os.utime(made.run.events.path, (old, old))
    assert row(out("runs", tmp_path), "run")[-3:] == ["3", "d", "ago"]


def test_a_look_at_the_lock_does_not_stop_a_run_that_starts(tmp_path):
    assert lock_owner(tmp_path) == 0
    with folder_lock(tmp_path):
        assert lock_owner(tmp_path) == os.getpid()
        with pytest.raises(InputError, match="is training in this folder"), folder_lock(tmp_path):
            pass
    assert lock_owner(tmp_path) == 0
    with open(tmp_path / ".lock") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
        timer = threading.Timer(0.03, fcntl.flock, (file.fileno(), fcntl.LOCK_UN))
        timer.start()
        with folder_lock(tmp_path):
            pass
        timer.join()


def test_a_table_of_the_events(toy, tmp_path, out):
    made = toy.engine_run(tmp_path, toy.config())
    out("csv", made.run.path, tmp_path / "log.csv")
    text = (tmp_path / "log.csv").read_text()
    assert out("csv", made.run.path) == text
    rows = list(csv.DictReader(io.StringIO(text)))
    names = (
        "event epoch step loss gradient_norm learning_rate raw/fit raw/size weight/fit weight/size"
    )
    assert list(rows[0]) == [
        *names.split(),
        "weighted/fit",
        "weighted/size",
        "valid/error",
        "valid/bias",
    ]
    events = [e for e in read_events(made.run.path) if e["event"] in ("train", "validation")]
    assert [(r["event"], int(r["step"])) for r in rows] == [(e["event"], e["step"]) for e in events]
    for found, event in zip(rows, events, strict=True):
        if event["event"] == "train":
            assert float(found["weighted/size"]) == event["weighted"]["size"]  # to the last bit
            assert float(found["loss"]) == event["loss"]
            assert found["valid/error"] == ""
        else:
            assert float(found["valid/error"]) == event["metrics"]["error"]
            assert found["loss"] == ""


def test_csv_of_nothing_and_into_nowhere(toy, tmp_path, out):
    assert "no such event log" in out("csv", tmp_path / "a", code=2)
    made = toy.engine_run(tmp_path, toy.config(epochs=1))
    assert "cannot be written" in out("csv", made.run.path, tmp_path / "a/b.csv", code=2)


def test_what_is_in_a_run_and_its_files(toy, tmp_path, out):
    made = toy.engine_run(tmp_path, toy.config(ema_decay=0.9, keep_last=None))
    text = out("inspect", made.run.path)
    assert "completed, epoch 2/2, step 10" in text
    assert [line.split()[0] for line in text.splitlines()[1:4]] == [
        "epoch_1.pt",
        "best_model.pt",
        "epoch_2.pt",
    ]
    assert text.count("sum agrees") == 3
    text = out("inspect", made.run.path / "checkpoints/epoch_1.pt")
    assert "SHA-256 agrees with manifest.json" in text
    assert "schema 1 " in text
    assert "epoch 1, batch 0, step 5, seed 0" in text
    assert f"torch {torch.__version__}" in text
    assert "model 9, optimizer 18, ema 6" in text
    assert "  train: epochs 2, batch_size 4" in text
    numbers = sum(value.numel() for value in made.net.state_dict().values())
    assert f"model: {numbers} numbers in 9 tensors" in text
    assert "  first.weight  4 × 3  float32" in text
    assert "  norm.num_batches_tracked  scalar  int64" in text


def test_an_export_is_written_and_inspected(toy, tmp_path, out):
    made = toy.engine_run(tmp_path, toy.config())
    assert out("export", made.run.path).strip() == str(made.run.path / "export")
    out("export", made.run.path, tmp_path / "shared")
    file = tmp_path / "shared/model.safetensors"
    assert load_file(file).keys() == made.net.state_dict().keys()
    for path in (tmp_path / "shared", file):
        text = out("inspect", path)
        assert "SHA-256 agrees with config.json" in text
        assert "  first.weight  4 × 3  F32" in text
        assert "  train: epochs 2" in text
    whole, about = file.read_bytes(), file.with_name("config.json")
    file.write_bytes(whole[:-4] + b"\0\0\0\1")
    assert "damaged: SHA-256 is" in out("inspect", file, code=2)
    file.write_bytes(whole)
    for text, told in (("{", "config.json: no JSON"), ("[1]", "config.json: holds list")):
        about.write_text(text)
        assert told in out("inspect", file, code=2)
    about.unlink()
    assert "none to compare with" in out("inspect", file)
    file.write_bytes(b"{}")
    assert "no safetensors file" in out("inspect", file, code=2)


def test_a_checkpoint_of_another_loop(tmp_path, out):
    save_checkpoint(tmp_path / "a.pt", {"net": {"w": [torch.ones(2, 3)]}, "step": 7})
    (tmp_path / "manifest.json").unlink()
    text = out("inspect", tmp_path / "a.pt")
    assert "no checkpoint of the engine" in text
    assert "net, step" in text
    assert "CRC-32 sums inside agree" in text
    assert "tensors: 6 numbers in 1 tensors" in text
    assert "  net.w[0]  2 × 3  float32" in text


def test_damage_is_named_and_the_rest_still_shown(toy, tmp_path, out, capsys):
    made = toy.engine_run(tmp_path, toy.config(keep_last=None))
    path = made.run.path / "checkpoints/epoch_1.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert "epoch_1.pt: damaged" in out("inspect", path, code=2)
    assert main(["inspect", str(made.run.path)]) == 1
    captured = capsys.readouterr()
    assert "damaged: epoch_1.pt" in captured.err
    assert "model: " in captured.out
    assert captured.out.count("sum agrees") == 2


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_inspect_never_runs_what_it_looks_at(tmp_path, out):
    bare, zipped = tmp_path / "bare.pt", tmp_path / "zipped.pt"
    bare.write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
    torch.save({"model": Hostile(tmp_path / "ran")}, zipped)
    for path in (bare, zipped):
        assert "refused" in out("inspect", path, code=2)
    assert not (tmp_path / "ran").exists()
    torch.load(zipped, weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


def test_nothing_to_inspect(tmp_path, out):
    assert "found nothing" in out("inspect", tmp_path / "a", code=2)
    assert "a folder without config.yaml" in out("inspect", tmp_path, code=2)


@pytest.mark.parametrize("words", [["--help"], ["runs", "R"], ["csv", "R/toy/run"]])
def test_a_look_does_not_wait_for_torch(toy, tmp_path, words):
    made = toy.engine_run(tmp_path, toy.config(epochs=1))
    given = [word.replace("R", str(made.run.path.parents[1])) for word in words]
    code = (
        f"import sys; from nops_train._tool import main; code = main({given!r}); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_installed_as_a_command():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="nops-train")
    assert script.load() is main


def test_help_names_both_paths(out):
    assert "Usage: nops-train export RUN [FOLDER] [OPTIONS]" in out("export", "--help")
