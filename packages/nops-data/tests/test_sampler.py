from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nops_data import Draw, ResumableSampler

sizes = st.integers(1, 60)
batch_sizes = st.integers(1, 20)
seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 100)


def make(num_samples, batch_size, seed, world_size=1, **options):
    rest = num_samples % batch_size
    assume(batch_size >= world_size)
    assume(rest == 0 or rest >= world_size)
    return [
        ResumableSampler(
            num_samples,
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            **options,
        )
        for rank in range(world_size)
    ]


@given(sizes, batch_sizes, seeds, epochs)
def test_each_sample_comes_once_an_epoch(num_samples, batch_size, seed, epoch):
    [sampler] = make(num_samples, batch_size, seed)
    batches = list(sampler.batches(epoch))
    assert len(batches) == len(sampler)
    draws = [draw for batch in batches for draw in batch]
    assert sorted(draw.index for draw in draws) == list(range(num_samples))
    assert {draw.epoch for draw in draws} == {epoch}
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(sizes, batch_sizes, seeds, epochs, st.integers(2, 4))
def test_ranks_partition_the_global_batch(num_samples, batch_size, seed, epoch, world_size):
    ranks = make(num_samples, batch_size, seed, world_size)
    [alone] = make(num_samples, batch_size, seed)
    shares = [list(sampler.batches(epoch)) for sampler in ranks]
    for number, whole in enumerate(alone.batches(epoch)):
        parts = [share[number] for share in shares]
        assert [draw for part in parts for draw in part] == whole
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) >= 1


@given(sizes, batch_sizes, seeds, epochs, st.data())
def test_skipping_equals_dropping_the_first_batches(num_samples, batch_size, seed, epoch, data):
    [sampler] = make(num_samples, batch_size, seed)
    skip = data.draw(st.integers(0, len(sampler)))
    assert list(sampler.batches(epoch, skip=skip)) == list(sampler.batches(epoch))[skip:]


@given(sizes, batch_sizes, seeds, epochs)
def test_drop_last_leaves_out_the_batch_that_is_not_full(num_samples, batch_size, seed, epoch):
    assume(num_samples >= batch_size)
    [sampler] = make(num_samples, batch_size, seed, drop_last=True)
    batches = list(sampler.batches(epoch))
    assert len(batches) == len(sampler) == num_samples // batch_size
    assert all(len(batch) == batch_size for batch in batches)


@given(seeds)
def test_epochs_and_seeds_have_their_own_orders(seed):
    sampler = ResumableSampler(40, batch_size=8, seed=seed)
    other = ResumableSampler(40, batch_size=8, seed=(seed + 1) % 2**63)
    orders = [sampler.order(0).tolist(), sampler.order(1).tolist(), other.order(0).tolist()]
    assert all(first != second for first, second in pairwise(orders))
    assert sampler.order(3).tolist() == sampler.order(3).tolist()


def test_the_order_is_fixed_for_all_time():
    # Worked with the SplitMix64 definition apart from this code; a change breaks every resume.
    assert ResumableSampler(8, batch_size=2, seed=0).order(0).tolist() == [3, 1, 6, 2, 4, 7, 0, 5]


def test_first_places_are_uniform():
    firsts = [ResumableSampler(5, batch_size=5, seed=3).order(e)[0] for e in range(5000)]
    counts = [firsts.count(k) for k in range(5)]
    # Chi-square with 4 degrees of freedom; 18.5 is its 99.9th percentile.
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 18.5


def test_without_shuffling_samples_keep_their_order():
    sampler = ResumableSampler(5, batch_size=2, seed=0, shuffle=False)
    expected = [[Draw(4, 0), Draw(4, 1)], [Draw(4, 2), Draw(4, 3)], [Draw(4, 4)]]
    assert list(sampler.batches(4)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples: found 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size: found 0, expected at least 1"),
        ({"world_size": 3, "batch_size": 2}, "batch_size: found 2, expected at least 3"),
        ({"rank": 1}, "rank: found 1, expected 0 <= rank < world_size = 1"),
        ({"rank": -1}, "rank: found -1"),
        ({"batch_size": 11, "drop_last": True}, "at most 10"),
        ({"batch_size": 3, "world_size": 2}, "last batch has 1 of 10 samples"),
        ({"seed": -1}, "seed: found -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    settings = {"num_samples": 10, "batch_size": 4, "seed": 0, **options}
    with pytest.raises(ValueError, match=message):
        ResumableSampler(settings.pop("num_samples"), **settings)


def test_positions_out_of_range_are_refused_at_once():
    sampler = ResumableSampler(10, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="skip: found 4, expected 0 to 3 batches"):
        sampler.batches(0, skip=4)
    with pytest.raises(ValueError, match="epoch: found -1"):
        sampler.batches(-1)
