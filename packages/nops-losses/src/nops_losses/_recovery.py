"""Losses against what a known simulation was made from, and between branches of a hybrid model."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from nops_losses._checks import check_same_shape, read_row_pair, read_rows, reduce

Reduction = Literal["mean", "none"]


def logit_recovery_loss(
    u_mean: Float[Tensor, "sample latent"],
    z: Float[Tensor, "sample latent"],
    *,
    eps: float = 1e-4,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Σ (u − logit z)²: does the encoder find the parameters of a simulation?

    Args:
        u_mean: Encoded means u of the simulations, axes (sample, latent), in logits.
        z: What they were simulated from, same shape, in (0, 1); it gets no gradient.
        eps: z is clamped to [eps, 1 − eps], so that logits stay within ±ln((1 − eps)/eps), ±9.21 by
            default; within (0, ½).
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        At least 0, in logits squared, float32 (float64 for float64 means). A zero encoder of uniform
        z expects 3.28578 per latent.

    Raises:
        ValueError: If the shapes differ, `eps` is out of range, or `reduction` is unknown.
        TypeError: If a tensor is not real floating point.
    """
    if not 0 < eps < 0.5:
        raise ValueError(f"eps must be within (0, 0.5), got {eps}.")
    u_mean, z = read_row_pair(u_mean, z.detach(), names=("u_mean", "z"))
    inside = z.clamp(eps, 1 - eps)
    return _squares(u_mean - (inside.log() - (-inside).log1p()), reduction)


def parameter_recovery_loss(
    estimate: Float[Tensor, "sample parameter"],
    truth: Float[Tensor, "sample parameter"],
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Σ (E[ω | x_P(ω*)] − ω*)²: the same as `logit_recovery_loss`, in the parameters' own scale.

    Args:
        estimate: Parameters estimated from simulations, axes (sample, parameter). Terms of several
            units are summed as they are: give them one scale.
        truth: Parameters ω* simulated from, same shape and unit; they get no gradient.
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        At least 0, in the unit squared, float32 (float64 for float64 estimates).

    Raises:
        ValueError: If the shapes differ, or `reduction` is unknown.
        TypeError: If a tensor is not real floating point.

    Source:
        R_DA2 of Takeishi and Kalousis, arXiv 2102.13156.
    """
    estimate, truth = read_row_pair(estimate, truth.detach(), names=("estimate", "truth"))
    return _squares(estimate - truth, reduction)


def unmixing_penalty(
    unmixed: Float[Tensor, "sample feature"],
    x_p: Float[Tensor, "sample feature"],
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Σ (unmixed − sg(x_P))²: an observation with the unmodelled part taken out is physics alone.

    Args:
        unmixed: Observation after unmixing, axes (sample, feature), any unit.
        x_p: Output of the physics, same shape and unit; it gets no gradient.
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        At least 0, in the unit squared, float32 (float64 for float64 inputs).

    Raises:
        ValueError: If the shapes differ, or `reduction` is unknown.
        TypeError: If a tensor is not real floating point.

    Source:
        R_DA1 of Takeishi and Kalousis, arXiv 2102.13156.
    """
    unmixed, x_p = read_row_pair(unmixed, x_p.detach(), names=("unmixed", "x_p"))
    return _squares(unmixed - x_p, reduction)


def branch_consistency_penalty(
    x_p: Float[Tensor, "sample feature"],
    x_pa: Float[Tensor, "sample feature"],
    x_pb: Float[Tensor, "sample feature"],
    x_pab: Float[Tensor, "sample feature"],
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """¼ (‖PA − P‖² + ‖PB − P‖² + ‖PAB − PA‖² + ‖PAB − PB‖²): corrections that change little.

    The mean, over the four ways to switch one of two corrections on, of what it changes.

    Args:
        x_p: Output of the physics P alone, axes (sample, feature), any unit.
        x_pa: With correction A (inside the physics), same shape and unit.
        x_pb: With correction B (of its output).
        x_pab: With both.
        reduction: "mean" averages over samples, "none" keeps them.

    Returns:
        At least 0, in the unit squared, float32 (float64 for float64 inputs). Gradients reach all
        four.

    Raises:
        ValueError: If the shapes differ, or `reduction` is unknown.
        TypeError: If a tensor is not real floating point.

    Source:
        R_PPC of Takeishi and Kalousis, arXiv 2102.13156.
    """
    named = {"x_p": x_p, "x_pa": x_pa, "x_pb": x_pb, "x_pab": x_pab}
    for name, branch in named.items():
        check_same_shape(x_p, branch, names=("x_p", name))
    p, pa, pb, pab = (read_rows(branch, name=name) for name, branch in named.items())
    steps = (pa - p, pb - p, pab - pa, pab - pb)
    total = sum((step.square() for step in steps), start=p.new_zeros(()))
    return reduce(0.25 * total.sum(-1), reduction)


def _squares(difference: Tensor, reduction: Reduction) -> Tensor:
    return reduce(difference.square().sum(-1), reduction)
