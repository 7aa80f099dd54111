"""What a user gets wrong: one message with key or file, found and expected; code 2; nothing lost."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest


@pytest.fixture
def broken(data_folder: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may damage."""
    return Path(shutil.copytree(data_folder, tmp_path / "broken"))


def train_file(folder: Path) -> Path:
    return next((folder / "data" / "train").glob("*.hdf5"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def text(path: Path) -> None:
    path.write_text("no HDF5")


def nan(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["t0_fields/v"][0, 1, 2, 3] = np.nan


def wrong_rank(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        values, attributes = file["t0_fields/v"][:, :, 0], dict(file["t0_fields/v"].attrs)
        del file["t0_fields/v"]
        file["t0_fields/v"] = values
        file["t0_fields/v"].attrs.update(attributes)


def without_group(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["dimensions"]


def theta_outside(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["nops/theta_unit"][0, 0] = 1.5


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (truncate, "truncated"),
        (empty, "0 bytes"),
        (remove, "train"),
        (text, "not HDF5"),
        (nan, "'v'"),
        (wrong_rank, "t0_fields/v"),
        (without_group, "dimensions"),
        (theta_outside, "1.5"),
    ],
)
def test_damaged_data(run_noa, broken, capsys, damage, named):
    path = train_file(broken)
    damage(path)
    assert run_noa("train", data=broken) == 2
    message = capsys.readouterr().err
    assert named in message
    assert str(path.parent) in message.replace("\n", "")
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--train.epoch=3"], "train.epochs"),
        (["--rollout.windw=3"], "rollout.window"),
        (["--train.window=3"], "rollout.window"),
        (["--epochs=3", "--train.epochs=4"], "train.epochs"),
        (["--train.epochs=many"], "train.epochs"),
        (["--train.epochs=0"], "train.epochs"),
        (["--rollout.window=9"], "rollout.window"),
        (["--rollout.mode=pushforward", "--rollout.num_pushforward=4"], "num_pushforward"),
        (["--rollout.num_pushforward=2"], "rollout.num_pushforward"),
        (["--model.encoder_levels=5"], "model.encoder_levels"),
        (["--model.afno_groups=3"], "afno_groups"),
        (["--loss.traj=0", "--loss.ic=0"], "loss"),
        (["--evaluate.lead_times=1,9"], "evaluate.lead_times"),
        (["--train.warmup_steps=600"], "train.warmup_steps"),
        (["--train.monitor=accuracy"], "accuracy"),
        (["--data.num_train=100"], "data.num_train"),
        (["--data.shape=24,24"], "data.shape"),
        (["--data.domain=random_conv"], "data.domain"),
        (["--preset=larger"], "--preset"),
        (["--config=none.yaml"], "none.yaml"),
        (["--resume=none.pt"], "none.pt"),
    ],
)
def test_wrong_settings(run_noa, capsys, words, named):
    assert run_noa("train", *words) == 2
    message = capsys.readouterr().err
    assert named in message
    assert "Traceback" not in message


def test_missing_data_folder(run_noa, capsys):
    assert run_noa("train", data="nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_run_folder_that_cannot_be_made(run_noa, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run_noa("train", "--runs=file") == 2
    assert "file" in capsys.readouterr().err


def test_a_failed_start_leaves_an_earlier_run_as_it_was(run_noa, finished, broken, events):
    run = finished
    before = events(run), sorted(p.name for p in (run / "checkpoints").iterdir())
    nan(train_file(broken))
    assert run_noa("train", data=broken) == 2
    assert (events(run), sorted(p.name for p in (run / "checkpoints").iterdir())) == before


def test_changed_data_stop_a_continued_run(run_noa, finished, broken, capsys):
    with h5py.File(train_file(broken), "r+") as file:
        file["t0_fields/v"][0, 1, 2, 3] += 1
    assert run_noa("train", data=broken) == 2
    assert "data" in capsys.readouterr().err


def test_start_weights_that_are_not_there_leave_no_run_behind(run_noa, capsys):
    assert run_noa("train", "--init-from=runs/noa/nothing") == 2
    message = (
        "train.init_from: found nothing at runs/noa/nothing, expected a run, checkpoint or export"
    )
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()
