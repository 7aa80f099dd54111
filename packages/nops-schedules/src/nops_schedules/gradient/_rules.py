"""How the gradients of m terms are joined: coefficients of the rows of a Jacobian, from its Gram matrix alone.

Each rule takes G = J Jᵀ in float64, whose rows are all above zero, and gives a so that the joint gradient is Jᵀa.
All are homogeneous: rows times c give a gradient times c.
"""

import random
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from nops_schedules.gradient._simplex import nearest_above, smallest_bound, smallest_mix

Gram = Float[Tensor, "m m"]
Coefficients = Float[Tensor, " m"]
RANK = 1e-12  # eigenvalues below this share of the largest are taken for zero: 1e-6 of a singular value
REGULAR = 1e-10  # added to cosines, so that rows that depend on each other leave one answer


def of_present(rule: Callable[[Tensor], Tensor], gram: Gram) -> Coefficients:
    """A rule applied to the rows that are not zero; the others get 0. NaN where G is not finite."""
    if not gram.isfinite().all():
        return torch.full_like(gram[0], torch.nan)
    present = gram.diagonal() > 0
    found = torch.zeros_like(gram[0])
    if present.any():
        found[present] = rule(gram[present][:, present])
    return found


def config(gram: Gram) -> Coefficients:
    """The direction with the same cosine to all rows, as long as the rows' projections onto it together.

    d = Uᵀ(UUᵀ)⁺1 of the unit rows U, and the gradient is (Σ g_i·d̂) d̂. Zero where no direction is common.

    Source:
        Liu, Chu and Thuerey, *ConFIG*, arXiv 2408.11104.
    """
    norms, even = _even(gram)
    if even is None:
        return torch.zeros_like(norms)
    beta, cosines = even
    length = torch.sqrt(beta @ cosines @ beta)
    return (norms * (cosines @ beta)).sum() / length**2 * beta / norms


def imtl_g(gram: Gram) -> Coefficients:
    """The mix, of coefficients with the sum 1, whose projections onto all unit rows are equal.

    Zero where no direction is common. The sum of the coefficients is fixed, not their sign: where rows conflict
    strongly the mix can point against all of them, which ConFIG, of the same direction but for the sign,
    never does.

    Source:
        Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
    """
    norms, even = _even(gram)
    if even is None:
        return torch.zeros_like(norms)
    raw = even[0] / norms
    total = raw.sum()
    return raw / total if total != 0 else torch.zeros_like(norms)


def pc_grad(gram: Gram, *, draws: random.Random) -> Coefficients:
    """The sum of the rows, each freed of its conflict with every other, in random order.

    Source:
        Yu et al., *Gradient Surgery for Multi-Task Learning*, arXiv 2001.06782.
    """
    m = len(gram)
    products = gram.tolist()
    total = [0.0] * m
    for i in range(m):
        mix = [float(k == i) for k in range(m)]
        others = [k for k in range(m) if k != i]
        draws.shuffle(others)
        for j in others:
            along = sum(c * products[k][j] for k, c in enumerate(mix))
            mix[j] -= min(along, 0.0) / products[j][j]
        total = [a + b for a, b in zip(total, mix, strict=True)]
    return gram.new_tensor(total)


def mgda(gram: Gram) -> Coefficients:
    """The shortest mix with coefficients on the simplex.

    Source:
        Désidéri, C. R. Acad. Sci. Paris I 350 (2012).
    """
    return gram.new_tensor(smallest_mix(gram.tolist()))


def ca_grad(gram: Gram, *, radius: float) -> Coefficients:
    """The mean row plus the vector, `radius` times as long, that lets the worst row gain most.

    Zero where a mix of the rows vanishes that is the worst case.

    Source:
        Liu et al., *Conflict-Averse Gradient Descent*, arXiv 2110.14048.
    """
    m = len(gram)
    mean = torch.full_like(gram[0], 1 / m)
    w = gram.new_tensor(smallest_bound(gram.tolist(), radius=radius))
    reach = radius * torch.sqrt((mean @ gram @ mean).clamp_min(0))
    length = torch.sqrt((w @ gram @ w).clamp_min(0))
    if length <= 1e-9 * gram.trace().sqrt():
        return torch.zeros_like(mean)
    return mean + reach / length * w


def aligned_mtl(gram: Gram) -> Coefficients:
    """The mean of the rows after their principal directions were made equally long: as long as the shortest.

    Source:
        Senushkin, Patakin, Kuznetsov and Konushin, *Independent Component Alignment*, arXiv 2305.19000.
    """
    values, vectors = torch.linalg.eigh(gram)
    kept = values > RANK * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    mean = torch.full_like(gram[0], 1 / len(gram))
    return values[0].sqrt() * vectors @ (vectors.T @ mean / values.sqrt())


def upgrad(gram: Gram) -> Coefficients:
    """The mean of the rows, each moved as little as makes it conflict with no row.

    Source:
        Quinton and Rey, *Jacobian Descent for Multi-Objective Optimization*, arXiv 2406.16232.
    """
    norms, cosines = _cosines(gram)
    m = len(gram)
    # On unit rows the problem does not depend on how large the gradients are.
    regular = (cosines + REGULAR * torch.eye(m, dtype=gram.dtype)).tolist()
    total = [0.0] * m
    for i, norm in enumerate(norms.tolist()):
        lower = [norm / m if k == i else 0.0 for k in range(m)]
        total = [a + b for a, b in zip(total, nearest_above(regular, lower), strict=True)]
    return gram.new_tensor(total) / norms


def _cosines(gram: Gram) -> tuple[Tensor, Tensor]:
    norms = gram.diagonal().sqrt()
    return norms, gram / norms / norms[:, None]


def _even(gram: Gram) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Row norms; and coefficients of unit rows with equal products, beside the cosines. None where none is common."""
    norms, cosines = _cosines(gram)
    beta = torch.linalg.pinv(cosines, hermitian=True, rtol=RANK).sum(dim=1)
    if beta @ cosines @ beta <= RANK:
        return norms, None
    return norms, (beta, cosines)
