"""Use of a codebook: by hand, batch by batch, and over two ranks."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_diagnostics import CodebookMeter, codebook_usage


def test_by_hand():
    usage = codebook_usage(torch.tensor([0, 0, 1, 3]), num_codes=4)
    assert usage.utilisation == 0.75
    assert usage.entropy == pytest.approx(1.5 * math.log(2))
    assert usage.bits == pytest.approx(1.5)
    assert usage.perplexity == pytest.approx(math.sqrt(8))
    assert usage.dead == 1
    assert usage.counts.tolist() == [2, 1, 0, 1]


def test_equal_use_and_a_single_code():
    even = codebook_usage(torch.arange(6).view(2, 3), num_codes=6)
    assert (even.utilisation, even.dead) == (1.0, 0)
    assert even.perplexity == pytest.approx(6)
    single = codebook_usage(torch.full((5,), 2), num_codes=6)
    assert (single.entropy, single.perplexity, single.dead) == (0.0, 1.0, 5)


def test_what_is_masked_is_not_counted():
    given_ = torch.tensor([[0, -1], [3, -1]], dtype=torch.int32)
    assert codebook_usage(given_, num_codes=4).counts.tolist() == [1, 0, 0, 1]
    nothing = codebook_usage(torch.tensor([-1, -1]), num_codes=3)
    assert math.isnan(nothing.entropy)
    assert math.isnan(nothing.perplexity)
    assert (nothing.utilisation, nothing.dead) == (0.0, 3)


@given(st.lists(st.lists(st.integers(-1, 6), max_size=9), min_size=1, max_size=4))
def test_the_meter_counts_batches_as_one(batches):
    meter = CodebookMeter(7)
    for batch in batches:
        meter.update(torch.tensor(batch, dtype=torch.int64))
    whole = torch.tensor(list(itertools.chain(*batches)), dtype=torch.int64)
    assert torch.equal(meter.compute().counts, codebook_usage(whole, num_codes=7).counts)
    assert torch.equal(meter.compute().counts, meter.counts)  # asking changes nothing
    meter.reset()
    assert meter.compute().dead == 7


def test_ranks_are_counted_together(monkeypatch):
    meter = CodebookMeter(5)
    meter.update(torch.tensor([0, 0, 1]))
    other = torch.tensor([1, 0, 0, 2, 0])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda counts: counts.add_(other))
    for _ in range(2):  # what the other rank counted is not kept
        assert meter.compute().counts.tolist() == [3, 1, 0, 2, 0]


@pytest.mark.parametrize(
    ("indices", "num_codes", "error", "message"),
    [
        ([0, 4], 4, ValueError, "lie within 0 and 4, expected 0 to 3 or -1"),
        ([-2, 1], 4, ValueError, "lie within -2 and 1"),
        ([0], 0, ValueError, "num_codes must be at least 1, got 0"),
        ([0.0], 4, TypeError, "indices must be integers"),
        ([True], 4, TypeError, "indices must be integers"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(indices, num_codes, error, message):
    with pytest.raises(error, match=message):
        codebook_usage(torch.tensor(indices), num_codes=num_codes)


def test_a_meter_needs_a_code():
    with pytest.raises(ValueError, match="num_codes must be at least 1"):
        CodebookMeter(0)
