"""The figures of a comparison: medians over seeds, the tuned factor, the winner in a sentence."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pinn_weighting.cells import TUNED, Cell
from pinn_weighting.config import PinnConfig
from pinn_weighting.problems import CHAIN

ALIKE = 0.05  # schemes whose steps take as long within this share need no run of their own at equal time
NOTHING_LEARNED = 0.98  # relative L2 error: that of a solution of zero is 1
FIXED = ("fixed", TUNED)  # arms whose weights do not move
Held = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The runs of one arm on one problem under one budget.

    Attributes:
        problem: Its name.
        arm: Its label.
        errors: Final test error by seed, in order; infinite for a run that diverged.
        steps: Optimizer steps.
        seconds: Training time of each run.
        passes: Backward passes of a run.
        factor: Of fixed weights that a grid chose.
        tuning_seconds: What that grid cost.
        scores: Further figures by name, of each seed.
    """

    problem: str
    arm: str
    errors: tuple[float, ...]
    steps: int
    seconds: tuple[float, ...]
    passes: float
    scores: dict[str, tuple[float, ...]]
    factor: float | None = None
    tuning_seconds: float = 0.0

    @property
    def median(self) -> float:
        """Of the errors."""
        return statistics.median(self.errors)


def runs_of(study: Held) -> list[tuple[Cell, Held]]:
    """Each cell with the summary of its run, those that were not trained left out."""
    runs = study.get("runs", {})
    return [
        (Cell(**plain), runs[name])
        for name, plain in study.get("cells", {}).items()
        if name in runs and (runs[name].get("metrics") or runs[name].get("status") == "diverged")
    ]


def error_of(summary: Held) -> float:
    """Final test error; infinite for a run that diverged."""
    value = float(summary.get("metrics", {}).get("error", math.inf))
    return value if math.isfinite(value) else math.inf


def chosen_factors(study: Held) -> dict[tuple[str, str], float]:
    """Factor with the least validation error, by problem and arm."""
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for cell, summary in runs_of(study):
        if cell.budget == "grid":
            assert cell.factor is not None
            found = (validation_error(summary), cell.factor)
            best[cell.problem, cell.arm] = min(
                found, best.get((cell.problem, cell.arm), (math.inf, cell.factor))
            )
    return {key: factor for key, (_, factor) in best.items()}


def validation_error(summary: Held) -> float:
    """Of the last validation, on points that no test uses."""
    value = summary.get("validation_error", math.inf)
    return float(value) if math.isfinite(float(value)) else math.inf


def step_times(study: Held) -> dict[tuple[str, str], float]:
    """Seconds per step by problem and arm: the least over seeds, which other work disturbs least.

    The arms of fixed weights, tuned or not, do the same in a step: they share the least of theirs.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for cell, summary in runs_of(study):
        if cell.budget == "steps" and summary.get("step_seconds"):
            found.setdefault((cell.problem, cell.arm), []).append(summary["step_seconds"])
    times = {key: min(values) for key, values in found.items()}
    fixed = {key for key in times if key[1] in FIXED}
    return times | {
        key: min(times[other] for other in fixed if other[0] == key[0]) for key in fixed
    }


def equal_time_cells(study: Held, config: PinnConfig) -> list[Cell]:
    """Runs with as many steps as fixed weights' time allows, for arms whose steps take another time."""
    times, cells = step_times(study), []
    for cell, summary in runs_of(study):
        key = (cell.problem, cell.arm)
        if cell.budget != "steps" or key not in times:
            continue
        share = reference_time(times, cell.problem) / times[key]
        if abs(share - 1) <= ALIKE:
            continue
        plain = {**cell.plain(), "budget": "time"}
        if cell.problem == CHAIN:
            epochs = summary.get("epochs") or config.train.epochs
            plain["epochs"] = max(1, round(share * epochs))
        else:
            plain["steps"] = max(1, round(share * config.compare.steps))
        cells.append(Cell(**plain))
    return cells


