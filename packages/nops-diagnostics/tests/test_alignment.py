"""Alignment of vocabularies: planted correspondences are found, independent ones are chance."""

import builtins
import itertools
import math

import pytest
import torch
from nops_diagnostics import Codebook, compute_alignment
from nops_diagnostics._alignment import false_discovery
from nops_diagnostics._alignment_modes import Behaviour, Signature, centred
from torch.testing import assert_close

NAMES = tuple(f"f{i}" for i in range(10))
CHANCE = "indistinguishable from chance"


def book(signatures, names=NAMES, **more):
    return Codebook(names=names[: signatures.shape[1]], signatures=signatures, **more)


def turn(fields, seed, size):
    return torch.linalg.qr(fields(seed, size, size)).Q


def partners(found):
    return {(pair.a, pair.b) for pair in found.pairs}


def test_a_permuted_copy_with_the_exact_pairs(fields):
    # Latents of b are rotated as its decoder is, so that codes decode to the same signatures.
    a, order = fields(0, 24, 8), torch.randperm(24, generator=torch.Generator().manual_seed(1))
    found = compute_alignment(book(a), book(a[order] + 0.01 * fields(2, 24, 8)))
    assert partners(found) == {(int(order[j]), j) for j in range(24)}
    assert found.score > 0.99
    assert found.verdict == "strong"
    assert found.p_value == pytest.approx(1 / 201)
    assert all(pair.q < 0.01 for pair in found.pairs)
    # what matching finds by itself
    assert found.null_quantiles[0.5] == pytest.approx(0.67, abs=0.05)


def test_tables_of_a_rotated_basis(fields):
    # Three latents of one probe set, the second of another width: rotated, permuted, padded.
    latents, codes = fields(3, 200, 3), fields(4, 12, 3)
    basis = turn(fields, 5, 5)[:3]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(6))
    a = Codebook(latents=latents, codes=codes)
    b = Codebook(latents=2 * latents @ basis + 1, codes=2 * codes[order] @ basis + 1)
    found = compute_alignment(a, b, mode="geometry", num_null=50)
    assert found.score > 0.99
    assert found.procrustes == pytest.approx(1)
    assert partners(found) == {(int(order[j]), j) for j in range(12)}
    assert all(pair.similarity > 0.99 for pair in found.pairs)
    raw = compute_alignment(book(codes), book(codes[order] @ turn(fields, 7, 3)), num_null=50)
    assert raw.score < 0.95  # as they are, the same tables look like others


def test_independent_codebooks_are_chance(fields):
    chance = 0
    for seed in range(100):
        a, b = fields(2 * seed, 10, 6), fields(2 * seed + 1, 8, 6)
        chance += compute_alignment(book(a), book(b), num_null=20, seed=seed).p_value > 0.05
    assert chance >= 90


def test_correlated_features_alone_do_not_align(fields):
    # Both vocabularies vary along one direction: shuffled columns alone would call that alignment.
    direction = fields(0, 1, 8)
    chance = 0
    for seed in range(20):
        a, b = (
            3 * fields(3 * seed + i, 12, 1) * direction + fields(3 * seed + i + 500, 12, 8)
            for i in (0, 1)
        )
        chance += compute_alignment(book(a), book(b), num_null=20, seed=seed).verdict == CHANCE
    assert chance >= 17


def test_half_shared_codes_are_found(fields):
    a, b = fields(8, 24, 10), fields(9, 24, 10)
    b[3:15] = a[:12] + 0.05 * fields(10, 12, 10)
    found = compute_alignment(book(a), book(b))
    surely = {(pair.a, pair.b) for pair in found.pairs if pair.q < 0.05}
    planted = {(i, i + 3) for i in range(12)}
    assert planted <= surely
    assert len(surely - planted) <= 1  # one in twenty may be false
    assert found.p_value < 0.05


def test_unequal_numbers_of_codes_and_columns(fields):
    a = fields(11, 9, 10)
    b = book(a[[4, 2, 7, 0, 1], 3:], names=NAMES[3:])
    found = compute_alignment(book(a), b)
    assert found.matrix.shape == (9, 5)
    assert partners(found) == {(4, 0), (2, 1), (7, 2), (0, 3), (1, 4)}


def test_unused_codes_have_no_part(fields):
    a = fields(12, 6, 5)
    counts = torch.tensor([3, 0, 1, 9, 0, 2])
    found = compute_alignment(book(a, counts=counts), book(a))
    assert {pair.a for pair in found.pairs} == {0, 2, 3, 5}
    assert found.rows.tolist() == [0, 2, 3, 5]


def test_pairs_say_what_they_have_in_common():
    a = torch.tensor([[2.0, -1.5, 0.1, 0.0], [-2.0, 1.0, -0.3, 1.0], [0.5, 0.5, 0.5, -3.0]])
    found = compute_alignment(book(a), book(1.1 * a))
    pair = next(pair for pair in found.pairs if pair.a == 0)
    assert [name for name, _, _ in pair.features] == ["f0", "f1", "f2"]
    assert pair.features[1][1:] == pytest.approx((-1.5, -1.65))


