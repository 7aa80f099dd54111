"""Weights of single points of one term, which a loss is made with."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nops_schedules._check import whole
from nops_schedules.gradient._backward import Reduce
from nops_schedules.gradient._terms import VERSION, check_saved_by


class PointScheme(ABC):
    """Weighs the points of one term: `loss` takes the residual and gives the term, `step` moves the weights.

    What `loss` sees counts with the next `step`, or is dropped by `forget`, for a step that was skipped.

    Attributes:
        reduce: Sums a tensor over the ranks, where several make a step: `step`, and the `loss` of some
            schemes, are then collective. None in a single process.
        takes_time: Whether `loss` takes the time of each residual as its second argument.
    """

    reduce: Reduce | None = None
    takes_time: bool = False

    @abstractmethod
    def step(self) -> None:
        """Move the weights by what `loss` has seen since the last step; nothing was seen: no change."""

    @abstractmethod
    def forget(self) -> None:
        """Drop what `loss` has seen: the step was skipped."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that is remembered, in plain numbers, tensors, strings, lists and dicts."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another scheme, size or version.
        """

    def _summed(self, tensor: Tensor) -> Tensor:
        """Over all ranks; a new tensor."""
        return tensor if self.reduce is None else self.reduce(tensor.clone())


class PointWeights(PointScheme):
    """A weight for each of a fixed set of points.

    Points keep their numbers, 0 to `n_points` - 1, for the whole run: points that are drawn anew have no
    weight to keep.

    Args:
        n_points: How many there are.
        start: Weight of each at first.
    """

    def __init__(self, n_points: int, *, start: float) -> None:
        self.n_points: int = whole(1)("n_points", n_points)
        self._weights = torch.full((n_points,), start, dtype=torch.float64)
        self._squares: Tensor | None = None  # sum of r² by point, since the last step
        self._counts: Tensor | None = None

    def __repr__(self) -> str:
        low, high = self._weights.aminmax()
        return f"{type(self).__name__}({self.n_points} points, {low:.3g} to {high:.3g})"

    @property
    def weights(self) -> Float[Tensor, " n_points"]:
        """The weight of each point now, float64, dimensionless; a copy."""
        return self._weights.clone()

    def loss(self, residual: Tensor, index: Tensor | None = None) -> Float[Tensor, ""]:
        """The weighted mean of the squared residuals, differentiable in them and not in the weights.

        Args:
            residual: One entry for each point, of any shape.
            index: Number of each entry's point, int64, as many; None where all points are there in order.

        Returns:
            In the unit of the residual squared.

        Raises:
            IndexError: If a number is below 0 or not below `n_points`.
            ValueError: If there are more or fewer residuals than numbers, or than points without them.
        """
        flat = residual.reshape(-1)
        self._check(flat, index)
        self._weights = self._weights.to(flat.device)
        places = slice(None) if index is None else index.reshape(-1)
        self._note(flat.detach().double().square(), places)
        return self._squared(self._factor()[places].to(flat), flat).mean()

    @abstractmethod
    def _factor(self) -> Tensor:
        """What multiplies each point, `[n_points]`, float64."""

    @abstractmethod
    def _squared(self, factor: Tensor, residual: Tensor) -> Tensor:
        """The weighted squares of some residuals."""

    @abstractmethod
    def _moved(self, squares: Tensor, counts: Tensor) -> Tensor:
        """The weights after a step with these sums of r² by point; only those with a count matter."""

    def step(self) -> None:
        """Move the weights of the points seen since the last step; not where a residual is not finite."""
        squares, counts = self._squares, self._counts
        if squares is None or counts is None:
            if self.reduce is None:
                return
            squares = counts = torch.zeros_like(self._weights)
        squares, counts = self._summed(squares), self._summed(counts)
        self.forget()
        if bool(squares.isfinite().all()):
            self._weights = self._moved(squares, counts).where(counts > 0, self._weights)

    def forget(self) -> None:
        """Drop what `loss` has seen: the step was skipped."""
        self._squares = self._counts = None

    def state_dict(self) -> dict[str, Any]:
        """The weights, and what the scheme remembers beside them."""
        return {**self._head(), "weights": self._weights.clone(), **self._remembered()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another scheme, another number of points or another version.
        """
        check_saved_by(state, self._head())
        self.forget()
        self._weights = state["weights"].clone()
        self._remember(state)

    @abstractmethod
    def _remembered(self) -> dict[str, Any]:
        """What there is beside the weights."""

    @abstractmethod
    def _remember(self, state: Mapping[str, Any]) -> None:
        """Go on from what `_remembered` gave."""

    def _head(self) -> dict[str, Any]:
        return {"kind": type(self).__name__, "version": VERSION, "n_points": self.n_points}

    def _note(self, squares: Tensor, places: Tensor | slice) -> None:
        if self._squares is None or self._counts is None:
            self._squares = torch.zeros_like(self._weights)
            self._counts = torch.zeros_like(self._weights)
        if isinstance(places, slice):
            self._squares = self._squares + squares
            self._counts = self._counts + 1
        else:
            self._squares = self._squares.index_add(0, places, squares)
            self._counts = self._counts.index_add(0, places, torch.ones_like(squares))

    def _check(self, flat: Tensor, index: Tensor | None) -> None:
        if index is None:
            if len(flat) != self.n_points:
                raise ValueError(
                    f"{len(flat)} residuals for {self.n_points} points: give the number of each "
                    "residual's point as index. Points that are drawn anew keep no weight; fix the set."
                )
            return
        if index.numel() != len(flat):
            raise ValueError(f"{len(flat)} residuals, and an index of {index.numel()} numbers.")
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= self.n_points):
            raise IndexError(
                f"index holds {int(index.min())} to {int(index.max())}, and the points are 0 to "
                f"{self.n_points - 1}."
            )
