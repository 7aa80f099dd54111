"""Splits opened together, and the sources of batches that are made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_data import (
    Draw,
    NormalisedBatches,
    Normaliser,
    Picked,
    WellReader,
    WellWriter,
    Windows,
    balanced_rounds,
    file_fingerprints,
    frame_interval,
    open_splits,
    ordered_batches,
    share_of,
    stored_facts,
    training_batches,
)

COUNTS = {"train": 5, "valid": 3, "test": 2}


class Numbers:
    """Windows of which each is its own number, and knows its epoch."""

    def __init__(self, count: int = 50) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, draws: list[Draw]) -> list[tuple[int, int]]:
        return [(draw.epoch, draw.index) for draw in draws]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fields u and w of 4 frames (valid: 6) half a second apart on 3 x 2, with two scalars."""
    path = tmp_path_factory.mktemp("splits")
    rng = np.random.default_rng(0)
    for number, (split, count) in enumerate(COUNTS.items()):
        frames = 6 if split == "valid" else 4
        fields = {
            name: (number + rng.normal(size=(count, frames, 3, 2))).astype(np.float32)
            for name in ("u", "w")
        }
        scalars = {"nu": np.arange(count) + 1.0, "re": 10.0 * np.arange(count)}
        times = 0.5 * np.arange(frames)
        WellWriter(path, dataset_name="noise").write(split, fields, times, parameters=scalars)
    return path


def test_splits_hold_the_readers_and_statistics_of_the_first_alone(folder: Path) -> None:
    splits = open_splits(folder)
    assert {name: len(splits[name]) for name in COUNTS} == COUNTS
    assert splits.train.channels == ("u", "w")
    fields = torch.stack([item["fields"] for item in WellReader(folder, split="train")])
    mean = fields.double().mean((0, 1, 3, 4))
    torch.testing.assert_close(splits.normaliser.mean, mean)
    assert splits.fingerprints == file_fingerprints(folder)
    assert splits.frame_interval == 0.5
    with pytest.raises(KeyError, match="found 'tests', expected one of"):
        splits["tests"]


def test_splits_of_some_fields(folder: Path) -> None:
    splits = open_splits(str(folder), fields=("w",))
    assert [splits[name].channels for name in COUNTS] == [("w",)] * 3
    assert splits.normaliser.channels == ("w",)


def test_facts_of_a_folder_are_those_of_the_files(folder: Path) -> None:
    assert stored_facts(folder) == {
        "num_train": 5,
        "num_valid": 3,
        "num_test": 2,
        "num_steps": 3,  # of the shortest
        "shape": (3, 2),
    }


def test_a_single_frame_has_no_interval(tmp_path: Path) -> None:
    still = {"u": np.zeros((1, 1, 2, 2), np.float32)}
    WellWriter(tmp_path, dataset_name="still").write("train", still, [3.0])
    assert frame_interval(WellReader(tmp_path, split="train")) == 1.0


def test_picked_items_keep_their_epoch_and_come_in_the_given_order() -> None:
    picked = Picked(Numbers(), (7, 3, 40))
    assert len(picked) == 3
    assert picked.batch([Draw(2, 0), Draw(2, 2), Draw(0, 1)]) == [(2, 7), (2, 40), (0, 3)]
    picked.close()  # nothing to close


def test_picked_columns_of_the_parameters(folder: Path) -> None:
    windows = Windows(WellReader(folder, split="train"), length=2)
    whole = windows.batch([Draw(0, 4), Draw(0, 1)])
    picked = Picked(windows, (1, 4), parameters=(1,)).batch([Draw(0, 1), Draw(0, 0)])
    assert torch.equal(picked["parameters"], whole["parameters"][:, 1:])
    assert picked["sample"].tolist() == [4, 1]
    none = Picked(windows, (1, 4), parameters=()).batch([Draw(0, 0)])
    assert none["parameters"].shape == (1, 0)


def test_picked_closes_the_files(folder: Path) -> None:
    reader = WellReader(folder, split="train")
    picked = Picked(Windows(reader, length=2), range(2))
    picked.batch([Draw(0, 0)])
    assert reader._open
    picked.close()
    assert not reader._open


@given(count=st.integers(1, 50), size=st.integers(1, 60))
def test_shares_are_every_item_once_and_differ_by_one(count: int, size: int) -> None:
    shares = [share_of(range(count), rank=rank, world_size=size) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(count))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@given(count=st.integers(1, 50), data=st.data())
def test_ordered_batches_of_the_ranks_are_every_item_once(count: int, data: Any) -> None:
    size = data.draw(st.integers(1, count))
    found = []
    for rank in range(size):
        source = ordered_batches(Numbers(count), batch_size=4, rank=rank, world_size=size)
        found += [index for batch in source.batches(epoch=1) for _, index in batch]
    assert found == list(range(count))


