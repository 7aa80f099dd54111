from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_data import (
    BalancedSampler,
    Batches,
    Draw,
    PDEBench,
    ResumableSampler,
    Rounds,
    TaskMixture,
    WellReader,
    Windows,
)

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(
    lambda counts: {f"task {k}": count for k, count in enumerate(counts)}
)
batch_sizes = st.integers(1, 9)
seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 100)


def owner(counts, index):
    for name, count in counts.items():
        if index < count:
            return name, index
        index -= count
    raise AssertionError


@given(sizes, batch_sizes, seeds, epochs)
def test_every_batch_is_of_one_task_and_no_task_is_a_batch_ahead(counts, batch_size, seed, epoch):
    sampler = BalancedSampler(counts, batch_size=batch_size, seed=seed)
    seen = Counter(dict.fromkeys(counts, 0))
    for number, batch in enumerate(sampler.batches(epoch)):
        names = {owner(counts, draw.index)[0] for draw in batch}
        assert names == {sampler.task_at(epoch, number)}
        seen.update(names)
        assert max(seen.values()) - min(seen.values()) <= 1
    rounds = -(-max(counts.values()) // batch_size)
    assert seen == Counter(dict.fromkeys(counts, rounds))
    assert len(sampler) == rounds * len(counts)


@given(sizes, batch_sizes, seeds, epochs)
def test_passes_over_a_task_are_permutations(counts, batch_size, seed, epoch):
    """Each draw's epoch numbers the pass: none shows a sample twice, all but the last show all."""
    sampler = BalancedSampler(counts, batch_size=batch_size, seed=seed)
    passes = {}
    for batch in sampler.batches(epoch):
        for draw in batch:
            name, own = owner(counts, draw.index)
            passes.setdefault((name, draw.epoch), []).append(own)
    for (name, number), shown in passes.items():
        assert len(set(shown)) == len(shown)
        if (name, number + 1) in passes or counts[name] == max(counts.values()):
            assert sorted(shown) == list(range(counts[name]))


@given(sizes, batch_sizes, seeds, epochs, st.integers(1, 12), st.data())
def test_skipping_equals_dropping_the_first_batches(counts, size, seed, epoch, rounds, data):
    sampler = BalancedSampler(counts, batch_size=size, seed=seed, batches_per_task=rounds)
    skip = data.draw(st.integers(0, len(sampler)))
    whole = list(sampler.batches(epoch))
    assert len(whole) == len(sampler) == rounds * len(counts)
    assert list(sampler.batches(epoch, skip=skip)) == whole[skip:]


@given(sizes, seeds, epochs)
def test_a_task_is_shown_the_same_whatever_the_others_are(counts, seed, epoch):
    def of(name, some):
        sampler = BalancedSampler(some, batch_size=4, seed=seed, batches_per_task=5)
        drawn = (
            [(draw.epoch, owner(some, draw.index)) for draw in b] for b in sampler.batches(epoch)
        )
        return [batch for batch in drawn if batch[0][1][0] == name]

    for name in counts:
        assert of(name, counts) == of(name, {name: counts[name]})


@given(st.integers(8, 40), st.integers(8, 40), seeds, st.integers(2, 4))
def test_ranks_partition_the_global_batch(first, second, seed, world_size):
    counts = {"a": first - first % 4, "b": second - second % 4}
    options = {"batch_size": 4, "seed": seed}
    ranks = [
        list(BalancedSampler(counts, rank=r, world_size=world_size, **options).batches(3))
        for r in range(world_size)
    ]
    for number, whole in enumerate(BalancedSampler(counts, **options).batches(3)):
        assert [draw for share in ranks for draw in share[number]] == whole


def test_epochs_have_their_own_orders_and_a_seed_its_own():
    def drawn(seed, epoch):
        sampler = BalancedSampler({"a": 30, "b": 12}, batch_size=4, seed=seed)
        return list(sampler.batches(epoch))

    assert drawn(0, 0) != drawn(0, 1)
    assert drawn(0, 0) != drawn(1, 0)
    assert drawn(0, 4) == drawn(0, 4)


def test_the_order_of_tasks_in_a_round_is_uniform():
    sampler = BalancedSampler({"a": 1, "b": 1, "c": 1}, batch_size=1, seed=3)
    firsts = Counter(sampler.task_at(epoch, 0) for epoch in range(3000))
    # Chi-square with 2 degrees of freedom; 13.8 is its 99.9th percentile.
    assert sum((firsts[name] - 1000) ** 2 / 1000 for name in "abc") < 13.8


def test_without_shuffling_tasks_and_samples_keep_their_order():
    sampler = BalancedSampler({"a": 3, "b": 1}, batch_size=2, seed=0, shuffle=False)
    # Of a: samples 0 and 1, then 2. Of b, number 3 of all: its one sample in pass 0 and in pass 1.
    expected = [[Draw(0, 0), Draw(0, 1)], [Draw(0, 3)], [Draw(0, 2)], [Draw(1, 3)]]
    assert list(sampler.batches(0)) == expected


def test_batch_sizes_may_differ_between_tasks():
    sampler = BalancedSampler({"a": 12, "b": 12}, batch_size={"a": 4, "b": 2}, seed=0)
    assert sampler.batches_per_task == 6
    lengths = {sampler.task_at(0, k): len(batch) for k, batch in enumerate(sampler.batches(0))}
    assert lengths == {"a": 4, "b": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": {}}, "sizes: found no task"),
        ({"sizes": {"a": 4, "b": 0}}, "task 'b': num_samples: found 0, expected at least 1"),
        ({"batch_size": {"a": 4}}, r"batch_size: found \['a'\], expected \['a', 'b'\]"),
        ({"batches_per_task": 0}, "batches_per_task: found 0, expected at least 1"),
        ({"world_size": 2, "batch_size": 3}, "task 'a': batch_size: found 3, whose last batch"),
        ({"seed": -1}, "seed: found -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    settings = {"sizes": {"a": 4, "b": 6}, "batch_size": 2, "seed": 0, **options}
    with pytest.raises(ValueError, match=message):
        BalancedSampler(settings.pop("sizes"), **settings)


def test_positions_out_of_range_are_refused_at_once():
    sampler = BalancedSampler({"a": 4, "b": 6}, batch_size=2, seed=0)
    with pytest.raises(ValueError, match="skip: found 7, expected 0 to 6 batches"):
        sampler.batches(0, skip=7)
    with pytest.raises(ValueError, match="epoch: found -1"):
        sampler.batches(-1)


@pytest.fixture
def mixture(toy, tmp_path, write_pdebench):
    readers = {
        "toy": WellReader(toy, split="train"),
        "advection": PDEBench(
            write_pdebench(tmp_path, "advection"), task="advection", split="train"
        ),
        "darcy": PDEBench(write_pdebench(tmp_path, "darcy"), task="darcy", split="train"),
    }
    lengths = {"toy": 3, "advection": 4, "darcy": 1}
    return TaskMixture(
        {name: Windows(reader, length=lengths[name]) for name, reader in readers.items()}
    )


def test_batches_of_data_on_different_grids_come_one_task_at_a_time(mixture):
    sampler = BalancedSampler(mixture.sizes, batch_size=4, seed=1)
    source = Batches(mixture, sampler)
    assert source.num_batches == 12  # 16 trajectories of advection and of Darcy flow, by 4
    shapes = {"toy": (3, 2, 5, 4), "advection": (4, 1, 6), "darcy": (1, 2, 6, 5)}
    seen = Counter()
    for number, batch in enumerate(source.batches(epoch=2)):
        assert batch["task"] == sampler.task_at(2, number)
        assert batch["frames"].shape[1:] == shapes[batch["task"]]
        seen[batch["task"]] += 1
    assert seen == {"toy": 4, "advection": 4, "darcy": 4}
    resumed = list(source.batches(epoch=2, skip=7))
    assert [batch["task"] for batch in resumed] == [sampler.task_at(2, k) for k in range(7, 12)]


def test_workers_change_nothing(mixture):
    sampler = BalancedSampler(mixture.sizes, batch_size=4, seed=1)
    here = list(Batches(mixture, sampler).batches(epoch=1))
    there = Batches(mixture, sampler, num_workers=2).batches(epoch=1)
    for one, other in zip(here, there, strict=True):
        assert one.keys() == other.keys()
        assert one["task"] == other["task"]
        assert all(torch.equal(one[key], other[key]) for key in one if key != "task")


def test_a_mixture_is_its_data_sets_in_turn(mixture):
    windows = mixture.datasets["advection"]
    assert mixture.sizes == {"toy": 10, "advection": 16, "darcy": 16}
    assert len(mixture) == 42
    one = mixture[Draw(3, 12)]
    assert one["task"] == "advection"
    assert torch.equal(one["frames"], windows[Draw(3, 2)]["frames"])
    assert mixture[9]["task"] == "toy"
    assert mixture[41]["task"] == "darcy"
    assert windows.reader._open
    mixture.close()
    assert not windows.reader._open


def test_a_mixed_batch_is_refused(mixture):
    sampler = ResumableSampler(len(mixture), batch_size=42, seed=0)
    with pytest.raises(ValueError, match=r"found samples of .*'advection'.*, expected one task"):
        next(Batches(mixture, sampler).batches(epoch=0))
    with pytest.raises(IndexError, match="sample 42 of 42"):
        mixture.batch([Draw(0, 42)])
    with pytest.raises(ValueError, match="expected at least one sample of each task"):
        TaskMixture({"a": []})
    with pytest.raises(ValueError, match=r"task 'b': found a batch of keys \['task', 'value'\]"):
        TaskMixture({"b": TaskMixture({"a": Plain()})}).batch([Draw(0, 1)])


class Plain:
    """A data set of somebody else's, without `batch`."""

    def __len__(self):
        return 6

    def __getitem__(self, draw):
        return {"value": torch.tensor(draw.index + 10 * draw.epoch)}


def test_other_data_sets_are_collated():
    mixture = TaskMixture({"a": Plain(), "b": Plain()})
    sampler = BalancedSampler(mixture.sizes, batch_size=6, seed=0)
    batches = list(Batches(mixture, sampler).batches(epoch=3))
    assert {batch["task"] for batch in batches} == {"a", "b"}
    assert all(sorted(batch["value"].tolist()) == list(range(30, 36)) for batch in batches)


def test_a_round_has_a_batch_of_every_task_and_can_start_anywhere(mixture):
    sampler = BalancedSampler(mixture.sizes, batch_size=4, seed=1, drop_last=True)
    rounds = Rounds(Batches(mixture, sampler))
    assert rounds.num_batches == 4  # 16 trajectories by 4; the toy's 10 start over
    whole = list(rounds.batches(epoch=2))
    assert [list(found) for found in whole] == [["toy", "advection", "darcy"]] * 4
    for found in whole:
        assert all(len(batch["frames"]) == 4 and "task" not in batch for batch in found.values())
    seen = torch.cat([found["darcy"]["sample"] for found in whole])
    assert sorted(seen.tolist()) == list(range(16))
    for one, other in zip(rounds.batches(epoch=2, skip=3), whole[3:], strict=True):
        for name in one:
            assert torch.equal(one[name]["frames"], other[name]["frames"])


def test_rounds_need_a_sampler_that_has_them(mixture):
    sampler = ResumableSampler(len(mixture), batch_size=4, seed=0)
    with pytest.raises(ValueError, match="found ResumableSampler, expected a BalancedSampler"):
        Rounds(Batches(mixture, sampler))
