"""Data that cannot be used: file, dataset, found and expected are named, and nothing is trained."""

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.fault

FIELD = "t0_fields/v"


def missing(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replaced(path, change):
    """The field as `change` makes it of the values, its attributes kept."""
    with h5py.File(path, "r+") as file:
        values, attributes = file[FIELD][()], dict(file[FIELD].attrs)
        del file[FIELD]
        file[FIELD] = change(values)
        file[FIELD].attrs.update(attributes)


def wrong_rank(path):
    replaced(path, lambda values: values[:, :, 0])


def wrong_dtype(path):
    replaced(path, lambda values: values.astype(np.float64))


def not_finite(path):
    with h5py.File(path, "r+") as file:
        file[FIELD][2, 3, 4, 5] = np.nan


def shard_missing(path):
    with h5py.File(path, "r+") as file:
        file["nops"].attrs["num_shards"] = 2  # the file says that it is one of two


CASES = {
    missing: ("data/train: folder: found no HDF5 file", "expected *.hdf5 files"),
    empty: ("found 0 bytes", "expected an HDF5 file"),
    truncated: ("truncated", "expected a complete HDF5 file"),
    wrong_rank: ("dataset '/t0_fields/v': found shape (6, 5, 16)", "expected (sample, time"),
    wrong_dtype: ("dataset '/t0_fields/v': found dtype float64", "expected float32"),
    not_finite: (
        "dataset '/t0_fields/v', sample 2, step 3",
        "grid point [4, 5]: found nan, expected a finite value",
    ),
    shard_missing: ("found shards [0], without [1]", "expected each of 2 shards once"),
}


@pytest.mark.parametrize("damage", CASES, ids=lambda damage: damage.__name__)
def test_refused_by_name(make_runs, copied_data, tmp_path, damage):
    (path,) = (copied_data / "data/train").glob("*.hdf5")
    damage(path)
    runs = make_runs(tmp_path / "struck", data=copied_data)
    ended = runs.train()
    assert ended.code == 2, ended.text
    folder_only = damage in (missing, shard_missing)
    for words in (*CASES[damage], str(path.parent if folder_only else path)):
        assert words in ended.text
    assert "Traceback" not in ended.text
    assert not runs.checkpoints.exists()


def test_changed_between_save_and_resume(begun, copied_data, data_folder, ends_equal, tmp_path):
    (path,) = (copied_data / "data/train").glob("*.hdf5")
    with h5py.File(path, "r+") as file:
        value = file[FIELD][0, 1, 2, 3]
        file[FIELD][0, 1, 2, 3] = value + 1
    runs = begun(tmp_path / "struck", data=copied_data)
    ended = runs.train()
    assert ended.code == 2, ended.text
    assert "step_10.pt: the data are not those of this run" in ended.text
    assert f"{path.relative_to(copied_data)}: the run has " in ended.text
    assert "/valid/" not in ended.text  # only what changed
    assert "Traceback" not in ended.text
    ends_equal(runs, f"--data={data_folder}")
