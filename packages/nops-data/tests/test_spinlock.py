"""Spinlock's file: which trajectories it holds, which splits they are in, and what is refused."""

import pickle
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from nops_data import (
    LayoutError,
    Normaliser,
    SpinlockReader,
    Trajectories,
    Windows,
    open_spinlock,
    spinlock_facts,
)

ROWS, REALISATIONS, FRAMES, CHANNELS, GRID = 12, 3, 5, 2, (4, 6)
SPLITS = ("train", "valid", "test")


def contents(**changes: Any) -> dict[str, Any]:
    """Datasets by name; the two first rows have one θ."""
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(ROWS, REALISATIONS, FRAMES, CHANNELS, *GRID)).astype(np.float32)
    theta = rng.random((ROWS, 2)).astype(np.float32)
    theta[1] = theta[0]
    return {
        "parameters/params": theta,
        "inputs/fields": outputs[:, :, 0],
        "outputs/fields": outputs,
        "metadata/ic_types": [f"kind {row % 2}" for row in range(ROWS)],
        **changes,
    }


@pytest.fixture
def write(tmp_path):
    """A file of given datasets, None leaving one out."""

    def make(*, dims=None, **changes):
        path = tmp_path / "made.h5"
        named = {name.replace("__", "/"): values for name, values in changes.items()}
        with h5py.File(path, "w") as file:
            for name, values in contents(**named).items():
                if values is not None:
                    file[name] = values
            if dims is not None:
                file["inputs/fields"].attrs["dims"] = dims
        return path

    return make


def test_every_realisation_is_a_trajectory_as_stored(write):
    path, stored = write(), contents()
    seen = set()
    for split in SPLITS:
        reader = SpinlockReader(path, split=split)
        assert isinstance(reader, Trajectories)
        assert len(reader) == REALISATIONS * len(reader.rows)
        for index in range(len(reader)):
            realisation, place = divmod(index, len(reader.rows))
            row = reader.rows[place]
            expected = stored["outputs/fields"][row, realisation]
            assert torch.equal(reader.read(index), torch.from_numpy(expected))
            assert torch.equal(
                reader.parameters[index], torch.from_numpy(stored["parameters/params"][row])
            )
            assert reader.kinds["ic_types"][index] == f"kind {row % 2}"
            seen.add((int(row), realisation))
    assert len(seen) == ROWS * REALISATIONS


def test_no_theta_is_in_two_splits(write):
    rows = {split: SpinlockReader(write(), split=split).rows.tolist() for split in SPLITS}
    # eleven different θ, of which the first has two rows
    assert rows == {"train": list(range(10)), "valid": [10], "test": [11]}
    theta = np.random.default_rng(1).random((4, 2))[[3, 0, 1, 3, 2, 0, 1, 2, 3, 2, 1, 0]]
    path = write(parameters__params=theta)
    found = [SpinlockReader(path, split=split).parameters.tolist() for split in SPLITS]
    sets = [{tuple(row) for row in rows} for rows in found]
    assert [len(one) for one in sets] == [2, 1, 1]
    assert len(set.union(*sets)) == 4


def test_frames_between_are_read_and_no_others(write):
    reader = SpinlockReader(write(), split="train")
    whole = reader.read(13)
    assert torch.equal(reader.read(13, start=2, stop=4), whole[2:4])
    windows = Windows(reader, length=3, seed=1, with_initial=1)
    batch = windows.batch([0, 13])
    start = int(batch["start"][1])
    assert torch.equal(batch["frames"][1], whole[start : start + 3])
    assert torch.equal(batch["initial"][1], whole[:1])
    copy = pickle.loads(pickle.dumps(reader))
    assert torch.equal(copy.read(13), whole)


