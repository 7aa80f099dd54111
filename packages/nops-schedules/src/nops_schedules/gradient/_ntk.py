"""Weights from the trace of the neural tangent kernel of each term's residuals."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from nops_schedules._check import choice, whole
from nops_schedules.gradient._backward import Reduce
from nops_schedules.gradient._balanced import Balance, BalancedWeights
from nops_schedules.gradient._norms import Names
from nops_schedules.gradient._terms import check_known, usable


@final
class NTKWeights(BalancedWeights):
    """Each term is brought to one rate of convergence, as its neural tangent kernel tells.

    The kernel of a term with residuals r_p is K = J Jᵀ, J the derivatives of r by the parameters, and
    tr K = Σ_p |∇r_p|². With t_i = tr K_i / points ("mean", for losses that are means over points) the weight is
    mean_j t_j / t_i; with t_i = tr K_i ("sum", for losses that are sums) it is Σ_j t_j / t_i.

    The residuals come through `note_residuals`, anew for each step at which they are measured. A term whose
    trace is zero keeps its weight. Where one is not finite, all weights stay.

    Args:
        loss_names: The terms, or their base weights by name.
        method: "exact": one backward pass for each point, `chunk` of them in one traversal. "hutchinson":
            |∇(v·r)|² for random signs v, which has the trace as its mean; one pass for each probe.
        probes: Random vectors of "hutchinson".
        reduction: How the losses are made of their residuals' squares.
        ema: Share of the old weight at a measurement, in [0, 1); the first counts in full.
        every: Steps from one measurement to the next.
        chunk: Points in one traversal of "exact"; memory grows with it.
        seed: Of the random signs, drawn from it and the step.
        min_weight: Smallest weight.
        max_weight: Largest weight.

    Source:
        Wang, Yu and Perdikaris, arXiv 2007.14527 ("sum"); Hutchinson, Commun. Stat. Simul. 18 (1989).
    """

    def __init__(
        self,
        loss_names: Names,
        *,
        method: str = "exact",
        probes: int = 1,
        reduction: str = "mean",
        ema: float = 0.9,
        every: int = 100,
        chunk: int = 256,
        seed: int = 0,
        min_weight: float = 1e-4,
        max_weight: float = 1e4,
    ) -> None:
        super().__init__(
            loss_names, ema=ema, every=every, min_weight=min_weight, max_weight=max_weight
        )
        self._method: str = choice("exact", "hutchinson")("method", method)
        self._reduction: str = choice("mean", "sum")("reduction", reduction)
        self._probes = whole(1)("probes", probes)
        self._chunk = whole(1)("chunk", chunk)
        self._seed = whole(0)("seed", seed)
        self._noted: dict[str, Tensor] = {}

    def note_residuals(self, vectors: Mapping[str, Tensor]) -> None:
        """Take the residuals of terms, with their graphs, for the next `balance`.

        Args:
            vectors: Residuals by term, any shape, an entry for each point.

        Raises:
            KeyError: If one is of no term of this weighting.
        """
        check_known(vectors, self.terms)
        self._noted.update(vectors)

    def _refreshed(
        self,
        losses: Mapping[str, Tensor],
        params: Sequence[Tensor],
        *,
        step: int,
        reduce: Reduce | None,
    ) -> Balance | None:
        if missing := [name for name in losses if name not in self._noted]:
            raise ValueError(
                f"no residuals of {missing}: hand them to note_residuals({{name: vector}}) before balance; "
                "under an engine the task does so, through its attribute note_residuals."
            )
        traces = self._traces(losses, params, step, reduce)
        if not all(map(math.isfinite, traces.values())):
            return None
        found = {name: trace for name, trace in traces.items() if usable(trace)}
        total = sum(found.values())
        if self._reduction == "mean":
            total /= max(len(found), 1)
        return self._blend({name: total / trace for name, trace in found.items()})

    def _traces(
        self, names: Iterable[str], params: Sequence[Tensor], step: int, reduce: Reduce | None
    ) -> dict[str, float]:
        """By term: the trace over all ranks, for each point under "mean"."""
        generator = torch.Generator().manual_seed(mixed(self._seed, step))
        rows = []
        for name in names:
            residual = self._noted[name].reshape(-1)
            trace = self._trace(residual, params, generator)
            rows.append(torch.stack([trace, torch.full_like(trace, residual.numel())]))
        sums = torch.stack(rows) if reduce is None else reduce(torch.stack(rows))
        per = sums[:, 0] / sums[:, 1] if self._reduction == "mean" else sums[:, 0]
        return dict(zip(names, per.tolist(), strict=True))

    def _trace(self, residual: Tensor, params: Sequence[Tensor], draws: torch.Generator) -> Tensor:
        if not residual.requires_grad:
            return torch.zeros((), dtype=torch.float64, device=residual.device)
        if self._method == "exact":
            return exact_trace(residual, params, chunk=self._chunk)
        return hutchinson_trace(residual, params, probes=self._probes, generator=draws)


def exact_trace(
    residual: Float[Tensor, " n"], params: Sequence[Tensor], *, chunk: int
) -> Float[Tensor, ""]:
    """The trace of J Jᵀ, in float64: all squared derivatives of the residuals; the graph is kept.

    Args:
        residual: One entry for each point.
        params: What J is taken by.
        chunk: Rows of J in memory at once.
    """
    total = torch.zeros((), dtype=torch.float64, device=residual.device)
    for start in range(0, len(residual), chunk):
        count = min(chunk, len(residual) - start)
        picks = residual.new_zeros(count, len(residual))
        picks[:, start : start + count].fill_diagonal_(1.0)
        total += _squares(residual, params, picks, batched=True)
    return total


def hutchinson_trace(
    residual: Float[Tensor, " n"],
    params: Sequence[Tensor],
    *,
    probes: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """An estimate of tr J Jᵀ without bias, in float64: the mean of |∇(v·r)|² over random signs v.

    Args:
        residual: One entry for each point; the graph is kept.
        params: What J is taken by.
        probes: How many v.
        generator: On the host; gives the signs, so that they are the same on any device.
    """
    total = torch.zeros((), dtype=torch.float64, device=residual.device)
    for _ in range(probes):
        signs = torch.randint(0, 2, (len(residual),), generator=generator) * 2 - 1
        total += _squares(residual, params, signs.to(residual), batched=False)
    return total / probes


def _squares(residual: Tensor, params: Sequence[Tensor], along: Tensor, *, batched: bool) -> Tensor:
    parts = torch.autograd.grad(
        residual, params, along, retain_graph=True, allow_unused=True, is_grads_batched=batched
    )
    held = [part.abs().double().square().sum() for part in parts if part is not None]
    zero = torch.zeros((), dtype=torch.float64, device=residual.device)
    return torch.stack([part.to(zero.device) for part in held]).sum() if held else zero


def mixed(seed: int, step: int) -> int:
    """One seed of two numbers."""
    digest = hashlib.sha256(f"{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
