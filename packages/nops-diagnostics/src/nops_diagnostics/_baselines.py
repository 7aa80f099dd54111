"""What a reconstruction has to beat: the best linear one, and the best that the physics can do."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.quasirandom import SobolEngine

from nops_diagnostics._layout import as_double
from nops_diagnostics._pod import proper_modes

LOGIT_RANGE = 13.8  # z from 1e-6 to 1 − 1e-6, which float32 tells from 1
START_RANGE = (0.05, 0.95)


def pca_baseline(
    train: Float[Tensor, "sample feature"],
    test: Float[Tensor, "row feature"],
    *,
    ranks: Sequence[int],
) -> dict[int, float]:
    """Squared error, summed over features, of reconstructing rows by k principal components.

    Args:
        train: Rows that mean and components are taken from, (sample, feature), standardised.
        test: Rows that are reconstructed, same features and unit.
        ranks: Numbers of components k; 0 is the mean of the training rows alone.

    Returns:
        Mean over the test rows of Σ (x − x̂)² for each k, in the unit squared.

    Raises:
        ValueError: If widths differ, a rank is out of range, or a value is not finite.
    """
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or not len(test):
        raise ValueError(
            f"train and test have shapes {tuple(train.shape)} and {tuple(test.shape)}, expected "
            "(sample, feature) with the same features."
        )
    most = min(train.shape)
    if bad := [k for k in ranks if not 0 <= k <= most]:
        raise ValueError(f"ranks {bad} are outside 0 to {most} of {tuple(train.shape)} rows.")
    if not bool(test.isfinite().all()):
        raise ValueError("test holds values that are not finite.")
    modes = proper_modes(train[:, None, None], spatial_dims=1)
    change = as_double(test) - modes.mean
    coefficients = modes.project(test[:, None, None])[:, 0, 0]
    return {k: _left(change, coefficients[:, :k], modes.modes[0, :k]) for k in ranks}


def _left(change: Tensor, coefficients: Tensor, modes: Tensor) -> float:
    return (change - coefficients @ modes).square().sum(1).mean().item()


@dataclass(frozen=True, kw_only=True)
class OracleFit:
    """The best that a forward model can do for each observation.

    Attributes:
        z: Best parameters in (0, 1), (sample, P).
        pred: Their outputs, (sample, D).
        error: Σ (pred − x)² of each observation, (sample,), in its unit squared.
    """

    z: Float[Tensor, "sample parameter"]
    pred: Float[Tensor, "sample output"]
    error: Float[Tensor, "sample"]


def oracle_fit(
    decode: Callable[[Tensor], Tensor],
    x: Float[Tensor, "sample output"],
    *,
    dim: int,
    starts: int = 8,
    steps: int = 1200,
    lr: float = 0.05,
    seed: int = 0,
) -> OracleFit:
    """Fit the parameters of each observation by itself: least squares in logits, by Adam.

    From several starts spread over (0.05, 0.95)^P, the same for all observations; of everything
    visited, each observation keeps its best. No encoder reconstructs better through the same physics.

    Args:
        decode: Differentiable, from z in (0, 1), (sample, P), to (sample, D), each row by itself; it
            may hold known inputs of each observation.
        x: Observations, (sample, D), as `decode` gives them.
        dim: Parameters P.
        starts: Number of starts, at least 1.
        steps: Steps of Adam from each.
        lr: Its learning rate, in logits.
        seed: Of the starts.

    Returns:
        The best parameters of each observation, and their errors.

    Raises:
        ValueError: If an option is out of range, `decode` gives another shape, x is not finite, or no
            start of some observation gives a finite error.
    """
    if min(dim, starts, steps) < 1 or not 0 < lr < math.inf:
        raise ValueError(
            f"need dim, starts, steps >= 1 and lr > 0, got {dim}, {starts}, {steps}, {lr}."
        )
    if not bool(x.isfinite().all()):
        raise ValueError("x holds values that are not finite.")
    low, high = START_RANGE
    unit = SobolEngine(dim, scramble=True, seed=seed).draw(starts).to(x)
    best_z, best = x.new_full((len(x), dim), 0.5), x.new_full((len(x),), math.inf)
    for start in (low + (high - low) * unit).logit():
        found_z, found = _descend(decode, x, start.expand(len(x), dim), steps, lr)
        is_better = found < best
        best_z, best = found_z.where(is_better[:, None], best_z), found.where(is_better, best)
    if not bool(best.isfinite().all()):
        rows = (~best.isfinite()).nonzero().flatten().tolist()
        raise ValueError(f"decode gives no finite error for the observations {rows[:8]}.")
    with torch.no_grad():
        return OracleFit(z=best_z, pred=decode(best_z), error=best)


@torch.enable_grad()
def _descend(
    decode: Callable[[Tensor], Tensor], x: Tensor, start: Tensor, steps: int, lr: float
) -> tuple[Tensor, Tensor]:
    """Best parameters on the way from a start, and their errors."""
    u = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([u], lr=lr)
    best_z, best = u.detach().sigmoid(), x.new_full((len(x),), math.inf)
    for _ in range(steps + 1):
        z = torch.sigmoid(u)
        error = _errors(decode(z), x)
        is_better = error.detach() < best
        best = error.detach().where(is_better, best)
        best_z = z.detach().where(is_better[:, None], best_z)
        (u.grad,) = torch.autograd.grad(error.sum(), u)
        optimizer.step()
        u.data.clamp_(-LOGIT_RANGE, LOGIT_RANGE)
    return best_z, best


def _errors(pred: Tensor, x: Tensor) -> Tensor:
    if pred.shape != x.shape:
        raise ValueError(f"decode gave {tuple(pred.shape)}, x has {tuple(x.shape)}.")
    return (pred - x).square().sum(1)
