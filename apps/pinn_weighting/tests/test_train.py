"""A run end to end, every weighting on points, and what a comparison says."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_schedules import AdaptiveLossWeights, ConstantWeights
from nops_testing.contract import same
from nops_train import InputError, RunFolder, Study, load_checkpoint, parse_config, read_events
from pinn_weighting.cli import main
from pinn_weighting.comparison import train_cell
from pinn_weighting.config import PinnConfig
from pinn_weighting.config_weighting import POINTWISE, SCHEMES, named_section
from pinn_weighting.evaluation import load_evaluation, selection
from pinn_weighting.report import write_report
from pinn_weighting.study_scores import (
    chosen_factors,
    equal_time_cells,
    groups_of,
    rows_of,
    step_times,
    winner_sentence,
)
from pinn_weighting.tasks import PointTask
from pinn_weighting.training import Parts, advice, measure_first
from pinn_weighting.weightings import JOINED, equalized_lines, passes, passes_made

Make = Callable[..., Any]
STILL = {"fixed", "tuned", "dwa", "auto", "momentum_config", *JOINED, *POINTWISE}


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """No waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def test_a_run_ends_with_scores_and_a_report(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["status"] == "completed"
    names = {"error", "increment_error_u", "increment_error_v", "u_mae", "v_mae"}
    names |= {"first_step_above_1", "spectral_radius"}
    assert set(summary["metrics"]) == names
    page = (trained / "report.html").read_text()
    for words in ("Spectral radius", "gradient norm", "cosine with", "weight clamped", "PI_loss1"):
        assert words in page, words
    assert {path.stem for path in (trained / "plots").iterdir()} == {"solution", "step", "training"}
    events = [event for event in read_events(trained) if event["event"] == "train"]
    first, last = events[0], events[-1]
    assert set(first["weight"].values()) == {1.0}  # until the first epoch is over
    assert last["weight"] != first["weight"]
    assert set(last["raw"]) == {"PI_loss1", "PI_loss2", "RK4_loss1", "RK4_loss2"}


def test_evaluate_and_report_write_the_same_again(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    scores = load_evaluation(RunFolder.at(copy)).scores
    for name in ("evaluation.pt", "report.html"):
        (copy / name).unlink()
    assert main(["report", str(copy)]) == 2
    assert main(["evaluate", str(copy)]) == 0
    again = load_evaluation(RunFolder.at(copy)).scores
    assert {k: v for k, v in again.items() if v == v} == {k: v for k, v in scores.items() if v == v}
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    assert (copy / "report.html").is_file()


@pytest.mark.filterwarnings("ignore:.*(clamped|not far above)")
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "tuned"])
def test_every_weighting_trains_and_the_adaptive_ones_move(
    scheme: str, points_config: Make, tmp_path: Path
) -> None:
    name = "heat" if scheme == "causal" else "poisson"
    section = {"weighting": named_section(scheme, name)}
    config = points_config(name, **section)
    line = train_cell(tmp_path / "study", (scheme, config.model_dump(mode="json"), "auto"))
    assert "error" in line
    run = RunFolder.at(tmp_path / "study" / scheme)
    assert run.summary()["steps"] == 4
    weights = [e["weight"] for e in read_events(run.path) if e["event"] == "train"]
    assert (weights[-1] != dict.fromkeys(weights[-1], 1.0)) == (scheme not in STILL)


class Struck(BaseException):
    """Ends a run as a killed process would."""


def train_struck_at(folder: Path, job: Any, step: int) -> None:
    """Train up to a step, at which the process is gone."""
    whole = PointTask.losses

    def losses(self: PointTask, batch: Any, **place: Any) -> Any:
        if place["step"] == step:
            raise Struck
        return whole(self, batch, **place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PointTask, "losses", losses)
        with pytest.raises(Struck):
            train_cell(folder, job)


