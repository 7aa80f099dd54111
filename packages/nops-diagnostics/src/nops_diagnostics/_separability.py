"""How well kinds of samples can be told apart by what was inferred of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import as_double


def jeffries_matusita(
    values: Float[Tensor, "sample feature"], kinds: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Jeffries–Matusita distance of each pair of kinds, each taken as a normal.

    √(2(1 − e^{−B})) with the Bhattacharyya distance B = ⅛ΔᵀS⁻¹Δ + ½ ln(det S / √(det S₁ det S₂)),
    S = (S₁ + S₂)/2, of means Δ apart and covariances S₁, S₂.

    Args:
        values: Features of each sample, any units: the distance does not depend on them.
        kinds: Kind of each sample; those with too few samples for a covariance, no more than
            features, are left out.

    Returns:
        By pair in alphabetical order: 0 for equal normals, √2 for such as never overlap; float64.

    Raises:
        ValueError: If there is not one kind per sample, or the features of a kind depend on each
            other linearly.

    Source:
        Matusita, Ann. Math. Stat. 26 (1955); Richards, Remote Sensing Digital Image Analysis.
    """
    if len(kinds) != len(values):
        raise ValueError(f"need a kind per sample, got {len(kinds)} for {len(values)}.")
    moments = {}
    for kind in sorted(set(kinds)):
        rows = as_double(values)[torch.tensor([k == kind for k in kinds], device=values.device)]
        if len(rows) > rows.shape[1]:
            covariance = torch.atleast_2d(torch.cov(rows.T))
            if not torch.linalg.slogdet(covariance)[1].isfinite():
                raise ValueError(f"the features of kind {kind!r} depend on each other linearly.")
            moments[kind] = rows.mean(0), covariance
    names = list(moments)
    return {
        (one, other): _distance(*moments[one], *moments[other])
        for i, one in enumerate(names)
        for other in names[i + 1 :]
    }


def _distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other: Tensor) -> float:
    middle, shift = (covariance + other) / 2, mean - other_mean
    logs = [torch.linalg.slogdet(s)[1] for s in (middle, covariance, other)]
    apart = shift @ torch.linalg.solve(middle, shift) / 8 + (logs[0] - (logs[1] + logs[2]) / 2) / 2
    return (2 * -torch.expm1(-apart)).clamp(min=0).sqrt().item()
