import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nops_models import UAFNO, UAFNOConfig
from torch.nn import functional
from torch.testing import assert_close

SMALL = {
    "base_channels": 4,
    "encoder_levels": 2,
    "blocks_per_level": 1,
    "afno_blocks": 1,
    "afno_groups": 2,
    "embedding": 8,
}


def small(**options):
    return UAFNO(UAFNOConfig(**{**SMALL, **options}))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


class TestSizes:
    """Base 32, three levels, one channel: counts by hand, in blocks of a U-net."""

    def test_with_normalisation(self):
        # Convolutions without bias, each followed by a scale and a shift per channel.
        model = UAFNO(UAFNOConfig(norm="group"))
        assert count(model.encoder) == 3_531_488
        assert count(model.decoder) + count(model.output) == 4_833_729
        assert count(model.bottleneck) == 4 * 297_728
        assert count(model) == 9_556_129

    def test_without_normalisation(self):
        # A bias instead of scale and shift: one number less for each of 2272 + 2240 channels.
        model = UAFNO(UAFNOConfig())
        assert count(model.encoder) == 3_531_488 - 2272
        assert count(model.decoder) + count(model.output) == 4_833_729 - 2240

    def test_of_the_features(self):
        model = UAFNO(UAFNOConfig(blocks_per_level=1, afno_blocks=1))
        features = model.get_intermediate_features(torch.randn(1, 1, 64, 64), "all")
        assert {name: tuple(f.shape) for name, f in features.items()} == {
            "skip_0": (1, 64, 64, 64),
            "skip_1": (1, 128, 32, 32),
            "skip_2": (1, 256, 16, 16),
            "bottleneck": (1, 256, 8, 8),
        }