def ends_equal(folder: Path, config: Any, *, cuts: Any) -> list[Any]:
    """The last checkpoints of a whole run and of one struck at each of these steps, which have to be one."""
    plain = config.model_dump(mode="json")
    train_cell(folder, ("whole", plain, "auto"))
    for step in cuts:
        train_struck_at(folder, ("cut", plain, "auto"), step)
    train_cell(folder, ("cut", plain, "auto"))
    ends = [load_checkpoint(folder / name / "checkpoints") for name in ("whole", "cut")]
    for part in ("model", "optimizer", "weighting", "lbfgs"):
        assert same(ends[0].get(part), ends[1].get(part)), part
    return ends


@pytest.mark.filterwarnings("ignore:.*(clamped|not far above)")
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in ("tuned", "fixed")])
def test_every_weighting_goes_on_to_the_same_end(
    scheme: str, points_config: Make, tmp_path: Path
) -> None:
    name = "heat" if scheme == "causal" else "poisson"
    more = {"delta": 1e-6} if scheme == "causal" else {}  # a tolerance tightens at every step
    section = {**named_section(scheme, name), **more}
    config = points_config(name, weighting=section, train={"save_every": 1})
    ends_equal(tmp_path, config, cuts=(3,))


@pytest.mark.parametrize("kind", ["relobralo", "pcgrad", "gradient_norm"])
def test_adam_hands_over_to_lbfgs_and_any_cut_ends_equal(
    kind: str, points_config: Make, tmp_path: Path
) -> None:
    stages = [
        {"until": 3, "weighting": {"kind": kind}},
        {"until": None, "weighting": {"kind": "constant"}},
    ]
    train = {"epochs": 3, "save_every": 1, "lbfgs_from": 3, "lbfgs_max_iter": 4}
    config = points_config("poisson", weighting={"kind": "stages", "stages": stages}, train=train)
    whole, _ = ends_equal(tmp_path, config, cuts=(2, 3, 4))
    assert whole["train"]["step"] == 6
    calls = whole["lbfgs"]["state"][0]["func_evals"]
    rate = 2 if kind == "pcgrad" else 1.02 if kind == "gradient_norm" else 1
    summary = RunFolder.at(tmp_path / "whole").summary()
    assert summary["backward_passes_per_step"] == pytest.approx((3 * rate + calls) / 6)


def test_lbfgs_under_an_aggregator_is_refused(points_config: Make, tmp_path: Path) -> None:
    config = points_config("poisson", weighting={"kind": "config"}, train={"lbfgs_from": 2})
    with pytest.raises(InputError, match=r"ConFIG joins .* end with constant weights"):
        train_cell(tmp_path, ("r", config.model_dump(mode="json"), "auto"))


def test_advice_on_what_is_likely_to_go_wrong(points_config: Make) -> None:
    def told(name: str = "poisson", **sections: Any) -> list[str]:
        plain = {"problem": {"name": name, "num_graphs": 4}, **sections}
        return advice(parse_config(PinnConfig, plain, source="test").settled())

    momentum = {"kind": "momentum_config"}
    (line,) = told(weighting=momentum)
    assert "momentum_config" in line
    assert "take sgd" in line
    assert told(weighting=momentum, train={"optimizer": "sgd"}) == []
    assert told("wave_chain") == []
    (line,) = told("wave_chain", physics={"scheme": "euler"})
    assert "spectral radius 2.21572" in line
    assert "dt <= 2.551e-05" in line
    (line,) = told("wave_chain", train={"optimizer": "adam", "weight_decay": 1e-5})
    assert "train.weight_decay" in line


def test_a_stage_ends_at_its_step(points_config: Make, tmp_path: Path) -> None:
    stages = [
        {"until": 2, "weighting": {"kind": "gradient_norm", "every": 1}},
        {"until": None, "weighting": {"kind": "constant"}},
    ]
    config = points_config("poisson", weighting={"kind": "stages", "stages": stages})
    train_cell(tmp_path / "s", ("r", config.model_dump(mode="json"), "auto"))
    events = [e for e in read_events(tmp_path / "s" / "r") if e["event"] == "train"]
    assert [e["weight"] == {"pde": 1.0, "bc": 1.0} for e in events] == [False, False, True, True]