def test_the_three_splits_together(write):
    path = write()
    splits, facts = open_spinlock(path), spinlock_facts(path)
    assert facts == {
        "num_train": 30,
        "num_valid": 3,
        "num_test": 3,
        "num_steps": FRAMES - 1,
        "shape": GRID,
    }
    expected = Normaliser.fit(SpinlockReader(path, split="train"))
    assert torch.equal(splits.normaliser.mean, expected.mean)
    assert (splits.frame_interval, splits.train.dataset_name) == (1.0, "made")
    assert splits.train.channels == ("u_0", "u_1")
    assert splits.train.parameter_names == ("theta_0", "theta_1")
    assert list(splits.fingerprints) == ["made.h5"]


@pytest.mark.parametrize(
    "dims", ["N, M, C, H, W", "[N, M, C, H, W]", ["n", "realizations", "c", "h", "w"], None]
)
def test_five_axes_of_inputs(write, dims):
    assert len(SpinlockReader(write(dims=dims), split="test")) == REALISATIONS


@pytest.mark.parametrize("by", ["dims", "axis1"])
@pytest.mark.parametrize("named", ["channels", "realisations"])
def test_axis_1_of_square_inputs_is_what_it_is_called(write, by, named):
    """As many channels as realisations: only the name tells which start belongs to which."""
    outputs = contents()["outputs/fields"][:, :2, :, :1]
    inputs = outputs[:, :, 0, 0]
    if named == "channels":
        outputs = np.repeat(np.moveaxis(outputs, 1, 3)[:, None, :, 0], 2, axis=1)
    letter = {"channels": "C", "realisations": "M"}[named]
    dims = f"N, {letter}, H, W" if by == "dims" else None
    path = write(inputs__fields=inputs, outputs__fields=outputs[:, :, 1:], dims=dims)
    given = named if by == "axis1" else None
    reader = SpinlockReader(path, split="test", axis1=given, first_frame="step")
    starts = [reader.read(index)[0].numpy() for index in range(2)]
    expected = [inputs[11]] * 2 if named == "channels" else list(inputs[11][:, None])
    assert all(np.array_equal(a, b) for a, b in zip(starts, expected, strict=True))


def test_outputs_that_begin_a_step_after_the_input(write):
    outputs = contents()["outputs/fields"]
    path = write(outputs__fields=outputs[:, :, 1:])
    with pytest.raises(LayoutError, match=r"'/outputs/fields', row 0, realisation 0, first frame"):
        SpinlockReader(path, split="train")
    reader = SpinlockReader(path, split="test", first_frame="step")
    assert reader.num_frames == FRAMES
    assert torch.equal(reader.read(2), torch.from_numpy(outputs[11, 2]))
    assert torch.equal(reader.read(2, start=1, stop=3), torch.from_numpy(outputs[11, 2, 1:3]))
    plain = SpinlockReader(path, split="test", first_frame="start")
    assert torch.equal(plain.read(2), torch.from_numpy(outputs[11, 2, 1:]))


def theta_with(value: float) -> np.ndarray:
    theta = contents()["parameters/params"]
    theta[4, 1] = value
    return theta


