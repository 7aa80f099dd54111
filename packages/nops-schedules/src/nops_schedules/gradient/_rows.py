"""The gradients of the terms of one step, a row for each."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nops_schedules.gradient._backward import (
    Reduce,
    add_parts,
    add_to_grad,
    parts_of,
    trained,
    zero_rows,
)


class Rows:
    """The Jacobian of some terms, summed over micro-batches and ranks.

    Args:
        names: The terms, in the order of the rows.
        params: Those without `requires_grad` are left out.

    Attributes:
        names: As given.
        matrix: `[m, P]`; terms that were not seen have zeros.
        reached: Of each parameter, whether a term reaches it.

    Raises:
        ValueError: If no parameter requires a gradient.
    """

    def __init__(self, names: Sequence[str], params: Sequence[Tensor]) -> None:
        self.names = list(names)
        self._params = trained(params)
        self.matrix: Float[Tensor, "m P"] = zero_rows(len(self.names), self._params)
        self.reached = [False] * len(self._params)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the gradients of a micro-batch, whose graph the last backward pass frees."""
        given = [name for name in self.names if name in losses]
        for name in given:
            parts = parts_of(losses[name], self._params, keep=name != given[-1])
            add_parts(self.matrix[self.names.index(name)], parts, self._params)
            self.reached = [
                before or part is not None for before, part in zip(self.reached, parts, strict=True)
            ]

    def reduce(self, reduce: Reduce | None) -> None:
        """Sum the rows over the ranks, and let each know which parameters are reached on any."""
        if reduce is not None:
            self.matrix = reduce(self.matrix)
            counts = torch.tensor(self.reached, dtype=torch.int32, device=self.matrix.device)
            self.reached = [count > 0 for count in reduce(counts).tolist()]

    def scale(self, factors: Sequence[float]) -> None:
        """Multiply each row by a factor."""
        if any(factor != 1 for factor in factors):
            self.matrix = self.matrix * self.matrix.new_tensor(list(factors))[:, None]

    def write(self, mix: Float[Tensor, " m"]) -> None:
        """Add Σ mix_i row_i to `.grad` of the parameters that are reached."""
        joint = mix.to(self.matrix) @ self.matrix
        add_to_grad(joint, self._params, self.reached)

    def write_row(self, row: Float[Tensor, " P"]) -> None:
        """Add one flat gradient to `.grad` of the parameters that are reached."""
        add_to_grad(row, self._params, self.reached)