def test_automatic_selection_measures_gradients_and_the_report_has_its_evidence(
    points_config: Make, tmp_path: Path
) -> None:
    config = points_config(
        "poisson",
        weighting={"kind": "auto", "window": 100},
        problem={"steps_per_epoch": 51},
        train={"log_every": 50},
    )
    train_cell(tmp_path / "s", ("r", config.model_dump(mode="json"), "auto"))
    run = RunFolder.at(tmp_path / "s" / "r")
    evidence = selection(run)
    assert evidence["notes"] == 10
    rate = {"ConFIG": 2, "GradientNormWeights": 1.02}.get(evidence["choice"], 1)
    expected = (100 + 10 * 2 + 2 * rate) / 102  # two steps after the window
    assert run.summary()["backward_passes_per_step"] == pytest.approx(expected)
    assert evidence["step"] == 99
    assert evidence["norm_ratio"] >= 1.0
    assert evidence["skipped"] == []
    page = write_report(run).read_text()
    assert f"{evidence['choice']} from step 100 on" in page
    assert evidence["reason"] in page


def test_measured_batches_set_the_weights_before_the_first_step(points_config: Make) -> None:
    parts = Parts.of(points_config("poisson", train={"measure_batches": 2}))
    before = parts.chosen.weighting.weights(epoch=0, step=0)
    measure_first(parts, torch.device("cpu"))
    after = parts.chosen.weighting.weights(epoch=0, step=0)
    assert before == {"pde": 1.0, "bc": 1.0}
    batch = parts.problem.sample
    losses = parts.task.losses(batch, epoch=0, step=0, active=frozenset(after))
    weighted = [after[name] * value.item() for name, value in losses.items()]
    assert weighted[0] == pytest.approx(weighted[1], rel=1e-4)


PUBLISHED = {"PI_loss1": 1.234e-3, "PI_loss2": 5.678e-2, "RK4_loss1": 2.345e-3, "RK4_loss2": 0.1234}


def test_the_published_lines_appear_under_unit(trained: Path) -> None:
    """The published sample prints 8.100 where 1/0.001234 and 1/0.1234 are 810.37 and 8.1037."""
    weights = AdaptiveLossWeights(list(PUBLISHED), normalize="unit")
    assert equalized_lines(weights.state_dict()) == []
    weights.update(1, PUBLISHED)
    assert equalized_lines(weights.state_dict()) == [
        "Equalized weights at epoch 1:",
        "  PI_loss1: loss=1.234e-03, weight=8.104e+02, weighted=1.000e+00",
        "  PI_loss2: loss=5.678e-02, weight=1.761e+01, weighted=1.000e+00",
        "  RK4_loss1: loss=2.345e-03, weight=4.264e+02, weighted=1.000e+00",
        "  RK4_loss2: loss=1.234e-01, weight=8.104e+00, weighted=1.000e+00",
    ]
    said = (trained.parents[1] / "said.txt").read_text()
    first, *terms = equalized_lines(load_checkpoint(trained / "checkpoints")["weighting"])
    assert said.index(first) < said.index("\n".join(terms))
    assert len(terms) == 4
    assert len({line.partition("weighted=")[2] for line in terms}) == 1
    assert equalized_lines(ConstantWeights({"a": 1.0}).state_dict()) == []


def test_backward_passes_are_counted_as_they_are_made(points_config: Make) -> None:
    def of(scheme: str) -> float:
        config = points_config("poisson", weighting=named_section(scheme, "poisson"))
        return passes(config.weighting, 2, config)

    assert of("fixed") == of("relobralo") == of("self_adaptive") == of("momentum_config") == 1
    assert of("config") == 2
    assert of("gradient_norm") == of("lra") == 1.02  # two of every hundred
    assert of("ntk") == pytest.approx(1.14)  # twelve points and two ends every hundred


