"""Sizes and choices of the physics-integrated VAE."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from torch import nn

from nops_models._bounded import LnvarBound

Residual = Literal["low_rank", "gated", "no_physics"]
Prior = Literal["normal", "uniform", "ema"]
ACTIVATIONS = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True, kw_only=True)
class PhysicsVAEConfig:
    """Everything that fixes a physics-integrated VAE's parameters and their use, but for the physics.

    Attributes:
        aux_dim: Auxiliary latents A that feed the residual; 0: no residual, physics only.
        residual: "low_rank", "gated" or, without physics, "no_physics".
        rank: Patterns of the low-rank residual, at most the width of the data; None: `aux_dim`.
        feature_dim: Width of the encoder's features.
        feature_hidden: Hidden widths on the way there.
        physics_hidden: Hidden widths of the two heads for physics latents.
        aux_hidden: Hidden widths of the two heads for auxiliary latents.
        activation: "elu", "relu", "gelu", "silu" or "tanh".
        gate_bias: Bias of the gate's last layer at the start: −4.6 lets 1 % through.
        time_features: Features of the time of a sample that the low-rank residual sees: 2 for an
            annual, 4 for a semi-annual cycle as well, 0 for none.
        lnvar_bounds: Range of log-variances.
        lnvar_bound: What their gradient is outside: "restoring" passes what leads back, "hard" is 0.
        prior: Of the physics latents in logits: "normal" N(0, 1), "uniform" in the bounds, or "ema",
            the moving moments of the posterior.
        ema_decay: Of the moving moments, per optimizer step, within [0, 1).
        stop_gradient: The residual sees the physics without a gradient into it, in training and
            evaluation alike: the low-rank head x_P, the gated head's context z.
        encode_inputs: The encoder sees the physics' known inputs.

    Raises:
        ValueError: At construction, if a field is out of range or two contradict each other.
    """

    aux_dim: int = 0
    residual: Residual = "low_rank"
    rank: int | None = None
    feature_dim: int = 128
    feature_hidden: tuple[int, ...] = (128,)
    physics_hidden: tuple[int, ...] = (128,)
    aux_hidden: tuple[int, ...] = (128,)
    activation: str = "elu"
    gate_bias: float = -4.6
    time_features: int = 0
    lnvar_bounds: tuple[float, float] = (-9.0, 5.0)
    lnvar_bound: LnvarBound = "restoring"
    prior: Prior = "normal"
    ema_decay: float = 0.99
    stop_gradient: bool = True
    encode_inputs: bool = True

    def __post_init__(self) -> None:
        """Check each field, then what fields must agree on."""
        _check_sizes(self)
        _check_choices(self)
        _check_numbers(self)
        _check_agreement(self)

    @property
    def num_patterns(self) -> int:
        """Rank of the low-rank residual."""
        return self.aux_dim if self.rank is None else self.rank

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name: numbers, strings, lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PhysicsVAEConfig":
        """The configuration of plain values; what is absent has its default.

        Raises:
            ValueError: If a name is unknown, or a value is refused.
        """
        known = [field.name for field in fields(cls)]
        if extra := sorted(values.keys() - set(known)):
            raise ValueError(f"unknown {cls.__name__} keys {extra}; known: {known}.")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)


def _check_sizes(config: PhysicsVAEConfig) -> None:
    least = {"aux_dim": 0, "feature_dim": 1}
    for name, minimum in least.items():
        _check_whole(name, getattr(config, name), minimum)
    if config.rank is not None:
        _check_whole("rank", config.rank, 1)
    for name in ("feature_hidden", "physics_hidden", "aux_hidden"):
        for width in getattr(config, name):
            _check_whole(f"each width of {name}", width, 1)


def _check_whole(name: str, value: Any, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}.")


def _check_choices(config: PhysicsVAEConfig) -> None:
    choices = {
        "residual": get_args(Residual),
        "activation": tuple(ACTIVATIONS),
        "time_features": (0, 2, 4),
        "lnvar_bound": get_args(LnvarBound),
        "prior": get_args(Prior),
    }
    for name, known in choices.items():
        if getattr(config, name) not in known:
            listed = ", ".join(map(str, known))
            raise ValueError(f"{name} must be one of {listed}, got {getattr(config, name)!r}.")


def _check_numbers(config: PhysicsVAEConfig) -> None:
    if len(config.lnvar_bounds) != 2 or not -math.inf < config.lnvar_bounds[0] < math.inf:
        raise ValueError(f"lnvar_bounds needs two finite numbers, got {config.lnvar_bounds}.")
    low, high = config.lnvar_bounds
    if not low < high < math.inf:
        raise ValueError(f"lnvar_bounds needs finite low < high, got {config.lnvar_bounds}.")
    if not math.isfinite(config.gate_bias):
        raise ValueError(f"gate_bias must be finite, got {config.gate_bias}.")
    if not 0 <= config.ema_decay < 1:
        raise ValueError(f"ema_decay must be within [0, 1), got {config.ema_decay}.")


def _check_agreement(config: PhysicsVAEConfig) -> None:
    has_patterns = config.residual == "low_rank" and config.aux_dim > 0
    for name in ("rank", "time_features"):
        if getattr(config, name) and not has_patterns:
            raise ValueError(
                f"{name}={getattr(config, name)} belongs to a low-rank residual, but "
                f"residual={config.residual!r} and aux_dim={config.aux_dim}."
            )
    if config.residual == "no_physics" and config.aux_dim == 0:
        raise ValueError(
            "residual='no_physics' needs aux_dim of at least 1, got 0: no latent left."
        )
    if config.residual == "no_physics" and config.prior != "normal":
        raise ValueError(
            f"prior={config.prior!r} is one of physics latents; residual='no_physics' has none."
        )
