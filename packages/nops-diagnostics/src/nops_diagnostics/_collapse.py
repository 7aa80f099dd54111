"""Does the physics still explain the data, or has a learned residual taken its place?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nops_losses import gaussian_kl, logistic_kl
from torch import Tensor

from nops_diagnostics._layout import as_double

NUM_NODES = 64  # of Gauss-Hermite quadrature over a normal
SHORTFALL = 0.2  # of the variance of x, explained with the correction but not by the physics
IGNORED = 0.01  # nats; a latent below says nothing about the observation
NARROW = 0.1  # of the prior's spread


def residual_ratio(
    x_pb: Float[Tensor, "sample output"],
    x_p: Float[Tensor, "sample output"],
    *,
    cap: float | None = None,
) -> Float[Tensor, "sample"]:
    """‖x_PB − x_P‖ / ‖x_P‖ of each sample: how much of an output is no physics.

    One norm over the outputs, so that no single output near 0 rules it.

    Args:
        x_pb: Physics with its correction, in **physical** units: the ratio of standardised values
            would depend on their mean.
        x_p: Physics alone, same shape and unit.
        cap: Largest value; None for no cap.

    Returns:
        Dimensionless float64; infinite or, where both are 0, NaN over a physics of 0 (the cap, if
        there is one, bounds the infinite).

    Raises:
        ValueError: If the shapes differ, or the cap is not positive.
    """
    if x_pb.shape != x_p.shape or x_p.ndim != 2:
        raise ValueError(
            f"x_pb and x_p have shapes {tuple(x_pb.shape)} and {tuple(x_p.shape)}, expected one shape "
            "(sample, output)."
        )
    if cap is not None and not cap > 0:
        raise ValueError(f"cap must be positive, got {cap}.")
    ratio = (as_double(x_pb) - as_double(x_p)).norm(dim=1) / as_double(x_p).norm(dim=1)
    return ratio if cap is None else ratio.clamp(max=cap)


@dataclass(frozen=True, kw_only=True)
class CollapseReport:
    """Signs that the physics, a latent or the correction is not used; float64.

    Attributes:
        names: Physics latents, P.
        physics_share: Var x_P / (Var x_P + Var(x_PB − x_P)), variances over samples summed over
            outputs: 1 without a correction, 0 for a physics that always says the same.
        explained_physics: 1 − Σ(x − x_P)² / Σ(x − ⟨x⟩)²: what the physics alone explains of the data.
        explained_total: The same of x_PB. Reconstruction sees this one alone.
        z_spread: Standard deviation over samples of z at the posterior means, over that of the
            prior, for each physics latent: 0 where all observations get one value.
        kl_physics: Divergence from the prior for each physics latent, in nats.
        kl_aux: The same for the auxiliary latents, from N(0, 1).
        mean_gain: Mean of the gate, or of the coefficients' magnitudes; None without either.
        effective_rank: Patterns that the correction uses: e to the entropy of the shares of its
            variance along its principal directions; 0 for a constant correction.
        warnings: What looks like a collapse, in words; empty if nothing does.
    """

    names: tuple[str, ...]
    physics_share: float
    explained_physics: float
    explained_total: float
    z_spread: Float[Tensor, "latent"]
    kl_physics: Float[Tensor, "latent"]
    kl_aux: Float[Tensor, "aux"]
    mean_gain: float | None
    effective_rank: float
    warnings: tuple[str, ...]


@torch.no_grad()
def collapse_report(
    model: Any,
    x: Float[Tensor, "sample output"],
    *,
    inputs: Mapping[str, Tensor] | None = None,
    time_features: Float[Tensor, "sample feature"] | None = None,
) -> CollapseReport:
    """Look at a physics-integrated VAE, at its latent means, for signs of collapse.

    Args:
        model: Called as `model(x, inputs=…, time_features=…, hard=True)`, it gives an `encoding`
            (u_mean, u_lnvar, aux_mean, aux_lnvar) and a `decoding` (x_pb, x_p, gain, correction);
            `model.prior_moments()` gives mean and log-variance of a normal prior of u, or None where z
            is uniform; `model.physics.parameter_names` names the latents. `nops_models.PhysicsVAE` is
            such a model.
        x: Observations, standardised as the model takes them, at least 2.
        inputs: Known inputs by name.
        time_features: Of the samples, where the model takes any.

    Returns:
        What was measured, and warnings in words.

    Raises:
        ValueError: If there are fewer than two observations, or the model has no physics.
    """
    if len(x) < 2:
        raise ValueError(f"need at least 2 observations, got {len(x)}.")
    output = model(x, inputs=inputs, time_features=time_features, hard=True)
    encoding, decoding = output.encoding, output.decoding
    if not encoding.u_mean.shape[1]:
        raise ValueError("the model has no physics latents, so no physics that could collapse.")
    u_mean, u_lnvar, aux_mean, aux_lnvar = (as_double(v) for v in encoding)
    x_p, correction = as_double(decoding.x_p), as_double(decoding.correction)
    prior = model.prior_moments()
    total, changed = _variance(x_p), _variance(correction)
    gain = as_double(decoding.gain).abs()
    found = {
        "names": tuple(model.physics.parameter_names),
        "physics_share": total / (total + changed) if total + changed > 0 else math.nan,
        "explained_physics": _explained(x_p, x),
        "explained_total": _explained(as_double(decoding.x_pb), x),
        "z_spread": torch.sigmoid(u_mean).std(0) / _prior_spread(prior, u_mean),
        "kl_physics": _physics_kl(u_mean, u_lnvar, prior),
        "kl_aux": _columns(gaussian_kl, aux_mean, aux_lnvar),
        "mean_gain": gain.mean().item() if gain.numel() else None,
        "effective_rank": effective_rank(correction),
    }
    return CollapseReport(**found, warnings=_warnings(**found))


def _variance(values: Tensor) -> float:
    return values.var(0).sum().item()


def _explained(pred: Tensor, x: Tensor) -> float:
    target = as_double(x)
    left, all_of_it = (pred - target).square().sum(), (target - target.mean(0)).square().sum()
    return (1 - left / all_of_it).item()


def _nodes(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the mean of a function of a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NUM_NODES)
    return like.new_tensor(nodes), like.new_tensor(weights / weights.sum())


def _prior_spread(prior: tuple[Tensor, Tensor] | None, like: Tensor) -> Tensor:
    """Standard deviation of z under its prior, for each latent."""
    if prior is None:
        return like.new_full(like.shape[1:], math.sqrt(1 / 12))
    mean, lnvar = (as_double(v)[:, None] for v in prior)
    nodes, weights = _nodes(like)
    z = torch.sigmoid(mean + (lnvar / 2).exp() * nodes)
    return ((z - (z @ weights)[:, None]).square() @ weights).sqrt()


def _physics_kl(mean: Tensor, lnvar: Tensor, prior: tuple[Tensor, Tensor] | None) -> Tensor:
    if prior is not None:
        prior_mean, prior_lnvar = (as_double(v).expand(mean.shape) for v in prior)
        return _columns(gaussian_kl, mean, lnvar, prior_mean=prior_mean, prior_lnvar=prior_lnvar)
    nodes, weights = _nodes(mean)
    at_each = [_columns(logistic_kl, mean + (lnvar / 2).exp() * e, mean, lnvar) for e in nodes]
    return weights @ torch.stack(at_each)


def _columns(divergence: Any, *moments: Tensor, **prior: Tensor) -> Tensor:
    """Mean over samples of a divergence that sums over latents, for each latent."""
    flat = [v.reshape(-1, 1) for v in moments]
    more = {name: v.reshape(-1, 1) for name, v in prior.items()}
    return divergence(*flat, **more, reduction="none").view(moments[0].shape).mean(0)


def effective_rank(values: Tensor) -> float:
    """Directions that `values [sample, output]` vary along: e to the entropy of their shares."""
    energy = torch.linalg.svdvals(values - values.mean(0)).square()
    if energy.sum() == 0:
        return 0.0
    return torch.special.entr(energy / energy.sum()).sum().exp().item()


def _warnings(**found: Any) -> tuple[str, ...]:
    said = []
    alone, both = found["explained_physics"], found["explained_total"]
    if both - alone > SHORTFALL:
        said.append(
            f"the correction has taken the physics' place: physics alone explains {alone:.0%} of the "
            f"data, with the correction {both:.0%}."
        )
    for name, kl, spread in zip(
        found["names"], found["kl_physics"].tolist(), found["z_spread"].tolist(), strict=True
    ):
        if kl < IGNORED:
            said.append(
                f"the posterior of {name} is its prior ({kl:.2g} nats): it is not inferred."
            )
        elif spread < NARROW:
            said.append(
                f"{name} is nearly one value for all data: {spread:.2g} of the prior's spread."
            )
    if unused := sum(kl < IGNORED for kl in found["kl_aux"].tolist()):
        said.append(f"{unused} of {len(found['kl_aux'])} auxiliary latents are not used.")
    return tuple(said)
