"""Kullback–Leibler divergences of a posterior from its prior."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from nops_losses._checks import (
    check_same_shape,
    read_row_pair,
    read_rows,
    reduce,
    to_working_dtype,
)
from nops_losses._log_variance import bound_log_variance

LN_TWO_PI = 1.8378770664093453


def gaussian_kl(
    mean: Float[Tensor, "sample latent"],
    lnvar: Float[Tensor, "sample latent"],
    *,
    prior_mean: Float[Tensor, "..."] | None = None,
    prior_lnvar: Float[Tensor, "..."] | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """½ Σ [e^(l−l₀) − 1 − (l − l₀) + (m₀ − m)² e^(−l₀)]: KL of N(m, e^l) from N(m₀, e^(l₀)).

    Summed over independent latents, so that each counts by what its posterior knows, not by how
    many there are.

    Args:
        mean: Posterior means m, axes (sample, latent), in the latents' unit.
        lnvar: Posterior log-variances l, same shape; they are taken as they are, bound them before.
        prior_mean: Means m₀, (latent,) or (sample, latent); None is 0.
        prior_lnvar: Log-variances l₀, (latent,) or (sample, latent); None is 0.
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        In nats, at least 0, float32 (float64 for float64 means); exactly 0 without latents and
        where posterior and prior are equal. Gradients flow into the prior too.

    Raises:
        ValueError: If a shape is another one, or `reduction` is unknown.
        TypeError: If a tensor is not real floating point.

    Source:
        Kingma and Welling, arXiv 1312.6114, appendix B.
    """
    mean, lnvar = read_row_pair(mean, lnvar, names=("mean", "lnvar"))
    shift = mean if prior_mean is None else mean - _prior("prior_mean", prior_mean, mean)
    if prior_lnvar is None:
        return reduce(_halved(lnvar, shift.square()), reduction)
    prior = _prior("prior_lnvar", prior_lnvar, lnvar)
    return reduce(_halved(lnvar - prior, shift.square() * (-prior).exp()), reduction)


def _prior(name: str, prior: Tensor, beside: Tensor) -> Tensor:
    if prior.shape not in (beside.shape, beside.shape[1:]):
        raise ValueError(
            f"{name} has shape {tuple(prior.shape)}, expected {tuple(beside.shape[1:])} or "
            f"{tuple(beside.shape)}."
        )
    return to_working_dtype(prior, name=name)


def _halved(log_ratio: Tensor, shift: Tensor) -> Tensor:
    """½ Σ [e^r − 1 − r + s]; expm1 keeps the digits of small ratios."""
    return 0.5 * (log_ratio.expm1() - log_ratio + shift).sum(-1)


def kldiv_normal_normal(
    mean: Float[Tensor, "sample latent"],
    lnvar: Float[Tensor, "sample ..."],
    prior_mean: Float[Tensor, "sample latent"],
    prior_lnvar: Float[Tensor, "sample ..."],
) -> Float[Tensor, "sample"]:
    """KL of N(m, e^l) from N(m₀, e^(l₀)) per sample, both log-variances clamped to [−9, 5].

    `gaussian_kl` under the name that physics-integrated VAEs know it by. The clamp has gradient 0
    outside; `bound_log_variance` has not.

    Args:
        mean: Posterior means m, axes (sample, latent).
        lnvar: Log-variances l of that shape, or (sample,): one variance for all latents.
        prior_mean: Prior means m₀, shape of `mean`.
        prior_lnvar: Log-variances l₀, shape of `lnvar`.

    Returns:
        In nats, one value per sample, float32 (float64 for float64 means).

    Raises:
        ValueError: If shapes differ, or one log-variance is per sample and the other per latent.
        TypeError: If a tensor is not real floating point.

    Source:
        The code of Takeishi and Kalousis, arXiv 2102.13156, with a clamp.
    """
    check_same_shape(lnvar, prior_lnvar, names=("lnvar", "prior_lnvar"))
    mean, prior_mean = read_row_pair(mean, prior_mean, names=("mean", "prior_mean"))
    if lnvar.shape not in (mean.shape, mean.shape[:1]):
        raise ValueError(
            f"lnvar has shape {tuple(lnvar.shape)}, expected {tuple(mean.shape)} or "
            f"{tuple(mean.shape[:1])}."
        )
    spread, prior = (
        bound_log_variance(value if value.ndim == 2 else value[:, None], mode="hard")
        for value in (lnvar, prior_lnvar)
    )
    options = {"prior_mean": prior_mean, "prior_lnvar": prior.expand(mean.shape)}
    return gaussian_kl(mean, spread.expand(mean.shape), **options, reduction="none")


def logistic_kl(
    u: Float[Tensor, "sample latent"],
    mean: Float[Tensor, "sample latent"],
    lnvar: Float[Tensor, "sample latent"],
    *,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "..."]:
    """Σ [ln q(u) − ln p(u)] at one draw u of q = N(m, e^l); p is the standard logistic.

    u = logit z is logistic where z is uniform on (0, 1): this is the KL to a uniform prior over
    bounded parameters, estimated from one draw. Its mean over draws is the divergence; a single value
    may be negative.

    Args:
        u: The draw, axes (sample, latent), in logits; draw it as m + e^(l/2)·ε, so that gradients
            reach m and l through it.
        mean: Posterior means m, same shape.
        lnvar: Posterior log-variances l, same shape, taken as they are.
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        In nats, float32 (float64 for float64 draws); exactly 0 without latents.

    Raises:
        ValueError: If the shapes differ, or `reduction` is unknown.
        TypeError: If a tensor is not real floating point.
    """
    u, mean = read_row_pair(u, mean, names=("u", "mean"))
    check_same_shape(mean, lnvar, names=("mean", "lnvar"))
    lnvar = read_rows(lnvar, name="lnvar")
    posterior = -0.5 * (LN_TWO_PI + lnvar + (u - mean).square() * (-lnvar).exp())
    prior = -u - 2 * softplus(-u)
    return reduce((posterior - prior).sum(-1), reduction)
