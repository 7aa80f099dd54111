import dataclasses
import math

import pytest
from nops_models import FNOConfig, UAFNOConfig, UNetConfig


def test_is_frozen_and_knows_what_follows():
    config = UAFNOConfig(base_channels=16, encoder_levels=5)
    assert config.level_channels == (32, 64, 128, 128, 128)
    assert config.smallest_grid == 32
    assert config.num_outputs == 1
    assert UAFNOConfig(in_channels=3).num_outputs == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.5


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"base_channels": 0}, "base_channels"),
        ({"encoder_levels": 0}, "encoder_levels"),
        ({"blocks_per_level": 0}, "blocks_per_level"),
        ({"mlp_ratio": 0}, "mlp_ratio"),
        ({"embedding": 0}, "embedding"),
        ({"afno_blocks": -1}, "afno_blocks must not be negative"),
        ({"num_parameters": -1}, "num_parameters"),
        ({"out_channels": 0, "residual_scale": None}, "out_channels"),
        ({"modes": 0}, "modes must be at least 1, or None"),
        ({"sparsity": -1.0}, "sparsity"),
        ({"sparsity": math.nan}, "sparsity"),
        ({"dropout": 1.0}, r"within \[0, 1\), got 1.0"),
        ({"dropout": math.nan}, "dropout"),
        ({"norm": "batch"}, "norm must be one of none, group, instance, got 'batch'"),
        ({"padding": "reflect"}, "padding must be one of circular, zeros"),
        ({"afno_groups": 7}, "afno_groups=7 must divide the 256 channels"),
        ({"norm": "group", "base_channels": 12}, "multiples of 8, got 12"),
        ({"residual_scale": 0.0}, "residual_scale must be positive"),
        ({"residual_scale": math.inf}, "residual_scale must be positive"),
        ({"residual_scale": (0.1, 0.2)}, "each of the 1 channels, got 2"),
        ({"out_channels": 2}, "2 output channels cannot be added to 1"),
    ],
)
def test_refuses_what_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        UAFNOConfig(**options)


def test_a_plain_unet_needs_no_groups():
    assert UAFNOConfig(base_channels=3, afno_blocks=0).level_channels == (6, 12, 24)


def test_a_unet_has_the_levels_of_the_uafno():
    config = UNetConfig(base_channels=16, encoder_levels=5, in_channels=3)
    assert config.level_channels == (32, 64, 128, 128, 128)
    assert config.smallest_grid == 32
    assert config.num_outputs == 3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (UNetConfig, {"in_channels": 0}, "in_channels must be at least 1, got 0"),
        (UNetConfig, {"blocks_per_level": 0}, "blocks_per_level"),
        (UNetConfig, {"bottleneck_blocks": -1}, "bottleneck_blocks must not be negative, got -1"),
        (UNetConfig, {"dropout": 1.0}, "dropout"),
        (UNetConfig, {"norm": "group", "base_channels": 12}, "multiples of 8, got 12"),
        (UNetConfig, {"residual_scale": 0.0}, "residual_scale must be positive"),
        (FNOConfig, {"in_channels": 0}, "in_channels must be at least 1, got 0"),
        (FNOConfig, {"base_channels": 0}, "base_channels"),
        (FNOConfig, {"num_layers": 0}, "num_layers"),
        (FNOConfig, {"modes": 0}, "modes must be at least 1, got 0"),
        (FNOConfig, {"mlp_ratio": 0}, "mlp_ratio"),
        (FNOConfig, {"embedding": 0}, "embedding"),
        (FNOConfig, {"num_parameters": -1}, "num_parameters must not be negative"),
        (FNOConfig, {"padding": "reflect"}, "padding must be one of circular, zeros"),
        (FNOConfig, {"out_channels": 2}, "2 output channels cannot be added to 1"),
        (FNOConfig, {"out_channels": 0, "residual_scale": None}, "out_channels"),
        (FNOConfig, {"residual_scale": (0.1, 0.2)}, "each of the 1 channels, got 2"),
    ],
)
def test_the_controls_refuse_what_cannot_be(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)
