"""Every way a file can be unfit: the message names file, place, found and expected."""

import re
import shutil

import h5py
import numpy as np
import pytest
from nops_data import LayoutError, Normaliser, WellReader, Windows, check_well


def shard(folder, number=0, split="train"):
    return folder / "data" / split / f"toy_{split}_{number:05d}.hdf5"


def refused(folder, *parts, path=None, alone=True):
    """Opening the split, and checking it, says all of these."""
    with pytest.raises(LayoutError) as caught:
        WellReader(folder, split="train")
    message = str(caught.value)
    for part in (str(path or shard(folder)), *parts, "found", "expected"):
        assert part in message, message
    place = path or shard(folder)
    problems = check_well(place if alone and place.is_file() else folder)
    assert any(part in problem for problem in problems for part in parts[:1])


def replace(file, name, values, **flags):
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update({**attributes, **flags})


def test_no_folder(tmp_path):
    with pytest.raises(LayoutError, match="found no folder"):
        WellReader(tmp_path / "nowhere", split="train")
    with pytest.raises(LayoutError, match="found no such folder"):
        WellReader(tmp_path, split="train")


def test_a_folder_without_files(tmp_path):
    place = tmp_path / "data" / "train"
    place.mkdir(parents=True)
    with pytest.raises(LayoutError, match=r"found no HDF5 file, expected \*.hdf5 files"):
        WellReader(tmp_path, split="train")
    (place / "toy_train_00000.hdf5.partial").touch()
    with pytest.raises(LayoutError, match="generate again to complete them"):
        WellReader(tmp_path, split="train")


def test_an_empty_file(fresh):
    shard(fresh).write_bytes(b"")
    refused(fresh, "found 0 bytes")


def test_a_file_of_another_kind(fresh):
    shard(fresh).write_text("mean: 0.5")
    refused(fresh, "9 bytes that are not HDF5")


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file(fresh, part):
    data = shard(fresh).read_bytes()
    shard(fresh).write_bytes(data[: int(part * len(data))])
    refused(fresh, "truncated")


def test_a_missing_file_of_several(fresh):
    shard(fresh, 1).unlink()
    refused(fresh, "shards [0, 2], without [1]", path=shard(fresh).parent)


def test_a_shard_twice(fresh):
    shutil.copy(shard(fresh, 1), shard(fresh, 7))
    refused(fresh, "shards [0, 1, 1, 2]", path=shard(fresh).parent)


def test_a_file_that_vanishes_after_the_reader_was_made(fresh):
    reader = WellReader(fresh, split="train")
    shard(fresh).unlink()
    with pytest.raises(LayoutError, match=r"file: found nothing, expected an HDF5 file"):
        reader[0]


def test_another_layout(fresh):
    with h5py.File(shard(fresh), "w") as file:
        file["tensor"] = np.zeros((4, 3), dtype=np.float32)
    refused(fresh, "root attribute 'n_trajectories'", "a file that holds ['tensor']")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("n_trajectories", ("root attribute 'n_trajectories': found nothing",)),
        ("n_spatial_dims", ("root attribute 'n_spatial_dims': found nothing",)),
        ("dataset_name", ("attribute 'dataset_name' of '/': found nothing",)),
    ],
)
def test_a_missing_root_attribute(fresh, name, parts):
    with h5py.File(shard(fresh), "r+") as file:
        del file.attrs[name]
    refused(fresh, *parts)


@pytest.mark.parametrize("value", [0, -1, 2.0, "two", [1, 2]])
def test_a_root_attribute_of_no_use(fresh, value):
    with h5py.File(shard(fresh), "r+") as file:
        file.attrs["n_trajectories"] = value
    refused(fresh, "root attribute 'n_trajectories'", "a positive integer")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("dimensions", "group '/dimensions': found ['boundary_conditions', 'nops'"),
        ("dimensions/time", "'/dimensions/time': found nothing, expected a dataset"),
        ("dimensions/y", "'/dimensions/y': found nothing, expected a dataset"),
        ("t0_fields/v", "'/t0_fields/v': found nothing, expected a dataset"),
        ("scalars/rate", "'/scalars/rate': found nothing, expected a dataset"),
        ("boundary_conditions/x_periodic/mask", "x_periodic/mask': found nothing"),
    ],
)
def test_a_missing_part(fresh, name, part):
    with h5py.File(shard(fresh), "r+") as file:
        del file[name]
    refused(fresh, part)


