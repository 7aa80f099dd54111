import pickle
import shutil

import h5py
import pytest
import torch
from nops_data import (
    Normaliser,
    PDEBench,
    ResumableSampler,
    Trajectories,
    WellReader,
    Windows,
    loader,
)


@pytest.mark.parametrize("task", ["burgers", "diffusion_reaction"])
def test_windows_loader_and_normaliser_work_as_on_other_files(tmp_path, write_pdebench, task):
    path = write_pdebench(tmp_path, task)
    reader = PDEBench(path, task=task, split="train")
    windows = Windows(reader, length=3, seed=5, with_initial=1)
    sampler = ResumableSampler(len(windows), batch_size=5, seed=2)
    here = list(loader(windows, sampler, epoch=1))
    for workers in (1, 2):
        there = list(loader(windows, sampler, epoch=1, num_workers=workers))
        for one, other in zip(here, there, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one)
    sample, start = int(here[0]["sample"][1]), int(here[0]["start"][1])
    assert torch.equal(here[0]["frames"][1], reader.read(sample, start=start, stop=start + 3))
    values = torch.cat([reader.read(i) for i in range(len(reader))]).double()
    values = values.movedim(1, 0).flatten(1)
    fitted = Normaliser.fit(reader)
    assert fitted.channels == reader.channels
    assert torch.allclose(fitted.mean, values.mean(1))
    assert torch.allclose(fitted.std, values.std(1, correction=0))


def test_statistics_are_of_the_train_split_alone(tmp_path, write_pdebench):
    path = write_pdebench(tmp_path, "burgers")
    for split in ("valid", "test", "pdebench"):
        with pytest.raises(ValueError, match=r"split: found '.*', expected 'train'"):
            Normaliser.fit(PDEBench(path, task="burgers", split=split))
    before = Normaliser.fit(PDEBench(path, task="burgers", split="train"))
    with h5py.File(path, "r+") as file:
        file["tensor"][:4] = 1e6  # test and valid
    after = Normaliser.fit(PDEBench(path, task="burgers", split="train"))
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.std, after.std)


def test_a_reader_travels_between_processes_and_opens_files_late(tmp_path, write_pdebench):
    reader = PDEBench(write_pdebench(tmp_path, "burgers"), task="burgers", split="test")
    assert not reader._open
    expected = reader.read(1)
    assert reader._open
    copy = pickle.loads(pickle.dumps(reader))
    assert not copy._open
    assert torch.equal(copy.read(1), expected)
    reader.close()
    assert not reader._open
    assert torch.equal(reader.read(-1), expected)


def test_fingerprints_are_of_content_not_of_place(tmp_path, write_pdebench):
    path = write_pdebench(tmp_path, "burgers")
    options = {"task": "burgers", "split": "test"}
    first = PDEBench(path, **options).fingerprints()
    (tmp_path / "copy").mkdir()
    copy = shutil.copy(path, tmp_path / "copy")
    assert PDEBench(copy, **options).fingerprints() == first
    with h5py.File(copy, "r+") as file:
        file["tensor"][0, 0, 0] += 1
    assert PDEBench(copy, **options).fingerprints().keys() == first.keys()
    assert PDEBench(copy, **options).fingerprints() != first


def test_other_sources_of_trajectories_satisfy_the_protocol(toy):
    assert isinstance(WellReader(toy, split="train"), Trajectories)
    assert not isinstance([torch.zeros(2, 1, 3)], Trajectories)


def test_a_steady_flow_from_rest_is_one_step_to_what_the_file_holds(tmp_path, write_pdebench):
    path = write_pdebench(tmp_path, "darcy")
    steady = PDEBench(path, task="darcy", split="train")
    reader = PDEBench(path, task="darcy", split="train", from_rest=True)
    assert isinstance(reader, Trajectories)
    assert (reader.num_frames, reader.frames_of(3), reader.frame_interval) == (2, 2, 1.0)
    assert reader.times.tolist() == [0.0, 1.0]
    frames, answer = reader.read(3), steady.read(3)[0]
    assert torch.equal(frames[1], answer)
    assert torch.equal(frames[0, 1], answer[1])  # nu is given
    assert not frames[0, 0].any()
    assert torch.equal(reader.read(3, start=1), frames[1:])
    assert torch.equal(reader.read(3, stop=1), frames[:1])
    assert len(Windows(reader, length=2, start="all")) == len(reader) == 16


def test_only_a_steady_flow_starts_from_rest(tmp_path, write_pdebench):
    path = write_pdebench(tmp_path, "burgers")
    with pytest.raises(ValueError, match="from_rest: found a task with time, 'burgers'"):
        PDEBench(path, task="burgers", split="train", from_rest=True)
