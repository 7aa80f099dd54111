"""Keys that the user gave and that have no effect on the variant, the problem or the data."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from nops_train import InputError

from phys_smpl.config import PhysConfig
from phys_smpl.config_data import NETWORKS


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Some keys that count under a condition.

    Attributes:
        keys: They, or whole sections.
        counts: Whether they have an effect.
        because: What they need, in words.
    """

    keys: tuple[str, ...]
    counts: Callable[[PhysConfig], bool]
    because: str


RULES = (
    Rule(
        keys=(
            *("loss.beta_physics", "loss.bootstrap", "loss.edge", "loss.smoothness"),
            *("loss.capacity", "phases.epochs_pretrain", "model.physics_hidden"),
        ),
        counts=lambda config: config.model.has_physics,
        because="physics latents, and model.residual is no_physics",
    ),
    Rule(
        keys=("loss.beta_aux", "model.aux_hidden"),
        counts=lambda config: config.model.aux_dim > 0,
        because="auxiliary latents, and model.aux_dim is 0",
    ),
    Rule(
        keys=("loss.gate", "model.gate_bias"),
        counts=lambda config: config.model.kind == "G",
        because="model.residual: gated with auxiliary latents",
    ),
    Rule(
        keys=("loss.residual", "model.stop_gradient"),
        counts=lambda config: config.model.kind in "CG",
        because="a correction of the physics, and the model has none",
    ),
    Rule(
        keys=("loss.orthogonality", "loss.coefficient", "phases.r", "phases.tau"),
        counts=lambda config: config.model.kind == "C",
        because="model.residual: low_rank with auxiliary latents",
    ),
    Rule(
        keys=("phases.kl_warmup_epochs",),
        counts=lambda config: config.weighting.kind == "constant" or config.loss.capacity.on,
        because="weighting.kind: constant, or loss.capacity.on",
    ),
    Rule(
        keys=("loss.capacity.c_max", "loss.capacity.gamma"),
        counts=lambda config: config.loss.capacity.on,
        because="loss.capacity.on",
    ),
    Rule(
        keys=("loss.edge_power",),
        counts=lambda config: config.loss.edge > 0,
        because="loss.edge above 0",
    ),
    Rule(
        keys=("model.ema_decay",),
        counts=lambda config: config.model.prior == "ema",
        because="model.prior: ema",
    ),
    Rule(
        keys=("data.disturbance", "physics.stations"),
        counts=lambda config: config.problem in NETWORKS,
        because="a network of stations",
    ),
    Rule(
        keys=tuple(f"physics.{k}" for k in ("spectra", "srf", "soil", "version", "sampling")),
        counts=lambda config: config.problem == "inform",
        because="problem: inform",
    ),
    Rule(
        keys=("physics.method",),
        counts=lambda config: config.problem == "pendulum",
        because="problem: pendulum",
    ),
)


ASKED = ("loss.beta_physics", "loss.beta_aux", "phases.epochs_pretrain")  # 0 is how to say no


def refuse_dead_keys(config: PhysConfig, explicit: Collection[str]) -> None:
    """Stop where a key that the user gave would do nothing.

    A value that asks for nothing (0, false, null, mostly the default too) is let pass.

    Args:
        config: As resolved.
        explicit: Keys that the user gave.

    Raises:
        InputError: Naming the key, its value, and what it would need.
    """
    plain, usual = (c.model_dump(mode="json") for c in (config, PhysConfig()))
    for rule in RULES:
        for key in explicit:
            if rule.counts(config) or not any(_within(key, name) for name in rule.keys):
                continue
            value = _at(plain, key)
            if value and (key in ASKED or value != _at(usual, key)):
                raise InputError(f"{key} = {value} has no effect: it needs {rule.because}")


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _at(plain: Any, key: str) -> Any:
    for name in key.split("."):
        plain = plain[name]
    return plain