class TestGrids:
    @pytest.mark.parametrize("shape", [(64, 64), (33, 47), (8, 8)])
    def test_one_model_serves_all(self, shaken, shape):
        model = shaken(small(encoder_levels=3, in_channels=2), size=0.1)
        state = torch.randn(2, 2, *shape)
        assert model(state).shape == state.shape
        bottom = model.get_intermediate_features(state, "bottleneck")
        assert bottom.shape == (2, 32, -(-shape[0] // 8), -(-shape[1] // 8))

    @settings(max_examples=10)
    @given(
        height=st.integers(4, 21),
        width=st.integers(4, 21),
        padding=st.sampled_from(["circular", "zeros"]),
    )
    def test_any_size_from_the_smallest_on(self, shaken, height, width, padding):
        model = shaken(small(padding=padding), size=0.1)
        after = model(torch.randn(1, 1, height, width))
        assert after.shape == (1, 1, height, width)
        assert after.isfinite().all()

    def test_without_fourier_blocks_shifts_by_whole_cells_commute(self, normal, shaken):
        model = shaken(small(afno_blocks=0, num_parameters=2).double())
        state, theta = normal(0, 1, 1, 12, 16), normal(1, 1, 2)
        for shift in ((4, 0), (0, 8), (-4, 4)):
            moved = model(state.roll(shift, (2, 3)), theta)
            assert_close(moved, model(state, theta).roll(shift, (2, 3)), rtol=0, atol=1e-11)

    def test_zero_padding_sees_the_edge(self, normal, shaken):
        model = shaken(small(afno_blocks=0, padding="zeros").double())
        state = normal(0, 1, 1, 12, 16)
        moved = model(state.roll(4, 3)) - model(state).roll(4, 3)
        assert moved.abs().max() > 1e-3


class TestStart:
    @pytest.mark.parametrize("num_parameters", [0, 3])
    @pytest.mark.parametrize("norm", ["none", "group", "instance"])
    def test_predicts_persistence(self, num_parameters, norm):
        model = small(num_parameters=num_parameters, norm=norm, base_channels=8)
        state = torch.randn(2, 1, 12, 8)
        theta = torch.rand(2, 3) if num_parameters else None
        assert torch.equal(model(state, theta), state)


def written_afresh(model, state, theta):
    """The step in plain torch calls: padded copies, interpolation, no shared code."""
    config = model.config
    condition = None if theta is None else model.embed(theta)

    def convolve(block, x):
        x = functional.pad(x, (1, 1, 1, 1), mode="circular")
        x = functional.conv2d(x, block.conv.weight, block.conv.bias, stride=block.conv.stride)
        if condition is not None:
            gamma, beta = block.film.linear(condition)[..., None, None].chunk(2, dim=1)
            x = (1 + gamma) * x + beta
        return functional.gelu(x)

    def residual(block, x):
        shortcut = x if block.shortcut is None else block.shortcut(x)
        return convolve(block.second, convolve(block.first, x)) + shortcut

    def over_channels(function, x):
        return function(x.movedim(1, -1)).movedim(-1, 1)

    x, skips = convolve(model.encoder.stem, state), []
    for blocks, down in zip(model.encoder.levels, model.encoder.downs, strict=True):
        for block in blocks:
            x = residual(block, x)
        skips.append(x)
        x = convolve(down, x)
    for block in model.bottleneck:
        normed = over_channels(block.norm1, x)
        x = x + normed + block.mixer.branch(normed)
        x = x + over_channels(block.mlp, over_channels(block.norm2, x))
    bottom = x
    for join, blocks in zip(model.decoder.joins, model.decoder.levels, strict=True):
        skip = skips.pop()
        x = functional.pad(x, (1, 1, 1, 1), mode="circular")
        x = functional.interpolate(x, scale_factor=2, mode="bilinear")
        x = x[..., 2 : 2 + skip.shape[-2], 2 : 2 + skip.shape[-1]]
        x = convolve(join, torch.cat((x, skip), dim=1))
        for block in blocks:
            x = residual(block, x)
    return state + config.residual_scale * model.output(x), bottom


@pytest.mark.parametrize("num_parameters", [0, 2])
@pytest.mark.parametrize("shape", [(8, 12), (9, 7)])
def test_equals_the_definition_written_afresh(normal, shaken, num_parameters, shape):
    options = {"num_parameters": num_parameters, "blocks_per_level": 2, "residual_scale": 0.125}
    model = shaken(small(**options).double(), size=0.2)
    state, theta = normal(0, 2, 1, *shape), normal(1, 2, 2) if num_parameters else None
    after, bottom = model(state, theta, return_bottleneck=True)
    expected, expected_bottom = written_afresh(model, state, theta)
    assert_close(bottom, expected_bottom, rtol=1e-10, atol=1e-10)
    assert_close(after, expected, rtol=1e-10, atol=1e-10)


class TestFeatures:
    def test_bottleneck_is_the_forward_pass_own(self, shaken):
        model = shaken(small(num_parameters=2), size=0.1)
        state, theta = torch.randn(2, 1, 8, 8), torch.rand(2, 2)
        after, bottom = model(state, theta, return_bottleneck=True)
        assert_close(after, model(state, theta))
        assert_close(bottom, model.get_intermediate_features(state, "bottleneck", parameters=theta))

    def test_skips_of_chosen_levels(self, shaken):
        model = shaken(small(encoder_levels=3), size=0.1)
        state = torch.randn(2, 1, 8, 8)
        skips = model.get_intermediate_features(state, "skips")
        assert list(skips) == ["skip_0", "skip_1", "skip_2"]
        chosen = model.get_intermediate_features(state, "all", skip_levels=[1])
        assert set(chosen) == {"skip_1", "bottleneck"}
        assert_close(chosen["skip_1"], skips["skip_1"])
        bottom = model.get_intermediate_features(state, "bottleneck")
        assert_close(chosen["bottleneck"], bottom)


class TestOptions:
    def test_modes_reach_the_mixers(self, normal, shaken):
        few, every = (shaken(small(modes=modes).double()) for modes in (1, None))
        state = normal(0, 1, 1, 16, 16)
        assert (few(state) - every(state)).abs().max() > 1e-6

    def test_sparsity_reaches_the_mixers(self):
        assert small(sparsity=0.5).bottleneck[0].mixer.sparsity == 0.5

    def test_dropout_acts_in_training_alone(self, shaken):
        model = shaken(small(dropout=0.5), size=0.1)
        state = torch.randn(1, 1, 8, 8)
        assert not torch.equal(model(state), model(state))
        model.eval()
        assert torch.equal(model(state), model(state))

    def test_group_norm_forgets_amplitude_and_none_keeps_it(self, normal, shaken):
        state = normal(0, 1, 1, 8, 8)
        for norm, forgets in (("group", True), ("instance", True), ("none", False)):
            model = shaken(
                small(norm=norm, base_channels=8, residual_scale=None, afno_blocks=0).double()
            )
            ratio = model(100 * state).abs().max() / model(state).abs().max()
            assert (ratio < 2) == forgets


class TestPrecision:
    @pytest.mark.parametrize("norm", ["none", "group"])
    def test_autocast_keeps_the_state_in_float32(self, shaken, norm):
        model = shaken(small(num_parameters=2, norm=norm, base_channels=8), size=0.1)
        state, theta = torch.randn(1, 1, 20, 12), torch.rand(1, 2)
        expected = model(state, theta)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            after = model(state, theta)
        assert after.dtype == torch.float32
        after.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        assert_close(after, expected, rtol=0, atol=0.05)


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
    def test_grids_too_small_for_the_levels(self, shape):
        with pytest.raises(ValueError, match=r"encoder_levels=2 .*at least 4x4, got \dx\d"):
            small()(torch.zeros(1, 1, *shape))

    def test_one_cell_under_instance_norm(self):
        with pytest.raises(ValueError, match="more than 4x4"):
            small(norm="instance")(torch.zeros(2, 1, 4, 4))

    def test_features_that_are_not_there(self):
        model, state = small(), torch.zeros(1, 1, 8, 8)
        with pytest.raises(ValueError, match="got 'decoder'"):
            model.get_intermediate_features(state, "decoder")
        with pytest.raises(ValueError, match="has none"):
            model.get_intermediate_features(state, "bottleneck", skip_levels=[0])
        with pytest.raises(ValueError, match=r"within 0 and 1, got \[2\]"):
            model.get_intermediate_features(state, "skips", skip_levels=[0, 2])
