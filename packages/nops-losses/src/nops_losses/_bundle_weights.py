"""The weights of the loss bundle: their keys, and what each term weighs at an epoch."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from nops_losses._curriculum import curriculum_weight
from nops_losses._names import did_you_mean

KEYS = {
    "L_forward": "lambda_forward",
    "L_inv_enc": "lambda_inv_enc",
    "L_inv_dec": "lambda_inv_dec",
    "L_rollout": "lambda_rollout",
    "L_spec": "lambda_spectral",
}
RAMPED = ("L_inv_enc", "L_inv_dec")
DEFAULTS = {
    **dict.fromkeys(KEYS.values(), 0.0),
    "lambda_forward": 1.0,
    "inverse_loss_warmup_epochs": 15.0,
    "inverse_loss_max_weight": 0.05,
}


class TermWeights(NamedTuple):
    """Weight of each term by name.

    Attributes:
        base: At full strength; above 0 the term is wanted.
        now: At the epoch.
    """

    base: dict[str, float]
    now: dict[str, float]


def term_weights(weights: Mapping[str, float] | None, epoch: float | None) -> TermWeights:
    """What each of the five terms weighs.

    Raises:
        ValueError: If a key is unknown, or a number negative or not finite.
    """
    given = dict(weights or {})
    for key, value in given.items():
        if key not in DEFAULTS:
            hint = did_you_mean(key, DEFAULTS)
            raise ValueError(f"weights has no key {key!r}; it has {sorted(DEFAULTS)}.{hint}")
        if not 0 <= value < math.inf:
            raise ValueError(f"weights: {key} must be finite and not negative, got {value}.")
    if epoch is not None and not 0 <= epoch < math.inf:
        raise ValueError(f"current_epoch is counted from 0, got {epoch}.")
    settings = {**DEFAULTS, **given}
    base = {term: float(settings[key]) for term, key in KEYS.items()}
    ramp = {
        "warmup_epochs": settings["inverse_loss_warmup_epochs"],
        "max_weight": settings["inverse_loss_max_weight"],
    }
    ramped = {term: curriculum_weight(epoch, base[term], **ramp) for term in RAMPED}
    return TermWeights(base, {**base, **ramped})
