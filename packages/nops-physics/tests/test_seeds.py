"""derive_seed: values worked out from its definition, and what depends on it."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nops_physics import derive_seed, gaussian_random_field
from nops_physics._seeds import sample_generators

int64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("name", "integers", "expected"),
    [
        ("weights", (0,), 4307575550836276981),
        ("initial", (0, 5), 4530072784760239121),
        ("noise", (0, 5), 583925612831529883),
    ],
)
def test_published_values(name, integers, expected):
    assert derive_seed(name, *integers) == expected


@given(name=st.text(), integers=st.lists(int64, max_size=3))
def test_definition(name, integers):
    message = b"nops\x00" + name.encode("utf-8") + b"\x00"
    message += b"".join(i.to_bytes(8, "little", signed=True) for i in integers)
    digest = hashlib.sha256(message).digest()
    # byte i counts 256^i; one bit to the right is half of it, rounded down
    assert derive_seed(name, *integers) == sum(b << 8 * i for i, b in enumerate(digest[:8])) // 2


@given(a=int64, b=int64)
def test_fits_a_signed_field_and_tells_arguments_apart(a, b):
    seed = derive_seed("x", a, b)
    assert 0 <= seed < 2**63
    assert derive_seed("y", a, b) != seed
    if a != b:
        assert derive_seed("x", b, a) != seed


@pytest.mark.parametrize("integer", [2**63, -(2**63) - 1])
def test_refuses_what_does_not_fit(integer):
    with pytest.raises(ValueError, match="64 signed bits"):
        derive_seed("x", integer)


def test_sample_generators_are_seeded_by_name_number_and_index():
    drawn = [float(torch.rand((), generator=g)) for g in sample_generators(3, 7)]
    seeds = [derive_seed("initial", 7, index) for index in range(3)]
    assert drawn == [float(torch.rand((), generator=g)) for g in sample_generators(3, seeds)]
    assert len(set(drawn)) == 3


def test_sample_generators_refuse_a_wrong_count():
    with pytest.raises(ValueError, match="n >= 1"):
        sample_generators(0, 7)
    with pytest.raises(ValueError, match="3 samples, 2 seeds"):
        sample_generators(3, [1, 2])


def test_exactly_one_of_seed_and_generator():
    options = {"shape": (4,), "std": 1.0, "length_scale": 0.1}
    with pytest.raises(ValueError, match="got neither"):
        gaussian_random_field(1, **options)
    with pytest.raises(ValueError, match="got both"):
        gaussian_random_field(1, **options, seed=0, generator=torch.Generator())


def test_a_seed_is_a_fresh_generator_with_that_seed():
    options = {"shape": (4,), "std": 1.0, "length_scale": 0.1}
    by_generator = gaussian_random_field(2, **options, generator=torch.Generator().manual_seed(5))
    assert torch.equal(gaussian_random_field(2, **options, seed=5), by_generator)
