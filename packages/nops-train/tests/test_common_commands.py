"""What the commands of most apps take, as typed."""

from pathlib import Path
from typing import Any

import pytest
from nops_train import (
    App,
    Command,
    Config,
    InputError,
    RunFolder,
    Study,
    generate_command,
    one_run,
    report_each,
    resolve_call,
    run_cli,
    runs_or_studies,
    some_runs,
    train_children,
    verify_option,
)


class Toy(Config):
    """Nothing to set."""


def called(command: Command, *words: str) -> Any:
    app = App(name="toy", version="1", help="", config=Toy, presets=None, commands=(command,))
    return resolve_call(app, command, words)[1]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two run folders, the first of which is the default one."""
    monkeypatch.chdir(tmp_path)
    names = ["runs/toy/default", "runs/toy/b"]
    for name in names:
        Path(name).mkdir(parents=True)
        (Path(name) / "config.yaml").write_text("{}")
    return names


def test_one_run_is_the_given_one_or_the_default(runs: list[str]) -> None:
    command = Command(name="evaluate", help="", run=print, config="run", folders=one_run())
    assert called(command).folder == Path(runs[0])
    assert called(command, runs[1]).folder == Path(runs[1])
    with pytest.raises(InputError, match="RUN: expected 1 at most"):
        called(command, *runs)


def test_some_runs_are_one_at_least(runs: list[str]) -> None:
    command = Command(name="report", help="", run=print, config="none", folders=some_runs())
    assert called(command, *runs).folders == tuple(map(Path, runs))
    with pytest.raises(InputError, match="RUN: expected 1 at least"):
        called(command)


def test_verify_is_a_switch(runs: list[str]) -> None:
    command = Command(
        name="generate", help="", run=print, config="run", options=(verify_option("more"),)
    )
    assert called(command).options == {"verify": False}
    assert called(command, "--verify").options == {"verify": True}
    assert verify_option("more").help == "Check instead: every checksum, and more."


MODULE = """
def generate_data(config):
    print("generates")

def verify_data(config):
    print("verifies")

def count(config, call):
    return 3

def hand_over(config, call):
    return [1, 2]
"""


def test_named_functions_are_imported_when_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "default.yaml").write_text("{}")
    commands = (
        generate_command("toy_named", text="Generate."),
        Command(name="count", help="", run="toy_named:count"),
        Command(name="hand-over", help="", run="toy_named:hand_over"),
    )
    presets = tmp_path / "configs"
    app = App(name="toy", version="1", help="", config=Toy, presets=presets, commands=commands)
    assert run_cli(app, ["--help"]) == 0  # nothing is there to be imported yet
    (tmp_path / "toy_named.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run_cli(app, ["generate"]) == 0
    assert run_cli(app, ["generate", "--verify"]) == 0
    assert capsys.readouterr().out.split() == ["generates", "verifies"]
    assert run_cli(app, ["count"]) == 3  # its exit code
    assert run_cli(app, ["hand-over"]) == 0  # no exit code


def test_each_report_is_that_of_a_run_or_of_a_study(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Study.open("runs", app="toy", name="s").update()
    command = Command(name="report", help="", run=print, config="none", folders=runs_or_studies())
    call = called(command, runs[1], "runs/toy/s")
    report_each(call, run=lambda run: run.path / "run", study=lambda folder: folder / "study")
    assert capsys.readouterr().out.split() == [
        "Report:",
        f"{runs[1]}/run",
        "Report:",
        "runs/toy/s/study",
    ]


class Seeded(Config):
    """One key."""

    seed: int = 0


def test_children_of_a_study_are_built_before_they_have_a_folder(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(name="ablate", help="", run=print, config="run")
    call, study, done = called(command), Study.open("runs", app="toy", name="s"), []

    def build(config: Seeded) -> int:
        if config.seed == 2:
            raise InputError("seed: 2")
        return config.seed

    def train(run: RunFolder, seed: int) -> None:
        run.checkpoints.save("step_1.pt", {})
        done.append((run.name, seed))

    def train_all(seeds: int, *, own: int = 9, neutral: tuple[str, ...] = ()) -> None:
        train_children(
            study,
            {f"s{seed}": Seeded(seed=seed) for seed in range(seeds)},
            call,
            config=Seeded(seed=own),
            build=build,
            train=train,
            report=lambda run: done.append((run.name, "report")),
            neutral=lambda config: neutral,
            titles={"s1": ": the second"},
        )

    train_all(2)
    assert done == [("s0", 0), ("s0", "report"), ("s1", 1), ("s1", "report")]
    assert capsys.readouterr().out.split("\n") == ["", "s0", "", "s1: the second", ""]
    assert call.folder == study.path / "s1"
    assert study.read()["config"] == {"seed": 9}
    assert set(study.read()["runs"]) == {"s0", "s1"}
    with pytest.raises(InputError, match="seed: 2"):
        train_all(3)
    assert not (study.path / "s2").exists()
    with pytest.raises(InputError, match=r"study.json: (.|\n)*seed: the run has 9, asked for 8"):
        train_all(1, own=8)
    assert study.read()["config"] == {"seed": 9}
    train_all(1, own=8, neutral=("seed",))
    assert study.read()["config"] == {"seed": 8}