def test_passes_are_those_of_what_was_in_charge(points_config: Make) -> None:
    """Two terms, 300 steps, the choice after 200 with ten measurements; stages; L-BFGS."""

    def of(weighting: Any, state: Any, steps: int = 300, **more: Any) -> float:
        config = points_config("poisson", weighting=weighting, train=more)
        calls = {"lbfgs": {"state": {0: {"func_evals": 260}}}}
        return passes_made(config, {"train": {"step": steps}, "weighting": state, **calls})

    window = {"evidence": {}, "choice": None, "notes": {"count": 10}}
    auto = {"kind": "auto"}
    assert of(auto, window, 100) == (100 + 10 * 2) / 100
    chosen = window | {"evidence": {"step": 199}}
    rates = {"ConFIG": 2, "GradientNormWeights": 1.02, "ReLoBRaLo": 1, "fixed": 1}
    for choice, rate in rates.items():
        expected = (200 + 10 * 2 + 100 * rate) / 300
        assert of(auto, chosen | {"choice": choice}) == pytest.approx(expected)
    assert of(auto, window | {"notes": {"count": 0}}) == 1
    stages = [
        {"until": 100, "weighting": {"kind": "config"}},
        {"until": 300, "weighting": auto},
        {"until": None, "weighting": {"kind": "constant"}},
    ]
    state = {"schemes": [{}, window, {}]}
    assert of({"kind": "stages", "stages": stages}, state, 400) == (200 + 200 + 20 + 100) / 400
    unmeasured = {"schemes": [{}, window | {"notes": {"count": 0}}, {}]}
    assert of({"kind": "stages", "stages": stages}, unmeasured, 50) == 2
    assert of({"kind": "constant"}, {}, lbfgs_from=290) == (290 + 260) / 300


def test_a_comparison_runs_in_parallel_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        *("compare", "--name=c", "--compare.schemes=[fixed, tuned, config]", "--compare.seeds=1"),
        *("--compare.steps=4", "--compare.fixed_grid=[1, 100]", "--compare.workers=2"),
        *(
            "--problem.name=poisson",
            "--problem.points.pde=12",
            "--evaluate.points=10",
            "--train.device=cpu",
        ),
        *("--model.hidden=8", "--model.layers=1", "--compare.budget=[steps]"),
    ]
    assert main(words) == 0
    study = Study(tmp_path / "runs/pinn-weighting/c")
    names = {"poisson_fixed_s0", "poisson_config_s0", "poisson_tuned_s0"}
    grid = {f"poisson_tuned_x{factor}_s1000_grid" for factor in (1, 100)}
    assert {run.name for run in study.children()} == names | grid
    assert "poisson_fixed_s0" in capsys.readouterr().out
    held = study.read()["cells"]["poisson_tuned_s0"]
    assert held["factor"] in (1, 100)
    tuned = RunFolder.at(study.path / "poisson_tuned_s0").config
    assert tuned["loss"]["bc"] == held["factor"]
    assert tuned["loss"]["pde"] == 1
    page = study.report.read_text()
    assert "At equal steps, poisson:" in page
    assert main(words) == 0  # complete: nothing is trained again
    assert "poisson_fixed_s0" not in capsys.readouterr().out
    again = ["compare", "--name=c", "--compare.schemes=[fixed]"]
    assert main([*again, "--compare.seeds=2"]) == 0
    assert "1/1  poisson_fixed_s1" in capsys.readouterr().out  # more of them beside what is there
    for other in ("--compare.steps=8", "--train.learning_rate=0.01"):
        assert main([*again, other]) == 2  # not beside runs of other settings
        told = capsys.readouterr().err
        assert "poisson_fixed_s0/config.yaml: this run was started with other settings" in told
    assert main(["report", str(study.path)]) == 0