def test_a_group_where_a_dataset_belongs(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        del file["t0_fields/v"]
        file["t0_fields"].create_group("v")
    refused(fresh, "'/t0_fields/v': found Group, expected a dataset")


def test_a_dataset_where_a_group_belongs(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        del file["scalars"]
        file["scalars"] = np.zeros(3)
    refused(fresh, "group '/scalars': found Dataset")


@pytest.mark.parametrize("name", ["sample_varying", "time_varying", "dim_varying"])
def test_a_missing_flag(fresh, name):
    with h5py.File(shard(fresh), "r+") as file:
        del file["t0_fields/u"].attrs[name]
    refused(fresh, f"attribute '{name}' of '/t0_fields/u': found nothing")


@pytest.mark.parametrize(
    ("name", "value"),
    [("sample_varying", 2), ("time_varying", "yes"), ("dim_varying", [True]), ("dim_varying", "x")],
)
def test_a_flag_of_no_use(fresh, name, value):
    with h5py.File(shard(fresh), "r+") as file:
        file["t0_fields/u"].attrs[name] = value
    refused(fresh, f"attribute '{name}' of '/t0_fields/u'", "boolean")


@pytest.mark.parametrize("shape", [(4, 7, 5), (4, 7, 2, 5, 4), (4, 7, 4, 5), (3, 7, 5, 4)])
def test_a_wrong_rank_or_size(fresh, shape):
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "t0_fields/u", np.zeros(shape, dtype=np.float32))
    expected = "expected (sample, time, x, y) = (4, 7, 5, 4)"
    refused(fresh, f"dataset '/t0_fields/u': found shape {shape}", expected)


def test_a_vector_among_the_scalars(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "t0_fields/u", np.zeros((4, 7, 5, 4, 2), dtype=np.float32))
    refused(fresh, "dataset '/t0_fields/u': found shape (4, 7, 5, 4, 2)")


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.complex64, bool])
def test_a_wrong_type(fresh, dtype):
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "t0_fields/u", np.zeros((4, 7, 5, 4), dtype=dtype))
    found = f"found dtype {np.dtype(dtype)}, expected float32"
    refused(fresh, f"dataset '/t0_fields/u': {found}")


def test_times_of_a_wrong_rank_or_type(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "dimensions/time", np.zeros((2, 7)))
    refused(fresh, "dataset '/dimensions/time': found shape (2, 7)", "(time)")
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "dimensions/time", np.array([b"a"] * 7))
    refused(fresh, "dataset '/dimensions/time': found |S1, expected real numbers")


def test_axes_of_a_wrong_rank_or_moving(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "dimensions/x", np.zeros((5, 1)))
    refused(fresh, "dataset '/dimensions/x': found shape (5, 1)", "(point)")
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "dimensions/x", np.zeros(5), time_varying=True)
    refused(fresh, "'/dimensions/x': found time_varying, expected a fixed grid")


