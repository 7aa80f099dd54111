"""The study of the surrogate: each domain over seeds 0 to 2, on 64 parameters it never saw.

`python benchmarks/noa_study.py [--seeds 3] [--domains gray_scott random_conv] [--runs DIR]` trains
with the presets as they are, one process after the other, and writes `results/noa_study.json`: mean
and standard deviation over seeds of skill and shuffle ratio per lead time. Runs that are there
already are continued or taken as they are.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from _harness import Claim, record

FIGURES = ("skill_persistence", "skill_mean", "parameters_shuffle", "nmse")
# Bars at lead 16, mean over seeds.
BARS = {
    "gray_scott": {"skill_persistence": 0.60, "skill_mean": 0.40, "parameters_shuffle": 2.0},
    "random_conv": {"skill_persistence": 0.80, "skill_mean": 0.60, "parameters_shuffle": 1.6},
}
NAMES = {
    "skill_persistence": "skill over persistence",
    "skill_mean": "skill over the mean",
    "parameters_shuffle": "θ-shuffle ratio",
}


def main() -> None:
    """Train what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--domains", nargs="+", default=list(BARS), choices=list(BARS))
    parser.add_argument("--runs", default="runs")
    words = parser.parse_args()
    tables = {
        domain: [train(domain, seed, words.runs) for seed in range(words.seeds)]
        for domain in words.domains
    }
    claims = [claim for domain, runs in tables.items() for claim in claims_of(domain, runs)]
    record("noa_study", claims, {domain: details(runs) for domain, runs in tables.items()})


def train(domain: str, seed: int, runs: str) -> dict:
    """One run by the command line; its summary."""
    name = f"study-{domain}-{seed}"
    command = [sys.executable, "-m", "noa", "train", "--preset", domain, "--name", name]
    subprocess.run([*command, "--seed", str(seed), "--runs", runs], check=True)
    return json.loads((Path(runs) / "noa" / name / "summary.json").read_text())


def spread(runs: list[dict], lead: str, figure: str) -> tuple[float, float]:
    """Mean and standard deviation over the runs."""
    values = [run["metrics"]["lead"][lead][figure]["value"] for run in runs]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def claims_of(domain: str, runs: list[dict]) -> list[Claim]:
    """The bars at lead 16, and skill above 0 by a standard deviation at every lead."""
    claims: list[Claim] = [
        {
            "claim": f"{domain}, lead 16: {NAMES[figure]}",
            "value": spread(runs, "16", figure)[0],
            "bar": bar,
            "kind": "at_least",
        }
        for figure, bar in BARS[domain].items()
    ]
    for figure in ("skill_persistence", "skill_mean"):
        lowest = min(
            mean - deviation
            for mean, deviation in (
                spread(runs, lead, figure) for lead in runs[0]["metrics"]["lead"]
            )
        )
        claims.append(
            {
                "claim": f"{domain}, every lead: {NAMES[figure]}, mean − deviation",
                "value": lowest,
                "bar": 0.0,
                "kind": "at_least",
            }
        )
    return claims


def details(runs: list[dict]) -> dict:
    """Mean and deviation per lead, and what each run took."""
    leads = runs[0]["metrics"]["lead"]
    return {
        "seconds": [run["seconds"] for run in runs],
        "steps": [run["steps"] for run in runs],
        "lead": {
            lead: {
                figure: dict(zip(("mean", "std"), spread(runs, lead, figure), strict=True))
                for figure in FIGURES
            }
            for lead in leads
        },
    }


if __name__ == "__main__":
    main()
