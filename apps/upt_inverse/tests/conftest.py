"""A tiny run on generated data, shared by the tests of one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_train import parse_config
from upt_inverse.build import Bundle, build_model, build_task, open_bundle
from upt_inverse.cli import main
from upt_inverse.config import UptConfig
from upt_inverse.generation import settle_data
from upt_inverse.task import UptTask

TINY_DATA = [
    "--data.num_train=4",
    "--data.num_valid=2",
    "--data.num_test=3",
    "--data.num_steps=4",
    "--data.shape=64",
    "--data.viscosity=0.05",
]
TINY_RUN = [
    "--name=tiny",
    "--model.tokens=4",
    "--model.dim=8",
    "--model.heads=2",
    "--model.approximator_depth=1",
    "--model.decoder_cross_depth=1",
    "--loss.rollout_horizon=3",
    "--train.epochs=2",
    "--train.batch_size=4",
    "--train.warmup_steps=1",
    "--train.log_every=1",
    "--train.save_every=1",
    "--train.device=cpu",
    "--evaluate.bootstrap=20",
]
TINY_MODEL = {"tokens": 4, "dim": 8, "heads": 2, "approximator_depth": 1, "decoder_cross_depth": 1}


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Burgers on 64 points: 4, 2 and 3 trajectories of 4 steps."""
    folder = tmp_path_factory.mktemp("data") / "burgers"
    assert main(["generate", f"--data={folder}", *TINY_DATA, *TINY_RUN]) == 0
    return folder


@pytest.fixture(scope="session")
def plane_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Diffusion-reaction on 8 x 8 cells: 4, 2 and 3 trajectories of 4 steps."""
    folder = tmp_path_factory.mktemp("data") / "plane"
    words = [word for word in TINY_DATA if "shape" not in word and "viscosity" not in word]
    plane = ["--data.pde=diffusion_reaction", "--data.shape=8,8", "--model.patch_size=4"]
    assert main(["generate", f"--data={folder}", *words, *TINY_RUN, *plane]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    runs = tmp_path_factory.mktemp("trained")
    assert main(["train", f"--data={data_folder}", f"--runs={runs}", *TINY_RUN]) == 0
    return runs / "upt-inverse" / "tiny"


@pytest.fixture
def run_app(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """`upt-inverse` in an empty folder with the tiny settings; further words override them.

    Reports are not drawn: that takes longer than all the rest.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("upt_inverse.training.write_report", lambda run: run.report)
    monkeypatch.setattr("upt_inverse.ablation.write_report", lambda run: run.report)

    def run(command: str, *words: str, data: Path | str = data_folder) -> int:
        given = {word.split("=")[0] for word in words}
        tiny = [word for word in TINY_RUN if word.split("=")[0] not in given]
        return main([command, f"--data={data}", *tiny, *words])

    return run


class Built:
    """A task on tiny data, with a training batch."""

    def __init__(self, folder: Path, sections: dict[str, Any]) -> None:
        grid = {"encoder": "grid", "patch_size": 4}
        model = {**TINY_MODEL, **(sections.pop("model", None) or grid)}
        plain = {"data": {"path": str(folder), "num_steps": 4}, "model": model, **sections}
        plain["train"] = {"batch_size": 4, "device": "cpu", **sections.get("train", {})}
        parsed = parse_config(UptConfig, plain, source="test")
        self.config = settle_data(parsed)
        self.bundle: Bundle = open_bundle(self.config)
        torch.manual_seed(0)
        self.model = build_model(self.config, self.bundle)
        self.task: UptTask = build_task(self.config, self.bundle, self.model)
        self.batch = next(iter(self.bundle.train.batches(epoch=0)))

    def losses(self, *active: str, step: int = 0) -> dict[str, torch.Tensor]:
        """The terms, all that are switched on if none is named."""
        names = frozenset(active or self.config.loss.weights())
        return self.task.losses(self.batch, epoch=0, step=step, active=names)


@pytest.fixture
def build(data_folder: Path, plane_folder: Path) -> Callable[..., Built]:
    """A built task by the sections of its config; `plane=True` is on two-dimensional data."""

    def make(*, plane: bool = False, **sections: Any) -> Built:
        return Built(plane_folder if plane else data_folder, sections)

    return make
