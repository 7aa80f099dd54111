"""What a comparison consists of: one run for each problem, arm, seed and budget."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml
from nops_train import InputError, parse_config

from pinn_weighting.aliases import ALIASES
from pinn_weighting.config import PinnConfig
from pinn_weighting.config_weighting import named_section
from pinn_weighting.problems import CHAIN, FACTS

TUNED = "tuned"
STEPS_AT_ONCE = 100  # of an epoch, where the number of steps allows


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One scheme with values of varied keys.

    Attributes:
        scheme: Its name.
        varied: Values by key.
    """

    scheme: str
    varied: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """In tables, and with `_` in names of folders."""
        values = [f"{key.rpartition('.')[2]}={value}" for key, value in self.varied.items()]
        return " ".join([self.scheme, *values])


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a comparison.

    Attributes:
        problem: Its name.
        arm: Label of its arm.
        seed: Of points, data order and initial weights.
        budget: "steps", "time", or "grid" for a run that tunes fixed weights.
        factor: On all terms but residuals, where weights are fixed by a grid.
        steps: Optimizer steps; None on the chain, where epochs count.
        epochs: Of the chain.
    """

    problem: str
    arm: str
    seed: int
    budget: str = "steps"
    factor: float | None = None
    steps: int | None = None
    epochs: int | None = None

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        arm = self.arm.replace(" ", "_").replace("=", "-").replace("/", "-")
        factor = "" if self.budget != "grid" else f"_x{self.factor:g}"
        ending = "" if self.budget == "steps" else f"_{self.budget}"
        return f"{self.problem}_{arm}{factor}_s{self.seed}{ending}"

    def plain(self) -> dict[str, Any]:
        """For `study.json`."""
        return asdict(self)


def arms_of(config: PinnConfig) -> list[Arm]:
    """Every scheme with every value of the varied keys that it has."""
    found: dict[str, Arm] = {}
    keys = dict(_varied(text) for text in config.compare.vary)
    for scheme in config.compare.schemes:
        for values in itertools.product(*keys.values()):
            varied = dict(zip(keys, values, strict=True))
            kept = {k: v for k, v in varied.items() if _has(config, scheme, k)}
            arm = Arm(scheme=scheme, varied=kept)
            found.setdefault(arm.label, arm)
    return list(found.values())


def _varied(text: str) -> tuple[str, list[Any]]:
    """A key and its values, of `KEY=VALUE,VALUE`."""
    key, _, values = text.partition("=")
    return _own_key(key), [yaml.safe_load(value) for value in values.split(",")]


def _own_key(key: str) -> str:
    """A varied key in this program's own spelling.

    Raises:
        InputError: If it is an alias that does more than set one key.
    """
    for alias in ALIASES:
        if alias.name == key:
            if isinstance(alias.sets, str):
                return alias.sets
            raise InputError(f"compare.vary: {key} cannot be varied; name a key of this program")
    return key


def _has(config: PinnConfig, scheme: str, key: str) -> bool:
    """Whether a key counts under a scheme: those of other weightings do not."""
    section, _, name = key.rpartition(".")
    problem = config.compare.problems[0]
    return section != "weighting" or name in _weighting(config, scheme, problem)


def _weighting(config: PinnConfig, scheme: str, problem: str) -> dict[str, Any]:
    """The section of a scheme; what the user set for its kind counts."""
    named, own = named_section(scheme, problem), config.weighting.model_dump(mode="json")
    if own["kind"] == named["kind"]:
        return {**own, **named}
    plain = {**config.model_dump(mode="json"), "weighting": named}
    plain["problem"]["name"] = problem
    return parse_config(PinnConfig, plain, source=scheme).weighting.model_dump(mode="json")


def cell_config(config: PinnConfig, arm: Arm, cell: Cell) -> PinnConfig:
    """The configuration of one run.

    Raises:
        InputError: If the scheme does not fit the problem.
    """
    plain = config.model_dump(mode="json")
    plain["problem"]["name"] = cell.problem
    plain["weighting"] = _weighting(config, arm.scheme, cell.problem)
    if cell.factor is not None:
        plain["loss"] |= dict.fromkeys(FACTS[cell.problem].data_terms, cell.factor)
    plain["train"] |= {"seed": cell.seed, "progress": "none", "keep_last": 1}
    plain["train"] |= _length(cell)
    if cell.steps is not None:
        plain["problem"]["steps_per_epoch"] = _per_epoch(cell.steps)
    for key, value in arm.varied.items():
        section, _, name = key.rpartition(".")
        _section(plain, section)[name] = value
    source = f"{cell.problem}, {arm.label}"
    return parse_config(PinnConfig, plain, source=source).settled()


def _length(cell: Cell) -> Mapping[str, int]:
    if cell.steps is None:
        return {} if cell.epochs is None else {"epochs": cell.epochs}
    epochs = max(1, round(cell.steps / _per_epoch(cell.steps)))
    return {"epochs": epochs, "validate_every": max(1, epochs // 5), "log_every": STEPS_AT_ONCE}


def _per_epoch(steps: int) -> int:
    """Steps of an epoch, near the usual number, of which `steps` is nearly a multiple."""
    return max(1, round(steps / max(1, round(steps / STEPS_AT_ONCE))))


def _section(plain: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split(".") if path else ():
        if not isinstance(plain.get(name), dict):
            raise InputError(f"compare.vary: there is no section {path}")
        plain = plain[name]
    return plain


def first_cells(config: PinnConfig, arms: list[Arm]) -> list[Cell]:
    """Runs that depend on no other: all but tuned weights and equal times, and the grid."""
    cells = []
    for problem in config.compare.problems:
        steps = None if problem == CHAIN else config.compare.steps
        for arm in arms:
            if arm.scheme == TUNED:
                cells += [
                    Cell(
                        problem=problem,
                        arm=arm.label,
                        seed=config.compare.tuning_seed,
                        budget="grid",
                        factor=factor,
                        steps=steps,
                    )
                    for factor in config.compare.fixed_grid
                ]
                continue
            cells += [
                Cell(problem=problem, arm=arm.label, seed=seed, steps=steps)
                for seed in config.compare.seed_list
            ]
    return cells


def tuned_cells(
    config: PinnConfig, arms: list[Arm], factors: Mapping[tuple[str, str], float]
) -> list[Cell]:
    """Runs with the factor that the grid chose, by problem and arm."""
    return [
        Cell(
            problem=problem,
            arm=arm.label,
            seed=seed,
            factor=factors[problem, arm.label],
            steps=None if problem == CHAIN else config.compare.steps,
        )
        for problem in config.compare.problems
        for arm in arms
        if arm.scheme == TUNED
        for seed in config.compare.seed_list
    ]