def test_the_rotated_null_keeps_mean_and_covariance(fields):
    b = fields(13, 7, 4) * torch.tensor([1.0, 5.0, 0.1, 2.0])
    mode = Signature(book(fields(14, 7, 4)), book(b))
    drawn = mode._rotated(torch.Generator().manual_seed(0))
    assert_close(drawn.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(drawn.T @ drawn, centred(b).T @ centred(b))
    assert not torch.allclose(drawn, centred(b))


def probe(*tokens):
    return Codebook(tokens=torch.tensor(tokens))


@pytest.mark.parametrize(
    ("x", "y"),
    [([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 2]), ([0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1])],
)
def test_adjusted_mutual_information_by_enumeration(x, y):
    # Expected information is the mean over all 720 orders of the second labelling.

    def information(u, v):
        total = 0.0
        for i, j in itertools.product(set(u), set(v)):
            n = sum(s == i and t == j for s, t in zip(u, v, strict=True))
            total += n / 6 * math.log(n * 6 / (u.count(i) * v.count(j))) if n else 0.0
        return total

    orders = [information(x, list(order)) for order in itertools.permutations(y)]
    expected = sum(orders) / len(orders)
    room = (information(x, x) + information(y, y)) / 2 - expected
    want = (information(x, y) - expected) / room
    found = Behaviour(probe(*x), probe(*y)).compare()
    assert found.score == pytest.approx(want)


def test_behaviour_of_renamed_tokens(fields):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, (80, 2), generator=generator)
    names = torch.tensor([2, 0, 3, 1])
    other = names[tokens].flip(1)  # quantisers change places, codes their names
    found = compute_alignment(
        Codebook(tokens=tokens, num_codes=4), Codebook(tokens=other), mode="behaviour"
    )
    assert found.score == pytest.approx(1)
    assert found.verdict == "strong"
    expected = {(q * 4 + i, (1 - q) * 4 + int(names[i])) for q in (0, 1) for i in range(4)}
    assert partners(found) == expected
    assert all(pair.q < 0.05 for pair in found.pairs)
    chance = torch.randint(4, (80, 2), generator=generator)
    lost = compute_alignment(Codebook(tokens=tokens), Codebook(tokens=chance), mode="behaviour")
    assert lost.verdict == CHANCE
    assert lost.score == pytest.approx(0, abs=0.05)


def test_geometry_of_independent_latents_is_chance(fields):
    a = Codebook(latents=fields(15, 40, 6), codes=fields(16, 5, 6))
    b = Codebook(latents=fields(17, 40, 3), codes=fields(18, 7, 3))
    assert compute_alignment(a, b, mode="geometry").verdict == CHANCE


def test_a_single_code_is_chance(fields):
    found = compute_alignment(book(fields(19, 1, 4)), book(fields(20, 5, 4)), num_null=20)
    assert found.verdict == CHANCE


def test_false_discovery_by_hand():
    # sorted 0.01, 0.02, 0.04, 0.5 of 4: 0.04, 0.04, 0.0533, 0.5
    p = torch.tensor([0.5, 0.01, 0.04, 0.02], dtype=torch.float64)
    expected = torch.tensor([0.5, 0.04, 0.16 / 3, 0.04], dtype=torch.float64)
    assert_close(false_discovery(p), expected)


@pytest.mark.usefixtures("unchecked")
def test_refused_vocabularies(fields):
    a = book(fields(0, 5, 3))
    with pytest.raises(ValueError, match="share no column of 3 and 2; compare them with mode='beh"):
        compute_alignment(a, book(fields(0, 5, 2), names=("x", "y")))
    with pytest.raises(ValueError, match="mode='table'"):
        compute_alignment(a, a, mode="table")
    with pytest.raises(ValueError, match="needs `tokens` of a"):
        compute_alignment(a, a, mode="behaviour")
    with pytest.raises(ValueError, match="one probe set, got 3 and 2"):
        compute_alignment(probe(0, 1, 0), probe(0, 1), mode="behaviour")
    with pytest.raises(ValueError, match="codes of b have width 2, its latents 3"):
        compute_alignment(
            Codebook(latents=fields(0, 9, 3), codes=fields(0, 4, 3)),
            Codebook(latents=fields(0, 9, 3), codes=fields(0, 4, 2)),
            mode="geometry",
        )
    with pytest.raises(ValueError, match="no code is used"):
        compute_alignment(book(fields(0, 5, 3), counts=torch.zeros(5)), a)
    with pytest.raises(ValueError, match="num_null"):
        compute_alignment(a, a, num_null=0)


def test_without_scipy_the_extra_is_named(fields, monkeypatch):
    plain = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith("scipy"):
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModuleNotFoundError, match=r"nops-diagnostics\[alignment\]"):
        compute_alignment(book(fields(0, 4, 3)), book(fields(1, 4, 3)))
