import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from nops_data import Batches, LayoutError, ResumableSampler, WellReader, Windows, loader
from nops_data._loader import _Failed, _unwrapped


@pytest.fixture
def windows(toy):
    return Windows(WellReader(toy, split="train"), length=3, seed=5, with_initial=1)


def same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def sampler():
    return ResumableSampler(10, batch_size=4, seed=2)


def test_batches_are_those_of_the_sampler(windows, sampler):
    batches = list(loader(windows, sampler, epoch=1))
    assert [batch["frames"].shape[0] for batch in batches] == [4, 4, 2]
    for batch, draws in zip(batches, sampler.batches(1), strict=True):
        assert batch["sample"].tolist() == [draw.index for draw in draws]
        same([batch], [windows.batch(draws)])


def test_workers_change_nothing(windows, sampler):
    state = torch.get_rng_state()
    for epoch, skip in ((0, 0), (3, 1)):
        here = list(loader(windows, sampler, epoch=epoch, skip=skip))
        same(here, list(loader(windows, sampler, epoch=epoch, skip=skip, num_workers=2)))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_parent_hands_no_open_file_to_its_workers(windows, sampler):
    windows[0]
    assert windows.reader._open
    batches = loader(windows, sampler, epoch=0, num_workers=1)
    assert not windows.reader._open
    assert len(list(batches)) == 3


def test_an_error_in_a_worker_keeps_its_type_and_text(fresh, sampler):
    windows = Windows(WellReader(fresh, split="train"), length=3)
    for path in (fresh / "data" / "train").iterdir():
        path.unlink()
    with pytest.raises(LayoutError) as caught:
        list(loader(windows, sampler, epoch=0, num_workers=1))
    assert str(caught.value).startswith(str(fresh))  # no wrapping around it
    assert str(caught.value).endswith("file: found nothing, expected an HDF5 file.")
    assert "in open_hdf5" in caught.value.__notes__[0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_workers_leave_ctrl_c_to_their_parent(windows, sampler):
    batches = loader(windows, sampler, epoch=0, num_workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    (blocked,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigBlk")]
    assert blocked & 1 << (signal.SIGINT - 1)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert len(list(batches)) == 2


KILLED = """
import multiprocessing, os, signal, sys
from nops_data import ResumableSampler, WellReader, Windows, loader

if __name__ == "__main__":
    windows = Windows(WellReader(sys.argv[1], split="train"), length=3)
    batches = loader(windows, ResumableSampler(10, batch_size=4, seed=2), epoch=0, num_workers=1)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.fault
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_a_killed_parent(toy):
    command = [sys.executable, "-c", KILLED, str(toy)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **streams, text=True) as process:
        (worker,) = map(int, process.stdout.readline().split())
        assert process.wait(60) == -signal.SIGKILL
    limit = time.monotonic() + 20
    while exists(worker) and time.monotonic() < limit:
        time.sleep(0.05)
    if exists(worker):
        os.kill(worker, signal.SIGKILL)
        pytest.fail("the worker outlives the process that it reads for")


def exists(process):
    """Whether it still runs: one that ended and is not yet collected does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


class StubbornError(Exception):
    """Cannot be made again from its arguments, so it cannot travel."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def test_an_error_that_cannot_travel_is_named():
    with pytest.raises(RuntimeError, match="StubbornError: one two") as caught:
        list(_unwrapped(iter([_Failed(StubbornError("one", "two"))])))
    assert "In a data worker:" in caught.value.__notes__[0]


def test_what_is_skipped_is_never_read(windows, sampler, monkeypatch):
    reads = []
    real = WellReader.read_into

    def spy(reader, out, index, *, start):
        reads.append(index)
        real(reader, out, index, start=start)

    monkeypatch.setattr(WellReader, "read_into", spy)
    batches = loader(windows, sampler, epoch=4, skip=2)
    assert not reads
    [last] = batches
    expected = [draw.index for draw in list(sampler.batches(4))[2]]
    assert last["sample"].tolist() == expected
    assert reads == expected * 2  # the windows, then the initial frames
    same([last], list(loader(windows, sampler, epoch=4))[2:])


def test_batches_are_read_one_by_one(windows, sampler, monkeypatch):
    reads = []
    real = Windows.batch
    monkeypatch.setattr(
        Windows, "batch", lambda self, draws: reads.append(len(draws)) or real(self, draws)
    )
    batches = loader(windows, sampler, epoch=0)
    next(batches)
    assert reads == [4]


def test_two_ranks_make_up_the_batches_of_one(windows):
    options = {"batch_size": 4, "seed": 0}
    whole = list(loader(windows, ResumableSampler(10, **options), epoch=0))
    parts = [
        list(loader(windows, ResumableSampler(10, rank=r, world_size=2, **options), epoch=0))
        for r in (0, 1)
    ]
    for batch, left, right in zip(whole, *parts, strict=True):
        for key in batch:
            assert torch.equal(batch[key], torch.cat([left[key], right[key]]))


class Squares:
    """A data set of somebody else's: no `batch`, keyed on the draw."""

    def __len__(self):
        return 10

    def __getitem__(self, draw):
        return {"value": torch.tensor(draw.index**2 + 1000 * draw.epoch), "pair": (draw.index, 1.0)}


def test_other_data_sets_are_collated(sampler):
    for batch, draws in zip(loader(Squares(), sampler, epoch=2), sampler.batches(2), strict=True):
        assert batch["value"].tolist() == [2000 + draw.index**2 for draw in draws]
        assert batch["pair"][0].tolist() == [draw.index for draw in draws]


HALVES = """
import torch
from nops_data import ResumableSampler, loader

class Halves:
    def __len__(self):
        return 2

    def __getitem__(self, draw):
        return torch.tensor(1e-38) / 2 == 0  # no normal number of float32

if __name__ == "__main__":
    sampler = ResumableSampler(2, batch_size=2, seed=0)
    for flush in (True, False):
        torch.set_flush_denormal(flush)
        (batch,) = loader(Halves(), sampler, epoch=0, num_workers=1)
        print(int(batch.sum()))
"""


def test_a_worker_computes_as_this_process_does(tmp_path):
    script = tmp_path / "halves.py"
    script.write_text(HALVES)
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "0"]


def test_pinning_reaches_every_tensor(sampler, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    [batch] = loader(Squares(), sampler, epoch=0, skip=2, pin_memory=True)
    assert len(pinned) == 3
    assert batch["value"].shape == (2,)


def test_a_source_of_batches(windows, sampler):
    source = Batches(windows, sampler)
    assert source.num_batches == 3
    same(list(source.batches(epoch=2, skip=1)), list(loader(windows, sampler, epoch=2, skip=1)))
    same(list(Batches(windows, sampler).batches(epoch=0)), list(loader(windows, sampler, epoch=0)))


def test_a_sampler_of_another_length_is_refused(windows):
    with pytest.raises(ValueError, match="sampler: found 9 samples, expected 10"):
        Batches(windows, ResumableSampler(9, batch_size=4, seed=0))
