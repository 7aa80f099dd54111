"""Generated data, and data that someone else wrote."""

import shutil
from pathlib import Path
from typing import get_args

import h5py
import noa.build
import pytest
import torch
from noa.build import open_bundle
from noa.cli import infer_preset, main
from noa.config import DomainName, NoaConfig
from noa.generation import make_plan
from nops_data import WellReader, WellWriter
from nops_physics import GrayScott
from nops_train import InputError, World, parse_config


def test_a_generated_trajectory_is_the_solver_s(data_folder):
    with h5py.File(next((data_folder / "data/train").glob("*.hdf5"))) as file:
        seeds = [int(seed) for seed in file["nops/ic_seed"][:]]
        theta = torch.from_numpy(file["nops/theta_unit"][:])
    domain = GrayScott(shape=(16, 16))
    frames = domain.trajectory(domain.initial(6, seed=seeds), theta, num_steps=4)
    stored = torch.stack([item["fields"] for item in WellReader(data_folder, split="train")])
    assert torch.equal(stored, frames)


def test_parameters_are_disjoint_between_splits(data_folder):
    rows = [
        tuple(row)
        for split in ("train", "valid", "test")
        for row in WellReader(data_folder, split=split).parameters.tolist()
    ]
    assert len(set(rows)) == 12


def test_verify_finds_a_changed_value(data_folder, tmp_path, capsys):
    folder = shutil.copytree(data_folder, tmp_path / "copy")
    assert main(["generate", "--verify", f"--data={folder}"]) == 0
    path = next((Path(folder) / "data/test").glob("*.hdf5"))
    with h5py.File(path, "r+") as file:
        file["t0_fields/u"][1, 2, 3, 4] += 1e-3
    assert main(["generate", "--verify", f"--data={folder}"]) == 1
    message = capsys.readouterr().err
    assert path.name in message
    assert "sample 1" in message


@pytest.mark.parametrize("domain", get_args(DomainName))
def test_every_domain_has_a_plan(domain):
    values = {"data": {"domain": domain, "num_train": 3, "num_valid": 2, "num_test": 2}}
    plan = make_plan(parse_config(NoaConfig, values, source="test"))
    assert plan.num_frames == 65
    assert [len(split) for split in plan.splits.values()] == [3, 2, 2]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Two-channel data that someone wrote in the_well's layout, with one scalar."""
    folder = tmp_path / "foreign"
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        walk = torch.randn(count, 6, 9, 12, 2, generator=generator).cumsum(1)
        writer = WellWriter(folder, dataset_name="walk", spatial_dims=("x", "y"))
        writer.write(
            split,
            {"velocity": walk.numpy()},
            [0.0, 0.5, 1.0, 1.5, 2.0, 2.5],
            parameters={"speed": torch.linspace(3.0, 9.0, count).numpy()},
        )
    return folder


def test_data_of_unknown_origin_train_and_report(run_noa, foreign):
    assert run_noa("train", data=foreign) == 0
    config = Path("runs/noa/default/config.yaml").read_text()
    assert "domain: null" in config
    assert "num_train: 4" in config
    assert "num_steps: 5" in config
    assert main(["report", "runs/noa/default"]) == 0
    assert Path("runs/noa/default/report.html").is_file()


def test_fewer_samples_and_steps_than_there_are(run_noa, data_folder):
    assert run_noa("train", "--data.num_train=4", "--timesteps=3", "--train.epochs=1") == 0
    config = Path("runs/noa/default/config.yaml").read_text()
    assert "num_train: 4" in config
    assert "num_steps: 3" in config


def test_the_preset_follows_the_data(run_noa, data_folder, capsys):
    assert run_noa("train", "--train.epochs=1") == 0
    assert "gray_scott" in capsys.readouterr().out


def bundle_of(data_folder, monkeypatch, *, rank, size):
    """What one of several ranks opens."""
    monkeypatch.setattr(noa.build, "join_world", lambda: World(rank=rank, size=size))
    sizes = {"num_train": 6, "num_valid": 3, "num_test": 3, "num_steps": 4, "shape": [16, 16]}
    values = {
        "data": {"path": str(data_folder), **sizes},
        "train": {"batch_size": 6},
    }
    return open_bundle(parse_config(NoaConfig, values, source="test"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_validation_sees_every_trajectory_once_on_any_number_of_ranks(
    data_folder, monkeypatch, size
):
    found = []
    for rank in range(size):
        bundle = bundle_of(data_folder, monkeypatch, rank=rank, size=size)
        batches = list(bundle.valid.batches(epoch=0, skip=0))
        assert batches
        found += [frames for batch in batches for frames in batch["frames"]]
    stored = [item["fields"] for item in WellReader(data_folder, split="valid")]
    expected = bundle.normaliser.normalise(torch.stack(stored))
    assert torch.equal(torch.stack(found), expected)


def test_more_ranks_than_validation_trajectories_are_refused(data_folder, monkeypatch):
    with pytest.raises(InputError, match=r"data.num_valid = 3 for 4 ranks, expected one each"):
        bundle_of(data_folder, monkeypatch, rank=0, size=4)


@pytest.mark.parametrize("name", ["wave", "navier_stokes"])
def test_a_generated_folder_says_which_preset_and_replays(name, tmp_path):
    folder = tmp_path / "data"
    sizes = ["--data.num_train=2", "--data.num_valid=1", "--data.num_test=1"]
    sizes += ["--data.num_steps=4", "--data.shape=8,8"]
    assert main(["generate", f"--preset={name}", f"--data={folder}", *sizes]) == 0
    assert main(["generate", "--verify", f"--data={folder}"]) == 0
    found = infer_preset(str(folder))
    assert found is not None
    assert found[0] == name
