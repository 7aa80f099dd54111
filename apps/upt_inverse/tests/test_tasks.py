"""Several equations around one approximator: the paper's mixture, tiny, on files of two dimensions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from nops_physics import Advection1D, Darcy2D
from nops_train import RunFolder, load_checkpoint, parse_config, read_events
from upt_inverse.cli import main
from upt_inverse.config import UptConfig
from upt_inverse.generation import settle_data
from upt_inverse.parts import Parts
from upt_inverse.reach import gradient_reach
from upt_inverse.report import load_evaluations
from upt_inverse.task import UptTask

LINE, SQUARE, SAMPLES, FRAMES = 32, 8, 20, 5
TINY = {
    "tasks.advection.data.time_stride": 1,
    "tasks.advection.loss.num_queries": 16,
    "tasks.darcy.loss.num_queries": 32,
    "tasks.darcy.model.patch_size": 2,
    "model.tokens": 4,
    "model.dim": 8,
    "model.approximator_depth": 1,
    "model.approximator_width": 16,
    "model.heads": 2,
    "model.decoder_cross_depth": 1,
    "loss.query_sampling.num_queries": 16,
    "weighting.delay": 0,
    "weighting.ramp": 2,
    "train.epochs": 2,
    "train.batch_size": 4,
    "train.accumulate": 2,
    "train.warmup_steps": 1,
    "train.precision": "fp32",
    "train.device": "cpu",
    "train.log_every": 1,
    "train.save_every": 1,
    "evaluate.bootstrap": 20,
    "rounds": 6,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Advection on a line and Darcy flow in a square, in PDEBench's layouts."""
    folder = tmp_path_factory.mktemp("files")
    paths = {
        "advection": folder / "1D_Advection_Sols_beta0.4.hdf5",
        "darcy": folder / "2D_DarcyFlow_beta1.0_Train.hdf5",
    }
    line, square = Advection1D(LINE), Darcy2D((SQUARE, SQUARE))
    waves = line.solve(line.initial(SAMPLES, seed=0), times=[0.05 * k for k in range(FRAMES)])
    flow = square.solve(square.initial(SAMPLES, seed=0), times=[1.0])[:, 0]
    with h5py.File(paths["advection"], "w") as file:
        file["tensor"] = waves[:, :, 0].float().numpy()
        file["x-coordinate"] = ((np.arange(LINE) + 0.5) / LINE).astype("f4")
        file["t-coordinate"] = (0.05 * np.arange(FRAMES + 1)).astype("f4")
    with h5py.File(paths["darcy"], "w") as file:
        file["tensor"], file["nu"] = flow[:, :1].float().numpy(), flow[:, 1].float().numpy()
        for axis in "xy":
            file[f"{axis}-coordinate"] = ((np.arange(SQUARE) + 0.5) / SQUARE).astype("f4")
    return paths


def words_of(files: dict[str, Path], *, runs: Path, **changes: Any) -> list[str]:
    """The preset of the paper on these files, tiny."""
    paths = {f"tasks.{name}.data.path": path for name, path in files.items()}
    given = {**TINY, **paths, **{key.replace("__", "."): v for key, v in changes.items()}}
    flags = [f"--{key}={value}" for key, value in given.items() if value is not None]
    return ["--preset=paper_multi", f"--runs={runs}", *flags]


