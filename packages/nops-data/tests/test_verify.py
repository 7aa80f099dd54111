import re

import h5py
import numpy as np
import pytest
from nops_data import LayoutError, data_fingerprint, file_fingerprints, verify


def shard(folder, number=0, split="train"):
    return folder / "data" / split / f"toy_{split}_{number:05d}.hdf5"


def test_a_sound_folder_has_no_problem(toy, solve):
    report = verify(toy, replay=solve, num_replays=None, batch_size=3)
    assert report.problems == []
    assert (report.num_checked, report.num_replayed, report.max_difference) == (13, 13, 0.0)
    report.raise_problems()


def test_replays_are_spread_over_a_split(toy, solve):
    requests = []
    report = verify(toy, replay=lambda r: requests.append(r) or solve(r), num_replays=4)
    assert report.num_replayed == 4 + 3
    assert [(r.split, r.index) for r in requests] == [
        ("train", (0,)),
        ("train", (2,)),
        ("train", (5,)),
        ("train", (7,)),
        ("test", (0,)),
        ("test", (1,)),
        ("test", (2,)),
    ]
    assert requests[2].ic_seed == (5,)
    assert requests[4].ic_seed == (2**63,)
    assert requests[4].weight_seed == (7,)


@pytest.mark.parametrize(("factor", "fine"), [(1 + 0.8e-5, True), (1 + 1.3e-5, False)])
def test_replays_may_differ_by_rounding(toy, solve, factor, fine):
    def other(request):
        values, kinds = solve(request)
        return (values * factor).astype(np.float32), kinds

    report = verify(toy, replay=other)
    assert (report.problems == []) == fine
    assert report.max_difference == pytest.approx(factor - 1, rel=0.05)
    if not fine:
        assert len(report.problems) == 7
        assert "sample 0: found a replay that differs by 1.3" in report.problems[0]
        assert "expected at most 1e-05" in report.problems[0]


def test_replays_of_nothing_must_be_nothing(fresh, solve):
    with h5py.File(shard(fresh), "r+") as file:
        for name in "uv":
            file[f"t0_fields/{name}"][0] = 0.0
    report = verify(fresh, replay=solve, num_replays=1)
    assert report.max_difference == np.inf
    assert any("differs by inf" in problem for problem in report.problems)
    report = verify(fresh, replay=lambda r: np.zeros_like(solve(r)[0]), num_replays=1)
    assert not any(f"{shard(fresh)}: sample 0: found a replay" in p for p in report.problems)


def test_replays_that_are_not_finite_are_named(toy, solve):
    def broken(request):
        values, kinds = solve(request)
        values[0, 3] = np.nan
        return values, kinds

    report = verify(toy, replay=broken, num_replays=1)
    assert len(report.problems) == 2
    place = "replay: split 'train', sample 0 (weight_seed 0, noise_seed 0, ic_seed 0), step 3"
    assert f"{shard(toy)}: {place}" in report.problems[0]


def test_every_problem_is_reported(fresh, solve):
    with h5py.File(shard(fresh, 0), "r+") as file:
        file["t0_fields/u"][1, 0, 0, 0] += 1
        file["nops/sha256"][3] = "f" * 64
    with h5py.File(shard(fresh, 1), "r+") as file:
        file["nops/done"][2] = False
    shard(fresh, 0, "test").write_bytes(b"")
    report = verify(fresh, replay=solve, num_replays=None)
    assert [problem.split(" found")[0] for problem in report.problems] == [
        f"{shard(fresh, 1)}: dataset '/nops/done':",
        f"{shard(fresh, 0)}: sample 1:",
        f"{shard(fresh, 0)}: sample 3:",
        f"{shard(fresh, 0)}: sample 1:",  # its replay
        f"{shard(fresh, 0, 'test')}: file:",
    ]
    assert report.problems[2].endswith(f"expected {'f' * 64}.")
    message = re.escape(report.problems[0]) + r" \(4 more problems\)"
    with pytest.raises(LayoutError, match=message):
        report.raise_problems()


def test_a_missing_shard_is_reported(fresh):
    shard(fresh, 1).unlink()
    [problem] = verify(fresh).problems
    assert "found shards [0, 2], without [1], expected each of 3 shards once." in problem