def reference_time(times: Mapping[tuple[str, str], float], problem: str) -> float:
    """Seconds per step of fixed weights; of the fastest arm where there are none."""
    own = {arm: value for (name, arm), value in times.items() if name == problem}
    fixed = [value for arm, value in own.items() if arm in FIXED]
    return min(fixed or own.values())


def groups_of(study: Held, *, budget: str) -> list[Group]:
    """The runs by problem and arm; at equal time, those at equal steps stand in where times are alike."""
    found: dict[tuple[str, str], list[tuple[Cell, Held]]] = {}
    own = {(c.problem, c.arm) for c, _ in runs_of(study) if c.budget == budget}
    for cell, summary in runs_of(study):
        key = (cell.problem, cell.arm)
        wanted = budget if key in own else "steps"
        if cell.budget == wanted:
            found.setdefault(key, []).append((cell, summary))
    return [_group(key, runs, study) for key, runs in found.items()]


def _group(key: tuple[str, str], runs: list[tuple[Cell, Held]], study: Held) -> Group:
    runs = sorted(runs, key=lambda run: run[0].seed)
    summaries = [summary for _, summary in runs]
    steps = max(int(summary.get("steps") or 0) for summary in summaries)
    passes = max(float(s.get("backward_passes_per_step", 1.0)) for s in summaries)
    names = dict.fromkeys(n for s in summaries for n in s.get("metrics", {}) if n != "error")
    grid = [s for c, s in runs_of(study) if c.budget == "grid" and (c.problem, c.arm) == key]
    return Group(
        problem=key[0],
        arm=key[1],
        errors=tuple(error_of(summary) for summary in summaries),
        steps=steps,
        seconds=tuple(float(summary.get("seconds") or 0.0) for summary in summaries),
        passes=passes * steps,
        scores={
            name: tuple(float(s.get("metrics", {}).get(name, math.nan)) for s in summaries)
            for name in names
        },
        factor=runs[0][0].factor,
        tuning_seconds=sum(float(summary.get("seconds") or 0.0) for summary in grid),
    )


def rows_of(groups: list[Group], problem: str) -> list[dict[str, Any]]:
    """One row per arm, the best first."""
    own = sorted((g for g in groups if g.problem == problem), key=lambda g: g.median)
    return [
        {
            "arm": group.arm if group.factor is None else f"{group.arm} (x{group.factor:g})",
            "error": f"{group.median:.2g} [{min(group.errors):.2g}, {max(group.errors):.2g}]",
            "steps": group.steps,
            "seconds": round(statistics.median(group.seconds), 1),
            "passes": round(group.passes),
            "tuning": round(group.tuning_seconds, 1) or None,
            **{name: statistics.median(values) for name, values in group.scores.items()},
        }
        for group in own
    ]


def winner_sentence(groups: list[Group], problem: str, *, budget: str) -> str:
    """Who has the least median error, and how far the others are; fixed weights are named as plainly."""
    own = sorted((g for g in groups if g.problem == problem), key=lambda g: g.median)
    best, at = own[0], f"At equal {budget}, {problem}"
    told = f"{at}: {best.arm} wins with a median error of {best.median:.2g}"
    rest = [group for group in own[1:] if (group.arm == TUNED) != (best.arm == TUNED)]
    if best.arm == TUNED:
        told = (
            f"{at}: fixed weights win, tuned over a grid that cost {best.tuning_seconds:.0f} s "
            f"(factor {best.factor:g}), with a median error of {best.median:.2g}"
        )
    elif best.arm == "fixed":
        told = f"{at}: fixed weights win as they stand, with a median error of {best.median:.2g}"
    if problem != CHAIN and best.median >= NOTHING_LEARNED:
        told += ", no better than a solution of zero"
    if not rest:
        return f"{told}."
    second = rest[0]
    who = (
        "tuned fixed weights have"
        if second.arm == TUNED
        else f"the best without, {second.arm}, has"
    )
    many = second.median / best.median if best.median else math.inf
    share = f"{many:.2g}"
    return f"{told}; {who} {second.median:.2g}, {'as much' if share == '1' else share + ' times as much'}."