def test_more_ranks_than_items_are_refused() -> None:
    with pytest.raises(ValueError, match="found 3 items for 4 ranks"):
        ordered_batches(Numbers(3), batch_size=2, world_size=4)


def test_training_batches_change_their_order_and_are_shared() -> None:
    def epoch(number: int, *, rank: int = 0, world_size: int = 1) -> list[list[tuple[int, int]]]:
        source = training_batches(
            Numbers(20), batch_size=6, seed=3, rank=rank, world_size=world_size
        )
        return list(source.batches(epoch=number))

    first, second = epoch(0), epoch(1)
    assert sorted(first[0] + first[1] + first[2] + first[3]) == [(0, i) for i in range(20)]
    assert [index for _, index in first[0]] != [index for _, index in second[0]]
    halves = [epoch(0, rank=rank, world_size=2) for rank in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == first


def test_ranks_share_rounds_and_can_start_anywhere() -> None:
    def made(**options: Any) -> list[dict[str, Any]]:
        sets = {"a": Table(7), "b": Table(20)}
        source = balanced_rounds(sets, batch_size=5, seed=3, **options)
        return list(source.batches(epoch=1, skip=options.get("rounds", 4) - 3))

    whole = made()
    assert len(whole) == 3  # of the 4 that the 20 items need, all but the first
    halves = [made(rank=rank, world_size=2) for rank in range(2)]
    for together, left, right in zip(whole, *halves, strict=True):
        for name in ("a", "b"):
            parts = [half[name]["items"].tolist() for half in (left, right)]
            assert [len(part) for part in parts] == [2, 3]
            assert parts[0] + parts[1] == together[name]["items"].tolist()
    assert len(made(rounds=6)) == 3
    with pytest.raises(ValueError, match="task 'a': batch_size: found 8, expected at most 7"):
        balanced_rounds({"a": Table(7)}, batch_size=8, seed=0)


class Table:
    """Items that are their numbers."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def batch(self, draws: Any) -> dict[str, torch.Tensor]:
        return {"items": torch.tensor([draw.index for draw in draws])}


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("auto", True), ("cuda", True)])
def test_batches_are_page_locked_for_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, device: str, pinned: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    made = training_batches(Numbers(), batch_size=2, seed=0, device=device, num_workers=2)
    assert (made.pin_memory, made.num_workers) == (pinned, 2)
    assert ordered_batches(Numbers(), batch_size=2, device=device).pin_memory == pinned


class Two:
    """Two batches, the second of which has another entry."""

    num_batches = 2

    def batches(self, *, epoch: int, skip: int) -> Any:
        yield from (
            {name: torch.full((1,), 4.0) for name in names}
            for names in (("frames", "parameters"), ("frames", "initial"))[skip:]
        )


def test_fields_are_normalised_and_the_rest_is_not() -> None:
    source = NormalisedBatches(Two(), lambda field: field - 1)
    found = [{name: float(value) for name, value in b.items()} for b in source.batches(epoch=0)]
    assert found == [{"frames": 3.0, "parameters": 4.0}, {"frames": 3.0, "initial": 3.0}]
    other = NormalisedBatches(Two(), lambda field: field - 1, fields=("parameters",))
    assert {k: float(v) for k, v in next(other.batches(epoch=0)).items()} == {
        "frames": 4.0,
        "parameters": 3.0,
    }


@pytest.mark.parametrize(("limit", "skip", "left"), [(None, 0, 2), (1, 0, 1), (1, 1, 0), (5, 1, 1)])
def test_an_epoch_may_be_shorter_than_the_data(limit: int | None, skip: int, left: int) -> None:
    source = NormalisedBatches(Two(), lambda field: field, limit=limit)
    assert source.num_batches == min(2, limit or 2)
    assert len(list(source.batches(epoch=0, skip=skip))) == left


def test_increments_are_scaled_in_units_of_training() -> None:
    frames = torch.zeros(2, 3, 3, 1, 1)
    frames[0, :, 0] = torch.tensor([0.0, 2.0, 0.0])[
        :, None, None
    ]  # increments 2, -2: deviation 2 …
    frames[1, :, 0] = torch.tensor([0.0, 2.0, 0.0])[:, None, None]
    frames[1, :, 1] = 6.0  # differs between trajectories, never changes in one
    normaliser = Normaliser.fit(frames)
    std = (8 / 9) ** 0.5  # … and the values 0, 2, 0, 0, 2, 0 have variance 8/9
    assert normaliser.increment_scale == pytest.approx((2 / std, 1.0, 1.0))
