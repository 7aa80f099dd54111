"""Several transformers around one approximator: what is shared, what is not, and what is refused."""

import pytest
import torch
from nops_models import UPT, UPTConfig, UPTMixture
from torch.testing import assert_close

SIZES = {"dim": 8, "approximator_depth": 2, "decoder_cross_depth": 1, "heads": 2}
LINE = UPTConfig({"u": 1}, 1, grid_shape=(16,), patch_size=4, tokens=4, periodic=(0,), **SIZES)
PLANE = UPTConfig({"u": 1, "nu": 1}, 2, grid_shape=(4, 6), patch_size=2, tokens=3, **SIZES)
TOLD = UPTConfig(
    {"u": 1}, 1, grid_shape=(16,), patch_size=4, tokens=4, condition=("speed",), **SIZES
)


@pytest.fixture
def mixture(shaken):
    return lambda **configs: shaken(UPTMixture(configs).double(), size=0.4)


def step(model, latent, condition=None):
    return model.step(latent, condition=condition)


def test_tasks_of_different_dimension_step_with_the_same_weights(mixture, normal):
    model = mixture(line=LINE, plane=PLANE)
    latent = normal(0, 2, 4, 8)
    assert torch.equal(step(model["line"], latent), step(model["plane"], latent))
    x = torch.arange(16.0, dtype=torch.float64)[:, None] / 16
    xy = torch.cartesian_prod(torch.arange(4.0) / 4, torch.arange(6.0) / 6).double()
    line = model["line"]({"u": normal(1, 2, 16, 1)}, x)
    plane = model["plane"]({"u": normal(2, 2, 24, 1), "nu": normal(3, 2, 24, 1)}, xy)
    assert line.fields["u"].shape == (2, 16, 1)
    assert plane.next_latent.shape == (2, 3, 8)


def test_parameters_are_those_of_the_parts_with_one_approximator(mixture):
    def count(module):
        return sum(p.numel() for p in module.parameters())

    alone, other = UPT(LINE), UPT(PLANE)
    expected = count(alone) + count(other) - count(alone.approximator)
    assert count(mixture(line=LINE, plane=PLANE)) == expected


def test_a_task_trains_the_shared_part_and_nothing_of_the_others(mixture, normal):
    model = mixture(line=LINE, plane=PLANE)
    latent = model["line"].step(normal(0, 2, 4, 8))
    x = torch.arange(16.0, dtype=torch.float64)[:, None] / 16
    model["line"].decode(x, latent)["u"].square().sum().backward()
    shared = model["plane"].approximator
    assert all(p.grad is not None for p in shared.parameters())
    for part in (model["plane"].encoder, model["plane"].decoder):
        assert all(p.grad is None for p in part.parameters())


@pytest.mark.parametrize("order", [("told", "plain"), ("plain", "told")])
def test_a_task_without_conditions_steps_under_an_embedding_of_zeros(mixture, normal, order):
    model = mixture(**{name: {"told": TOLD, "plain": PLANE}[name] for name in order})
    latent = normal(0, 2, 4, 8)
    first, second = (
        step(model["told"], latent, torch.full((2, 1), s).double()) for s in (0.0, 1.0)
    )
    assert not torch.equal(first, second)
    model["told"].approximator.conditioner = lambda condition: torch.zeros(2, 32).double()
    assert_close(step(model["plain"], latent), step(model["told"], latent, torch.ones(2, 1)))


def test_a_state_goes_into_another_mixture_and_stays_shared(mixture, normal):
    model, other = (
        mixture(line=LINE, plane=PLANE),
        UPTMixture({"line": LINE, "plane": PLANE}).double(),
    )
    other.load_state_dict(model.state_dict())
    latent = normal(0, 2, 4, 8)
    assert torch.equal(step(other["plane"], latent), step(model["line"], latent))
    assert other["line"].approximator.blocks is other["plane"].approximator.blocks


@pytest.mark.parametrize(
    ("configs", "words"),
    [
        ({}, "one task at least"),
        ({"a.b": LINE}, "being words"),
        (
            {
                "line": LINE,
                "deep": UPTConfig(
                    {"u": 1},
                    1,
                    grid_shape=(16,),
                    patch_size=4,
                    tokens=4,
                    **{**SIZES, "approximator_depth": 3},
                ),
            },
            "task 'deep': a shared approximator needs one approximator_depth, got 3 and 2",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(configs, words):
    with pytest.raises(ValueError, match=words):
        UPTMixture(configs)
