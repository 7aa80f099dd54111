"""ConFIG on momenta: the gradient of one term per step, the direction of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from nops_schedules._check import fraction, positive
from nops_schedules.gradient import _rules
from nops_schedules.gradient._backward import Reduce, gram
from nops_schedules.gradient._norms import Names
from nops_schedules.gradient._rows import Rows
from nops_schedules.gradient._terms import base_weights, check_head, check_known, head


@dataclass(frozen=True, kw_only=True)
class Momenta:
    """What is remembered from step to step; no tensor is ever changed in place.

    Attributes:
        means: Running mean of each term's gradient, `[P]`, of those seen.
        counts: How often each was seen.
        joint: Running mean of the joint gradient, `[P]`; None before the first.
        square: Running mean of the squares of what it moves by, `[P]`.
        joins: How many joint gradients there were.
        reached: Of each parameter, whether any term reached it.
    """

    means: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    joint: Tensor | None = None
    square: Tensor | None = None
    joins: int = 0
    reached: tuple[bool, ...] = ()


@final
class MomentumConFIG:
    """ConFIG on running means of the terms' gradients, of which each step computes one.

    The terms take turns: `weights` is 1 for the one in turn, else 0, so that only it is computed. Its running
    mean moves; ConFIG joins the means of all terms (each freed of its start from 0), and the result is divided
    by the root of a running mean of squares, as in Adam. So let plain SGD, without momentum, make the step.
    The result is 0 until each term was seen. Where a gradient is not finite, so is the result, and nothing
    else changes.

    Args:
        loss_names: The terms; of base weights by name only 0 matters: that term is off for ever.
        beta1: Share of the old mean of gradients.
        beta2: Share of the old mean of squares.
        eps: Added to the root, in the unit of a gradient.

    Attributes:
        terms: Base weight of each term.
        observes: None.
        homogeneous: False: losses times c do not give a result times c, so a loss scale does not pass through.

    Source:
        Liu, Chu and Thuerey, *ConFIG*, arXiv 2408.11104, algorithm 2.
    """

    homogeneous = False

    def __init__(
        self, loss_names: Names, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ) -> None:
        self.terms = base_weights(loss_names)
        self.observes: str | None = None
        self._beta1: float = fraction("beta1", beta1)
        self._beta2: float = fraction("beta2", beta2)
        self._eps: float = positive("eps", eps)
        self._turns = [name for name, base in self.terms.items() if base > 0]
        self._kept = Momenta()
        self._staged: Momenta | None = None
        self._rows: Rows | None = None

    def __repr__(self) -> str:
        return f"MomentumConFIG({list(self.terms)})"

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """The term in turn."""
        return frozenset({self._turns[step % len(self._turns)]})

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """1 for the term in turn, 0 for the others."""
        turn = self.active(epoch=epoch, step=step)
        return {name: float(name in turn) for name in self.terms}

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Look at nothing."""

    def accumulate(self, losses: Mapping[str, Tensor], params: Sequence[Tensor]) -> None:
        """Add the gradient of a micro-batch; its graph is freed.

        Args:
            losses: The one term in turn, by name.
            params: What is trained; those without `requires_grad` are left out.

        Raises:
            KeyError: If the loss is no term of this weighting.
            ValueError: If there is not one loss that is on, another one than in the micro-batch before, or no
                parameter requires a gradient.
        """
        check_known(losses, self.terms)
        if len(losses) != 1 or not losses.keys() <= set(self._turns):
            raise ValueError(
                f"momentum ConFIG takes one loss per step, of {self._turns}; got {list(losses)}."
            )
        if self._rows is None:
            self._rows = Rows(list(losses), params)
        if self._rows.names != list(losses):
            raise ValueError(f"the step began with {self._rows.names}, got {list(losses)}.")
        self._rows.add(losses)

    def apply(self, params: Sequence[Tensor], *, reduce: Reduce | None = None) -> None:
        """Join the momenta, and add the result to `.grad` of each parameter that a term reached so far.

        Args:
            params: As given to `accumulate`.
            reduce: Sums a tensor over the ranks, where several make the step.

        Raises:
            ValueError: If nothing was accumulated.
        """
        if self._rows is None:
            raise ValueError(
                "apply: nothing was accumulated; call accumulate(losses, params) first."
            )
        rows, self._rows = self._rows, None
        self._kept, self._staged = self._now, None
        rows.reduce(reduce)
        row = rows.matrix[0]
        if not row.isfinite().all():
            rows.write_row(row)
            return
        self._staged, joint = self._joined(rows.names[0], row, rows.reached)
        rows.reached = list(self._staged.reached)
        rows.write_row(joint)

    def backward(self, losses: Mapping[str, Tensor], params: Sequence[Tensor]) -> None:
        """In place of `loss.backward()`, with the one loss in turn."""
        self.accumulate(losses, params)
        self.apply(params)

    def _joined(self, name: str, row: Tensor, reached: Sequence[bool]) -> tuple[Momenta, Tensor]:
        """What is remembered after this gradient, and the joint one."""
        kept = self._kept
        old = kept.means.get(name)
        mean = (1 - self._beta1) * row if old is None else old.to(row).lerp(row, 1 - self._beta1)
        means = {n: m.to(row) for n, m in {**kept.means, name: mean}.items()}
        counts = {**kept.counts, name: kept.counts.get(name, 0) + 1}
        either = tuple(map(any, zip(reached, kept.reached or reached, strict=True)))
        if len(means) < len(self._turns):
            return Momenta(means=means, counts=counts, reached=either), torch.zeros_like(row)
        direction = self._direction(means, counts)
        joins = kept.joins + 1
        joint = (1 - self._beta1**joins) * direction
        before = torch.zeros_like(row) if kept.joint is None else kept.joint.to(row)
        moved = (joint - self._beta1 * before) / (1 - self._beta1)
        square = torch.zeros_like(row) if kept.square is None else kept.square.to(row)
        square = square.lerp(moved.square(), 1 - self._beta2)
        root = (square / (1 - self._beta2**joins)).sqrt()
        after = Momenta(
            means=means, counts=counts, joint=joint, square=square, joins=joins, reached=either
        )
        return after, direction / (root + self._eps)

    def _direction(self, means: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        matrix = torch.stack([means[name] for name in self._turns])
        scale = torch.tensor(
            [1 / (1 - self._beta1 ** counts[name]) for name in self._turns], dtype=torch.float64
        )
        mix = _rules.of_present(_rules.config, gram(matrix) * scale * scale[:, None]) * scale
        return mix.to(matrix) @ matrix

    @property
    def _now(self) -> Momenta:
        return self._staged or self._kept

    def apply_update(self) -> None:
        """Keep the momenta: the step was made."""
        self._kept, self._staged = self._now, None

    def discard_update(self) -> None:
        """Take the momenta back, and forget what was accumulated: the step was skipped."""
        self._staged = self._rows = None

    def state_dict(self) -> dict[str, Any]:
        """The momenta: tensors of the size of the parameters, m + 2 of them."""
        now = self._now
        return {
            **head(self, self.terms),
            "means": dict(now.means),
            "counts": dict(now.counts),
            "joint": now.joint,
            "square": now.square,
            "joins": now.joins,
            "reached": list(now.reached),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another weighting, other terms or another version.
        """
        check_head(state, self, self.terms)
        self.discard_update()
        self._kept = Momenta(
            means=dict(state["means"]),
            counts=dict(state["counts"]),
            joint=state["joint"],
            square=state["square"],
            joins=state["joins"],
            reached=tuple(state["reached"]),
        )