@pytest.fixture(scope="module")
def mixed(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    runs = tmp_path_factory.mktemp("mixed")
    assert main(["train", *words_of(files, runs=runs, name="whole")]) == 0
    return runs / "upt-inverse" / "whole"


def test_a_mixture_ends_with_scores_and_baselines_of_each_task(mixed: Path) -> None:
    summary = json.loads((mixed / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 12)
    assert {name for name in summary["metrics"] if "time" not in name} == {
        *(f"advection.{name}_nrmse" for name in ("latent", "image", "one_step", "reconstruction")),
        *("darcy.operator_nrmse", "darcy.reconstruction_nrmse"),
    }
    baselines = summary["baselines"]
    assert set(baselines) == {
        *(f"advection.{name}_nrmse" for name in ("zero", "persistence", "previous_truth")),
        *("darcy.zero_nrmse", "darcy.mean_nrmse"),  # a map has no state to persist
    }
    assert baselines["darcy.zero_nrmse"] == pytest.approx(1.0)
    held = json.loads((mixed / "metrics.json").read_text())["tasks"]
    found = held["darcy"]["horizon"]["operator"]["value"]
    assert found == summary["metrics"]["darcy.operator_nrmse"]
    page = (mixed / "report.html").read_text()
    for words in (
        "advection: Error over time",
        "darcy: Error",
        "darcy: Fields",
        "mean of training",
    ):
        assert words in page, words
    assert {path.stem for path in (mixed / "plots").iterdir()} == {
        *("advection_errors", "advection_correlation", "advection_profiles"),
        *("darcy_rollout_operator", "training"),
    }


def test_the_mean_of_training_is_that_of_the_training_flows(
    mixed: Path, files: dict[str, Path]
) -> None:
    with h5py.File(files["darcy"]) as file:
        flows = torch.from_numpy(file["tensor"][:, 0]).double()
    mean = flows[4:].mean(0)  # a tenth each is test and valid
    error = (mean - flows[:2]).square().mean((1, 2)) / flows[:2].square().mean((1, 2))
    evaluation, _ = load_evaluations(RunFolder.at(mixed))["darcy"]
    assert evaluation.horizon("mean") == pytest.approx(float(error.sqrt().mean()), rel=1e-5)
    assert evaluation.channels == ("u",)
    torch.testing.assert_close(evaluation.truth[:, 0, 0].double(), flows[:2], rtol=1e-5, atol=1e-6)


def test_every_step_has_the_terms_of_every_task(mixed: Path) -> None:
    events = [event for event in read_events(mixed) if event["event"] == "train"]
    assert len(events) == 12
    inverse = {
        f"{name}.{term}" for name in ("advection", "darcy") for term in ("L_inv_enc", "L_inv_dec")
    }
    for event in events:
        late = inverse if event["epoch"] and event["step"] % 3 == 0 else set()
        assert set(event["raw"]) == {"advection.L_forward", "darcy.L_forward"} | late
        assert all(event["weight"][term] == pytest.approx(0.005) for term in late)  # half of 0.01


def test_the_monitored_metric_is_the_mean_over_tasks(mixed: Path) -> None:
    events = [event for event in read_events(mixed) if event["event"] == "validation"]
    assert len(events) == 2
    for event in events:
        metrics = event["metrics"]
        both = [metrics[f"{name}.rollout_nrmse"] for name in ("advection", "darcy")]
        assert metrics["rollout_nrmse"] == pytest.approx(sum(both) / 2)


class Stop(BaseException):
    """Ends a run as a killed process would."""


def test_stopped_between_the_tasks_of_a_step_the_same_command_ends_equal(
    mixed: Path, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upt_inverse.training.write_report", lambda run: run.report)
    whole, words = UptTask.losses, words_of(files, runs=tmp_path, name="cut")

    def losses(self: UptTask, batch: Any, **place: Any) -> Any:
        if place["step"] == 7 and batch["frames"].ndim == 5:  # advection's part is done
            raise Stop
        return whole(self, batch, **place)

    with monkeypatch.context() as patch:
        patch.setattr(UptTask, "losses", losses)
        with pytest.raises(Stop):
            main(["train", *words])
    assert main(["train", *words]) == 0
    runs = (mixed, tmp_path / "upt-inverse" / "cut")
    states = [load_checkpoint(run / "checkpoints") for run in runs]
    for part in ("model", "ema"):
        held = [state[part] if part == "model" else state[part]["average"] for state in states]
        assert all(torch.equal(held[0][name], held[1][name]) for name in held[0])
    assert len({(run / "metrics.json").read_text() for run in runs}) == 1


def test_evaluate_report_and_rollout_work_by_task(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, out = tmp_path / "copy", tmp_path / "darcy.h5"
    shutil.copytree(mixed, copy)
    (copy / "metrics.json").unlink()
    assert main(["evaluate", str(copy)]) == 0
    assert (copy / "metrics.json").read_text() == (mixed / "metrics.json").read_text()
    assert main(["rollout", str(copy), "--task=darcy", f"--out={out}"]) == 0
    evaluation, _ = load_evaluations(RunFolder.at(mixed))["darcy"]
    with h5py.File(out) as file:
        found = file["fields/u"][:, 0, :, 0].reshape(2, SQUARE, SQUARE)
    np.testing.assert_allclose(
        found, evaluation.rollouts["operator"][:, 0, 0], rtol=1e-5, atol=1e-6
    )
    assert main(["rollout", str(copy)]) == 2
    assert "--task: expected one of advection, darcy; found nothing" in capsys.readouterr().err


@pytest.fixture
def build(files: dict[str, Path]) -> Callable[..., Parts]:
    def make(tasks: dict[str, Any] | None = None, **sections: Any) -> Parts:
        data = {
            name: {"pde": name, "source": "pdebench", "path": str(path)}
            for name, path in files.items()
        }
        own = {
            "advection": {"data": data["advection"], "model": {"patch_size": 4}},
            "darcy": {"data": data["darcy"], "model": {"patch_size": 2}},
        }
        for name, changes in (tasks or {}).items():
            own[name] = {**own[name], **changes}
        sizes = {"tokens": 4, "dim": 8, "heads": 2, "approximator_depth": 1, "latent_norm": "none"}
        plain = {
            "tasks": own,
            "model": {**sizes, "decoder_cross_depth": 1, **sections.pop("model", {})},
            "loss": {"rollout_horizon": 1, **sections.pop("loss", {})},
            "train": {"batch_size": 4, "device": "cpu", **sections.pop("train", {})},
            **sections,
        }
        config = parse_config(UptConfig, plain, source="test")
        return Parts.of(settle_data(config))

    return make


@pytest.mark.parametrize("preset", ["original", "seed"])
def test_each_term_of_each_task_reaches_its_parts(build: Callable[..., Parts], preset: str) -> None:
    names = ("L_forward", "L_inv_enc", "L_inv_dec", "L_latent_norm", "L_positivity")
    loss = dict.fromkeys(names, 1.0) | {"preset": preset, "positivity_minimum": 10.0}
    boundary = {"loss": {"L_boundary": 1.0}}
    parts = build(loss=loss, tasks={"darcy": {"model": {"patch_size": 2}, **boundary}})
    everything = ("E", "A", "G")
    expected = {
        "L_forward": everything,
        "L_inv_enc": ("E", "G"),
        "L_inv_dec": everything if preset == "original" else ("E", "G"),
        "L_latent_norm": ("E",),
        "L_positivity": everything,
    }
    for name, part in parts.tasks.items():
        batch = next(iter(parts.train.batches(epoch=0)))[name]
        found = gradient_reach(part.task, batch, part.config.loss.weights())
        extra = {"L_boundary": everything} if name == "darcy" else {}
        assert found == expected | extra


def test_a_task_moves_the_shared_part_and_its_own_alone(build: Callable[..., Parts]) -> None:
    parts = build()
    batch = next(iter(parts.train.batches(epoch=0)))
    weights = parts.config.weights()
    found = list(parts.task.losses(batch, epoch=0, step=0, active=frozenset(weights)))
    assert [set(terms) for terms in found] == [
        {f"{name}.{term}" for term in ("L_forward", "L_inv_enc", "L_inv_dec")}
        for name in ("advection", "darcy")
    ]
    sum(found[1].values()).backward()
    advection, darcy = parts.tasks["advection"].model, parts.tasks["darcy"].model
    assert advection.approximator.blocks is darcy.approximator.blocks
    shared = [p for p in advection.approximator.parameters() if p.grad is not None]
    assert any(p.grad.any() for p in shared)
    for part in (advection.encoder, advection.decoder):
        assert all(p.grad is None for p in part.parameters())


def test_metrics_are_those_of_each_task_whatever_their_numbers(build: Callable[..., Parts]) -> None:
    parts = build()
    samples = {"advection": 2, "darcy": 1}
    task = type(parts.task)(tasks=parts.task.tasks, samples=samples)  # type: ignore[call-arg]
    batches = list(parts.valid.batches(epoch=0))
    assert [batch["task"] for batch in batches] == ["advection", "darcy"]
    batches[1] = {
        name: values[:1] if isinstance(values, torch.Tensor) else values
        for name, values in batches[1].items()
    }
    parts.model.eval()
    with torch.no_grad():
        found = [task.metrics(batch) for batch in batches]
        own = [parts.tasks[b["task"]].task.metrics(b) for b in batches]
    sums = {
        k: sum(float(torch.atleast_1d(f[k]).sum()) for f in found)
        for k in found[0]
        if "relative" not in k
    }
    for name, alone in zip(samples, own, strict=True):
        expected = float(alone["rollout_nrmse"].mean())
        assert sums[f"{name}.rollout_nrmse"] / 3 == pytest.approx(expected)  # 3 samples in all
    both = [float(alone["one_step_nrmse"].mean()) for alone in own]
    assert sums["one_step_nrmse"] / 3 == pytest.approx(sum(both) / 2)


def test_a_factor_of_a_task_is_on_all_its_terms(build: Callable[..., Parts]) -> None:
    config = build(
        tasks={"darcy": {"weight": 3.0, "loss": {"L_inv_dec": 0.5}, "model": {"patch_size": 2}}}
    ).config
    weights = config.weights()
    assert [weights[f"darcy.{term}"] for term in ("L_forward", "L_inv_enc", "L_inv_dec")] == [
        3,
        3,
        1.5,
    ]
    assert [weights[f"advection.{term}"] for term in ("L_forward", "L_inv_dec")] == [1, 1]


@pytest.mark.parametrize("named", ["L_inv_enc", "darcy.L_inv_enc"])
def test_a_curriculum_ramps_a_term_of_all_tasks_or_of_one(
    build: Callable[..., Parts], named: str
) -> None:
    rule = build(weighting={"kind": "curriculum", "ramped": [named], "cap": None}).config.rule()
    early = rule.terms.keys() - rule.active(epoch=0, step=0)
    assert early == ({named} if "." in named else {f"{t}.{named}" for t in ("advection", "darcy")})


def test_rules_of_the_losses_values_weigh_tasks_too(build: Callable[..., Parts]) -> None:
    assert "darcy.L_forward" in build(weighting={"kind": "softadapt"}).config.rule().terms


def test_a_task_may_have_a_condition_that_the_others_lack(build: Callable[..., Parts]) -> None:
    own = {"patch_size": 4, "condition": ["beta"]}
    parts = build(tasks={"advection": {"model": own}})
    batch = next(iter(parts.train.batches(epoch=0)))
    found = list(
        parts.task.losses(batch, epoch=0, step=0, active=frozenset(parts.config.weights()))
    )
    assert all(value.isfinite() for terms in found for value in terms.values())
    assert parts.tasks["darcy"].model.approximator.is_conditioned


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"data.num_train": 4}, ("data.num_train", "give tasks.NAME.data.num_train")),
        ({"tasks.advection.data.pdf": "darcy"}, ("tasks.advection.data.pdf", "did you mean")),
        ({"tasks.darcy.data.path": None}, ("tasks.darcy.data", "without path")),
        ({"tasks.darcy.data.path": "gone.hdf5"}, ("tasks.darcy: ", "gone.hdf5")),
        ({"tasks.darcy.model.patch_size": 3}, ("tasks.darcy: model", "3")),
        ({"tasks.darcy.model.condition": "time"}, ("tasks.darcy: ", "time", "darcy is steady")),
        ({"tasks.darcy.loss.rollout_horizon": 2, "loss.L_rollout": 1}, ("tasks.darcy", "need 2 steps")),
        ({"tasks.darcy.loss.L_conservation": 1}, ("tasks.darcy: loss.L_conservation", "steady")),
        ({"tasks.advection.loss.L_boundary": 1}, ("tasks.advection: loss.L_boundary", "periodic")),
        ({"tasks.darcy.loss.num_queries": 64}, ("tasks.darcy", "sampling would do nothing: N = 64")),
        ({"tasks.darcy.data.num_train": 3}, ("train.batch_size", "darcy has 3 windows")),
        ({"loss.query_sampling.enabled": False, "loss.query_sampling.num_queries": None}, ("tasks.advection: loss.num_queries", "enabled is false")),
        ({"weighting.kind": "gradnorm", "weighting.delay": None, "weighting.ramp": None}, ("gradnorm", "a batch of each")),
        ({"weighting.ramped": "L_inv_both"}, ("weighting", "L_inv_both")),
        ({"train.monitor": "advection.nrmse"}, ("train.monitor", "advection.rollout_nrmse")),
        ({"tasks.2d.weight": 2}, ("2d", "no name")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_does_not_fit_ends_with_2_and_names_task_and_key(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    parts: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = words_of(files, runs=tmp_path, **changes)
    assert main(["train", *words]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in parts), told


def test_an_inert_term_of_one_task_stops_the_run_by_name(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(files, runs=tmp_path, **{"tasks.darcy.loss.L_inv_dec": 0})
    frozen = "--train.freeze=tasks.darcy.encoder.*,tasks.darcy.decoder.*"
    assert main(["train", *words, frozen]) == 2
    assert "darcy.L_inv_enc reaches no trainable parameter" in capsys.readouterr().err


def test_equations_are_solved_where_no_files_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    counts = "num_train: 4, num_valid: 1, num_test: 1"
    Path("my.yaml").write_text(
        f"tasks:\n"
        f"  line: {{data: {{pde: advection, shape: [16], num_steps: 2, {counts}}}, model: {{patch_size: 4}}}}\n"
        f"  square: {{data: {{pde: darcy, shape: [4, 4], num_steps: 1, {counts}}}, model: {{patch_size: 2}}}}\n"
        "model: {tokens: 4, dim: 8, heads: 2}\nloss: {rollout_horizon: 1}\ntrain: {batch_size: 4}\n"
    )
    assert main(["generate", "--config=my.yaml"]) == 0
    assert main(["generate", "--config=my.yaml", "--verify"]) == 0
    config = parse_config(UptConfig, yaml.safe_load(Path("my.yaml").read_text()), source="my.yaml")
    parts = Parts.of(settle_data(config))
    assert parts.train.num_batches == 2  # 8 windows of the line by 4
    shapes = {name: part.bundle.geometry.shape for name, part in parts.tasks.items()}
    assert shapes == {"line": (16,), "square": (4, 4)}


def test_an_ablation_is_of_one_equation(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", *words_of(files, runs=tmp_path)]) == 2
    assert "tasks: ablate compares arms on one equation" in capsys.readouterr().err
