"""A user's own batches, dataset or loader as a source."""

import pytest
import torch
from nops_train import BatchSource, ListSource
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)


class Numbers(Dataset):
    """Item i is i; notes what is read."""

    def __init__(self, length=10):
        self.length = length
        self.read = []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read.append(index)
        return torch.tensor(index)


def values(source, *, epoch, skip=0):
    return [batch.tolist() for batch in source.batches(epoch=epoch, skip=skip)]


def sources():
    data = Numbers()
    weights = torch.arange(1.0, 11.0)
    generator = torch.Generator()
    own = BatchSampler(RandomSampler(data, generator=generator), 3, drop_last=False)
    return {
        "batches": ListSource([torch.tensor([i]) for i in range(10)], seed=4),
        "in order": ListSource([torch.tensor([i]) for i in range(10)], shuffle=False),
        "dataset": ListSource(data, batch_size=3, seed=4),
        "dropped": ListSource(data, batch_size=3, seed=4, drop_last=True),
        "loader": ListSource(DataLoader(data, batch_size=3, shuffle=True), seed=4),
        "sequential": ListSource(DataLoader(data, batch_size=4)),
        "weighted": ListSource(
            DataLoader(data, batch_size=2, sampler=WeightedRandomSampler(weights.tolist(), 10))
        ),
        "own generator": ListSource(DataLoader(data, batch_sampler=own)),
    }


@pytest.mark.parametrize("name", sources())
def test_an_epoch_can_be_gone_on_from_anywhere(name):
    source = sources()[name]
    assert isinstance(source, BatchSource)
    for epoch in (0, 3):
        whole = values(source, epoch=epoch)
        assert len(whole) == source.num_batches
        for skip in range(len(whole) + 1):
            assert values(sources()[name], epoch=epoch, skip=skip) == whole[skip:]


@pytest.mark.parametrize("name", ["batches", "dataset", "loader", "weighted", "own generator"])
def test_epochs_differ(name):
    source = sources()[name]
    orders = {str(values(source, epoch=epoch)) for epoch in range(4)}
    assert len(orders) == 4


@pytest.mark.parametrize("name", ["batches", "dataset", "loader", "own generator"])
def test_each_sample_comes_once(name):
    seen = [i for batch in values(sources()[name], epoch=2) for i in batch]
    assert sorted(seen) == list(range(10))


def test_seeds_differ_and_the_global_generator_does_not_matter():
    data = [torch.tensor([i]) for i in range(10)]
    a = values(ListSource(data, seed=1), epoch=0)
    torch.manual_seed(99)
    assert (
        values(ListSource(data, seed=1), epoch=0) == a != values(ListSource(data, seed=2), epoch=0)
    )
    loader = sources()["loader"]
    state = torch.get_rng_state()
    first = values(loader, epoch=0)
    torch.set_rng_state(state)
    loader._source.order(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    assert values(loader, epoch=0) == first


def test_what_was_seen_is_not_read():
    data = Numbers()
    source = ListSource(data, batch_size=3, shuffle=False)
    values(source, epoch=0, skip=2)
    assert data.read == [6, 7, 8, 9]
    data.read.clear()
    values(ListSource(DataLoader(data, batch_size=3)), epoch=0, skip=3)
    assert data.read == [9]


def test_counts():
    assert ListSource(Numbers(), batch_size=3).num_batches == 4
    assert ListSource(Numbers(), batch_size=3, drop_last=True).num_batches == 3
    assert ListSource(DataLoader(Numbers(), batch_size=3)).num_batches == 4


def test_a_collation_of_the_user():
    data = TensorDataset(torch.arange(4.0), torch.arange(4.0))
    source = ListSource(data, batch_size=2, shuffle=False, collate=len)
    assert list(source.batches(epoch=0)) == [2, 2]
    default = next(ListSource(data, batch_size=2, shuffle=False).batches(epoch=0))
    assert [t.tolist() for t in default] == [[0.0, 1.0], [0.0, 1.0]]


def test_what_cannot_be_a_source():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(ValueError, match="holds no batch: 0 items"):
        ListSource([])
    with pytest.raises(ValueError, match="holds no batch: 2 items"):
        ListSource(Numbers(2), batch_size=3, drop_last=True)
    with pytest.raises(ValueError, match="batch_size is 0"):
        ListSource(Numbers(), batch_size=0)
    with pytest.raises(ValueError, match="no batches of indices"):
        ListSource(DataLoader(Stream()))
    with pytest.raises(ValueError, match="no batches of indices"):
        ListSource(DataLoader(Numbers(), batch_size=None))
    with pytest.raises(ValueError, match="batch_size is the loader's"):
        ListSource(DataLoader(Numbers()), batch_size=2)
