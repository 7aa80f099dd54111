import dataclasses
import math

import pytest
import torch
from nops_models import UPT, UPTConfig

GRID = {"grid_shape": (8, 12), "patch_size": 4, "tokens": 6, "dim": 8}
POINTS = {"encoder": "supernodes", "supernodes": 5, "radius": 0.5, "tokens": 3, "dim": 8}


def grid(**options):
    return UPTConfig({"u": 1}, 2, **{**GRID, **options})


def points(**options):
    return UPTConfig({"u": 1}, 2, **{**POINTS, **options})


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "conditioner", "pool", "encoder", "approximator", "decoder", "total"),
    [
        ("8M", 657_408, 37_696, 1_787_968, 2_383_488, 2_803_331, 7_669_891),
        ("17M", 1_477_632, 84_192, 3_969_120, 5_356_992, 6_300_099, 17_188_035),
        ("68M", 5_904_384, 334_272, 15_661_248, 21_404_544, 25_170_819, 68_475_267),
    ],
)
def test_presets_have_the_published_sizes(
    name, conditioner, pool, encoder, approximator, decoder, total
):
    with torch.device("meta"):
        model = UPT(UPTConfig.preset(name))
    assert count(model.conditioner) == conditioner
    assert count(model.encoder.messages) == pool
    assert count(model.encoder) - count(model.encoder.messages) == encoder
    assert count(model.approximator) == approximator
    assert count(model.decoder) == decoder
    assert count(model) == total


def test_size_of_a_small_model_by_hand():
    # A block of width 64: two norms 256, attention 4160 + 8320 + 4160, MLP 33088: 49984.
    # Encoder: patches 8*64, centres 8*64 + 64, a block. Approximator: two blocks, gates of 128.
    # Decoder: a block; queries 576 + 4160; two blocks with a third norm; norm 128; head 4160 + 65.
    options = {"grid_shape": (256,), "patch_size": 8, "tokens": 32, "dim": 64}
    model = UPT(UPTConfig({"u": 1}, 1, **options, approximator_depth=2))
    assert count(model.encoder) == 512 + 576 + 49_984
    assert count(model.approximator) == 2 * (49_984 + 128)
    assert count(model.decoder) == 49_984 + 4736 + 2 * (49_984 + 128) + 128 + 4225
    assert count(model) == 310_593


class TestPreset:
    def test_has_the_settings_of_the_paper(self):
        config = UPTConfig.preset("17M")
        assert (config.tokens, config.supernodes, config.radius) == (512, 2048, 5.0)
        assert (config.history, config.domain, config.max_neighbors) == (2, (200.0, 300.0), 32)
        assert config.widths == (96, 192, 96, 2, 3, 2)
        assert config.condition == ("time", "speed")

    def test_any_field_can_be_replaced(self):
        changes = {"encoder": "grid", "grid_shape": (64,), "patch_size": 4, "tokens": 8}
        config = UPTConfig.preset("8M", fields={"u": 1}, ndim=1, condition=(), **changes)
        assert (config.encoder, config.supernodes, config.time_steps) == ("grid", None, None)
        assert len(config.frequencies) == 32  # sine and cosine of each fill the width of 64
        assert config.dim == 128

    @pytest.mark.usefixtures("unchecked")
    def test_names_the_choices(self):
        with pytest.raises(ValueError, match="preset must be one of 8M, 17M, 68M, got '9M'"):
            UPTConfig.preset("9M")


def test_is_frozen_and_knows_what_follows():
    config = grid(patch_size=(4, 6), tokens=4, encoder_width=12, heads=(3, 2, 1))
    assert (config.patch, config.patch_grid) == ((4, 6), (2, 2))
    assert config.widths == (12, 8, 8, 3, 2, 1)
    assert config.domain == (1.0, 1.0)
    assert config.condition_width is None
    assert grid(condition=("viscosity",)).condition_width == 32
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dim = 4


def test_keeps_a_copy_of_the_fields():
    fields = {"u": 1, "v": 2}
    config = UPTConfig(fields, 2, **GRID)
    fields["w"] = 1
    assert config.fields == {"u": 1, "v": 2}
    assert config.channels == 3
    assert UPTConfig(**dataclasses.asdict(config)) == config


