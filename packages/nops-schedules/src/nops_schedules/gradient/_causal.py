"""Weights along time: later residuals count once the earlier ones are small."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from nops_schedules._check import fraction, number, positive, sequence, whole
from nops_schedules.gradient._points import PointScheme
from nops_schedules.gradient._terms import VERSION, check_saved_by


@final
class CausalWeights(PointScheme):
    """Time in chunks, each weighed by how small the residuals before it are.

    With L_k the mean squared residual of chunk k, w_k = exp(−ε Σ_{j<k} L_j), held constant, and the loss is
    the mean of w_k L_k over the chunks that have a point. The first weight is exactly 1. Once the smallest
    is above `delta`, the next ε is taken. Points may be drawn anew for each step; give them to one `loss`
    call, since a part of them has weights of its own.

    Where several ranks make a step, `loss` sums the chunks over them: its value is then this rank's part,
    whose mean by the number of points is the loss of all.

    Args:
        chunks: How many, of equal length.
        tolerances: The ε in turn, each in 1 / L.
        delta: Smallest weight at which the next ε is due, in [0, 1).
        t_range: First and last time, in the unit of `time`.

    Source:
        Wang, Sankaran and Perdikaris, arXiv 2203.07404.
    """

    takes_time = True

    def __init__(
        self,
        chunks: int = 32,
        *,
        tolerances: Sequence[float] = (1e-2, 1e-1, 1.0, 10.0, 100.0),
        delta: float = 0.99,
        t_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._chunks: int = whole(1)("chunks", chunks)
        self._tolerances = _checked_tolerances(tolerances)
        self._delta: float = fraction("delta", delta)
        self._start, self._stop = _checked_range(t_range)
        self._stage = 0
        self._weights = torch.ones(self._chunks, dtype=torch.float64)
        self._seen: Tensor | None = None  # smallest of each weight since the last step

    def __repr__(self) -> str:
        return f"CausalWeights({self._chunks} chunks, tolerance {self.tolerance:g})"

    @property
    def tolerance(self) -> float:
        """The ε in force."""
        return self._tolerances[self._stage]

    @property
    def weights(self) -> Float[Tensor, " chunks"]:
        """The weight of each chunk at the last step, float64, dimensionless; 1 before the first. A copy."""
        return self._weights.clone()

    def loss(self, residual: Tensor, time: Tensor) -> Float[Tensor, ""]:
        """The weighted mean over the chunks, differentiable in the residuals and not in the weights.

        Args:
            residual: One entry for each point, of any shape.
            time: As many, within `t_range`.

        Returns:
            In the unit of the residual squared.

        Raises:
            ValueError: If a time is outside of `t_range`, or there are more or fewer than residuals.
        """
        squares = residual.reshape(-1).square()
        place = self._places(squares, time)
        zeros = squares.new_zeros(self._chunks)
        own = zeros.index_add(0, place, squares)
        counts = zeros.double().index_add(0, place, torch.ones_like(squares, dtype=torch.float64))
        both = self._summed(torch.stack([own.detach().double(), counts]))
        means = both[0] / both[1].clamp_min(1)
        weights = torch.exp(-self.tolerance * (means.cumsum(0) - means))
        self._seen = weights if self._seen is None else self._seen.minimum(weights)
        factor = (
            weights / both[1].clamp_min(1) / (both[1] > 0).sum() * (both[1].sum() / len(squares))
        )
        return (factor.to(own) * own).sum()

    def _places(self, squares: Tensor, time: Tensor) -> Tensor:
        if time.numel() != len(squares):
            raise ValueError(f"{len(squares)} residuals, and {time.numel()} times.")
        share = (time.detach().reshape(-1).double() - self._start) / (self._stop - self._start)
        if not bool(((share >= 0) & (share <= 1)).all()):
            low, high = float(time.min()), float(time.max())
            raise ValueError(
                f"time runs from {low:g} to {high:g}, outside of t_range=({self._start:g}, {self._stop:g})."
            )
        return (share * self._chunks).long().clamp_max(self._chunks - 1)

    def step(self) -> None:
        """Keep the weights seen last; take the next ε where all of them are above `delta`."""
        if self._seen is None or not bool(self._seen.isfinite().all()):
            self.forget()
            return
        self._weights, self._seen = self._seen, None
        if float(self._weights.min()) > self._delta:
            self._stage = min(self._stage + 1, len(self._tolerances) - 1)

    def forget(self) -> None:
        """Drop what `loss` has seen: the step was skipped."""
        self._seen = None

    def state_dict(self) -> dict[str, Any]:
        """The number of the ε in force, and the weights."""
        return {**self._head(), "stage": self._stage, "weights": self._weights.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another scheme, other chunks, tolerances, times or another version.
        """
        check_saved_by(state, self._head())
        self.forget()
        self._stage, self._weights = state["stage"], state["weights"].clone()

    def _head(self) -> dict[str, Any]:
        return {
            "kind": "CausalWeights",
            "version": VERSION,
            "chunks": self._chunks,
            "tolerances": list(self._tolerances),
            "t_range": [self._start, self._stop],
        }


def _checked_tolerances(tolerances: Sequence[float]) -> tuple[float, ...]:
    found = sequence(positive)("tolerances", tolerances)
    if not found:
        raise ValueError("tolerances needs one number at least, got none.")
    return found


def _checked_range(t_range: Sequence[float]) -> tuple[float, float]:
    found = sequence(number)("t_range", t_range)
    if len(found) != 2 or found[0] >= found[1]:
        raise ValueError(f"t_range must be a first and a later last time, got {t_range!r}.")
    return found[0], found[1]
