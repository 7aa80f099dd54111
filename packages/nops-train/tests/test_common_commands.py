"""What the commands of most apps take, as typed."""

from pathlib import Path
from typing import Any

import pytest
from nops_train import (
    App,
    Command,
    Config,
    InputError,
    one_run,
    resolve_call,
    some_runs,
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