def held_study(**errors: tuple[float, ...]) -> dict[str, Any]:
    """A comparison as it is stored: arms with their errors; times of a step as below."""
    times = {"fixed": 1.0, "tuned": 1.02, "config": 2.0, "relobralo": 1.0}
    cells, runs = {}, {}

    def add(name: str, error: float, **cell: Any) -> None:
        cells[name] = {"problem": "poisson", "steps": 1500, **cell}
        runs[name] = {
            "metrics": {"error": error},
            "validation_error": error,
            "steps": 1500,
            "seconds": 3.0,
            "step_seconds": times[cell["arm"]],
        }

    for arm, values in errors.items():
        for seed, error in enumerate(values):
            factor = {"factor": 100.0} if arm == "tuned" else {}
            add(f"{arm}{seed}", error, arm=arm, seed=seed, **factor)
    for factor, error in ((1.0, 0.5), (10.0, 0.1), (100.0, 0.01), (1000.0, float("nan"))):
        add(f"x{factor}", error, arm="tuned", seed=1000, budget="grid", factor=factor)
    return {"cells": cells, "runs": runs}


def test_the_grid_chooses_by_validation_and_its_cost_is_shown() -> None:
    study = held_study(tuned=(0.001, 0.002, 0.003), config=(0.005, 0.01, 0.02))
    assert chosen_factors(study) == {("poisson", "tuned"): 100.0}
    rows = rows_of(groups_of(study, budget="steps"), "poisson")
    assert [row["arm"] for row in rows] == ["tuned (x100)", "config"]
    assert rows[0]["error"] == "0.002 [0.001, 0.003]"
    assert (rows[0]["tuning"], rows[1]["tuning"]) == (12.0, None)


def test_the_sentence_names_the_winner_and_says_so_where_fixed_weights_win() -> None:
    study = held_study(tuned=(0.002,), config=(0.01,), fixed=(0.5,))
    told = winner_sentence(groups_of(study, budget="steps"), "poisson", budget="steps")
    assert told == (
        "At equal steps, poisson: fixed weights win, tuned over a grid that cost 12 s (factor 100), with "
        "a median error of 0.002; the best without, config, has 0.01, 5 times as much."
    )
    study = held_study(tuned=(0.02,), config=(0.01,))
    told = winner_sentence(groups_of(study, budget="steps"), "poisson", budget="steps")
    assert told.endswith(
        "config wins with a median error of 0.01; tuned fixed weights have 0.02, 2 times as much."
    )
    study = held_study(fixed=(0.02,), config=(0.1,))
    assert "fixed weights win as they stand" in winner_sentence(
        groups_of(study, budget="steps"), "poisson", budget="steps"
    )
    study = held_study(tuned=(1.21,), config=(1.2,))
    told = winner_sentence(groups_of(study, budget="steps"), "poisson", budget="steps")
    assert told.endswith(
        "config wins with a median error of 1.2, no better than a solution of zero; tuned fixed weights "
        "have 1.2, as much."
    )


def test_equal_time_gives_a_slow_scheme_fewer_steps_and_shares_runs_of_equal_speed(
    points_config: Make,
) -> None:
    study = held_study(fixed=(0.5,), config=(0.01,), relobralo=(0.1,))
    config = points_config("poisson")
    config = config.model_copy(
        update={"compare": config.compare.model_copy(update={"steps": 1500})}
    )
    cells = equal_time_cells(study, config)
    assert [(cell.arm, cell.steps, cell.budget) for cell in cells] == [("config", 750, "time")]
    arms = {group.arm for group in groups_of(study, budget="time")}
    assert arms == {"fixed", "config", "relobralo"}


def test_fixed_weights_take_the_same_time_whether_tuned_or_not(points_config: Make) -> None:
    study = held_study(tuned=(0.5,), fixed=(0.01,), config=(0.1,))
    for name, run in study["runs"].items():
        if "fixed" in name:
            run["step_seconds"] *= 1.4  # another program was busy
    assert len(set(step_times(study).values())) == 2
    cells = equal_time_cells(study, points_config("poisson"))
    assert {cell.arm for cell in cells} == {"config"}
