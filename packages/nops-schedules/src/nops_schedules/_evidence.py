"""What is looked at before a scheme is chosen: drift of the losses, and gradients."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from nops_schedules._check import whole
from nops_schedules._loss_weights import LossWeights

_SHARE = 10  # a tenth of the window at each end is averaged


class LossWindow(LossWeights):
    """Constant weights over a window of updates, and what the losses did meanwhile."""

    def __init__(
        self,
        terms: Mapping[str, float],
        *,
        window: int,
        min_weight: float,
        max_weight: float,
        unit: str,
        notes: "GradientNotes",
    ) -> None:
        """Take the terms with their weights, and where gradients are noted; the rest as in the base class."""
        self._notes, self._staged = notes, None
        self._window = whole(100)("window", window)
        super().__init__(
            list(terms),
            terms,
            min_weight=min_weight,
            max_weight=max_weight,
            update_unit=unit,
        )

    @property
    def full(self) -> bool:
        """Whether the window is over."""
        return self._updates >= self._window

    def balance(
        self,
        losses: Mapping[str, Any],
        params: Sequence[Any],
        *,
        epoch: int,
        step: int,
        reduce: Callable[[Any], Any] | None = None,
    ) -> None:
        """Measure the gradients once in each tenth of the window; `apply_update` notes them.

        Args:
            losses: The terms, with their graphs, which are kept.
            params: What is trained.
            epoch: 0-based.
            step: 0-based.
            reduce: Sums a tensor over the ranks that make the step together.
        """
        if not losses or self._notes.count > self._updates * _SHARE // self._window:
            return
        gradient = importlib.import_module("nops_schedules.gradient")
        self._staged = gradient.gradient_stats(losses, params, reduce=reduce)

    def apply_update(self) -> None:
        """Note what was measured for a step that was made."""
        if self._staged is not None:
            self._notes.add(self._staged)
        self._staged = None

    def discard_update(self) -> None:
        """Forget what was measured for a step that was skipped."""
        self._staged = None

    def drift(self) -> dict[str, float]:
        """By what factor each loss fell or rose, from the first tenth of the window to the last.

        At least 1; a term without a valid loss in both is not there.
        """
        means = [
            {name: total / end["counts"][name] for name, total in end["sums"].items()}
            for end in self._ends
        ]
        return {
            name: max(means[0][name] / means[1][name], means[1][name] / means[0][name])
            for name in self.terms
            if name in means[0] and name in means[1]
        }

    def _move(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        length = self._window // _SHARE
        for end, inside in zip(
            self._ends,
            (self._updates < length, self._window - length <= self._updates < self._window),
            strict=True,
        ):
            for name, value in losses.items() if inside else ():
                end["sums"][name] = end["sums"].get(name, 0.0) + value
                end["counts"][name] = end["counts"].get(name, 0) + 1
        return {}

    def _forget(self) -> None:
        self._ends: list[dict[str, dict[str, Any]]] = [{"sums": {}, "counts": {}} for _ in "ab"]

    def _settings(self) -> dict[str, Any]:
        return {"window": self._window}

    def _remembered(self) -> dict[str, Any]:
        return {"ends": _copied(self._ends)}

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._ends = _copied(state["ends"])


class GradientNotes:
    """Running means over gradient statistics: of the pairwise cosines, and of each term's norm.

    Attributes:
        count: Number of statistics taken.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.restore({"count": 0, "cosines": [0.0, 0], "norms": []})

    def add(self, stats: Mapping[str, Any]) -> None:
        """Take `{"cosine": [m][m], "norm": [m]}`; what is not finite, and norms of 0, are left out.

        Raises:
            ValueError: If the sizes differ, or m does from the one before.
        """
        norms = [float(norm) for norm in stats["norm"]]
        cosines = [[float(value) for value in row] for row in stats["cosine"]]
        rows = self._norms or norms
        if not len(rows) == len(norms) == len(cosines) or any(
            len(r) != len(norms) for r in cosines
        ):
            raise ValueError(
                f"stats needs m norms and m x m cosines, with the m of before, {len(rows)}; got "
                f"{len(norms)} norms and rows of {[len(row) for row in cosines]} cosines."
            )
        self._norms = self._norms or [[0.0, 0] for _ in norms]
        self.count += 1
        for i, j in combinations(range(len(norms)), 2):
            _add(self._cosines, cosines[i][j], math.isfinite(cosines[i][j]))
        for mean, norm in zip(self._norms, norms, strict=True):
            _add(mean, norm, 0 < norm < math.inf)

    def cosine(self) -> float | None:
        """Mean cosine of all pairs; None without one."""
        return self._cosines[0] / self._cosines[1] if self._cosines[1] else None

    def norm_ratio(self) -> float | None:
        """Largest over smallest of the terms' mean norms; None without two."""
        means = [total / count for total, count in self._norms if count]
        return max(means) / min(means) if len(means) > 1 else None

    def plain(self) -> dict[str, Any]:
        """Sums and counts, free of this object."""
        norms = [list(mean) for mean in self._norms]
        return {"count": self.count, "cosines": list(self._cosines), "norms": norms}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Go on from what `plain` gave."""
        self.count: int = plain["count"]
        self._cosines: list[Any] = list(plain["cosines"])
        self._norms: list[list[Any]] = [list(mean) for mean in plain["norms"]]


def _add(mean: list[Any], value: float, valid: bool) -> None:
    if valid:
        mean[0] += value
        mean[1] += 1


def _copied(ends: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[dict[str, dict[str, Any]]]:
    return [{kind: dict(of) for kind, of in end.items()} for end in ends]
