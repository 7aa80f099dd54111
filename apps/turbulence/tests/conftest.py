"""A tiny comparison on generated data, shared by the tests of one process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from turbulence.cli import main

TINY_DATA = [
    "--data.num_train=4",
    "--data.num_valid=2",
    "--data.num_test=2",
    "--data.num_steps=9",
    "--data.shape=16,16",
    "--data.warmup_time=0.5",
]
TINY_RUN = [
    "--name=study",
    "--arms=field,schedule",
    "--model.base_channels=4",
    "--model.afno_groups=2",
    "--model.modes=3",
    "--train.epochs=6",
    "--weighting.min_epochs_before_adapt=1",
    "--train.steps_per_epoch=2",
    "--train.batch_size=2",
    "--train.log_every=1",
    "--train.save_every=3",
    "--evaluate.rollout=4",
    "--evaluate.lead_window=1,2",
    "--evaluate.bootstrap=20",
    "--train.device=cpu",
]


@pytest.fixture(scope="session")
def tiny_run() -> list[str]:
    """Words of the tiny comparison."""
    return list(TINY_RUN)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set: 4, 2 and 2 trajectories of 9 steps of Kolmogorov flow on 16 x 16."""
    folder = tmp_path_factory.mktemp("data") / "kolmogorov"
    assert main(["generate", f"--data={folder}", *TINY_DATA, *TINY_RUN]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of field and schedule, not to be changed."""
    runs = tmp_path_factory.mktemp("trained")
    assert main(["train", f"--data={data_folder}", f"--runs={runs}", *TINY_RUN]) == 0
    return runs / "turbulence" / "study"


@pytest.fixture
def run_app(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """`turbulence` in an empty folder with the tiny settings; further words override them.

    Reports are not drawn: that takes longer than all the rest.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("turbulence.training.report_study", lambda study: study.report)

    def run(command: str, *words: str, data: Path | str = data_folder) -> int:
        given = {word.split("=")[0] for word in words}
        tiny = [word for word in TINY_RUN if word.split("=")[0] not in given]
        return main([command, f"--data={data}", *tiny, *words])

    return run
