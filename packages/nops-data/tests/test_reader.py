import os
import pickle

import h5py
import numpy as np
import pytest
import torch
from nops_data import LayoutError, WellReader

RNG = np.random.default_rng(0)


def values(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def test_a_generated_trajectory_is_what_was_solved(toy, plan, solve):
    reader = WellReader(toy, split="train")
    shards = plan().shards(toy)
    [(_, request)] = list(shards[1].requests(9))  # samples 4 to 7
    expected, _ = solve(request)
    item = reader[5]
    assert np.array_equal(item["fields"].numpy(), expected[1])
    assert item["fields"].shape == (7, 2, 5, 4)
    assert torch.equal(item["parameters"], torch.tensor(request.theta[1], dtype=torch.float32))
    assert torch.equal(item["times"], torch.arange(7) * 0.25)
    assert item["index"] == 5
    assert "scalars" not in item


def test_what_a_reader_tells_of_its_data(toy):
    reader = WellReader(toy, split="train")
    assert len(reader) == 10
    assert reader.channels == ("u", "v")
    assert reader.constant_channels == ()
    assert reader.parameter_names == ("rate", "other")
    assert reader.dataset_name == "toy"
    assert reader.spatial_dims == ("x", "y")
    assert reader.shape == (5, 4)
    assert reader.num_frames == reader.frames_of(9) == 7
    assert reader.boundary == (("periodic", "periodic"), ("periodic", "periodic"))
    assert torch.allclose(reader.coordinates[0], torch.arange(5) / 5)
    assert "10 trajectories" in repr(reader)


def test_physical_parameters_are_the_scalars(toy, plan):
    reader = WellReader(toy, split="train", parameters="physical")
    expected = np.asarray(plan().splits["train"].parameters, dtype=np.float32)
    assert np.array_equal(reader.parameters.numpy(), expected)
    with pytest.raises(ValueError, match="parameters: found 'raw'"):
        WellReader(toy, split="train", parameters="raw")


def test_indices_count_from_both_ends_and_stop_there(toy):
    reader = WellReader(toy, split="train")
    assert torch.equal(reader[-1]["fields"], reader[9]["fields"])
    assert reader[-1]["index"] == 9
    for index in (10, -11):
        with pytest.raises(IndexError, match=f"no trajectory {index}"):
            reader[index]


def test_vectors_and_tensors_are_flattened_after_scalars(tmp_path, foreign):
    tensor, vector, scalar = values(2, 6, 5, 4, 2, 2), values(2, 6, 5, 4, 2), values(2, 6, 5, 4)
    fields = {"S": (2, tensor, {}), "v": (1, vector, {}), "p": (0, scalar, {})}
    foreign(tmp_path, fields=fields)
    reader = WellReader(tmp_path, split="train")
    assert reader.channels == ("p", "v_x", "v_y", "S_xx", "S_xy", "S_yx", "S_yy")
    got = reader[1]["fields"].numpy()
    assert np.array_equal(got[:, 0], scalar[1])
    assert np.array_equal(got[:, 2], vector[1, ..., 1])
    assert np.array_equal(got[:, 4], tensor[1, ..., 0, 1])
    assert np.array_equal(got[:, 5], tensor[1, ..., 1, 0])


@pytest.mark.parametrize("kept", [False, True], ids=["axis left out", "axis of length 1"])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("time", [False, True])
@pytest.mark.parametrize("dims", [(True, True), (True, False), (False, True), (False, False)])
def test_what_does_not_vary_is_repeated(tmp_path, foreign, kept, order, sample, time, dims):
    lead = (2,) * sample + (6,) * time
    full = tuple(n if varies else 1 for n, varies in zip((5, 4), dims, strict=True))
    stored = values(*lead, *full, *(2,) * order)
    flags = {"sample_varying": sample, "time_varying": time, "dim_varying": list(dims)}
    shape = stored.shape if kept else (*lead, *(n for n in full if n > 1), *(2,) * order)
    fields = {"c": (order, stored.reshape(shape), flags), "u": (0, values(2, 6, 5, 4), {})}
    foreign(tmp_path, fields=fields)
    reader = WellReader(tmp_path, split="train", fields=["c", "u"])
    names = ["c"] if order == 0 else ["c_x", "c_y"]
    assert reader.constant_channels == (() if time else tuple(names))
    wanted = stored if sample else np.stack([stored] * 2)
    wanted = wanted if time else np.stack([wanted] * 6, axis=1)
    wanted = np.broadcast_to(wanted.reshape(2, 6, *full, -1), (2, 6, 5, 4, len(names)))
    got = reader.read(1, start=2, stop=5)
    for k, name in enumerate(names):
        channel = reader.channels.index(name)
        assert np.array_equal(got[:, channel].numpy(), wanted[1, 2:5, ..., k])


def test_constants_come_last_whatever_their_order(tmp_path, foreign):
    still = (0, values(2, 5, 4), {"time_varying": False})
    fields = {"mask": still, "v": (1, values(2, 6, 5, 4, 2), {}), "u": (0, values(2, 6, 5, 4), {})}
    foreign(tmp_path, fields=fields)
    reader = WellReader(tmp_path, split="train")
    assert reader.channels == ("u", "v_x", "v_y", "mask")
    assert WellReader(tmp_path, split="train", fields=["v"]).channels == ("v_x", "v_y")
    with pytest.raises(ValueError, match=r"fields: found \['w'\], expected some of \['u', 'v'"):
        WellReader(tmp_path, split="train", fields=["w"])
    with pytest.raises(ValueError, match=r"fields: found \[\]"):
        WellReader(tmp_path, split="train", fields=[])


STORAGE = {
    "contiguous": {},
    "whole frames": {"chunks": (1, 4, 5, 4)},
    "one chunk": {"chunks": (2, 6, 5, 4)},
    "parts of frames": {"chunks": (1, 3, 2, 4)},
    "compressed": {"chunks": (1, 4, 5, 4), "compression": "gzip", "shuffle": True},
    "big-endian": {"dtype": ">f4"},
    "checksummed": {"chunks": (1, 2, 5, 4), "fletcher32": True},
}


@pytest.mark.parametrize("name", STORAGE)
def test_every_way_of_storing_gives_the_same_values(tmp_path, foreign, name):
    data = values(2, 6, 5, 4)
    foreign(tmp_path, fields={"u": (0, data, STORAGE[name])})
    reader = WellReader(tmp_path, split="train")
    for start in range(6):
        for stop in range(start + 1, 7):
            got = reader.read(1, start=start, stop=stop)
            assert np.array_equal(got[:, 0].numpy(), data[1, start:stop])


def test_chunks_never_written_read_as_the_fill_value(tmp_path, foreign):
    data = values(2, 6, 5, 4)
    path = foreign(tmp_path, fields={"u": (0, data, {"chunks": (1, 2, 5, 4)})})
    with h5py.File(path, "r+") as file:
        attributes = dict(file["t0_fields/u"].attrs)
        del file["t0_fields/u"]
        item = file["t0_fields"].create_dataset(
            "u", shape=data.shape, dtype=np.float32, chunks=(1, 2, 5, 4), fillvalue=3.0
        )
        item.attrs.update(attributes)
        item[0] = data[0]
    reader = WellReader(tmp_path, split="train")
    assert np.array_equal(reader[0]["fields"][:, 0].numpy(), data[0])
    assert (reader[1]["fields"] == 3.0).all()


def test_several_files_follow_the_order_of_their_names(tmp_path, foreign):
    blocks = [values(2, 6, 5, 4), values(1, 4, 5, 4), values(3, 6, 5, 4)]
    for name, block in zip(("b.h5", "a.hdf5", "c.hdf5"), blocks, strict=True):
        fields = {"u": (0, block, {})}
        foreign(tmp_path, name=name, fields=fields, samples=len(block), frames=block.shape[1])
    (tmp_path / "data" / "train" / "notes.txt").write_text("not data")
    reader = WellReader(tmp_path, split="train")
    assert len(reader) == 6
    assert [reader.frames_of(i) for i in range(6)] == [4, 6, 6, 6, 6, 6]
    assert reader.num_frames == 4
    expected = [blocks[1][0], *blocks[0], *blocks[2]]
    for index, block in enumerate(expected):
        assert np.array_equal(reader[index]["fields"][:, 0].numpy(), block)


@pytest.mark.parametrize(("dims", "shape"), [(("x",), (9,)), (("x", "y", "z"), (2, 3, 4))])
def test_one_and_three_dimensions(tmp_path, foreign, dims, shape):
    vector = values(2, 6, *shape, len(dims))
    foreign(tmp_path, fields={"v": (1, vector, {})}, dims=dims, shape=shape)
    reader = WellReader(tmp_path, split="train")
    assert reader.channels == tuple(f"v_{dim}" for dim in dims)
    got = reader[0]["fields"]
    assert got.shape == (6, len(dims), *shape)
    assert np.array_equal(got[:, -1].numpy(), vector[0, ..., -1])


def test_scalars_of_every_kind(tmp_path, foreign):
    scalars = {
        "a": (np.float64(2.5), False, False),
        "b": (np.array([1.0, 3.0]), True, False),
        "drive": (np.arange(6.0), False, True),
        "each": (np.arange(12.0).reshape(2, 6), True, True),
        "one": (np.array([4.0]), False, False),
    }
    foreign(tmp_path, fields={"u": (0, values(2, 6, 5, 4), {})}, scalars=scalars)
    reader = WellReader(tmp_path, split="train", parameters="physical")
    assert reader.parameter_names == ("a", "b", "one")
    assert reader[1]["parameters"].tolist() == [2.5, 3.0, 4.0]
    assert reader[1]["scalars"].shape == (6, 2)
    assert reader[1]["scalars"][:, 0].tolist() == list(range(6))
    assert reader[1]["scalars"][:, 1].tolist() == list(range(6, 12))


def test_parameters_without_unit_values_are_scaled_over_all_splits(tmp_path, foreign):
    fields = {"u": (0, values(2, 6, 5, 4), {})}
    for split, low in (("train", 10.0), ("test", 40.0)):
        scalars = {"re": (np.array([low, low + 10]), True, False), "c": (np.float64(3), 0, 0)}
        scalars = {k: (v, bool(s), bool(t)) for k, (v, s, t) in scalars.items()}
        foreign(tmp_path, split=split, fields=fields, scalars=scalars)
    # 10, 20, 40, 50 from their range 10 to 50; the constant is 0
    assert WellReader(tmp_path, split="train").parameters.tolist() == [[0, 0], [0.25, 0]]
    assert WellReader(tmp_path, split="test").parameters.tolist() == [[0.75, 0], [1, 0]]


def test_times_of_their_own_for_every_sample(tmp_path, foreign):
    path = foreign(tmp_path, fields={"u": (0, values(2, 6, 5, 4), {})})
    with h5py.File(path, "r+") as file:
        del file["dimensions/time"]
        item = file["dimensions"].create_dataset("time", data=np.arange(12.0).reshape(2, 6))
        item.attrs["sample_varying"] = True
    assert WellReader(tmp_path, split="train")[1]["times"].tolist() == list(range(6, 12))


def test_boundaries_of_either_end(tmp_path, foreign):
    path = foreign(tmp_path, fields={"u": (0, values(2, 6, 5, 4), {})})
    with h5py.File(path, "r+") as file:
        for name, dims, kind, mask in (
            ("x_wall", "x", "WALL", np.array([1, 0, 0, 0, 0], dtype=bool)),
            ("y_periodic", ["y"], "periodic", np.array([1, 0, 0, 1], dtype=bool)),
        ):
            group = file["boundary_conditions"].create_group(name)
            group.attrs.update({"associated_dims": dims, "bc_type": kind})
            group["mask"] = mask
    assert WellReader(tmp_path, split="train").boundary == (
        ("wall", "open"),
        ("periodic", "periodic"),
    )


def test_a_wall_over_two_axes_must_cover_the_end(tmp_path, foreign):
    path = foreign(tmp_path, fields={"u": (0, values(2, 6, 5, 4), {})})
    mask = np.zeros((5, 4), dtype=bool)
    mask[0, :] = True  # covers the low end of x, touches both ends of y
    with h5py.File(path, "r+") as file:
        group = file["boundary_conditions"].create_group("xy_wall")
        group.attrs.update({"associated_dims": ["x", "y"], "bc_type": "WALL"})
        group["mask"] = mask
    assert WellReader(tmp_path, split="train").boundary == (("wall", "open"), ("open", "open"))


def test_a_reader_travels_between_processes_and_opens_files_late(toy, monkeypatch):
    reader = WellReader(toy, split="train")
    expected = reader[7]["fields"]
    assert reader._open
    copy = pickle.loads(pickle.dumps(reader))
    assert not copy._open
    assert torch.equal(copy[7]["fields"], expected)
    handle = next(iter(reader._open.values()))
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    assert torch.equal(reader[7]["fields"], expected)
    assert handle not in reader._open.values()


def test_no_file_is_open_before_the_first_read_or_after_close(toy):
    reader = WellReader(toy, split="train")
    assert not reader._open
    reader[0]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    reader.close()
    assert not reader._open
    reader.close()
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) < before
    assert reader[0]["fields"].shape == (7, 2, 5, 4)


def test_a_limited_number_of_files_stays_open(toy, monkeypatch):
    monkeypatch.setattr("nops_data._open_files._MAX_OPEN", 1)
    reader = WellReader(toy, split="train")
    for index in (0, 9, 4, 0):
        reader[index]
        assert len(reader._open) == 1


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 3), (4, 3), (0, 8)])
def test_frames_outside_the_trajectory_are_refused(toy, start, stop):
    reader = WellReader(toy, split="train")
    with pytest.raises(ValueError, match=f"frames {start}:{stop} of trajectory 0, which has 7"):
        reader.read(0, start=start, stop=stop)


def test_a_split_of_another_name_is_refused(toy):
    with pytest.raises(ValueError, match="split: found 'validation'"):
        WellReader(toy, split="validation")
    with pytest.raises(LayoutError, match=r"data/valid: folder: found no such folder"):
        WellReader(toy, split="valid")
