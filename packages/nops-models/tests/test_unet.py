import pytest
import torch
from nops_models import UNet, UNetConfig
from torch.nn import functional
from torch.testing import assert_close


def small(**options):
    sizes = {"base_channels": 4, "encoder_levels": 2, "blocks_per_level": 1, "embedding": 8}
    return UNet(UNetConfig(**{**sizes, **options}))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


class TestSizes:
    """Counts by hand: 9·i·o + o of a 3×3 convolution, i·o of a shortcut, pairs of FiLM."""

    def test_of_a_tiny_one(self):
        # base 2, one level of 4 channels, one block each way, one in the bottleneck
        model = small(base_channels=2, encoder_levels=1, bottleneck_blocks=1)
        stem = 9 * 1 * 2 + 2
        level = (9 * 2 * 4 + 4) + (9 * 4 * 4 + 4) + 2 * 4
        down = 9 * 4 * 4 + 4
        assert count(model.encoder) == stem + level + down == 400
        block = 2 * (9 * 4 * 4 + 4)
        assert count(model.bottleneck) == block == 296
        join = 9 * 8 * 4 + 4
        assert count(model.decoder) == join + block == 588
        assert count(model.output) == 4 * 1 + 1
        assert count(model) == 400 + 296 + 588 + 5

    def test_of_the_conditioning(self):
        # two layers of the embedding; 8 + 1 numbers for each scale and shift
        plain, model = (
            small(base_channels=2, encoder_levels=1, bottleneck_blocks=1, num_parameters=p)
            for p in (0, 3)
        )
        channels = 2 + 3 * 4 + 2 * 4 + 3 * 4  # stem, level and down, bottleneck, decoder
        embedding = (3 * 8 + 8) + (8 * 8 + 8)
        assert count(model) - count(plain) == embedding + 9 * 2 * channels

    def test_of_the_default(self):
        # The levels of the U-AFNO, with a bias in place of each scale and shift, and two blocks.
        model = UNet(UNetConfig())
        assert count(model.encoder) == 3_531_488 - 2272
        assert count(model.decoder) + count(model.output) == 4_833_729 - 2240
        assert count(model.bottleneck) == 2 * 2 * (9 * 256 * 256 + 256)

    @pytest.mark.parametrize("shape", [(64, 64), (33, 47), (8, 8)])
    def test_of_the_features(self, shape):
        model = small(encoder_levels=3)
        features = model.get_intermediate_features(torch.randn(2, 1, *shape), "all")
        sizes = [tuple(-(-side // 2**level) for side in shape) for level in range(4)]
        assert {name: tuple(f.shape) for name, f in features.items()} == {
            "skip_0": (2, 8, *sizes[0]),
            "skip_1": (2, 16, *sizes[1]),
            "skip_2": (2, 32, *sizes[2]),
            "bottleneck": (2, 32, *sizes[3]),
        }


class TestReach:
    """How far a cell sees, by the gradient of one cell, of one channel of waves of every kind."""

    @pytest.mark.parametrize(
        ("blocks", "centre", "low", "high"),
        # centre 16 of 32 cells: decoder ±3; interpolation of 13…19 takes coarse 6…9, so ±2 about 8
        # less one; blocks of the bottleneck ±2 each; a stride of two ±1; encoder ±3.
        # even: coarse 8 ± (2 + 2n) → fine 16 ± (2·(2 + 2n) + 1) → ± (8 + 4n)
        # odd: 17 ± 3 is 14…20, coarse 6…10, again 8 ± (2 + 2n): the same cells
        [(0, 16, 8, 24), (0, 17, 8, 24), (1, 16, 4, 28), (1, 17, 4, 28), (1, 14, 2, 26)],
    )
    def test_ends_where_it_must(self, normal, shaken, blocks, centre, low, high):
        options = {"encoder_levels": 1, "bottleneck_blocks": blocks, "residual_scale": None}
        model = shaken(small(**options).double())
        state = normal(0, 1, 1, 32, 32).requires_grad_()
        model(state)[0, 0, centre, centre].backward()
        for axis in (0, 1):
            seen = state.grad[0, 0].abs().amax(1 - axis).nonzero().flatten().tolist()
            assert (seen[0], seen[-1]) == (low, high)

    def test_crosses_periodic_edges_alone(self, normal, shaken):
        for padding, crosses in (("circular", True), ("zeros", False)):
            model = shaken(small(padding=padding, encoder_levels=1, bottleneck_blocks=0).double())
            state = normal(0, 1, 1, 32, 32).requires_grad_()
            model(state)[0, 0, 0, 0].backward()
            assert bool((state.grad[0, 0, -8:] != 0).any()) == crosses


class TestShifts:
    @pytest.mark.parametrize("shift", [(4, 0), (0, 8), (-4, 4)])
    def test_by_whole_coarse_cells_commute(self, normal, shaken, shift):
        model = shaken(small(num_parameters=2).double())
        state, theta = normal(0, 1, 1, 12, 16), normal(1, 1, 2)
        moved = model(state.roll(shift, (2, 3)), theta)
        assert_close(moved, model(state, theta).roll(shift, (2, 3)), rtol=0, atol=1e-11)

    def test_by_less_do_not(self, normal, shaken):
        model, state = shaken(small().double()), normal(0, 1, 1, 12, 16)
        assert (model(state.roll(1, 3)) - model(state).roll(1, 3)).abs().max() > 1e-3

    def test_zero_padding_sees_the_edge(self, normal, shaken):
        model, state = shaken(small(padding="zeros").double()), normal(0, 1, 1, 12, 16)
        assert (model(state.roll(4, 3)) - model(state).roll(4, 3)).abs().max() > 1e-3


def test_the_bottleneck_is_residual_blocks_with_the_parameters(normal, shaken):
    model = shaken(small(bottleneck_blocks=2, num_parameters=2).double(), size=0.2)
    state, theta = normal(0, 2, 1, 8, 12), normal(1, 2, 2)
    condition = model.embed(theta)
    x, _ = model.encoder(state, condition)

    def convolve(block, x):
        x = functional.pad(x, (1, 1, 1, 1), mode="circular")
        x = functional.conv2d(x, block.conv.weight, block.conv.bias)
        gamma, beta = block.film.linear(condition)[..., None, None].chunk(2, dim=1)
        return functional.gelu((1 + gamma) * x + beta)

    for block in model.bottleneck:
        x = x + convolve(block.second, convolve(block.first, x))
    after, bottom = model(state, theta, return_bottleneck=True)
    assert_close(bottom, x)
    assert_close(model(state, theta), after)
    assert_close(model.get_intermediate_features(state, "bottleneck", parameters=theta), x)


def test_dropout_acts_in_training_alone(shaken):
    model = shaken(small(dropout=0.5), size=0.1)
    state = torch.randn(1, 1, 8, 8)
    assert not torch.equal(model(state), model(state))
    model.eval()
    assert torch.equal(model(state), model(state))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
def test_refuses_grids_too_small_for_the_levels(shape):
    with pytest.raises(ValueError, match=r"encoder_levels=2 .*at least 4x4, got \dx\d"):
        small()(torch.zeros(1, 1, *shape))


@pytest.mark.usefixtures("unchecked")
def test_refuses_one_cell_under_instance_norm():
    with pytest.raises(ValueError, match="more than 4x4"):
        small(norm="instance")(torch.zeros(2, 1, 4, 4))
