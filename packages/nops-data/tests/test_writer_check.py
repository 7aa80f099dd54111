import re

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_data import LayoutError, WellReader, WellWriter, check_well

RNG = np.random.default_rng(1)
TIMES = np.arange(6) * 0.5


def values(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def test_a_round_trip_of_everything(tmp_path):
    scalar, vector, tensor = values(3, 6, 5, 4), values(3, 6, 5, 4, 2), values(3, 6, 5, 4, 2, 2)
    depth = values(3, 5, 4)
    writer = WellWriter(
        tmp_path,
        dataset_name="all",
        spatial_dims=("x", "z"),
        boundary=("periodic", ("wall", "open")),
        lengths=(2.0, 3.0),
        grid_type="spherical",
    )
    theta = RNG.random((3, 2))
    path = writer.write(
        "valid",
        {"p": scalar, "v": torch.from_numpy(vector), "S": tensor},
        torch.from_numpy(TIMES),
        parameters={"Re": [1.0, 2.0, 3.0], "k": np.array([0.5, 0.5, 0.5])},
        theta_unit=theta,
        constants={"depth": depth},
    )
    assert path == tmp_path / "data" / "valid" / "all_valid_00000.hdf5"
    assert check_well(path) == []
    reader = WellReader(tmp_path, split="valid")
    channels = ("p", "v_x", "v_z", "S_xx", "S_xz", "S_zx", "S_zz", "depth")
    assert reader.channels == channels
    assert reader.boundary == (("periodic", "periodic"), ("wall", "open"))
    assert torch.allclose(reader.coordinates[0], torch.tensor([0, 0.4, 0.8, 1.2, 1.6]))
    assert torch.equal(reader.coordinates[1], torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert torch.equal(reader.parameters, torch.tensor(theta, dtype=torch.float32))
    got = reader[2]
    parts = [scalar[2][..., None], vector[2], tensor[2].reshape(6, 5, 4, 4)]
    parts.append(np.broadcast_to(depth[2][None, ..., None], (6, 5, 4, 1)))
    expected = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    assert np.array_equal(got["fields"].numpy(), expected)
    assert got["times"].tolist() == TIMES.tolist()
    physical = WellReader(tmp_path, split="valid", parameters="physical")
    assert physical.parameters.tolist() == [[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]]


@given(
    samples=st.integers(1, 4),
    frames=st.integers(1, 7),
    grid=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    order=st.integers(0, 2),
    compression=st.sampled_from([None, "gzip"]),
    chunk=st.integers(1, 9),
)
def test_round_trips(tmp_path_factory, samples, frames, grid, order, compression, chunk):
    folder = tmp_path_factory.mktemp("trip")
    dims = ("x", "y", "z")[: len(grid)]
    field = values(samples, frames, *grid, *(len(grid),) * order)
    writer = WellWriter(
        folder, dataset_name="t", spatial_dims=dims, compression=compression, chunk_frames=chunk
    )
    writer.write("train", {"f": field}, np.arange(frames))
    assert check_well(folder) == []
    reader = WellReader(folder, split="train")
    flat = np.moveaxis(field.reshape(samples, frames, *grid, -1), -1, 2)
    for index in range(samples):
        assert np.array_equal(reader[index]["fields"].numpy(), flat[index])
    reader.close()


def test_files_are_numbered_and_appear_when_complete(tmp_path):
    writer = WellWriter(tmp_path, dataset_name="n")
    for number in range(3):
        path = writer.write("train", {"u": values(1, 6, 5, 4)}, TIMES)
        assert path.name == f"n_train_{number:05d}.hdf5"
    assert len(list((tmp_path / "data" / "train").iterdir())) == 3
    assert len(WellReader(tmp_path, split="train")) == 3


def test_a_writer_that_is_stopped_leaves_no_data(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("nops_data._writer.publish", stop)
    writer = WellWriter(tmp_path, dataset_name="n")
    with pytest.raises(KeyboardInterrupt):
        writer.write("train", {"u": values(1, 6, 5, 4)}, TIMES)
    with pytest.raises(LayoutError, match="only unfinished"):
        WellReader(tmp_path, split="train")


def test_chunks_hold_whole_windows(tmp_path):
    writer = WellWriter(tmp_path, dataset_name="c", chunk_frames=4)
    path = writer.write("train", {"v": values(2, 6, 5, 4, 2)}, TIMES)
    with h5py.File(path) as file:
        item = file["t1_fields/v"]
        assert item.chunks == (1, 4, 5, 4, 2)
        assert item.compression is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "fields: found none"),
        ({"u": values(2, 6, 5)}, r"field 'u': found shape \(2, 6, 5\)"),
        ({"u": values(2, 5, 5, 4)}, r"found shape \(2, 5, 5, 4\), expected \(2, 6, 5, 4\)"),
        ({"u": values(2, 6, 5, 4, 3)}, "with up to two more axes of length 2"),
        ({"u": values(2, 6, 5, 4, 2, 2, 2)}, "with up to two more axes of length 2"),
        ({"u": values(2, 6, 5, 4), "w": values(3, 6, 5, 4)}, "field 'w': found shape"),
        ({"u": values(2, 6, 5, 4).astype(np.float64)}, "found dtype float64, expected float32"),
    ],
)
def test_fields_that_do_not_fit_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        WellWriter(tmp_path, dataset_name="x").write("train", fields, TIMES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": {"a": [1.0]}}, r"parameter 'a': found shape \(1,\).*expected \(2,\)"),
        ({"parameters": {"a": [1.0, np.nan]}}, "parameter 'a': .*1 not finite"),
        ({"parameters": {"grid_type": [1.0, 2.0]}}, r"parameters: found \['grid_type'\]"),
        ({"theta_unit": [[0.5], [0.5]]}, r"theta_unit: found shape \(2, 1\), expected \(2, 0\)"),
        (
            {"parameters": {"a": [1.0, 2.0]}, "theta_unit": [[0.5], [1.5]]},
            "theta_unit: found 1.5 for sample 1, parameter 0",
        ),
        ({"constants": {"c": values(5, 4)}}, "field 'c': found shape"),
        ({"constants": {"u": values(2, 5, 4)}}, r"fields: found \['u', 'u'\]"),
        ({"times": np.zeros((2, 6))}, r"times: found shape \(2, 6\)"),
        ({"times": []}, r"times: found shape \(0,\)"),
        ({"split": "val"}, "split: found 'val'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, options, message):
    settings = {"split": "train", "times": TIMES, **options}
    writer = WellWriter(tmp_path, dataset_name="x")
    fields = {"u": values(2, 6, 5, 4)}
    with pytest.raises(ValueError, match=message):
        writer.write(settings.pop("split"), fields, settings.pop("times"), **settings)
    assert not list(tmp_path.rglob("*.hdf5"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boundary": "reflecting"}, "boundary: found .*reflecting"),
        ({"boundary": ("wall",)}, r"expected one entry per axis \(2\)"),
        ({"boundary": ("wall", ("periodic", "open"))}, "both ends periodic or neither"),
        ({"boundary": ("wall", ("open", "open", "open"))}, "expected kinds out of"),
        ({"chunk_frames": 0}, "chunk_frames: found 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        WellWriter(tmp_path, dataset_name="x", **options)


@pytest.mark.parametrize("lengths", [(1.0,), (1.0, 0.0)])
def test_lengths_that_make_no_sense_are_refused(tmp_path, lengths):
    writer = WellWriter(tmp_path, dataset_name="x", lengths=lengths)
    with pytest.raises(ValueError, match=r"lengths: found .* expected 2 positive numbers"):
        writer.write("train", {"u": values(2, 6, 5, 4)}, TIMES)


def test_values_that_are_not_finite_are_not_written(tmp_path):
    writer = WellWriter(tmp_path, dataset_name="x")
    field, still = values(2, 6, 5, 4), values(2, 5, 4)
    field[1, 4, 2, 3] = np.nan
    place = "field 'u', sample 1, step 4, grid point [2, 3]: found nan, expected a finite value"
    with pytest.raises(LayoutError, match=re.escape(place)):
        writer.write("train", {"u": field}, TIMES)
    still[0, 2, 1] = np.inf
    place = "field 'c', sample 0, grid point [2, 1]: found inf"
    with pytest.raises(LayoutError, match=re.escape(place)):
        writer.write("train", {"u": values(2, 6, 5, 4)}, TIMES, constants={"c": still})
    assert not list(tmp_path.rglob("*.hdf5"))


def test_more_trajectories_than_a_file_may_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("nops_data._skeleton.MAX_TRAJECTORIES", 2)
    with pytest.raises(ValueError, match="trajectories: found 3, expected 1 to 2 a file"):
        WellWriter(tmp_path, dataset_name="x").write("train", {"u": values(3, 6, 5, 4)}, TIMES)


def test_a_generated_folder_passes_the_check(toy):
    assert check_well(toy) == []
    assert check_well(toy / "data" / "test" / "toy_test_00000.hdf5") == []


STRICT = {
    "grid type": (lambda f: f.attrs.pop("grid_type"), "root attribute 'grid_type'"),
    "parameter list": (
        lambda f: f.attrs.pop("simulation_parameters"),
        "root attribute 'simulation_parameters': found nothing",
    ),
    "parameter attribute": (lambda f: f.attrs.pop("rate"), "root attribute 'rate'"),
    "parameter dataset": (
        lambda f: f.attrs.update({"simulation_parameters": ["extra"], "extra": 1.0}),
        "'/scalars/extra': found nothing",
    ),
    "empty group": (lambda f: f.pop("t2_fields"), "group '/t2_fields': found nothing"),
    "boundary group": (lambda f: f.pop("boundary_conditions"), "group '/boundary_conditions'"),
    "time flag": (
        lambda f: f["dimensions/time"].attrs.pop("time_varying"),
        "attribute 'time_varying' of '/dimensions/time': found nothing",
    ),
    "time flag false": (
        lambda f: f["dimensions/time"].attrs.update({"time_varying": False}),
        "'/dimensions/time': found False, expected True",
    ),
    "axis flag": (
        lambda f: f["dimensions/x"].attrs.pop("sample_varying"),
        "attribute 'sample_varying' of '/dimensions/x'",
    ),
    "integer flag": (
        lambda f: f["t0_fields/u"].attrs.update({"time_varying": 1}),
        "attribute 'time_varying' of '/t0_fields/u': found 1, expected a boolean",
    ),
    "forgotten field": (
        lambda f: f["t0_fields"].create_dataset("w", data=np.zeros(3)),
        "'/t0_fields/w': found a dataset, expected it in 'field_names'",
    ),
    "boundary name": (
        lambda f: f["boundary_conditions/x_periodic"].attrs.update({"associated_dims": "x"}),
        "attribute 'associated_dims' of '/boundary_conditions/x_periodic': found x",
    ),
    "boundary flag": (
        lambda f: f["boundary_conditions/x_periodic"].attrs.pop("time_varying"),
        "attribute 'time_varying' of '/boundary_conditions/x_periodic'",
    ),
}


@pytest.mark.parametrize("name", STRICT)
def test_the_check_is_stricter_than_reading(fresh, name):
    change, message = STRICT[name]
    path = fresh / "data" / "train" / "toy_train_00001.hdf5"
    with h5py.File(path, "r+") as file:
        change(file)
    [problem] = check_well(path)
    assert problem.startswith(f"{path}: ")
    assert message in problem
    assert check_well(fresh) == [problem]
    assert len(WellReader(fresh, split="train")) == 10  # still readable


def test_the_check_wants_full_arrays(tmp_path, foreign):
    flags = {"dim_varying": [True, False]}
    fields = {"c": (0, values(2, 6, 5), flags), "u": (0, values(2, 6, 5, 4), {})}
    path = foreign(tmp_path, fields=fields)
    problems = [problem for problem in check_well(path) if "'/t0_fields/c'" in problem]
    assert len(problems) == 1
    assert "expected full arrays" in problems[0]


def test_the_check_names_a_damaged_block(fresh):
    path = fresh / "data" / "train" / "toy_train_00001.hdf5"
    with h5py.File(path, "r+") as file:
        attributes = dict(file["t0_fields/v"].attrs)
        data = file["t0_fields/v"][()]
        del file["t0_fields/v"]
        item = file["t0_fields"].create_dataset(
            "v", data=data, chunks=(1, 7, 5, 4), fletcher32=True
        )
        item.attrs.update(attributes)
        place = item.id.get_chunk_info(2).byte_offset
    with open(path, "r+b") as file:
        file.seek(place + 5)
        file.write(b"\xff\xff")
    [problem] = check_well(path)
    assert problem.startswith(f"{path}: unreadable bytes")
    with pytest.raises(LayoutError, match=r"dataset '/t0_fields/v', sample 2, steps 0 to 6"):
        WellReader(fresh, split="train")[6]


def test_the_check_looks_at_every_file_and_names_what_is_missing(fresh):
    places = [fresh / "data" / split / f"toy_{split}_00000.hdf5" for split in ("train", "test")]
    for path in places:
        path.write_bytes(b"")
    problems = check_well(fresh)
    assert [problem.split(":")[0] for problem in problems] == [str(path) for path in places]
    assert check_well(fresh / "nowhere") == [
        f"{fresh / 'nowhere'}: file: found nothing, expected an HDF5 file."
    ]
    for path in (fresh / "data" / "train").iterdir():
        path.unlink()
    assert "data/train: folder: found no HDF5 file" in check_well(fresh)[0]
