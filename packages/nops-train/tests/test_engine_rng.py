"""Seeds of positions: an independent SplitMix64, and positions that never meet."""

import hashlib
import itertools

import torch
from nops_train._engine_rng import position_seed, preserved_rng, seed_generators


def splitmix64(start: int, count: int) -> int:
    """The `count`-th output, written from the published pseudocode with its running state."""
    state, output = start, 0
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        output = state
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            output = ((output ^ (output >> shift)) * factor) % 2**64
        output ^= output >> 31
    return output


def test_the_published_sequence():
    assert [splitmix64(1234567, n) for n in (1, 2)] == [6457827717110365317, 3203168211198807973]


def test_a_seed_is_the_output_at_its_index():
    digest = hashlib.sha256(b"step/7/3/0").digest()
    start = int.from_bytes(digest[:8], "little")
    for index in (0, 1, 5):
        expected = splitmix64(start, index + 1) // 2
        assert position_seed("step", 7, epoch=3, index=index) == expected


def test_no_two_positions_share_a_seed():
    purposes = ("order", "data", "step", "valid", "check")
    places = itertools.product(purposes, (0, 1), range(3), range(20), range(3))
    seeds = [position_seed(p, s, epoch=e, index=i, rank=r) for p, s, e, i, r in places]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_what_is_drawn_inside_leaves_no_trace():
    seed_generators("step", 0, epoch=0)
    expected = torch.rand(2)
    seed_generators("step", 0, epoch=0)
    with preserved_rng():
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)
