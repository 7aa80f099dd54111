"""Gradients of single loss terms as flat vectors: one backward pass each, over the term's own graph.

P is the number of real entries of all trained parameters; a complex entry counts twice.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over the ranks, in place or not, and returns the sum."""

COLUMNS = 1 << 20  # of a Jacobian that are multiplied in float64 at once


def trained(params: Sequence[Tensor]) -> list[Tensor]:
    """The parameters that require a gradient.

    Raises:
        ValueError: If there is none.
    """
    found = [p for p in params if p.requires_grad]
    if not found:
        raise ValueError(f"none of the {len(params)} parameters requires a gradient.")
    return found


def parts_of(loss: Tensor, params: Sequence[Tensor], *, keep: bool) -> list[Tensor | None]:
    """The gradient of a scalar by parameter, None where it does not reach one.

    Args:
        loss: With or without a graph.
        params: Those of `trained`.
        keep: Whether the graph is needed again.
    """
    if not loss.requires_grad:
        return [None] * len(params)
    return list(torch.autograd.grad(loss, params, retain_graph=keep, allow_unused=True))


def zero_rows(count: int, params: Sequence[Tensor]) -> Float[Tensor, "count P"]:
    """Zeros for that many flat gradients, in float32 at least."""
    dtype = torch.float32
    for p in params:
        dtype = torch.promote_types(dtype, p.dtype.to_real())
    total = sum(map(_size, params))
    return torch.zeros(count, total, dtype=dtype, device=params[0].device)


def add_parts(
    row: Float[Tensor, " P"], parts: Sequence[Tensor | None], params: Sequence[Tensor]
) -> None:
    """Add a gradient by parameter to a flat one, in place; None counts as zeros."""
    for piece, part in zip(row.split([_size(p) for p in params]), parts, strict=True):
        if part is not None:
            piece += _real(part).reshape(-1)


def flat_gradient(loss: Tensor, params: Sequence[Tensor]) -> Float[Tensor, " P"]:
    """The gradient of a scalar as one vector; the graph is kept."""
    row = zero_rows(1, params)[0]
    add_parts(row, parts_of(loss, params, keep=True), params)
    return row


def add_to_grad(
    row: Float[Tensor, " P"], params: Sequence[Tensor], reached: Sequence[bool]
) -> None:
    """Add a flat gradient to `.grad` of each parameter that some term reaches, as `backward` does."""
    pieces = row.split([_size(p) for p in params])
    for p, piece, has_one in zip(params, pieces, reached, strict=True):
        if has_one:
            part = piece.view(*p.shape, 2) if p.is_complex() else piece.view(p.shape)
            part = torch.view_as_complex(part) if p.is_complex() else part
            p.grad = part.to(p.dtype) if p.grad is None else p.grad + part


def jacobian(losses: Mapping[str, Tensor], params: Sequence[Tensor]) -> Float[Tensor, "m P"]:
    """Gradients of loss terms, a row for each in the order given; graphs are kept.

    Args:
        losses: Scalars by name. One without a graph, or that reaches no parameter, gives a row of zeros.
        params: Those without `requires_grad` are left out.

    Returns:
        Float32, or the parameters' type where that is wider. A complex parameter has real and imaginary
        parts in turn.

    Raises:
        ValueError: If no parameter requires a gradient.
    """
    used = trained(params)
    rows = zero_rows(len(losses), used)
    for row, loss in zip(rows, losses.values(), strict=True):
        add_parts(row, parts_of(loss, used, keep=True), used)
    return rows


def gram(rows: Float[Tensor, "m P"]) -> Float[Tensor, "m m"]:
    """Inner products of the rows, summed in float64, on the host."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for piece in rows.split(COLUMNS, dim=1):
        wide = piece.double()
        total += wide @ wide.T
    return total.cpu()


def gradient_stats(
    losses: Mapping[str, Tensor],
    params: Sequence[Tensor],
    *,
    reduce: Reduce | None = None,
) -> dict[str, list[float] | list[list[float]]]:
    """How large the gradients of the terms are, and how they point to each other; graphs are kept.

    Args:
        losses: m scalars by name.
        params: Those without `requires_grad` are left out.
        reduce: Sums the gradients over ranks, of which each has a part of the losses.

    Returns:
        "norm": the m 2-norms. "cosine": m rows of m cosines, 0 beside a gradient of zero.

    Raises:
        ValueError: If no parameter requires a gradient.
    """
    rows = jacobian(losses, params)
    products = gram(rows if reduce is None else reduce(rows))
    norms = products.diagonal().sqrt()
    scale = torch.where(norms > 0, norms, 1.0)
    return {"cosine": (products / scale / scale[:, None]).tolist(), "norm": norms.tolist()}


def _size(p: Tensor) -> int:
    return p.numel() * (2 if p.is_complex() else 1)


def _real(part: Tensor) -> Tensor:
    return torch.view_as_real(part.resolve_conj()) if part.is_complex() else part
