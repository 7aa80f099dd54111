"""Terms with known gradients: each loss is g·x + c at parameters x, so its gradient is g everywhere."""

from types import SimpleNamespace

import pytest
import torch

PAIR = ((3.0, -4.0, 0.0, 0.0), (0.3, 0.1, -0.2, 0.4))


def linear_terms(rows, *, values=None, split=None):
    """Losses with the gradients `rows`, and the parameters.

    Args:
        rows: A gradient for each term, or a mapping of names to them.
        values: What the losses are worth; 1 each by default.
        split: Entries of the first parameter; the rest is the second. One parameter by default.
    """
    named = rows if isinstance(rows, dict) else dict(zip("abcdefgh", rows, strict=False))
    size = len(next(iter(named.values())))
    sizes = [size] if split is None else [split, size - split]
    params = [torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in sizes]
    x = torch.cat(params)
    worth = values or dict.fromkeys(named, 1.0)
    losses = {
        name: torch.tensor(list(row), dtype=torch.float64) @ x + worth[name]
        for name, row in named.items()
    }
    return losses, params


class Counting(torch.autograd.Function):
    """The identity, which counts how often a backward pass goes through it."""

    @staticmethod
    def forward(ctx, x, calls):
        ctx.calls = calls
        return x.clone()

    @staticmethod
    def backward(ctx, *grads):
        ctx.calls.append(1)
        return grads[0], None


def counted(losses):
    """The losses, and a list that grows by one with each backward pass through one of them."""
    calls = []
    return {name: Counting.apply(loss, calls) for name, loss in losses.items()}, calls


@pytest.fixture
def toy():
    """Terms with known gradients, and a count of backward passes."""
    return SimpleNamespace(terms=linear_terms, counted=counted, pair=PAIR)