def test_a_number_of_axes_that_differs(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        file.attrs["n_spatial_dims"] = 3
    refused(fresh, "attribute 'spatial_dims' of '/dimensions': found 2 names", "3 names")


def test_names_of_no_use(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        file["t0_fields"].attrs["field_names"] = [1, 2]
    refused(fresh, "attribute 'field_names' of '/t0_fields'", "a list of names")


def test_no_field_over_time(tmp_path, foreign):
    fields = {"c": (0, np.zeros((2, 5, 4), dtype=np.float32), {"time_varying": False})}
    path = foreign(tmp_path, fields=fields)
    refused(tmp_path, "fields: found ['c'], none of which varies in time", path=path)


def test_scalars_that_do_not_fit(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "scalars/rate", np.zeros(3))
    refused(fresh, "dataset '/scalars/rate': found shape (3,), expected ('sample',) = (4,)")
    with h5py.File(shard(fresh), "r+") as file:
        replace(file, "scalars/rate", np.array([0, np.nan, 0, 0]))
    refused(fresh, "dataset '/scalars/rate': found a non-finite value at [1]")


@pytest.mark.parametrize("kind", ["reflecting", 3])
def test_boundaries_of_no_known_kind(fresh, kind):
    with h5py.File(shard(fresh), "r+") as file:
        file["boundary_conditions/x_periodic"].attrs["bc_type"] = kind
    refused(fresh, "attribute 'bc_type' of '/boundary_conditions/x_periodic'")


def test_boundaries_of_no_known_axis(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        file["boundary_conditions/x_periodic"].attrs["associated_dims"] = ["r"]
    refused(fresh, "'/boundary_conditions/x_periodic': found a mask of shape (5,) over ('r',)")


def test_samples_that_were_never_written(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        file["nops/done"][2] = False
    refused(fresh, "dataset '/nops/done': found 1 of 4 trajectories missing", "is sample 2")


@pytest.mark.parametrize("value", [-0.01, 1.5, np.nan])
def test_parameters_outside_the_unit_cube(fresh, value):
    with h5py.File(shard(fresh), "r+") as file:
        file["nops/theta_unit"][3, 1] = value
    refused(fresh, f"dataset '/nops/theta_unit': found {value} for sample 3, parameter 1", "[0, 1]")


def test_parameters_of_a_wrong_width_or_length_or_type(fresh):
    for values, part in (
        (np.zeros((4, 3)), "found 3 columns, expected 2"),
        (np.zeros((5, 2)), "found shape (5, 2), expected 4 rows"),
        (np.zeros((4, 2), dtype=int), "found shape (4, 2), dtype int64, expected (sample"),
        (np.zeros(4), "found shape (4,), dtype float64"),
    ):
        with h5py.File(shard(fresh), "r+") as file:
            replace(file, "nops/theta_unit", values)
        refused(fresh, f"dataset '/nops/theta_unit': {part}")


def test_a_shard_number_of_no_use(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        file["nops"].attrs["shard"] = "first"
    refused(fresh, "attribute 'shard' of '/nops': found first, expected an integer")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("dataset_name", lambda file: file.attrs.create("dataset_name", "other")),
        ("scalars", lambda file: file["scalars"].attrs.create("field_names", ["rate"])),
        ("fields", lambda file: file["t0_fields"].attrs.create("field_names", ["v", "u"])),
    ],
)
def test_files_that_disagree(fresh, key, change):
    with h5py.File(shard(fresh, 1), "r+") as file:
        change(file)
        if key == "scalars":
            del file["nops/theta_unit"]
    refused(fresh, f"{key}: found", f"as in {shard(fresh)}", path=shard(fresh, 1), alone=False)


def test_splits_with_other_parameters(tmp_path, foreign):
    fields = {"u": (0, np.zeros((2, 6, 5, 4), dtype=np.float32), {})}
    foreign(tmp_path, fields=fields, scalars={"a": (np.zeros(2), True, False)})
    path = foreign(
        tmp_path, split="valid", fields=fields, scalars={"b": (np.zeros(2), True, False)}
    )
    with pytest.raises(LayoutError, match=re.escape(f"{path}: scalars: found ('b',), expected")):
        WellReader(tmp_path, split="train")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(fresh, value):
    with h5py.File(shard(fresh, 1), "r+") as file:
        file["t0_fields/v"][2, 5, 3, 1] = value
    reader = WellReader(fresh, split="train")
    place = f"{shard(fresh, 1)}: dataset '/t0_fields/v', sample 2, step 5, channel 'v', "
    place += f"grid point [3, 1]: found {value}"
    place = re.escape(f"{place}, expected a finite value.")
    windows = Windows(reader, length=3, start="all")
    first = 6 * (7 - 3 + 1)  # the first window of trajectory 6, which is sample 2 of shard 1
    for read in (
        lambda: reader[6],
        lambda: reader.read(6, start=5, stop=6),
        lambda: windows[first + 3],
        lambda: windows.batch([0, first + 4, 1]),
        lambda: Normaliser.fit(reader),
    ):
        with pytest.raises(LayoutError, match=place):
            read()
    assert windows[first + 2]["frames"].isfinite().all()  # frames 2 to 4 are fine
    [problem] = check_well(fresh)
    assert "dataset '/t0_fields/v', index [2, 5, 3, 1]" in problem


def test_large_finite_values_are_no_error(fresh):
    with h5py.File(shard(fresh), "r+") as file:
        file["t0_fields/u"][0] = np.float32(3e38)  # their sum overflows float32
    assert WellReader(fresh, split="train")[0]["fields"].max() == np.float32(3e38)
