"""The study of the loss schedule: every arm over seeds 0 to 2 at equal budget, on unseen trajectories.

`python benchmarks/turbulence_study.py [--runs DIR]` trains the preset `study` as it is and writes
`results/turbulence_study.json`: mean and standard deviation over seeds of each arm's errors, and of
the schedule's differences from each rival with the same seed. A comparison that is finished in
`DIR/turbulence/study` is taken as it is; one that was begun goes on.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from _harness import Claim, record
from nops_train import Study
from turbulence.comparison import Scored, by_arm, scored_runs
from turbulence.replay import replayed_schedule

FIGURES = ("field_error", "log_spectrum_error", "one_step_field_error")
OURS, BASE = "schedule", "field"
PERSISTENCE = "persistence"
NAMES = {
    "spectrum": "schedule / field: log spectrum error",
    "field": "schedule / field: field error",
    "one_step": "field error of one step / persistence, the worse of both arms",
    "moves": "adaptations of the schedule, the fewest of the seeds",
}


def main() -> None:
    """Train what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default="runs")
    study = Path(parser.parse_args().runs) / "turbulence" / "study"
    if not is_finished(study):
        command = [sys.executable, "-m", "turbulence", "train", "--preset", "study"]
        subprocess.run([*command, "--runs", str(study.parents[1])], check=True)
    scored = scored_runs([study])
    record("turbulence_study", claims_of(by_arm(scored)), details(scored))


def is_finished(folder: Path) -> bool:
    """Whether each arm and seed of the comparison was trained and evaluated."""
    study = Study(folder)
    config = study.read().get("config", {})
    wanted = {f"{arm}_s{s}" for arm in config.get("arms", []) for s in config.get("seeds", [])}
    done = {run.name for run in study.children() if (run.path / "evaluation.pt").is_file()}
    return bool(wanted) and wanted <= done


def figures_of(runs: Sequence[Scored], name: str) -> list[float]:
    """One figure of each run."""
    return [one.evaluation.figures()[name] for one in runs]


def claims_of(arms: Mapping[str, Sequence[Scored]]) -> list[Claim]:
    """The bars of the schedule against field error alone, means over seeds."""
    means = {
        arm: {name: statistics.fmean(figures_of(arms[arm], name)) for name in FIGURES}
        for arm in (OURS, BASE)
    }
    rival = arms[BASE][0].evaluation.figures(PERSISTENCE)["one_step_field_error"]
    spectrum, field = (
        means[OURS][name] / means[BASE][name] for name in ("log_spectrum_error", "field_error")
    )
    one_step = max(means[arm]["one_step_field_error"] for arm in means) / rival
    moves = float(min(adaptations(one) for one in arms[OURS]))
    return [
        {"claim": NAMES["spectrum"], "value": spectrum, "bar": 0.5, "kind": "at_most"},
        {"claim": NAMES["field"], "value": field, "bar": 1.2, "kind": "at_most"},
        {"claim": NAMES["one_step"], "value": one_step, "bar": 0.5, "kind": "at_most"},
        {"claim": NAMES["moves"], "value": moves, "bar": 1.0, "kind": "at_least"},
    ]


def adaptations(one: Scored) -> int:
    """How often the schedule moved the weights."""
    replay = replayed_schedule(one.run, one.config)
    return sum(event.kind == "adaptation" for event in replay.events) if replay else 0


def details(scored: Sequence[Scored]) -> dict:
    """Arms, differences from each rival with the same seed, baselines."""
    arms, evaluation = by_arm(scored), scored[0].evaluation
    return {
        "leads": list(evaluation.lead_window),
        "seeds": sorted({one.seed for one in scored}),
        "arms": {
            arm: {name: spread(figures_of(runs, name)) for name in FIGURES}
            | {"seconds": [one.run.summary()["seconds"] for one in runs]}
            for arm, runs in arms.items()
        },
        "adaptations": [adaptations(one) for one in arms[OURS]],
        "differences": {
            arm: {name: spread(differences(arms[OURS], runs, name)) for name in FIGURES}
            for arm, runs in arms.items()
            if arm != OURS
        },
        "baselines": {
            name: {figure: evaluation.figures(name)[figure] for figure in FIGURES}
            for name in evaluation.errors
            if name != "model"
        },
    }


def differences(ours: Sequence[Scored], rivals: Sequence[Scored], name: str) -> list[float]:
    """The schedule's figure less the rival's, seed by seed."""
    of_rival = {one.seed: one.evaluation.figures()[name] for one in rivals}
    return [
        one.evaluation.figures()[name] - of_rival[one.seed] for one in ours if one.seed in of_rival
    ]


def spread(values: Sequence[float]) -> dict[str, object]:
    """Mean, standard deviation and the values themselves."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": deviation, "each": list(values)}


if __name__ == "__main__":
    main()