def test_unreadable_values_are_reported(fresh):
    with h5py.File(shard(fresh, 0, "test"), "r+") as file:
        attributes = dict(file["t0_fields/v"].attrs)
        data = file["t0_fields/v"][()]
        del file["t0_fields/v"]
        chunks = (1, 7, 5, 4)
        item = file["t0_fields"].create_dataset("v", data=data, chunks=chunks, fletcher32=True)
        item.attrs.update(attributes)
        place = item.id.get_chunk_info(1).byte_offset
    with open(shard(fresh, 0, "test"), "r+b") as file:
        file.seek(place)
        file.write(b"\xff")
    [problem] = verify(fresh).problems
    assert "sample 1: found SHA-256 unreadable bytes" in problem


def test_folders_without_generated_files(tmp_path, foreign, solve):
    [problem] = verify(tmp_path).problems
    assert "found no HDF5 file" in problem
    path = foreign(tmp_path, fields={"u": (0, np.zeros((2, 6, 5, 4), dtype=np.float32), {})})
    report = verify(tmp_path, replay=solve)
    assert report.problems == [f"{path}: found no '/nops/sha256', expected a generated file."]


def test_the_fingerprint_follows_the_data_not_the_place(toy, fresh):
    expected = data_fingerprint(toy)
    assert re.fullmatch("[0-9a-f]{64}", expected)
    (fresh / "stats.yaml").unlink()
    assert data_fingerprint(fresh) == data_fingerprint(str(toy)) == expected


CHANGES = {
    "a value": lambda folder: change(folder, "t0_fields/u", (2, 3, 1, 1)),
    "a parameter": lambda folder: change(folder, "nops/theta_unit", (0, 0)),
    "a name": lambda folder: shard(folder).rename(shard(folder, 9)),
    "a split": lambda folder: (folder / "data" / "test").rename(folder / "data" / "valid"),
    "a missing file": lambda folder: shard(folder).unlink(),
    "its length": lambda folder: shard(folder).write_bytes(shard(folder).read_bytes() + b"0"),
}


def change(folder, name, place):
    with h5py.File(shard(folder), "r+") as file:
        file[name][place] = 0.123


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_the_fingerprint_sees_every_change(fresh, monkeypatch, name, large):
    if large:
        monkeypatch.setattr("nops_data._fingerprint._WHOLE", 1000)
        monkeypatch.setattr("nops_data._fingerprint._BLOCK", 500)
    expected = data_fingerprint(fresh)
    CHANGES[name](fresh)
    assert data_fingerprint(fresh) != expected


def test_the_changed_file_is_told(fresh):
    before = file_fingerprints(fresh)
    CHANGES["a value"](fresh)
    after = file_fingerprints(fresh)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [shard(fresh).relative_to(fresh).as_posix()]
    assert before.keys() == after.keys()


def test_of_large_files_blocks_and_sums_count(fresh, monkeypatch):
    for name, value in (("_WHOLE", 1000), ("_BLOCKS", 2), ("_BLOCK", 16)):
        monkeypatch.setattr(f"nops_data._fingerprint.{name}", value)
    expected = data_fingerprint(fresh)
    with h5py.File(shard(fresh), "r+") as file:
        file["nops/sha256"][0] = "0" * 64
    assert data_fingerprint(fresh) != expected
    # a changed first byte is no HDF5 any more: look at the bytes alone
    monkeypatch.setattr("nops_data._fingerprint._add_small", lambda total, path: None)
    expected = data_fingerprint(fresh)
    size = shard(fresh).stat().st_size
    for place, seen in ((3, True), (size // 2, False), (size - 3, True)):
        data = bytearray(shard(fresh).read_bytes())
        data[place] ^= 1
        shard(fresh).write_bytes(data)
        assert (data_fingerprint(fresh) != expected) == seen
        data[place] ^= 1
        shard(fresh).write_bytes(data)


def test_a_fingerprint_of_nothing_is_refused(tmp_path):
    with pytest.raises(LayoutError, match="found no HDF5 file in data"):
        data_fingerprint(tmp_path)
