"""A tiny run on simulated displacements, shared by the tests of one process."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from nops_train import parse_config
from phys_smpl.build import base_weights, build_model, build_task
from phys_smpl.cli import main
from phys_smpl.config import PhysConfig
from phys_smpl.data import open_bundle
from phys_smpl.generation import settle_data

TINY_DATA = ["--data.num_train=24", "--data.num_valid=8", "--data.num_test=10"]
SMALL = {"feature_dim": 8, "feature_hidden": [8], "physics_hidden": [8], "aux_hidden": [8]}
TINY_RUN = [
    "--name=tiny",
    "--model.feature_dim=8",
    "--model.feature_hidden=8",
    "--model.physics_hidden=8",
    "--model.aux_hidden=8",
    "--phases.epochs_pretrain=2",
    "--phases.kl_warmup_epochs=2",
    "--phases.r.warmup_epochs=2",
    "--train.epochs=4",
    "--train.batch_size=8",
    "--train.log_every=1",
    "--train.save_every=1",
    "--train.keep_last=null",
    "--train.device=cpu",
    "--evaluate.samples=16",
    "--evaluate.oracle_starts=1",
    "--evaluate.oracle_steps=5",
]


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Displacements of a source beneath 12 stations: 24, 8 and 10 observations."""
    folder = tmp_path_factory.mktemp("data") / "mogi"
    assert main(["generate", f"--out={folder}", *TINY_DATA]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_run() -> list[str]:
    """Words of a tiny run."""
    return list(TINY_RUN)


@pytest.fixture(scope="session")
def trained(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a report, not to be changed; its prior moves."""
    runs = tmp_path_factory.mktemp("trained")
    words = [*TINY_RUN, "--model.prior=ema"]
    assert main(["train", f"--data={data_folder}", f"--runs={runs}", *words]) == 0
    return runs / "phys-smpl" / "tiny"


@pytest.fixture
def run_app(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """`phys-smpl` in an empty folder with the tiny settings; further words override them.

    Reports are not drawn: that takes longer than all the rest.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("phys_smpl.training.write_report", lambda run: run.report)
    monkeypatch.setattr("phys_smpl.ablation.write_report", lambda run: run.report)

    def run(command: str, *words: str, data: Path | str = data_folder) -> int:
        given = {word.split("=")[0] for word in words}
        tiny = [word for word in TINY_RUN if word.split("=")[0] not in given]
        return main([command, f"--data={data}", *tiny, *words])

    return run


class Built:
    """A task on tiny data, with a training batch."""

    def __init__(self, folder: Path, sections: Mapping[str, Any]) -> None:
        plain = {"data": {"path": str(folder)}, **sections}
        plain["model"] = {**SMALL, **sections.get("model", {})}
        plain["data"] |= sections.get("data", {}) | {"path": str(folder)}
        self.config = settle_data(parse_config(PhysConfig, plain, source="test"))
        self.bundle = open_bundle(self.config)
        torch.manual_seed(0)
        self.model = build_model(self.config, self.bundle)
        self.notes: list[str] = []
        self.task = build_task(
            self.config, self.model, note=lambda kind, message: self.notes.append(message)
        )
        self.batch = {"x": self.bundle.splits["train"].x[:6]}

    def losses(self, *active: str, epoch: int = 40) -> dict[str, torch.Tensor]:
        """The terms, all that are switched on if none is named; all has arrived by epoch 40."""
        names = frozenset(active or base_weights(self.config))
        return self.task.losses(self.batch, epoch=epoch, step=0, active=names)


@pytest.fixture
def build(data_folder: Path) -> Callable[..., Built]:
    """A built task by the sections of its config."""
    return lambda **sections: Built(data_folder, sections)
