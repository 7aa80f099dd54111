"""The runs of a comparison with their scores, as rows of numbers."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nops_train import (
    InputError,
    RunFolder,
    Study,
    keep_evaluation,
    kept_evaluation,
    load_run_config,
    mean_and_spread,
)

from turbulence.config import TurbulenceConfig
from turbulence.evaluation import Evaluation

EVALUATION = "evaluation.pt"
FIGURES = {
    "field_error": "field error",
    "log_spectrum_error": "log spectrum error",
    "one_step_field_error": "field error, one step",
    "one_step_log_spectrum_error": "log spectrum error, one step",
    "correlation_time": "correlated until",
    "stable_fraction": "stable rollouts",
}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One evaluated run.

    Attributes:
        run: Its folder.
        arm: What it is in the comparison: the folder's name without its seed.
        seed: Of training.
        config: As resolved.
        evaluation: Its scores.
        facts: What else the report says, in plain values.
    """

    run: RunFolder
    arm: str
    seed: int
    config: TurbulenceConfig
    evaluation: Evaluation
    facts: dict[str, Any]


def store_evaluation(run: RunFolder, evaluation: Evaluation, facts: Mapping[str, Any]) -> None:
    """Keep what the report needs beside the run, so that it can be written without the data."""
    keep_evaluation(run, {"evaluation": evaluation.as_plain(), "facts": dict(facts)})


def load_scored(run: RunFolder) -> Scored:
    """A run with what `store_evaluation` kept.

    Raises:
        InputError: If the run was not evaluated yet, or the file is damaged.
    """
    again = f"turbulence evaluate {run.path}"
    evaluation, facts = kept_evaluation(
        run, lambda plain: (Evaluation.from_plain(plain["evaluation"]), plain["facts"]), again=again
    )
    config = load_run_config(TurbulenceConfig, run.path)
    arm = run.name.rpartition("_s")[0] or run.name
    return Scored(
        run=run,
        arm=arm,
        seed=config.train.seed,
        config=config,
        evaluation=evaluation,
        facts=facts,
    )


def scored_runs(folders: Sequence[Path]) -> list[Scored]:
    """The evaluated runs of some folders: runs, and those within comparisons, in their order.

    Raises:
        InputError: If a folder is neither, or there is none.
    """
    found: list[Scored] = []
    for folder in folders:
        if (folder / "config.yaml").is_file():
            found.append(load_scored(RunFolder.at(folder)))
            continue
        runs = [run for run in Study(folder).children() if (run.path / EVALUATION).is_file()]
        if not runs:
            raise InputError(f"{folder}: neither a run nor a comparison with an evaluated run")
        order = Study(folder).read().get("config", {}).get("arms", [])
        ranked = sorted((load_scored(run) for run in runs), key=lambda one: _rank(one, order))
        found += ranked
    return found


def _rank(scored: Scored, order: Sequence[str]) -> tuple[int, int]:
    place = order.index(scored.arm) if scored.arm in order else len(order)
    return place, scored.seed


def by_arm(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """The runs by arm, in order of appearance."""
    arms: dict[str, list[Scored]] = {}
    for one in scored:
        arms.setdefault(one.arm, []).append(one)
    return arms


def firsts(scored: Sequence[Scored]) -> dict[str, Scored]:
    """Each arm's first run: what figures show."""
    return {arm: runs[0] for arm, runs in by_arm(scored).items()}


def table_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """One row per arm, mean and spread over seeds; then the baselines."""
    rows = []
    for arm, runs in by_arm(scored).items():
        figures = [one.evaluation.summary() for one in runs]
        row: dict[str, Any] = {"arm": arm, "seeds": len(runs)}
        for name in FIGURES:
            row[name] = mean_and_spread([one[name] for one in figures])
        rows.append({**row, "seconds": statistics.fmean(_seconds(one.run) for one in runs)})
    evaluation = scored[0].evaluation
    for name in evaluation.errors:
        if name != "model":
            rows.append({"arm": name, **evaluation.figures(name)})
    return rows


def _seconds(run: RunFolder) -> float:
    return float(run.summary().get("seconds") or 0.0)


def paired_rows(scored: Sequence[Scored], *, base: str) -> list[dict[str, Any]]:
    """Each arm against `base` with the same seed: mean ratio, and difference with its spread."""
    arms = by_arm(scored)
    bases = {one.seed: one.evaluation.figures() for one in arms.get(base, [])}
    rows = []
    for arm, runs in arms.items():
        pairs = [(one.evaluation.figures(), bases[one.seed]) for one in runs if one.seed in bases]
        if arm == base or not pairs:
            continue
        row: dict[str, Any] = {"arm": f"{arm} against {base}", "seeds": len(pairs)}
        for name in ("field_error", "log_spectrum_error"):
            row[f"{name}_ratio"] = statistics.fmean(own[name] / rival[name] for own, rival in pairs)
            row[f"{name}_difference"] = mean_and_spread([a[name] - b[name] for a, b in pairs])
        rows.append(row)
    return rows
