"""Configuration of the physics-integrated VAE."""

import json
import math

import pytest
from nops_models import PhysicsVAEConfig


def test_defaults():
    config = PhysicsVAEConfig()
    assert (config.aux_dim, config.residual, config.rank) == (0, "low_rank", None)
    assert (config.feature_dim, config.feature_hidden) == (128, (128,))
    assert (config.gate_bias, config.lnvar_bounds, config.ema_decay) == (-4.6, (-9.0, 5.0), 0.99)
    assert PhysicsVAEConfig(aux_dim=3).num_patterns == 3
    assert PhysicsVAEConfig(aux_dim=3, rank=2).num_patterns == 2


def test_there_and_back_through_json():
    config = PhysicsVAEConfig(aux_dim=4, rank=2, feature_hidden=(16, 8), prior="ema")
    again = PhysicsVAEConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert hash(again) == hash(config)
    assert PhysicsVAEConfig.from_dict({}) == PhysicsVAEConfig()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"aux_dim": -1}, "aux_dim must be a whole number of at least 0, got -1"),
        ({"aux_dim": 2, "rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"feature_dim": 0}, "feature_dim must be"),
        ({"feature_hidden": (8, 0)}, "each width of feature_hidden must be"),
        ({"residual": "lowrank"}, "residual must be one of low_rank, gated, no_physics"),
        ({"activation": "swish"}, "activation must be one of elu"),
        ({"time_features": 3, "aux_dim": 1}, "time_features must be one of 0, 2, 4, got 3"),
        ({"lnvar_bound": "soft"}, "lnvar_bound must be one of"),
        ({"lnvar_bounds": (5, -9)}, "needs finite low < high"),
        ({"lnvar_bounds": (1,)}, "lnvar_bounds needs two finite numbers"),
        ({"prior": "flat"}, "prior must be one of"),
        ({"gate_bias": math.nan}, "gate_bias must be finite"),
        ({"ema_decay": 1.0}, r"ema_decay must be within \[0, 1\)"),
        (
            {"rank": 2},
            "rank=2 belongs to a low-rank residual, but residual='low_rank' and aux_dim=0",
        ),
        ({"residual": "gated", "aux_dim": 2, "rank": 2}, "rank=2 belongs to a low-rank residual"),
        ({"residual": "gated", "aux_dim": 2, "time_features": 2}, "time_features=2 belongs to"),
        ({"residual": "no_physics"}, "residual='no_physics' needs aux_dim of at least 1"),
        (
            {"residual": "no_physics", "aux_dim": 2, "prior": "ema"},
            "prior='ema' is one of physics latents",
        ),
    ],
)
def test_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        PhysicsVAEConfig(**options)


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match=r"unknown PhysicsVAEConfig keys \['aux'\]; known: \['aux_dim"
    ):
        PhysicsVAEConfig.from_dict({"aux": 2})
