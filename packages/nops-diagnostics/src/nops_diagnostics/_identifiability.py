"""What an observation of given noise can tell about the parameters of a forward model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nops_diagnostics._layout import as_double

UNIFORM_PRECISION = 12.0  # one over the variance of a uniform number in (0, 1)


@dataclass(frozen=True, kw_only=True)
class Identifiability:
    """Bounds that no estimator beats by much, for parameters z uniform in (0, 1); float64.

    Attributes:
        names: Parameters, P.
        fisher: Information F = JᵀΣ⁻¹J at each sample, (sample, P, P).
        sd: √diag (F + 12 I)⁻¹ at each sample, in units of the parameter's range; √(1/12) = 0.289
            where the observation tells nothing.
        attainable_r2: 1 − 12 ⟨sd²⟩ for each parameter, from 0 to 1.
        condition: Largest over smallest eigenvalue of the mean of F over samples; infinite where a
            direction leaves no trace in the observation.
        weakest: The direction of that smallest eigenvalue: component by name, its largest positive.
    """

    names: tuple[str, ...]
    fisher: Float[Tensor, "sample parameter parameter"]
    sd: Float[Tensor, "sample parameter"]
    attainable_r2: Float[Tensor, "parameter"]
    condition: float
    weakest: dict[str, float]


def identifiability(
    decode: Callable[[Tensor], Tensor],
    z: Float[Tensor, "sample parameter"],
    *,
    noise: float | Tensor,
    names: Sequence[str] | None = None,
) -> Identifiability:
    """Fisher information of noisy outputs about the parameters, with their uniform prior.

    The derivatives are exact, by one backward pass per output.

    Args:
        decode: Differentiable, from z in (0, 1), (sample, P), to (sample, D), each row by itself.
        z: Where to look, such as uniform draws.
        noise: Of the outputs, in their unit: a standard deviation, one per output, (D,), or a
            covariance matrix Σ, (D, D).
        names: Of the parameters; None numbers them.

    Returns:
        Bounds and information of each parameter.

    Raises:
        ValueError: If a shape is another, the noise is not positive (definite), or an output or a
            derivative is not finite.

    Source:
        Bayesian Cramér–Rao bound: van Trees, Detection, Estimation and Modulation Theory (1968),
        with a normal prior of the uniform one's variance.
    """
    names = tuple(f"z{i}" for i in range(z.shape[-1])) if names is None else tuple(names)
    if z.ndim != 2 or not len(z) or z.shape[1] != len(names):
        raise ValueError(
            f"z has shape {tuple(z.shape)}, expected (sample, {len(names)}) for {', '.join(names)}."
        )
    jacobian = _jacobian(decode, z)
    white = torch.linalg.solve_triangular(_root(noise, jacobian), jacobian, upper=False)
    fisher = white.mT @ white
    identity = torch.eye(len(names), dtype=fisher.dtype, device=fisher.device)
    covariance = torch.linalg.inv(fisher + UNIFORM_PRECISION * identity)
    variance = covariance.diagonal(dim1=1, dim2=2)
    condition, weakest = _weakest(fisher.mean(0))
    return Identifiability(
        names=names,
        fisher=fisher,
        sd=variance.sqrt(),
        attainable_r2=1 - UNIFORM_PRECISION * variance.mean(0),
        condition=condition,
        weakest=dict(zip(names, weakest.tolist(), strict=True)),
    )


def _jacobian(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """∂output/∂z for each sample, (sample, D, P), in float64."""
    with torch.enable_grad():
        z = z.detach().clone().requires_grad_()
        output = decode(z)
        if output.ndim != 2 or len(output) != len(z):
            raise ValueError(
                f"decode gave {tuple(output.shape)}, expected ({len(z)}, outputs): a row per sample."
            )
        rows = [torch.autograd.grad(o.sum(), z, retain_graph=True)[0] for o in output.unbind(1)]
    jacobian = as_double(torch.stack(rows, 1))
    if not bool(jacobian.isfinite().all() & output.isfinite().all()):
        raise ValueError("decode gave values or derivatives that are not finite.")
    return jacobian


def _root(noise: float | Tensor, jacobian: Tensor) -> Tensor:
    """Lower triangular root of the noise's covariance, (D, D)."""
    outputs = jacobian.shape[1]
    given = torch.as_tensor(noise, dtype=jacobian.dtype, device=jacobian.device)
    if given.shape == (outputs, outputs) and given.ndim == 2:
        root, failed = torch.linalg.cholesky_ex(given)
        if bool(failed) or not torch.allclose(given, given.mT):
            raise ValueError("noise as a covariance must be symmetric and positive definite.")
        return root
    if given.shape not in ((), (outputs,)):
        raise ValueError(
            f"noise has shape {tuple(given.shape)}, expected a number, ({outputs},) or "
            f"({outputs}, {outputs})."
        )
    if not bool(((given > 0) & given.isfinite()).all()):
        raise ValueError(f"noise must be positive and finite, got {given.min():g} as its least.")
    return torch.diag(given.expand(outputs))


def _weakest(fisher: Tensor) -> tuple[float, Tensor]:
    """Condition number, and the eigenvector of the smallest eigenvalue."""
    values, vectors = torch.linalg.eigh(fisher)
    low, high = values[0].item(), values[-1].item()
    is_lost = low <= len(values) * torch.finfo(values.dtype).eps * high
    vector = vectors[:, 0]
    vector = vector * vector[vector.abs().argmax()].sign()
    return float("inf") if is_lost else high / low, vector
