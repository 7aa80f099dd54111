"""The fast way of reading: the same values as h5py gives, and no byte more than asked for."""

import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nops_data import LayoutError, WellReader, WellWriter, Windows
from nops_data import _frames as frames_module

FRAME_BYTES = 4 * 6 * 5

if not hasattr(os, "preadv"):
    pytest.skip(
        "this system has no preadv; everything is read through h5py", allow_module_level=True
    )


@pytest.fixture
def counted(monkeypatch):
    """Bytes and calls of every direct read."""
    calls = []
    real = os.preadv

    def preadv(descriptor, buffers, offset):
        got = real(descriptor, buffers, offset)
        calls.append(got)
        return got

    monkeypatch.setattr(frames_module.os, "preadv", preadv)
    return calls


def write(folder, *, frames=11, samples=3, chunk_frames=4, seed=0):
    rng = np.random.default_rng(seed)
    fields = {name: rng.normal(size=(samples, frames, 6, 5)).astype(np.float32) for name in "ab"}
    writer = WellWriter(folder, dataset_name="bytes", chunk_frames=chunk_frames)
    path = writer.write("train", fields, np.arange(frames))
    return path, np.stack([fields["a"], fields["b"]], axis=2)


@given(frames=st.integers(1, 20), chunk=st.integers(1, 22), data=st.data())
def test_any_window_of_any_chunking(tmp_path_factory, frames, chunk, data):
    folder = tmp_path_factory.mktemp("chunks")
    _, values = write(folder, frames=frames, chunk_frames=chunk)
    reader = WellReader(folder, split="train")
    start = data.draw(st.integers(0, frames - 1))
    stop = data.draw(st.integers(start + 1, frames))
    sample = data.draw(st.integers(0, 2))
    got = reader.read(sample, start=start, stop=stop)
    assert np.array_equal(got.numpy(), values[sample, start:stop])
    reader.close()


@pytest.mark.parametrize("most", [1, 3])
def test_long_stretches_are_read_in_parts(tmp_path, monkeypatch, most):
    _, values = write(tmp_path, chunk_frames=11)
    monkeypatch.setattr(frames_module, "_MAX_BUFFERS", most)
    got = WellReader(tmp_path, split="train")[2]["fields"]
    assert np.array_equal(got.numpy(), values[2])


def test_frames_too_large_for_one_call_go_through_h5py(tmp_path, monkeypatch, counted):
    _, values = write(tmp_path)
    monkeypatch.setattr(frames_module, "_MAX_BYTES", FRAME_BYTES - 1)
    got = WellReader(tmp_path, split="train")[2]["fields"]
    assert np.array_equal(got.numpy(), values[2])
    assert not counted


def test_a_window_costs_its_own_bytes_only(tmp_path, counted):
    write(tmp_path)
    windows = Windows(WellReader(tmp_path, split="train"), length=5, start="all")
    assert not counted  # nothing is read before the first item
    windows[3]
    # frames 3 to 7 lie in chunks 0 to 3 and 4 to 7, for each of two fields
    assert counted == [FRAME_BYTES, 4 * FRAME_BYTES] * 2


def test_initial_frames_cost_their_own_bytes(tmp_path, counted):
    write(tmp_path)
    windows = Windows(WellReader(tmp_path, split="train"), length=4, start="first", with_initial=2)
    windows[1]
    assert sum(counted) == (4 + 2) * 2 * FRAME_BYTES


def test_h5py_is_asked_for_the_window_only(tmp_path, monkeypatch):
    """The other way of reading, for files of others, is no more generous."""
    rng = np.random.default_rng(0)
    vector = rng.normal(size=(3, 11, 6, 5, 2)).astype(np.float32)
    WellWriter(tmp_path, dataset_name="v").write("train", {"v": vector}, np.arange(11))
    asked = []
    real = h5py.Dataset.__getitem__

    def spy(item, index, **options):
        asked.append((item.name, index))
        return real(item, index, **options)

    reader = WellReader(tmp_path, split="train")
    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    reader.read(2, start=3, stop=5)
    assert asked == [("/t1_fields/v", (2, slice(3, 5)))]


def test_a_file_cut_while_in_use_is_an_error_not_garbage(tmp_path):
    path, _ = write(tmp_path)
    reader = WellReader(tmp_path, split="train")
    reader[0]
    with open(path, "r+b") as file:
        file.truncate(3000)
    with pytest.raises(LayoutError) as caught:
        reader[2]
    message = str(caught.value)
    assert str(path) in message
    assert "dataset '/t0_fields/" in message
    assert "sample 2, steps 0 to 10: found unreadable bytes" in message
