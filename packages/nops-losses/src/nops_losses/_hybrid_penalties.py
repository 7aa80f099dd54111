"""What keeps a learned residual from taking the place of the physics it corrects."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import read_rows, reduce, to_working_dtype
from nops_losses._log_variance import restoring_clamp

Reduction = Literal["mean", "none"]


def gate_penalty(
    gate: Float[Tensor, "sample channel"], *, reduction: Reduction = "mean"
) -> Float[Tensor, "..."]:
    """Mean of a gate over samples and channels: how much of a correction is let through.

    Args:
        gate: Gates, axes (sample, channel), in [0, 1].
        reduction: "mean" averages over samples too, "none" keeps them.

    Returns:
        Dimensionless, in [0, 1], float32 (float64 for float64 gates); exactly 0 without channels.

    Raises:
        ValueError: If the gate has other axes, or `reduction` is unknown.
        TypeError: If it is not real floating point.
    """
    values = read_rows(gate, name="gate")
    return reduce(values.sum(-1) / max(values.shape[-1], 1), reduction)


def residual_penalty(
    delta: Float[Tensor, "sample feature"], *, reduction: Reduction = "mean"
) -> Float[Tensor, "..."]:
    """Σ δ² of a proposed correction, before any gate or strength: it cannot grow behind a shut gate.

    Args:
        delta: Proposed correction δ, axes (sample, feature), any unit; the network that makes it gets
            the gradient.
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        At least 0, in the unit squared, float32 (float64 for float64 corrections); exactly 0 without
        features.

    Raises:
        ValueError: If δ has other axes, or `reduction` is unknown.
        TypeError: If it is not real floating point.
    """
    return reduce(read_rows(delta, name="delta").square().sum(-1), reduction)


def coefficient_penalty(
    c: Float[Tensor, "sample coefficient"], *, reduction: Reduction = "mean"
) -> Float[Tensor, "..."]:
    """Σ c² of the coefficients of a low-rank correction.

    Args:
        c: Coefficients, axes (sample, coefficient), dimensionless.
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        At least 0, dimensionless, float32 (float64 for float64 coefficients); exactly 0 without
        coefficients.

    Raises:
        ValueError: If c has other axes, or `reduction` is unknown.
        TypeError: If it is not real floating point.
    """
    return reduce(read_rows(c, name="c").square().sum(-1), reduction)


def orthogonality_penalty(basis: Float[Tensor, "feature rank"]) -> Float[Tensor, ""]:
    """‖BᵀB − I‖² (Frobenius): 0 where the columns of a basis are orthonormal.

    Args:
        basis: B, axes (feature, rank), dimensionless.

    Returns:
        At least 0, dimensionless, float32 (float64 for a float64 basis); exactly 0 without columns,
        and at least rank − features where there are more columns than features.

    Raises:
        ValueError: If B has other axes.
        TypeError: If it is not real floating point.
    """
    if basis.ndim != 2:
        raise ValueError(f"basis has shape {tuple(basis.shape)}, expected (feature, rank).")
    values = to_working_dtype(basis, name="basis")
    with torch.autocast(values.device.type, enabled=False):
        gram = values.mT @ values
    return (gram - torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)).square().sum()


def edge_penalty(
    z: Float[Tensor, "sample latent"],
    *,
    power: float = 1.0,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Mean over samples and latents of [−ln z − ln(1 − z)]^p: large near the ends of (0, 1).

    Least at z = ½, where it is (2 ln 2)^p.

    Args:
        z: Bounded latents, axes (sample, latent), in [0, 1].
        power: p, positive.
        eps: z is clamped to [eps, 1 − eps], within (0, ½); what lies outside keeps the gradient that
            leads back.
        reduction: "mean" averages over samples too, "none" keeps them.

    Returns:
        Dimensionless, at least (2 ln 2)^p, float32 (float64 for float64 latents); exactly 0 without
        latents.

    Raises:
        ValueError: If z has other axes, or an option is out of range.
        TypeError: If it is not real floating point.
    """
    if not 0 < power < math.inf:
        raise ValueError(f"power must be positive and finite, got {power}.")
    if not 0 < eps < 0.5:
        raise ValueError(f"eps must be within (0, 0.5), got {eps}.")
    inside = restoring_clamp(read_rows(z, name="z"), eps, 1 - eps)
    walls = (-inside.log() - (-inside).log1p()).pow(power)
    return reduce(walls.sum(-1) / max(walls.shape[-1], 1), reduction)


def temporal_smoothness(
    z: Float[Tensor, "..."],
    *,
    dims: slice = slice(0, 3),
    axis: int = -2,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Unbiased variance of latents along a sequence: 0 for a source that stays where it is.

    Args:
        z: Latents, the last axis their number and `axis` the time steps, any unit.
        dims: Which latents count, such as a position but not a volume that changes.
        axis: The sequence; not the last axis.
        reduction: "mean" averages the variances over all that is left, "none" keeps them.

    Returns:
        At least 0, in the unit squared, float32 (float64 for float64 latents); exactly 0 where
        `dims` holds no latent ("mean").

    Raises:
        ValueError: If there are fewer than two steps, `axis` is no axis of a sequence, or `reduction`
            is unknown.
        TypeError: If z is not real floating point.
    """
    values = to_working_dtype(z, name="z")
    if z.ndim < 2 or not -z.ndim <= axis < z.ndim or axis % z.ndim == z.ndim - 1:
        raise ValueError(
            f"z of shape {tuple(z.shape)} has no sequence along axis={axis}; expected "
            "(..., step, latent)."
        )
    if z.shape[axis] < 2:
        raise ValueError(
            f"z of shape {tuple(z.shape)} has {z.shape[axis]} steps along axis={axis}; a variance "
            "needs at least 2."
        )
    chosen = values[..., dims]
    if not chosen.numel():
        return chosen.sum(axis if reduction == "none" else None)
    return reduce(chosen.var(axis), reduction)


def capacity_penalty(
    kl: Float[Tensor, "*axes"], target: float, *, gamma: float = 10.0
) -> Float[Tensor, ""]:
    """γ (KL − C)²: holds a divergence near a capacity, which a schedule may raise.

    Args:
        kl: Divergence in nats, a scalar, or one value per sample, whose mean then counts.
        target: Capacity C in nats, finite and not negative.
        gamma: γ, finite and not negative, in one over nats squared.

    Returns:
        At least 0, dimensionless, float32 (float64 for a float64 divergence).

    Raises:
        ValueError: If an option is out of range, or there is no value.
        TypeError: If the divergence is not real floating point.

    Source:
        Burgess et al., arXiv 1804.03599, with a square in place of the magnitude.
    """
    options = {"target": target, "gamma": gamma}
    for name, value in options.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {value}.")
    if not kl.numel():
        raise ValueError(f"kl has shape {tuple(kl.shape)}: there is no value.")
    return gamma * (to_working_dtype(kl, name="kl").mean() - target).square()
