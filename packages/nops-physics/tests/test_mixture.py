"""The mixture of initial kinds."""

import math
from collections import Counter

import pytest
import torch
from nops_physics import DEFAULT_KINDS, derive_seed, initial_mixture


def test_every_kind_is_drawn_for_a_quarter():
    n = 600
    _, kinds = initial_mixture(n, shape=(17, 17), seed=0)
    counts = Counter(kinds)
    assert set(counts) == {"grf", "multiscale", "sinusoid", "blobs"}
    sigma = math.sqrt(n * 0.25 * 0.75)
    assert all(abs(count - n / 4) < 3 * sigma for count in counts.values())


def test_a_sample_does_not_depend_on_n():
    many, names = initial_mixture(6, shape=(17, 19), seed=3, channels=2)
    few, few_names = initial_mixture(2, shape=(17, 19), seed=3, channels=2)
    assert torch.equal(many[:2], few)
    assert names[:2] == few_names


def test_each_sample_can_bring_its_own_seed():
    many, names = initial_mixture(4, shape=(17, 17), seed=9)
    one, name = initial_mixture(1, shape=(17, 17), seed=[derive_seed("initial", 9, 2)])
    assert torch.equal(many[2:3], one)
    assert names[2:3] == name


def test_channels_that_differ_in_kind_are_named_one_by_one():
    fields, names = initial_mixture(40, shape=(17, 17), seed=0, channels=2)
    assert fields.shape == (40, 2, 17, 17)
    mixed = [name for name in names if "|" in name]
    assert 15 <= len(mixed) <= 39  # three quarters expected
    for name in mixed:
        first, second = name.split("|")
        assert first[:4] == "ch0:"
        assert second[:4] == "ch1:"
        assert {first[4:], second[4:]} <= set(DEFAULT_KINDS)
        assert first[4:] != second[4:]
    assert set(names) - set(mixed) <= set(DEFAULT_KINDS)


def test_default_grf_has_the_five_variances():
    """Each variance a fifth of the time: the mean is (0.25 + 0.5 + 1 + 2 + 4) / 5 = 1.55."""
    n = 800
    generator = torch.Generator().manual_seed(0)
    fields = torch.stack([DEFAULT_KINDS["grf"]((17, 17), generator) for _ in range(n)])
    power = fields.square().mean((-1, -2))
    assert power.mean() == pytest.approx(1.55, abs=3 * float(power.std()) / math.sqrt(n))


def test_default_ranges_of_sinusoids_and_blobs():
    generator = torch.Generator().manual_seed(0)
    waves = torch.stack([DEFAULT_KINDS["sinusoid"]((32, 32), generator) for _ in range(200)])
    amplitude = (2 * waves.square().mean((-1, -2))).sqrt()
    assert 0.5 <= amplitude.min() < 0.55
    assert 1.95 < amplitude.max() <= 2.0
    blobs = torch.stack([DEFAULT_KINDS["blobs"]((16, 16), generator) for _ in range(400)])
    # the mean of a blob is a 2 pi s^2, and E[s^4] = (b^5 - a^5) / (5 (b - a)) for s in [a, b]
    moment = (0.23**5 - 0.08**5) / (5 * 0.15)
    expected = 5 * 2.0**2 * (2 * math.pi) ** 2 * moment
    mass = blobs.mean((-1, -2)).square()
    assert mass.mean() == pytest.approx(expected, abs=3 * float(mass.std()) / math.sqrt(400))


def test_own_kinds():
    fields, names = initial_mixture(
        2, shape=(3,), seed=0, kinds={"flat": lambda shape, generator: torch.full(shape, 2.0)}
    )
    assert names == ["flat", "flat"]
    assert torch.equal(fields, torch.full((2, 1, 3), 2.0))


def test_refuses_no_kind_and_a_grid_too_small():
    with pytest.raises(ValueError, match="need a kind"):
        initial_mixture(1, shape=(17, 17), seed=0, kinds={})
    with pytest.raises(ValueError, match="at least 17 cells"):
        initial_mixture(20, shape=(16, 16), seed=0)
