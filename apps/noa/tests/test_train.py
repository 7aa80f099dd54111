"""A run from data to report, and what continuing it promises."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from noa.cli import main
from noa.task import RolloutTask
from nops_train import load_checkpoint

RUN = Path("runs/noa/default")


def checkpoint(name: str, run: Path = RUN) -> dict:
    return load_checkpoint(run / "checkpoints" / name)


def test_a_run_leaves_everything_it_promises(run_noa, events, capsys):
    assert run_noa("train") == 0
    assert f"Report: {RUN}/report.html" in capsys.readouterr().out.replace("\n", "")
    summary = json.loads((RUN / "summary.json").read_text())
    promised = "status epochs steps best metrics baselines peak_memory_bytes seconds versions"
    assert set(promised.split()) <= summary.keys()
    assert summary["status"] == "completed"
    assert summary["epochs"] == 2
    assert summary["steps"] == 6
    assert {"config.yaml", "events.jsonl", "checkpoints"} <= set(os.listdir(RUN))
    assert {"step_2.pt", "epoch_1.pt", "best_model.pt"} & set(os.listdir(RUN / "checkpoints"))
    steps = [event for event in events(RUN) if event["event"] == "train"]
    assert [event["step"] for event in steps] == list(range(6))
    for event in steps:
        for term in ("traj", "ic"):
            weighted = event["weight"][term] * event["raw"][term]
            assert event["weighted"][term] == pytest.approx(weighted)


def test_the_report_shows_every_plot_and_loads_nothing(whole):
    html = (whole / "report.html").read_text()
    plots = {path.stem for path in (whole / "plots").glob("*.png")}
    expected = {"skill", "nmse", "correlation", "training", "spectra", "rollout_0", "rollout_1"}
    assert plots == expected
    assert html.count("data:image/png;base64,") >= len(expected)
    assert "http://" not in html
    assert "https://" not in html


def test_the_same_command_again_changes_nothing(run_noa, finished, events, same_state):
    before = events(RUN), (RUN / "summary.json").read_text()
    state = checkpoint("epoch_2.pt")
    assert run_noa("train") == 0
    assert events(RUN) == before[0]
    same_state(checkpoint("epoch_2.pt"), state)


# inside the first epoch, at its last batch, right after it, inside the second
@pytest.mark.parametrize("cut", [0, 2, 3, 4])
def test_interrupted_equals_uninterrupted(run_noa, equal_runs, whole, cut, monkeypatch):
    plain, count = RolloutTask.losses, iter(range(1000))

    def losses(self, batch, **where):
        # the first call is the engine's check that every term trains something
        if next(count) == cut + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch, **where)

    with monkeypatch.context() as patch:
        patch.setattr(RolloutTask, "losses", losses)
        assert run_noa("train") == 143
    assert json.loads((RUN / "summary.json").read_text())["status"] != "completed"
    assert run_noa("train") == 0
    equal_runs(whole, RUN)


def test_interrupted_right_after_a_skipped_batch(
    run_noa, events, equal_runs, tmp_path, monkeypatch
):
    plain = RolloutTask.losses

    def run(name: str, *, interrupt: bool) -> int:
        count = iter(range(1000))

        def losses(self, batch, **where):
            index = next(count)
            for terms in plain(self, batch, **where):
                yield {k: v * float("nan") if index == 2 else v for k, v in terms.items()}
            if interrupt and index == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(RolloutTask, "losses", losses)
            return run_noa("train", f"--name={name}")

    assert run("whole", interrupt=False) == 0
    assert run("cut", interrupt=True) == 143
    assert run_noa("train", "--name=cut") == 0
    runs = tmp_path / "runs/noa"
    assert [e["event"] for e in events(runs / "cut")].count("skipped") == 1
    equal_runs(runs / "whole", runs / "cut")


def test_a_changed_key_stops_with_the_difference(run_noa, finished, capsys):
    assert run_noa("train", "--train.learning_rate=0.5") == 2
    message = capsys.readouterr().err
    assert "train.learning_rate" in message
    assert "0.5" in message
    assert "0.003" in message


def test_a_run_made_before_a_key_was_added_goes_on(run_noa, finished, capsys):
    config = (RUN / "config.yaml").read_text()
    assert config.count("  ema_decay: null\n") == 1
    (RUN / "config.yaml").write_text(config.replace("  ema_decay: null\n", ""))
    assert run_noa("train", "--train.ema_decay=0.9") == 2
    assert "train.ema_decay: the run has None, asked for 0.9" in capsys.readouterr().err
    assert run_noa("train") == 0
    assert (RUN / "config.yaml").read_text() == config


def test_resume_never_starts_a_new_folder(run_noa, finished):
    assert run_noa("train", "--resume=never", "--train.seed=1", "--train.epochs=1") == 0
    summary = json.loads((RUN.with_name("default-2") / "summary.json").read_text())
    assert (summary["status"], summary["epochs"]) == ("completed", 1)


@pytest.mark.parametrize("mode", ["sequential", "last", "pushforward"])
def test_every_mode_trains(run_noa, mode):
    assert run_noa("train", f"--rollout.mode={mode}", "--train.epochs=1") == 0


def test_windows_of_a_sequence_each_count_by_their_share(run_noa, events):
    assert run_noa("train", "--rollout.mode=sequential", "--loss.ic=0", "--train.epochs=1") == 0
    first = next(e for e in events(RUN) if e["event"] == "train")
    assert set(first["raw"]) == {"traj"}
    assert first["raw"]["traj"] > 0


def test_evaluate_and_report_repeat_what_training_ended_with(finished):
    before = json.loads((RUN / "summary.json").read_text())["metrics"]
    (RUN / "report.html").unlink()
    assert main(["report", str(RUN)]) == 0
    assert (RUN / "report.html").is_file()
    assert main(["validate", str(RUN)]) == 0
    assert json.loads((RUN / "summary.json").read_text())["metrics"] == before


def test_several_runs_are_compared(run_noa, finished):
    assert run_noa("train", "--name=seed1", "--seed=1", "--train.epochs=1") == 0
    assert main(["report", "runs/noa/default", "runs/noa/seed1"]) == 0
    text = Path("runs/noa/comparison.html").read_text()
    assert "standard deviation" in text
    assert "seed1" in text


def test_transfer_takes_the_weights_of_another_run(run_noa, finished, events, capsys):
    assert run_noa("train", "--name=next", f"--init-from={RUN}", "--train.learning_rate=1e-30") == 0
    out = capsys.readouterr().out
    assert "Start weights from runs/noa/default/checkpoints/best_model.pt" in out
    best = checkpoint("best_model.pt")["model"]
    moved = checkpoint("epoch_2.pt", RUN.with_name("next"))["model"]
    assert best.keys() == moved.keys()
    for name, value in best.items():
        torch.testing.assert_close(moved[name], value, rtol=1e-6, atol=1e-12)
    first = events(RUN.with_name("next"))[0]
    assert (first["event"], first["matched"], first["missing"]) == ("initialised", len(best), [])
    # the same command again, with and without the flag, goes on; another source is another run
    assert run_noa("train", "--name=next", "--train.learning_rate=1e-30") == 0
    assert run_noa("train", "--name=next", f"--init-from={RUN}", "--train.learning_rate=1e-30") == 0
    capsys.readouterr()
    assert run_noa("train", f"--init-from={RUN}") == 2
    assert "train.init_from: the run has None" in capsys.readouterr().err


def test_layers_that_do_not_fit_start_anew(run_noa, finished, capsys):
    words = ("--name=wide", f"--init-from={RUN}", "--model.embedding=8", "--train.epochs=1")
    assert run_noa("train", *words) == 0
    out = capsys.readouterr().out
    assert "  other shape  " in out
    assert "expected (" in out


def test_a_run_is_watched_without_being_changed(run_noa, finished, events, same_state):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("--train.log_to=tensorboard", "--train.gradient_norm_per_term=true")
    assert run_noa("train", "--name=seen", *words) == 0
    seen = RUN.with_name("seen")
    same_state(
        {**checkpoint("epoch_2.pt"), "config": {}}, {**checkpoint("epoch_2.pt", seen), "config": {}}
    )
    found = EventAccumulator(str(seen / "tensorboard")).Reload()
    assert found.Tags()["images"] == [f"lead_4/{name}" for name in ("truth", "rollout", "error")]
    tags = set(found.Tags()["scalars"])
    assert {"raw/traj", "weighted/ic", "gradient_norm/traj", "learning_rate", "valid/nmse"} <= tags
    steps = [e["step"] for e in events(seen) if e["event"] == "train"]
    assert [item.step for item in found.Scalars("raw/traj")] == steps
    # how it is watched may change when it goes on
    assert run_noa("train", "--name=seen", "--train.progress=none") == 0


def test_pictures_share_the_scale_of_the_truth():
    class Persistence(torch.nn.Module):
        def rollout(self, initial, parameters, *, num_steps):
            return initial[:, None].expand(-1, num_steps, -1, -1, -1)

    frames = torch.zeros(2, 3, 2, 2, 2)
    frames[0, 0, 1] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    frames[0, 2, 1] = torch.tensor([[1.0, 3.0], [3.0, 5.0]])  # from 1 to 5: the unit is 4
    task = RolloutTask(Persistence(), rollout=None)
    images = task.images({"frames": frames, "parameters": torch.zeros(2, 1)})
    assert list(images) == ["lead_2/truth", "lead_2/rollout", "lead_2/error"]
    truth, rollout, error = images.values()
    assert torch.equal(truth, torch.tensor([[[0.0, 0.5], [0.5, 1.0]]]))
    assert torch.equal(rollout, torch.tensor([[[0.0, 0.25], [0.5, 0.75]]]))
    assert torch.equal(error, torch.tensor([[[0.0, 0.25], [0.0, 0.25]]]))


@pytest.mark.parametrize("kind", ["relobralo", "config"])
def test_other_rules_weigh_its_terms(run_noa, kind):
    assert run_noa("train", f"--weighting.kind={kind}", "--train.epochs=1") == 0
    steps = [
        e["weight"]
        for e in map(json.loads, (RUN / "events.jsonl").read_text().splitlines())
        if "weight" in e
    ]
    assert (steps[0] != steps[-1]) == (kind == "relobralo")  # ConFIG joins gradients instead
    names = {path.name for path in (RUN / "checkpoints").iterdir()}
    assert "epoch_1.pt" in names
