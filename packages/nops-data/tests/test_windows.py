import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_data import Draw, WellReader, WellWriter, Windows, window_items
from nops_data._keyed import keyed


@pytest.fixture(scope="module")
def reader(toy):
    return WellReader(toy, split="train")


@given(length=st.integers(1, 7), epoch=st.integers(0, 50), data=st.data())
def test_a_window_is_a_stretch_of_its_trajectory(reader, length, epoch, data):
    index = data.draw(st.integers(0, 9))
    item = Windows(reader, length=length, seed=3, with_initial=2)[Draw(epoch, index)]
    whole = reader[index]
    start = int(item["start"])
    assert 0 <= start <= 7 - length
    assert torch.equal(item["frames"], whole["fields"][start : start + length])
    assert torch.equal(item["initial"], whole["fields"][:2])
    assert torch.equal(item["parameters"], whole["parameters"])
    assert item["sample"].item() == index
    assert item["start"].dtype == item["sample"].dtype == torch.int64


def test_random_starts_depend_on_seed_epoch_and_sample_only(reader):
    starts = {}
    for seed in (0, 1):
        windows = Windows(reader, length=3, seed=seed)
        for epoch in (0, 1):
            draws = [Draw(epoch, index) for index in range(10)]
            starts[seed, epoch] = windows.batch(draws)["start"].tolist()
            # by the definition of the draw
            keys = [keyed(2, seed, epoch, index) % 5 for index in range(10)]
            assert starts[seed, epoch] == keys
            backwards = windows.batch(draws[::-1])["start"].tolist()
            assert backwards[::-1] == starts[seed, epoch]
    assert len({tuple(values) for values in starts.values()}) == 4


def test_random_starts_are_uniform(reader):
    windows = Windows(reader, length=3, seed=0)
    starts = [windows._place(Draw(epoch, index))[1] for epoch in range(500) for index in range(10)]
    counts = np.bincount(starts, minlength=5)
    assert len(counts) == 5
    # Chi-square with 4 degrees of freedom; 18.5 is its 99.9th percentile.
    assert ((counts - 1000) ** 2 / 1000).sum() < 18.5


def test_first_windows_start_at_the_beginning(reader):
    windows = Windows(reader, length=4, start="first")
    assert len(windows) == 10
    batch = windows.batch([Draw(5, 2), 7])
    assert batch["start"].tolist() == [0, 0]
    assert batch["sample"].tolist() == [2, 7]
    assert set(batch) == {"frames", "start", "sample", "parameters"}


def test_all_windows_are_every_start_of_every_trajectory(tmp_path):
    writer = WellWriter(tmp_path, dataset_name="w")
    for frames in (5, 7):
        values = np.arange(2 * frames, dtype=np.float32).reshape(2, frames, 1, 1)
        writer.write("train", {"u": values}, np.arange(frames))
    windows = Windows(WellReader(tmp_path, split="train"), length=4, start="all")
    assert len(windows) == 2 + 2 + 4 + 4
    places = [(int(w["sample"]), int(w["start"])) for w in (windows[i] for i in range(12))]
    assert places == [(s, t) for s, n in enumerate((2, 2, 4, 4)) for t in range(n)]
    assert windows[5]["frames"].flatten().tolist() == [1, 2, 3, 4]
    assert windows[11]["frames"].flatten().tolist() == [10, 11, 12, 13]


def test_plain_indices_mean_epoch_zero(reader):
    windows = Windows(reader, length=3, seed=1)
    assert torch.equal(windows[4]["frames"], windows[Draw(0, 4)]["frames"])
    for index in (-1, 10, Draw(0, 10)):
        with pytest.raises(IndexError, match="of 10"):
            windows[index]


def test_a_batch_is_one_buffer(reader):
    windows = Windows(reader, length=3, seed=1, with_initial=1)
    draws = [Draw(2, index) for index in (9, 0, 5)]
    batch = windows.batch(draws)
    assert batch["frames"].shape == (3, 3, 2, 5, 4)
    assert batch["initial"].shape == (3, 1, 2, 5, 4)
    assert batch["frames"].is_contiguous()
    items = windows.__getitems__(draws)
    storages = {item["frames"].untyped_storage().data_ptr() for item in items}
    assert len(storages) == 1
    for k, item in enumerate(items):
        for key, values in windows[draws[k]].items():
            assert torch.equal(item[key], values)
            assert torch.equal(batch[key][k], values)


def test_windows_work_with_torchs_own_loader(reader):
    windows = Windows(reader, length=3, start="first")
    generator = torch.Generator()
    batches = list(torch.utils.data.DataLoader(windows, batch_size=4, generator=generator))
    assert [len(batch["sample"]) for batch in batches] == [4, 4, 2]
    assert torch.equal(batches[1]["frames"], windows.batch([4, 5, 6, 7])["frames"])


def test_defaults_of_torch_do_not_matter(reader, monkeypatch):
    expected = Windows(reader, length=3, seed=1)[4]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):  # stands for any device that is not the CPU
            got = Windows(reader, length=3, seed=1)[4]
            whole = reader.read(4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert whole.dtype == torch.float32
    assert whole.device == torch.device("cpu")
    assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_windows_travel_between_processes(reader):
    windows = Windows(reader, length=3, seed=8)
    copy = pickle.loads(pickle.dumps(windows))
    assert torch.equal(copy[Draw(3, 6)]["frames"], windows[Draw(3, 6)]["frames"])
    windows.close()
    assert not reader._open


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 8}, "length: found 8, expected 1 to 7, the frames of the shortest trajectory"),
        ({"length": 0}, "length: found 0, expected 1 to 7"),
        ({"length": 3, "with_initial": 8}, "with_initial: found 8, expected 0 to 7"),
        ({"length": 3, "start": "last"}, "start: found 'last', expected 'random', 'first' or"),
        ({"length": 3, "seed": -1}, "seed: found -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(reader, options, message):
    with pytest.raises(ValueError, match=message):
        Windows(reader, **options)


def test_window_items_are_the_windows_within_a_part(reader):
    windows = Windows(reader, length=3, start="all")
    items = window_items(reader, count=2, length=3, frames=5, stride=2)
    batch = windows.batch(items)
    assert batch["sample"].tolist() == [0, 0, 1, 1]
    assert batch["start"].tolist() == [0, 2, 0, 2]
    whole = window_items(reader, count=len(reader), length=3, frames=7)
    assert whole == list(range(len(windows)))
    with pytest.raises(ValueError, match="found 11 trajectories of 10"):
        window_items(reader, count=11, length=3, frames=5)
    with pytest.raises(ValueError, match="windows of 6 in 5 frames"):
        window_items(reader, count=1, length=6, frames=5)
