"""A correction that may do anything takes the physics' place, reconstruction cannot tell, and pretraining
on simulations prevents it: in little, and (`nox -s nightly`) as the presets are."""

import json
from pathlib import Path
from typing import Any

import pytest
from nops_train import RunFolder
from phys_smpl.cli import main
from phys_smpl.report import load_evaluation, warnings_of

SMALL = [
    *("--data.num_train=512", "--data.num_valid=64", "--data.num_test=256"),
    *("--model.feature_dim=64", "--model.feature_hidden=64"),
    *("--model.physics_hidden=64", "--model.aux_hidden=64"),
    *("--train.batch_size=64", "--train.learning_rate=5e-3", "--phases.kl_warmup_epochs=6"),
]
TAKEN = "the correction has taken the physics' place"


def trained(folder: Path, *words: str) -> dict[str, Any]:
    """What a run in a folder found: its figures, and its warnings in words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("phys_smpl.training.write_report", lambda run: run.report)
        off = ("--evaluate.oracle_starts=0", "--train.device=cpu", "--name=run")
        assert main(["train", *off, f"--runs={folder}", *words]) == 0
        run = folder / "phys-smpl" / "run"
        found = json.loads((run / "metrics.json").read_text())
        found["warnings"] = warnings_of(load_evaluation(RunFolder.at(run)))
    recovered = {row["parameter"]: row["r2"] for row in found["recovery"]}
    return {**found["errors"], **found["collapse"], "r2": recovered, "warnings": found["warnings"]}


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """The preset in little, by epochs of pretraining; as many of training in either."""
    folder = tmp_path_factory.mktemp("little")
    found = {}
    for pretrain in (0, 19):
        (folder / f"{pretrain}").mkdir()
        epochs = (f"--phases.epochs_pretrain={pretrain}", f"--train.epochs={pretrain + 19}")
        found[pretrain] = trained(folder / f"{pretrain}", "--preset=collapse", *SMALL, *epochs)
    return found


def test_the_warning_is_there_without_pretraining_and_not_with_it(
    little: dict[int, dict[str, Any]],
) -> None:
    assert any(line.startswith(TAKEN) for line in little[0]["warnings"])
    assert not any(line.startswith(TAKEN) for line in little[19]["warnings"])


def test_reconstruction_cannot_tell_and_the_physics_can(little: dict[int, dict[str, Any]]) -> None:
    collapsed, rescued = little[0], little[19]
    assert abs(collapsed["explained_total"] - rescued["explained_total"]) < 0.1
    assert rescued["explained_physics"] > collapsed["explained_physics"] + 0.15
    for name in ("xcen", "ycen"):
        assert rescued["r2"][name] > collapsed["r2"][name] + 0.3


@pytest.mark.nightly
def test_the_preset_collapses_without_pretraining_alone(tmp_path: Path) -> None:
    found = {}
    for pretrain in (0, 20):
        (tmp_path / f"{pretrain}").mkdir()
        epochs = (f"--phases.epochs_pretrain={pretrain}", f"--train.epochs={pretrain + 60}")
        found[pretrain] = trained(tmp_path / f"{pretrain}", "--preset=collapse", *epochs)
    without, with_it = found[0], found[20]
    places = [(r["r2"]["xcen"] + r["r2"]["ycen"]) / 2 for r in (without, with_it)]
    assert places[0] <= 0.2
    assert places[1] >= 0.8
    assert with_it["r2"]["dV"] >= 0.95
    assert without["x_p"] >= 4 * with_it["x_p"]
    assert abs(without["x_pb"] - with_it["x_pb"]) <= 0.3
    assert any(line.startswith(TAKEN) for line in without["warnings"])
    assert not with_it["warnings"]


@pytest.mark.nightly
def test_the_default_recovers_every_parameter(tmp_path: Path) -> None:
    found = trained(tmp_path, "--preset=default")
    assert min(found["r2"].values()) >= 0.95
    assert found["x_pb"] <= 0.6
