"""A tiny configuration on generated data, shared by the tests of one process."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from noa.cli import main

TINY_DATA = [
    "--data.num_train=6",
    "--data.num_valid=3",
    "--data.num_test=3",
    "--data.num_steps=4",
    "--data.shape=16,16",
]
TINY_RUN = [
    "--name=default",
    "--rollout.window=2",
    "--model.base_channels=4",
    "--model.afno_groups=2",
    "--model.embedding=4",
    "--train.epochs=2",
    "--train.batch_size=2",
    "--train.warmup_steps=1",
    "--train.validate_every=1",
    "--train.log_every=1",
    "--train.save_every=2",
    "--evaluate.bootstrap=20",
]
TIMES = ("time", "seconds")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set: 6, 3 and 3 Gray-Scott trajectories of 4 steps on 16 x 16."""
    folder = tmp_path_factory.mktemp("data") / "gray_scott"
    assert main(["generate", f"--data={folder}", *TINY_DATA]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_run() -> list[str]:
    """Settings of a run of 6 steps."""
    return TINY_RUN


@pytest.fixture
def run_noa(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """`noa` in an empty folder with the tiny settings; further words override them."""
    monkeypatch.chdir(tmp_path)

    def run(command: str, *words: str, data: Path | str = data_folder) -> int:
        given = {word.split("=")[0] for word in words}
        tiny = [word for word in TINY_RUN if word.split("=")[0] not in given]
        return main([command, f"--data={data}", *tiny, *words])

    return run


@pytest.fixture
def events() -> Callable[[Path], list[dict]]:
    """A run's event log without the times."""

    def read(run: Path) -> list[dict]:
        lines = (run / "events.jsonl").read_text().splitlines()
        return [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in lines
        ]

    return read
