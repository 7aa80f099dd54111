"""Aggregators: they own the backward pass, and join the gradients of the terms so that none is trampled."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from nops_schedules._check import weight, whole
from nops_schedules.gradient import _rules
from nops_schedules.gradient._backward import Reduce, gram
from nops_schedules.gradient._norms import Names
from nops_schedules.gradient._rows import Rows
from nops_schedules.gradient._terms import base_weights, check_head, check_known, head


class Aggregator(ABC):
    """Joins the gradients of the terms by a rule on their inner products, in place of a weighted sum.

    One backward pass for each term. `accumulate` adds the gradients of a micro-batch, `apply` joins them and
    leaves the result in `.grad`, `backward` does both. Gradients of zero count as absent. Where one is not
    finite, so is the result, and nothing else changes. Rows times c give a result times c, so the loss scale of
    fp16 passes through.

    Args:
        loss_names: The terms, or by name the weights that their gradients are multiplied by first.
        base: A weighting by values, of the same terms, whose weights are taken instead of fixed ones: those
            that `weights` was asked for last.

    Attributes:
        terms: Base weight of each term; one of 0 is off for ever.
    """

    def __init__(self, loss_names: Names, *, base: Any = None) -> None:
        self.terms = base_weights(loss_names)
        self._base = base
        if base is not None:
            _check_base(base, self.terms)
        self._asked = dict(self.terms)
        self._rows: Rows | None = None
        self._count = 0
        self._staged = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.terms)})"

    @abstractmethod
    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        """Coefficients of rows that are finite and not zero; `count` is the number of joins before."""

    @property
    def observes(self) -> str | None:
        """What the base observes; None without one."""
        return None if self._base is None else self._base.observes

    def active(self, *, epoch: int, step: int) -> frozenset[str]:
        """All terms but those with a base weight of 0, and those that the base leaves out."""
        on = frozenset(name for name, factor in self.terms.items() if factor > 0)
        return on if self._base is None else on & self._base.active(epoch=epoch, step=step)

    def weights(self, *, epoch: int, step: int) -> dict[str, float]:
        """What the gradients are multiplied by before they are joined."""
        if self._base is not None:
            told = self._base.weights(epoch=epoch, step=step)
            self._asked = {n: told[n] if self.terms[n] > 0 else 0.0 for n in self.terms}
        return dict(self._asked)

    def begin_at(self, weights: Mapping[str, float]) -> None:
        """Multiply the gradients by the weights of a scheme before this one; with a base, it begins there.

        Terms that were off there, or are off here, keep the factor that they have.
        """
        if hasattr(self._base, "begin_at"):
            self._base.begin_at(weights)
        elif self._base is None:
            on = {n: w for n, w in weights.items() if w > 0 and self.terms.get(n, 0.0) > 0}
            self._asked.update(on)

    def observe(self, values: Mapping[str, float], *, epoch: int, step: int, split: str) -> None:
        """Hand the values to the base, if there is one."""
        if self._base is not None:
            self._base.observe(values, epoch=epoch, step=step, split=split)

    def accumulate(self, losses: Mapping[str, Tensor], params: Sequence[Tensor]) -> None:
        """Add the gradients of a micro-batch; its graph is freed.

        Args:
            losses: Raw scalar terms by name; one that is missing adds nothing.
            params: What is trained; those without `requires_grad` are left out.

        Raises:
            KeyError: If a loss is no term of this weighting.
            ValueError: If no parameter requires a gradient.
        """
        check_known(losses, self.terms)
        if self._rows is None:
            self._rows = Rows([n for n, factor in self.terms.items() if factor > 0], params)
        self._rows.add(losses)

    def apply(self, params: Sequence[Tensor], *, reduce: Reduce | None = None) -> None:
        """Join what was accumulated, and add it to `.grad` of each parameter that a term reaches.

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
        self._count, self._staged = self._counted, False
        rows.reduce(reduce)
        rows.scale([self._asked[name] for name in rows.names])
        products = gram(rows.matrix)
        if products.isfinite().all():
            self._staged = True
        mix = _rules.of_present(lambda g: self._joined(g, count=self._count), products)
        rows.write(mix)

    def backward(self, losses: Mapping[str, Tensor], params: Sequence[Tensor]) -> None:
        """In place of `total.backward()`: join the gradients of `losses` and add the result to `.grad`."""
        self.accumulate(losses, params)
        self.apply(params)

    @property
    def _counted(self) -> int:
        return self._count + self._staged

    def apply_update(self) -> None:
        """Count the join: the step was made."""
        self._count, self._staged = self._counted, False

    def discard_update(self) -> None:
        """Forget the join, and what was accumulated: the step was skipped."""
        self._staged = False
        self._rows = None

    def state_dict(self) -> dict[str, Any]:
        """The number of joins, the weights asked last, and the state of the base."""
        return {
            **head(self, self.terms),
            "count": self._counted,
            "asked": dict(self._asked),
            "base": None if self._base is None else self._base.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: If it is of another weighting, other terms or another version.
        """
        check_head(state, self, self.terms)
        if (state["base"] is None) != (self._base is None):
            raise ValueError(
                "the state was saved with a base and this one has none, or the reverse."
            )
        self.discard_update()
        self._count = state["count"]
        self._asked = dict(state["asked"])
        if self._base is not None:
            self._base.load_state_dict(state["base"])


@final
class ConFIG(Aggregator):
    """The joint gradient has the same cosine to the gradients of all terms, so that it opposes none.

    Its direction is Uᵀ(UUᵀ)⁺1 for unit rows U, its length the sum of the projections of all gradients onto it.
    Where no direction is common (opposed pairs) it is 0.

    Source:
        Liu, Chu and Thuerey, *ConFIG*, arXiv 2408.11104.
    """

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        return _rules.config(products)


@final
class PCGrad(Aggregator):
    """The sum of all gradients, each projected off every other that it conflicts with, in random order.

    Args:
        loss_names: As of all aggregators.
        seed: Of the order, which is drawn from it and the number of joins before.
        base: As of all aggregators.

    Source:
        Yu et al., *Gradient Surgery for Multi-Task Learning*, arXiv 2001.06782.
    """

    def __init__(self, loss_names: Names, *, seed: int = 0, base: Any = None) -> None:
        super().__init__(loss_names, base=base)
        self._seed = whole(0)("seed", seed)

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        return _rules.pc_grad(products, draws=random.Random(f"{self._seed}/{count}"))


@final
class MGDA(Aggregator):
    """The shortest mix of the gradients with weights on the simplex: it vanishes where no step serves all.

    Source:
        Désidéri, C. R. Acad. Sci. Paris I 350 (2012).
    """

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        return _rules.mgda(products)


@final
class CAGrad(Aggregator):
    """The mean gradient, moved within a ball so that the term that gains least gains most.

    Args:
        loss_names: As of all aggregators.
        c: Radius of the ball as a share of the mean gradient's norm; 0 is the mean, 1 and more is MGDA's aim.
        base: As of all aggregators.

    Source:
        Liu et al., *Conflict-Averse Gradient Descent*, arXiv 2110.14048.
    """

    def __init__(self, loss_names: Names, *, c: float = 0.5, base: Any = None) -> None:
        super().__init__(loss_names, base=base)
        self._radius: float = weight("c", c)

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        return _rules.ca_grad(products, radius=self._radius)


@final
class IMTLG(Aggregator):
    """The mix, with weights of the sum 1, whose projections onto all gradients' directions are equal.

    At full rank it lies along ConFIG's direction, with another length. Where conflicts are strong it can point
    against all terms, as the paper's formula does; ConFIG cannot.

    Source:
        Liu et al., *Towards Impartial Multi-task Learning*, ICLR 2021.
    """

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        return _rules.imtl_g(products)


@final
class AlignedMTL(Aggregator):
    """The mean of the gradients after their principal directions were brought to the length of the shortest.

    Source:
        Senushkin, Patakin, Kuznetsov and Konushin, *Independent Component Alignment*, arXiv 2305.19000.
    """

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        return _rules.aligned_mtl(products)


@final
class UPGrad(Aggregator):
    """The mean of the gradients, each moved as little as it takes to conflict with none.

    Source:
        Quinton and Rey, *Jacobian Descent for Multi-Objective Optimization*, arXiv 2406.16232.
    """

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        return _rules.upgrad(products)


@final
class TorchJD(Aggregator):
    """A rule of torchjd: any of its weightings that go by the Gram matrix of the gradients.

    It is given the inner products of the gradients that are not zero, `[m, m]` in float64 on the host, and returns
    m coefficients. What such an object remembers of its own (NashMTL) begins anew when a run goes on.

    Args:
        loss_names: As of all aggregators.
        weighting: Such as `torchjd.aggregation.DualProjWeighting()`.
        base: As of all aggregators.

    Raises:
        TypeError: If `weighting` is not to be called.

    Source:
        Quinton and Rey, *Jacobian Descent for Multi-Objective Optimization*, arXiv 2406.16232.
    """

    def __init__(
        self,
        loss_names: Names,
        weighting: Any,
        *,
        base: Any = None,
    ) -> None:
        super().__init__(loss_names, base=base)
        if not callable(weighting):
            raise TypeError(
                f"weighting must be a weighting of torchjd by Gram matrices, got {weighting!r}."
            )
        self._weighting = weighting

    def __repr__(self) -> str:
        return f"TorchJD({list(self.terms)}, {self._weighting!r})"

    def _joined(self, products: Float[Tensor, "m m"], *, count: int) -> Float[Tensor, " m"]:
        found: Any = self._weighting(products)
        return found.to(products)


def _check_base(base: Any, terms: Mapping[str, float]) -> None:
    if missing := [name for name in terms if name not in base.terms]:
        raise ValueError(f"base has no terms {missing}; it has {list(base.terms)}.")
    if hasattr(base, "balance") or hasattr(base, "accumulate"):
        raise ValueError(
            f"base must be a weighting by values, {type(base).__name__} looks at gradients itself."
        )