OUTPUTS, INPUTS = contents()["outputs/fields"], contents()["inputs/fields"]
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no parameters": ({"parameters__params": None}, r"'/parameters/params': found nothing"),
    "parameters of one axis": (
        {"parameters__params": np.zeros(ROWS)},
        r"'/parameters/params': found shape \(12,\), expected \[N, P\]",
    ),
    "theta outside": (
        {"parameters__params": theta_with(1.5)},
        r"'/parameters/params', row 4, parameter 1: found 1\.5, expected a value in \[0, 1\]",
    ),
    "theta undefined": (
        {"parameters__params": theta_with(np.nan)},
        r"row 4, parameter 1: found nan, expected a value in \[0, 1\]",
    ),
    "whole numbers": (
        {"parameters__params": np.zeros((ROWS, 2), dtype=int)},
        r"'/parameters/params': found int64, expected real numbers",
    ),
    "one theta": (
        {"parameters__params": np.zeros((ROWS, 2))},
        r"'/parameters/params': found 1 different rows, expected at least 3",
    ),
    "features alone": (
        {"outputs__fields": None},
        r"'/outputs/fields': found nothing, as in files written with feature_only_mode",
    ),
    "no time": (
        {"outputs__fields": OUTPUTS[:, :, 0]},
        r"'/outputs/fields': found shape \(12, 3, 2, 4, 6\), expected \[N, M, T, C, H, W\]",
    ),
    "one frame": (
        {"outputs__fields": OUTPUTS[:, :, :1]},
        r"'/outputs/fields': found shape .* at least 2 frames on axis 2",
    ),
    "fewer outputs": (
        {"outputs__fields": OUTPUTS[:9]},
        r"'/outputs/fields': found shape \(9, .*with N = 12",
    ),
    "no inputs": ({"inputs__fields": None}, r"'/inputs/fields': found nothing"),
    "inputs of three axes": (
        {"inputs__fields": INPUTS[:, 0, 0]},
        r"'/inputs/fields': found shape \(12, 4, 6\), expected \[N, C, H, W\] or",
    ),
    "axis 1 without a name": (
        {"inputs__fields": INPUTS[:, 0]},
        r"axis 1 of dataset '/inputs/fields': found no attribute 'dims', expected that, or axis1",
    ),
    "another grid": (
        {"inputs__fields": INPUTS[..., :3]},
        r"'/inputs/fields': found shape \(12, 3, 2, 4, 3\), expected \(12, 3, 2, 4, 6\)",
    ),
    "channels called realisations": (
        {"inputs__fields": INPUTS[:, 0], "dims": "N, M, H, W"},
        r"'/inputs/fields': found shape \(12, 2, 4, 6\), expected \(12, 3, 4, 6\), axis 1 real",
    ),
    "realisations of several channels without them": (
        {"inputs__fields": INPUTS[:, :, 0], "dims": "N, M, H, W"},
        r"'/inputs/fields': found shape \(12, 3, 4, 6\), expected \(12, 3, 4, 6\), axis 1 real",
    ),
    "five axes called channels": (
        {"dims": "N, C, M, H, W"},
        r"axis 1 of dataset '/inputs/fields': found channels in five axes",
    ),
    "dims of another length": (
        {"dims": "N, M, H, W"},
        r"attribute 'dims' of dataset '/inputs/fields': found 'N, M, H, W', expected 5 names",
    ),
    "too few kinds": (
        {"metadata__ic_types": ["one"]},
        r"'/metadata/ic_types': found object of shape \(1,\), expected 12 texts, one per row",
    ),
    "kinds as numbers": (
        {"metadata__evolution_policies": np.zeros(ROWS)},
        r"'/metadata/evolution_policies': found float64 of shape \(12,\), expected 12 texts",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_refused_by_place(write, name):
    changes, message = BAD[name]
    path = write(**changes)
    with pytest.raises(LayoutError, match=message) as caught:
        SpinlockReader(path, split="train")
    assert str(path) in str(caught.value)


def test_a_name_that_contradicts_the_file(write):
    path = write(dims="N, M, C, H, W")
    with pytest.raises(LayoutError, match="found realisations by its attribute 'dims', expected"):
        SpinlockReader(path, split="train", axis1="channels")


def test_no_file_and_no_hdf5(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    for path, found in (
        (tmp_path, "a folder, expected one HDF5 file"),
        (tmp_path / "none.h5", "nothing"),
        (tmp_path / "text.h5", "that are not HDF5"),
    ):
        with pytest.raises(LayoutError, match=found):
            SpinlockReader(path, split="train")
    with pytest.raises(ValueError, match="split: found 'all'"):
        SpinlockReader(tmp_path / "none.h5", split="all")


def test_a_value_that_is_not_finite_is_named(write):
    outputs = OUTPUTS.copy()
    outputs[3, 2, 4, 1, 2, 5] = np.inf
    reader = SpinlockReader(write(outputs__fields=outputs), split="train")
    place = r"row 3, realisation 2, step 4, channel 1, grid point \[2, 5\]: found inf"
    with pytest.raises(LayoutError, match=rf"made.h5: dataset '/outputs/fields', {place}"):
        reader.read(2 * 10 + 3, start=3)
