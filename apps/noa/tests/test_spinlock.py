"""The published script's file: trained on as any data, realisations apart, refused by place."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from noa.cli import main
from noa.report import load_evaluation
from nops_data import open_splits
from nops_train import RunFolder

ROWS, REALISATIONS = 8, 2
LAYOUT = "--data.layout=spinlock"


@pytest.fixture(scope="module")
def trajectories(data_folder: Path) -> np.ndarray:
    """Eight trajectories [N, T, C, H, W]: those of the generated data."""
    splits = open_splits(data_folder)
    readers = (splits.train, splits.valid)
    found = [reader.read(i) for reader in readers for i in range(len(reader))]
    return torch.stack(found[:ROWS]).numpy()


@pytest.fixture(scope="module")
def noisy(trajectories: np.ndarray) -> np.ndarray:
    """Two realisations of each, their noise of deviation 0.1 from the first step on."""
    noise = np.random.default_rng(0).normal(size=(ROWS, REALISATIONS, *trajectories.shape[1:]))
    noise[:, :, 0] = 0
    return (trajectories[:, None] + 0.1 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def make_file(noisy: np.ndarray) -> Callable[..., Path]:
    """Writes such a file; inputs are of all realisations."""

    def make(path: Path, **changes: np.ndarray | None) -> Path:
        values = {
            "parameters/params": np.random.default_rng(1).random((ROWS, 2)),
            "inputs/fields": noisy[:, 0, 0],
            "outputs/fields": noisy,
            "metadata/ic_types": ["bumps"] * 5 + ["waves"] * 3,
        }
        with h5py.File(path, "w") as file:
            for name, value in (values | changes).items():
                if value is not None:
                    file[name] = value
        return path

    return make


@pytest.fixture(scope="module")
def file(make_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, its inputs' axis 1 without a name."""
    return make_file(tmp_path_factory.mktemp("spinlock") / "made.h5")


@pytest.fixture
def trained(run_noa: Callable[..., int], file: Path) -> RunFolder:
    """A run on it."""
    assert run_noa("train", LAYOUT, "--data.axis1=channels", data=file) == 0
    return RunFolder.at(Path("runs/noa/default"))


def test_a_file_trains_and_is_evaluated_again(run_noa, trained, file, noisy):
    data = trained.config["data"]
    assert [data[f"num_{split}"] for split in ("train", "valid", "test")] == [12, 2, 2]
    assert (data["num_steps"], data["shape"], data["domain"]) == (4, [16, 16], None)
    evaluation, facts = load_evaluation(trained)
    assert evaluation.scores.num_samples == 2
    assert "ic types bumps 10, waves 2" in facts["data"]
    assert "hash of θ" in facts["caution"]
    # half the mean squared difference of the two realisations of the row that is held out
    apart = np.square(noisy[7, 0, 1:] - noisy[7, 1, 1:]).mean((-2, -1)) / 2
    expected = (torch.from_numpy(apart) / torch.tensor(facts["std"]).square()).mean(1)
    found = evaluation.scores.baselines["noise_floor"]["mse"].value
    torch.testing.assert_close(found.float(), expected.float(), rtol=1e-4, atol=0)
    assert run_noa("train", LAYOUT, "--data.axis1=channels", data=file) == 0
    assert main(["validate", "runs/noa/default"]) == 0


def test_a_file_gives_tokens(train_tokens, file):
    assert train_tokens(LAYOUT, "--data.axis1=channels", data=file) == 0
    assert Path("runs/noa/tokens/summary.json").is_file()


def test_a_file_that_cannot_be_read_is_told(run_noa, make_file, file, tmp_path, capfd):
    def refused(path: Path | str, *words: str) -> str:
        assert run_noa("train", LAYOUT, *words, data=path) == 2
        return capfd.readouterr().err

    message = refused(file)
    assert "axis 1 of dataset '/inputs/fields'" in message
    assert "axis1" in message
    features = make_file(tmp_path / "features.h5", **{"outputs/fields": None})
    assert "'/outputs/fields': found nothing" in refused(features, "--data.axis1=channels")
    assert "found nothing, expected an HDF5 file" in refused(tmp_path / "none.h5")
    assert "data.domain = wave" in refused(file, "--data.axis1=channels", "--data.domain=wave")
    assert "data.num_train = 13" in refused(file, "--data.axis1=channels", "--data.num_train=13")


def test_layouts_are_not_mistaken_for_each_other(run_noa, data_folder, file, capfd):
    assert run_noa("train", data=file) == 2
    assert "data.layout to spinlock" in capfd.readouterr().err
    assert run_noa("train", LAYOUT) == 2
    assert "found a folder, expected one HDF5 file" in capfd.readouterr().err
    assert run_noa("train", "--data.axis1=channels") == 2
    assert "data.axis1: has no effect while data.layout" in capfd.readouterr().err
    assert main(["train", LAYOUT]) == 2
    assert "name it by data.path" in capfd.readouterr().err
    for words in ([], ["--verify"]):
        assert main(["generate", LAYOUT, f"--data={file}", *words]) == 2
        assert "read, not generated" in capfd.readouterr().err
