"""Collocation points: drawn once per seed, or anew for each step."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from nops_physics import derive_seed
from nops_train import InputError
from torch import Tensor

from pinn_weighting.config import ProblemConfig
from pinn_weighting.equations import Equation
from pinn_weighting.problems import FACTS, Facts

VALID_POINTS = 2000
VALID_SEED = 0  # validation points do not follow the run's seed: every run is judged alike


def draw_sets(problem: ProblemConfig, *, seed: int, number: int = 0) -> dict[str, Tensor]:
    """The sets of points of a problem, float32, a function of the seed and the number of the draw."""
    facts = FACTS[problem.name]
    counts = {**facts.points, **problem.points}
    sets = {}
    for place, (name, count) in enumerate(counts.items()):
        generator = torch.Generator().manual_seed(derive_seed("points", seed, number, place))
        unit = _unit(count, len(facts.low), problem.sampling, generator)
        sets[name] = _placed(unit, name, facts).float()
    return sets


def _unit(count: int, columns: int, sampling: str, generator: torch.Generator) -> Tensor:
    """Points `[count, columns]` of the unit cube."""
    drawn = torch.rand(count, columns, generator=generator, dtype=torch.float64)
    if sampling == "uniform":
        return drawn
    orders = [torch.randperm(count, generator=generator) for _ in range(columns)]
    return (torch.stack(orders, dim=1) + drawn) / count


def _placed(unit: Tensor, name: str, facts: Facts) -> Tensor:
    """Points of the unit cube brought into the domain, those of a side onto it."""
    if name == "ic":
        unit[:, -1] = 0.0
    if name == "bc":
        space = len(facts.columns) - ("t" in facts.columns)
        side = torch.arange(len(unit)) % (2 * space)
        unit[torch.arange(len(unit)), side // 2] = (side % 2).double()
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in (facts.low, facts.high))
    return low + (high - low) * unit


class Collocation:
    """Batches of a problem of points: the same sets at each step, or new ones where asked for.

    Args:
        problem: Its section of the config.
        equation: Gives what is known at the points.
        seed: Of the run.
    """

    def __init__(self, problem: ProblemConfig, equation: Equation, *, seed: int) -> None:
        self._problem, self._equation, self._seed = problem, equation, seed
        self._fixed = equation.given(draw_sets(problem, seed=seed))

    @property
    def num_batches(self) -> int:
        """Steps of an epoch."""
        return self._problem.steps_per_epoch

    @property
    def first(self) -> dict[str, Tensor]:
        """The sets of the first step."""
        return dict(self._fixed)

    def batches(self, *, epoch: int, skip: int = 0) -> Iterator[Mapping[str, Tensor]]:
        """The sets of each step of an epoch after the first `skip`."""
        for index in range(skip, self.num_batches):
            number = epoch * self.num_batches + index
            if self._problem.resample and number:
                sets = draw_sets(self._problem, seed=self._seed, number=number)
                yield self._equation.given(sets)
            else:
                yield dict(self._fixed)


def valid_points(facts: Facts) -> Tensor:
    """Points within the domain on which runs are compared while they train."""
    generator = torch.Generator().manual_seed(derive_seed("valid", VALID_SEED))
    return _placed(_unit(VALID_POINTS, len(facts.low), "uniform", generator), "", facts).float()


def grid_points(facts: Facts, count: int) -> Tensor:
    """A grid of the domain, ends included, `[count, …, columns]`."""
    lines = [
        torch.linspace(a, b, count, dtype=torch.float64)
        for a, b in zip(facts.low, facts.high, strict=True)
    ]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).float()


def read_reference(problem: ProblemConfig) -> tuple[Tensor, Tensor]:
    """Grid points `[…, columns]` and fields `[…, outputs]` of the file that replaces the exact solution.

    Raises:
        InputError: If the file cannot be read, or its shape is not that of the problem.
    """
    assert problem.reference is not None
    facts, path = FACTS[problem.name], Path(problem.reference)
    try:
        values = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError) as error:
        raise InputError(f"problem.reference: {path} cannot be read: {error}") from error
    columns = len(facts.columns)
    if values.dim() == columns and len(facts.outputs) == 1:
        values = values[..., None]
    if values.dim() != columns + 1 or values.shape[-1] != len(facts.outputs):
        raise InputError(
            f"problem.reference: {path} has shape {tuple(values.shape)}; expected one axis for each "
            f"of {', '.join(facts.columns)}, then {len(facts.outputs)} fields"
        )
    if len(problem.axes) != columns:
        raise InputError(
            f"problem.axes: expected {columns} pairs, for {', '.join(facts.columns)}; "
            f"found {len(problem.axes)}"
        )
    lines = [
        torch.linspace(*ends, size)
        for ends, size in zip(problem.axes, values.shape[:-1], strict=True)
    ]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1), values