@pytest.mark.usefixtures("unchecked")
class TestRefuses:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tokens": 0}, "tokens must be at least 1, got 0"),
            ({"approximator_depth": 0}, "approximator_depth must be at least 1"),
            ({"decoder_self_depth": -1}, "decoder_self_depth must not be negative"),
            ({"decoder_cross_depth": 0}, "decoder_cross_depth must be at least 1"),
            ({"history": 0}, "history must be at least 1"),
            ({"decoder_width": 0}, "decoder_width must be at least 1, or None, got 0"),
            ({"encoder": "mesh"}, "encoder must be one of grid, supernodes, got 'mesh'"),
            ({"latent_norm": "batch"}, "latent_norm must be one of layer, none, got 'batch'"),
            ({"layout": "wide"}, "layout must be one of compact, paper, got 'wide'"),
            ({"drop_path": 1.0}, r"drop_path must be within \[0, 1\), got 1.0"),
            ({"heads": 3}, "heads=3 must divide encoder_width=8"),
            ({"heads": (1, 1)}, r"heads needs one number or \(encoder, tokens, decoder\)"),
            ({"heads": 4, "decoder_width": 10}, "heads=4 must divide decoder_width=10"),
            ({"approximator_width": 9}, "heads=4 must divide approximator_width=9"),
            ({"frequencies": ()}, "frequencies must be positive"),
            ({"frequencies": (1, math.inf)}, "frequencies must be positive"),
            ({"periodic": (2,)}, r"distinct axes within 0 and 1, got \(2,\)"),
            ({"periodic": (0, 0)}, "distinct axes"),
            ({"periodic": (0,), "frequencies": (1, 1.5)}, "periodic axes need integer freq"),
            ({"lengths": (1.0,)}, "lengths needs ndim=2 positive numbers"),
            ({"lengths": (1.0, 0.0)}, "lengths needs ndim=2 positive numbers"),
            ({"condition": ("nu", "nu")}, "a name twice"),
            ({"condition": ("time",)}, "time_steps=None, condition="),
            ({"time_steps": 5}, "time_steps=5, condition="),
            ({"condition": ("time",), "time_steps": 0}, "time_steps must be at least 1, or None"),
            ({"supernodes": 3}, "supernodes has no meaning with encoder='grid'"),
            ({"grid_shape": None}, "encoder='grid' needs grid_shape and patch_size"),
            ({"grid_shape": (8,)}, r"grid_shape needs ndim=2 positive sizes, got \(8,\)"),
            ({"patch_size": (4, 0)}, r"patch_size needs ndim=2 positive sizes, got \(4, 0\)"),
        ],
    )
    def test_what_cannot_be(self, options, message):
        with pytest.raises(ValueError, match=message):
            grid(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"patch_size": 4}, "encoder='supernodes'"),
            ({"supernodes": None}, "encoder='supernodes' needs supernodes and radius"),
            ({"supernodes": 0}, "supernodes must be at least 1, got 0"),
            ({"radius": 0.0}, "radius must be positive and finite, got 0.0"),
            ({"radius": math.nan}, "radius must be positive"),
            ({"max_neighbors": 0}, "max_neighbors must be at least 1"),
        ],
    )
    def test_what_supernodes_cannot_have(self, options, message):
        with pytest.raises(ValueError, match=message):
            points(**options)

    def test_no_fields_and_empty_ones(self):
        with pytest.raises(ValueError, match="fields needs at least one name"):
            UPTConfig({}, 2, **GRID)
        with pytest.raises(ValueError, match="'v' needs at least 1 channel, got 0"):
            UPTConfig({"u": 1, "v": 0}, 2, **GRID)
        with pytest.raises(ValueError, match="ndim must be 1, 2 or 3, got 4"):
            UPTConfig({"u": 1}, 4, **POINTS)

    def test_a_patch_that_does_not_divide_the_grid(self):
        with pytest.raises(
            ValueError, match=r"patch_size=5 does not divide the 12 cells of axis 1 .* 4 and 6\."
        ):
            grid(patch_size=(4, 5))
        with pytest.raises(ValueError, match=r"patch_size=9 .* 8 cells of axis 0 .* do: 8\."):
            grid(patch_size=9)

    def test_more_tokens_than_patches(self):
        # 8x12 cells: 4x4 patches make 6, 2x2 make 24, single cells 96.
        with pytest.raises(
            ValueError, match=r"tokens=7 is above the 6 patches .*, or patch_size=2\."
        ):
            grid(tokens=7)
        with pytest.raises(
            ValueError, match=r"tokens=25 .* take tokens=6 or less, .* patch_size=1\."
        ):
            grid(tokens=25)
        with pytest.raises(ValueError, match=r"tokens=97 .*take tokens=6 or less\."):
            grid(tokens=97)
